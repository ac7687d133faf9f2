#include "object_block.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "file_io.h"

/* An exclusive lock is held while a version is looked at, evicted, or moved to another level. Past this whoever holds it
 * is stopped or copies something large: the caller does without the version. */
#define OPEN_WAIT_NS 1000000000ll

static uint64_t identity_checksum(const ff_map_header *header, uint32_t identity_bytes) {
    char covered[FF_MAP_HEADER_BYTES];
    size_t fixed = offsetof(ff_map_header, last_use_s) - offsetof(ff_map_header, format);
    memcpy(covered, &header->format, fixed);
    memcpy(covered + fixed, &identity_bytes, sizeof identity_bytes);
    memcpy(covered + fixed + sizeof identity_bytes, header->identity, identity_bytes);
    return XXH3_64bits(covered, fixed + sizeof identity_bytes + identity_bytes);
}

typedef struct {
    uint64_t object_bytes;
    uint64_t block_count;
    uint32_t block_bytes;
    const void *identity;
    uint32_t identity_bytes;
    const uint8_t *boot_id;
} map_facts;

static size_t map_size(uint64_t block_count) { return FF_MAP_HEADER_BYTES + (size_t)block_count * sizeof(ff_block); }

/* Makes the map beside its place and renames it there, so that a map is whole or not there. */
static int create_map(const char *map_path, const map_facts *facts) {
    ff_map_header *header = calloc(1, sizeof *header);
    char *temporary = NULL;
    int fd = -1, error = 0;
    if (header == NULL || asprintf(&temporary, "%s.%d.new", map_path, (int)getpid()) < 0) {
        free(header);
        return -ENOMEM;
    }
    memcpy(header->magic, FF_MAP_MAGIC, sizeof header->magic);
    header->format = FF_MAP_FORMAT;
    header->header_bytes = FF_MAP_HEADER_BYTES;
    header->object_bytes = facts->object_bytes;
    header->block_bytes = facts->block_bytes;
    header->sub_block_bytes = facts->block_bytes / FF_SUB_BLOCKS;
    header->block_count = facts->block_count;
    header->last_use_s = (uint64_t)time(NULL);
    memcpy(header->boot_id, facts->boot_id, sizeof header->boot_id);
    header->identity_bytes = facts->identity_bytes;
    memcpy(header->identity, facts->identity, facts->identity_bytes);
    header->identity_checksum = identity_checksum(header, facts->identity_bytes);

    fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        error = -errno;
    if (error == 0)
        error = -posix_fallocate(fd, 0, (off_t)map_size(facts->block_count));
    if (error == 0)
        error = ff_write_whole(fd, header, sizeof *header, 0);
    if (fd >= 0)
        close(fd);
    if (error == 0 && rename(temporary, map_path) < 0)
        error = -errno;
    if (error != 0)
        unlink(temporary);
    free(temporary);
    free(header);
    return error;
}

/* An error of open(2) that says that something else than a file of ours has the name. */
static int opening_error(int error) {
    switch (error) {
    case ELOOP:
    case EISDIR:
    case ENXIO:
    case ENODEV:
    case EACCES:
    case EPERM:
        return -EUCLEAN;
    default:
        return -error;
    }
}

