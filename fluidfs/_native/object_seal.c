#include "object_block.h"

#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t nanoseconds(struct timespec time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec; }

bool ff_object_alone(ff_object *self) { return flock(self->data_fd, LOCK_EX | LOCK_NB) == 0; }

/* A writer was killed between the last bit of a block and its checksum: do what it had still to do. */
static int finish_block(ff_object *self, uint64_t index) {
    ff_block *block = &self->blocks[index];
    if (!ff_block_pin(self, block))
        return -EINVAL;
    int error = 0;
    uint64_t whole = ff_block_mask(self, index), checksum;
    if ((atomic_load(&block->bits) & whole) != whole)
        error = -EINVAL;
    else if ((atomic_load(&block->state) & FF_BLOCK_COMPLETE) == 0 &&
             (error = ff_block_hash(self, index, &checksum)) == 0) {
        atomic_store_explicit(&block->checksum, checksum, memory_order_relaxed);
        atomic_fetch_or_explicit(&block->state, FF_BLOCK_COMPLETE, memory_order_release);
        atomic_store_explicit(&self->verified[index], 1, memory_order_release);
    }
    ff_block_unpin(block);
    if (ff_is_loss(error))
        ff_object_lose_block(self, index);
    return error;
}

/* ff_object_complete, in one order with what was stored before and with the marks of those who drop blocks. */
static bool complete_now(ff_object *self) {
    for (uint64_t i = 0; i < self->block_count; i++) {
        ff_block *block = &self->blocks[i];
        if ((atomic_load(&block->state) & FF_BLOCK_LEAVING) != 0 ||
            (~atomic_load(&block->bits) & ff_block_mask(self, i)) != 0)
            return false;
    }
    return true;
}

int ff_object_seal(ff_object *self, const uint8_t *boot_id) {
    struct stat data;
    if (!ff_object_complete(self))
        return -EINVAL;
    for (uint64_t i = 0; i < self->block_count; i++) {
        int result = finish_block(self, i);
        if (result == 0 && atomic_load(&self->verified[i]) == 0)
            result = ff_object_verify_block(self, i);
        if (result < 0)
            return result;
    }
    if (fdatasync(self->data_fd) < 0 || fstat(self->data_fd, &data) < 0)
        return -errno;
    if ((uint64_t)data.st_size != self->object_bytes)
        return -EINVAL;
    ff_map_header *header = self->header;
    /* From here on nothing is punched. Whoever was about to has marked its block, and we see the mark; or it marks one
     * later, and sees this. */
    atomic_store(&header->sealed, FF_WAS_SEALED);
    if (!complete_now(self))
        return -EINVAL;
    header->seal_inode = data.st_ino;
    header->seal_mtime_ns = nanoseconds(data.st_mtim);
    header->seal_ctime_ns = nanoseconds(data.st_ctim);
    memcpy(header->seal_boot_id, boot_id, sizeof header->seal_boot_id);
    /* Whoever drops a block marks it, then ends the seal; we seal, then look for marks: one of us sees the other. */
    atomic_store(&header->sealed, FF_SEALED);
    if (!complete_now(self) || ff_map_guard_hit(self->guard)) {
        atomic_store(&header->sealed, FF_WAS_SEALED);
        return -EINVAL;
    }
    return msync(header, self->map_bytes, MS_SYNC) < 0 ? -errno : 0;
}

static void set_verified(ff_object *self, uint8_t value) {
    for (uint64_t i = 0; i < self->block_count; i++)
        atomic_store_explicit(&self->verified[i], value, memory_order_release);
}

bool ff_object_seal_holds(ff_object *self, const uint8_t *boot_id, bool trust) {
    const ff_map_header *header = self->header;
    if (atomic_load_explicit(&self->header->sealed, memory_order_acquire) != FF_SEALED)
        return false;
    struct stat data;
    bool holds = fstat(self->data_fd, &data) == 0 && data.st_ino == header->seal_inode &&
                 (uint64_t)data.st_size == self->object_bytes &&
                 nanoseconds(data.st_mtim) == header->seal_mtime_ns &&
                 nanoseconds(data.st_ctim) == header->seal_ctime_ns &&
                 memcmp(header->seal_boot_id, boot_id, sizeof header->seal_boot_id) == 0;
    if (holds && trust)
        set_verified(self, 1);
    if (!holds) {
        /* Somebody wrote to the file behind our back, or the machine was started anew: believe checksums only. */
        set_verified(self, 0);
        ff_object_unseal(self);
        ff_object_drop_past_end(self);
    }
    return holds;
}
