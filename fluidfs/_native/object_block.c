#include "object_block.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"

/* What a thread reads at once when it compares a block: small enough for the CPU's second-level cache. */
#define SCAN_BYTES (256u << 10)

uint64_t ff_checksum(const void *data, size_t length) { return XXH3_64bits(data, length); }

int ff_block_hash(const ff_object *self, uint64_t index, uint64_t *checksum) {
    uint64_t offset = index * self->block_bytes, left = ff_block_length(self, index);
    char *buffer = malloc(SCAN_BYTES);
    /* On the heap: sanitizers' stacks do not give it the alignment that it needs. */
    XXH3_state_t *state = XXH3_createState();
    int error = buffer == NULL || state == NULL ? -ENOMEM : 0;
    if (error == 0)
        XXH3_64bits_reset(state);
    while (left > 0 && error == 0) {
        ssize_t n = pread(self->data_fd, buffer, left < SCAN_BYTES ? left : SCAN_BYTES, (off_t)offset);
        if (n < 0 && errno != EINTR)
            error = -errno;
        else if (n == 0)
            error = -EBADMSG; /* the file was cut short */
        else if (n > 0) {
            XXH3_64bits_update(state, buffer, (size_t)n);
            offset += (uint64_t)n;
            left -= (uint64_t)n;
        }
    }
    if (error == 0)
        *checksum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    free(buffer);
    return error;
}

void ff_object_unseal(ff_object *self) {
    uint32_t sealed = FF_SEALED;
    if (atomic_compare_exchange_strong(&self->header->sealed, &sealed, FF_WAS_SEALED))
        msync(self->header, FF_MAP_HEADER_BYTES, MS_SYNC);
}

static bool may_punch(const ff_object *self) { return atomic_load(&self->header->sealed) == 0; }

int64_t ff_object_drop_block(ff_object *self, uint64_t index, bool punch) {
    ff_block *block = &self->blocks[index];
    if (punch && !may_punch(self))
        return -EPERM;
    if ((atomic_fetch_or(&block->state, FF_BLOCK_LEAVING) & FF_BLOCK_LEAVING) != 0)
        return -EALREADY; /* another is at it */
    int64_t deadline = ff_now_ns() + LEAVE_WAIT_NS;
    unsigned tries = 0;
    while (atomic_load(&block->pins) != 0) {
        if (!ff_wait_until(deadline, &tries)) {
            atomic_fetch_and(&block->state, ~FF_BLOCK_LEAVING);
            return -EBUSY;
        }
    }
    if (ff_map_guard_hit(self->guard)) {
        atomic_fetch_and(&block->state, ~FF_BLOCK_LEAVING);
        return -EUCLEAN; /* others may see another map than we do, and read what we would punch */
    }
    /* Again, now that LEAVING keeps others from sealing: they say that they will, then look for LEAVING. */
    if (punch && !may_punch(self)) {
        atomic_fetch_and(&block->state, ~FF_BLOCK_LEAVING);
        return -EPERM;
    }
    ff_object_unseal(self);
    atomic_store(&self->verified[index], 0);
    atomic_store(&block->state, FF_BLOCK_LEAVING);
    uint64_t bits = atomic_exchange(&block->bits, 0) & ff_block_mask(self, index);
    atomic_fetch_add(&block->drops, 1);
    atomic_store(&block->checksum, 0);
    int error = 0;
    if (punch && fallocate(self->data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)(index * self->block_bytes), (off_t)ff_block_length(self, index)) < 0)
        error = -errno;
    uint64_t freed = bits == 0 ? 0 : ff_block_bytes_of(self, index, bits);
    ff_usage_subtract(self->usage, freed);
    atomic_store(&block->state, 0);
    return error != 0 ? error : (int64_t)freed;
}

void ff_object_drop_past_end(ff_object *self) {
    struct stat data;
    if (fstat(self->data_fd, &data) < 0 || (uint64_t)data.st_size >= self->object_bytes)
        return;
    for (uint64_t i = (uint64_t)data.st_size / self->block_bytes; i < self->block_count; i++)
        if (atomic_load(&self->blocks[i].bits) != 0)
            ff_object_drop_block(self, i, false);
}

void ff_object_heal_cut(ff_object *self) {
    struct stat data;
    if (fstat(self->data_fd, &data) < 0 || (uint64_t)data.st_size >= self->object_bytes)
        return;
    ff_object_drop_past_end(self);
    /* It fails on a full disk or a hostile file; then the next write looks again. */
    int ignored = ftruncate(self->data_fd, (off_t)self->object_bytes);
    (void)ignored;
}

void ff_object_lose_block(ff_object *self, uint64_t index) {
    int64_t dropped = ff_object_drop_block(self, index, false);
    if (dropped > 0 || dropped == -EBUSY) {
        atomic_fetch_add(&self->bad_blocks, 1);
        atomic_fetch_add(&self->usage->bad_blocks, 1);
    }
    ff_object_drop_past_end(self);
}

int ff_block_compare(ff_object *self, uint64_t index) {
    ff_block *block = &self->blocks[index];
    if ((atomic_load_explicit(&block->state, memory_order_acquire) & FF_BLOCK_COMPLETE) == 0)
        return 0;
    uint64_t checksum;
    int error = ff_block_hash(self, index, &checksum);
    if (error != 0)
        return error;
    if (ff_map_guard_hit(self->guard))
        return -ENODATA;
    if (checksum != atomic_load(&block->checksum))
        return -EBADMSG;
    atomic_fetch_and(&block->state, ~FF_BLOCK_DOUBTED);
    atomic_store_explicit(&self->verified[index], 1, memory_order_release);
    return 1;
}

int ff_object_verify_block(ff_object *self, uint64_t index) {
    if (index >= self->block_count)
        return -EINVAL;
    if (!ff_block_pin(self, &self->blocks[index]))
        return 0;
    int result = ff_block_compare(self, index);
    ff_block_unpin(&self->blocks[index]);
    if (ff_is_loss(result))
        ff_object_lose_block(self, index);
    return result == -ENODATA ? 0 : result;
}