/* Maps the map if it is one of this version. -ENOENT, -EUCLEAN, or an errno. */
static int load_map(ff_object *self, const char *map_path, const map_facts *facts) {
    int fd = open(map_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return opening_error(errno);
    struct stat found;
    size_t size = map_size(facts->block_count);
    int error = fstat(fd, &found) < 0 ? -errno : 0;
    if (error == 0 && (!S_ISREG(found.st_mode) || (uint64_t)found.st_size != size))
        error = -EUCLEAN;
    void *base = MAP_FAILED;
    if (error == 0) {
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
            error = -errno;
    }
    close(fd);
    if (error != 0)
        return error;
    ff_map_guard *guard = ff_map_guard_add(base, size);
    const ff_map_header *header = base;
    if (memcmp(header->magic, FF_MAP_MAGIC, sizeof header->magic) != 0 || header->format != FF_MAP_FORMAT ||
        header->header_bytes != FF_MAP_HEADER_BYTES || header->object_bytes != facts->object_bytes ||
        header->block_bytes != facts->block_bytes || header->sub_block_bytes != facts->block_bytes / FF_SUB_BLOCKS ||
        header->block_count != facts->block_count || header->identity_bytes != facts->identity_bytes ||
        memcmp(header->identity, facts->identity, facts->identity_bytes) != 0 ||
        header->identity_checksum != identity_checksum(header, facts->identity_bytes) || ff_map_guard_hit(guard)) {
        ff_map_guard_remove(guard);
        munmap(base, size);
        return -EUCLEAN;
    }
    self->header = base;
    self->blocks = (ff_block *)((char *)base + FF_MAP_HEADER_BYTES);
    self->map_bytes = size;
    self->map_inode = found.st_ino;
    self->guard = guard;
    return 0;
}

/* We are alone (exclusive lock): end what a crash left half done, and what lay past the end of a file cut short. */
static void recover(ff_object *self, const uint8_t *boot_id, uint64_t file_bytes) {
    bool same_boot = memcmp(self->header->boot_id, boot_id, sizeof self->header->boot_id) == 0;
    uint32_t sealed = atomic_load(&self->header->sealed);
    bool synced = sealed == FF_SEALED;
    uint64_t lost = 0;
    for (uint64_t i = 0; i < self->block_count; i++) {
        ff_block *block = &self->blocks[i];
        uint64_t whole = ff_block_mask(self, i), bits = atomic_load(&block->bits) & whole;
        uint32_t state = atomic_load(&block->state), wanted = 0;
        if (bits == whole && (state & FF_BLOCK_COMPLETE) != 0)
            wanted = FF_BLOCK_COMPLETE | (same_boot || synced ? state & FF_BLOCK_DOUBTED : FF_BLOCK_DOUBTED);
        bool believed = (state & FF_BLOCK_LEAVING) == 0 && (same_boot || wanted != 0) &&
                        i * self->block_bytes + ff_block_length(self, i) <= file_bytes;
        if (!believed)
            wanted = 0;
        if (!believed && bits != 0) {
            lost += ff_block_bytes_of(self, i, bits);
            atomic_store(&block->bits, 0);
            atomic_fetch_add(&block->drops, 1);
        }
        if (atomic_load(&block->pins) != 0)
            atomic_store(&block->pins, 0);
        if (state != wanted)
            atomic_store(&block->state, wanted);
    }
    if (!same_boot)
        memcpy(self->header->boot_id, boot_id, sizeof self->header->boot_id);
    if (file_bytes != self->object_bytes && sealed != 0)
        atomic_store(&self->header->sealed, FF_WAS_SEALED);
    if (lost != 0)
        ff_usage_subtract(self->usage, lost);
}

static bool names(const char *path, uint64_t inode) {
    struct stat named;
    return lstat(path, &named) == 0 && named.st_ino == inode;
}

/* Makes the map of a version whose data file we have made, or found without one; we are alone. */
static int create_version(ff_object *self, const char *data_path, const char *map_path, const map_facts *facts,
                          const struct stat *data) {
    int error = create_map(map_path, facts);
    if (error == 0)
        return load_map(self, map_path, facts);
    if (data->st_size == 0)
        unlink(data_path); /* a full disk must not fill with empty files */
    return error;
}

/* One try. -ESTALE: another is making, evicting or looking at the version; try again. */
static int open_once(ff_object *self, const char *data_path, const char *map_path, bool create,
                     const map_facts *facts) {
    struct stat data;
    self->data_fd = open(data_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (create ? O_CREAT : 0), 0600);
    if (self->data_fd < 0)
        return opening_error(errno);
    bool alone = flock(self->data_fd, LOCK_EX | LOCK_NB) == 0;
    if (!alone && flock(self->data_fd, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -ESTALE : -errno;
    if (fstat(self->data_fd, &data) < 0)
        return -errno;
    if (!S_ISREG(data.st_mode))
        return -EUCLEAN;
    self->in_ram = ff_in_ram(self->data_fd);
    if (!names(data_path, data.st_ino))
        return -ESTALE;
    int error = load_map(self, map_path, facts);
    if (error == -ENOENT && create) /* of two makers the one that is alone makes the map, the other comes again */
        error = alone ? create_version(self, data_path, map_path, facts, &data) : -ESTALE;
    if (error != 0)
        return error;
    if (alone) {
        recover(self, facts->boot_id, (uint64_t)data.st_size);
        if ((uint64_t)data.st_size != facts->object_bytes && ftruncate(self->data_fd, (off_t)facts->object_bytes) < 0)
            return -errno;
        /* Not atomic: the lock is given up and taken again. */
        if (flock(self->data_fd, LOCK_SH | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? -ESTALE : -errno;
    }
    if (!names(data_path, data.st_ino) || !names(map_path, self->map_inode))
        return -ESTALE;
    self->verified = calloc(facts->block_count, 1);
    return self->verified == NULL ? -ENOMEM : 0;
}

static void release(ff_object *self) {
    if (self->header != NULL) {
        ff_map_guard_remove(self->guard);
        munmap(self->header, self->map_bytes);
    }
    if (self->data_fd >= 0)
        close(self->data_fd);
    free((void *)self->verified);
    self->header = NULL;
    self->guard = NULL;
    self->verified = NULL;
    self->data_fd = -1;
}

int ff_object_open(const char *data_path, const char *map_path, bool create, uint64_t object_bytes,
                   uint32_t block_bytes, const void *identity, uint32_t identity_bytes, const uint8_t *boot_id,
                   ff_usage *usage, ff_object **out) {
    if (object_bytes == 0 || object_bytes > INT64_MAX / 2 || block_bytes < (256u << 10) ||
        block_bytes > (64u << 20) || (block_bytes & (block_bytes - 1)) != 0 || identity_bytes > FF_MAP_IDENTITY_BYTES)
        return -EINVAL;
    map_facts facts = {.object_bytes = object_bytes,
                       .block_count = (object_bytes + block_bytes - 1) / block_bytes,
                       .block_bytes = block_bytes,
                       .identity = identity,
                       .identity_bytes = identity_bytes,
                       .boot_id = boot_id};
    ff_object *self = calloc(1, sizeof *self);
    if (self == NULL)
        return -ENOMEM;
    self->data_fd = -1;
    self->object_bytes = object_bytes;
    self->block_count = facts.block_count;
    self->block_bytes = block_bytes;
    self->sub_block_bytes = block_bytes / FF_SUB_BLOCKS;
    self->usage = usage;
    int64_t deadline = ff_now_ns() + OPEN_WAIT_NS;
    unsigned tries = 0;
    int error;
    while ((error = open_once(self, data_path, map_path, create, &facts)) != 0) {
        release(self);
        if (error != -ESTALE)
            break;
        error = -EBUSY;
        if (!ff_wait_until(deadline, &tries))
            break;
    }
    if (error != 0) {
        free(self);
        return error;
    }
    *out = self;
    return 0;
}

void ff_object_close(ff_object *self) {
    release(self);
    free(self);
}
