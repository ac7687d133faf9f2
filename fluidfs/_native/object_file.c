#include "object_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "checksum.h"
#include "file_io.h"

/* What a thread reads at once when it compares a block: small enough for the CPU's second-level cache. */
#define SCAN_BYTES (256u << 10)

/* How long a drop waits for pins to go. A pin spans one pread or pwrite; past this it is a dead process's, or a disk
 * that hangs, and the block is left alone. */
#define LEAVE_WAIT_NS 100000000ll
/* An exclusive lock is held while a version is looked at, evicted, or moved to another level. Past this whoever holds it
 * is stopped or copies something large: the caller does without the version. */
#define OPEN_WAIT_NS 1000000000ll
#define PAUSE_NS 200000l

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Waits a little, the first times only as long as the scheduler likes. False when the deadline has passed. */
static bool wait_until(int64_t deadline_ns, unsigned *tries) {
    if ((*tries)++ < 16) {
        sched_yield();
        return true;
    }
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    nanosleep(&pause, NULL);
    return now_ns() < deadline_ns;
}

uint64_t ff_checksum(const void *data, size_t length) { return XXH3_64bits(data, length); }

static uint64_t block_length(const ff_object *self, uint64_t index) {
    uint64_t start = index * self->block_bytes;
    uint64_t left = self->object_bytes - start;
    return left < self->block_bytes ? left : self->block_bytes;
}

/* The bits of the sub-blocks that touch [from, to) of a block, both relative to it; from < to. */
static uint64_t mask_touching(uint64_t from, uint64_t to, uint32_t sub_block_bytes) {
    uint64_t first = from / sub_block_bytes, last = (to - 1) / sub_block_bytes;
    uint64_t up_to_last = last >= 63 ? UINT64_MAX : (UINT64_C(1) << (last + 1)) - 1;
    return up_to_last & (UINT64_MAX << first);
}

static uint64_t mask_of_block(const ff_object *self, uint64_t index) {
    return mask_touching(0, block_length(self, index), self->sub_block_bytes);
}

/* Bytes that the sub-blocks of `bits` hold; the last sub-block of an object may be short. */
static uint64_t bytes_of_bits(const ff_object *self, uint64_t index, uint64_t bits) {
    uint64_t length = block_length(self, index), sub = self->sub_block_bytes;
    uint64_t bytes = (uint64_t)__builtin_popcountll(bits) * sub;
    uint64_t last = (length - 1) / sub;
    if (length % sub != 0 && (bits >> last & 1) != 0)
        bytes -= sub - length % sub;
    return bytes;
}

static uint64_t identity_checksum(const ff_map_header *header, uint32_t identity_bytes) {
    char covered[FF_MAP_HEADER_BYTES];
    size_t fixed = offsetof(ff_map_header, last_use_s) - offsetof(ff_map_header, format);
    memcpy(covered, &header->format, fixed);
    memcpy(covered + fixed, &identity_bytes, sizeof identity_bytes);
    memcpy(covered + fixed + sizeof identity_bytes, header->identity, identity_bytes);
    return XXH3_64bits(covered, fixed + sizeof identity_bytes + identity_bytes);
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

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
    bool synced = atomic_load(&self->header->sealed) != 0;
    uint64_t lost = 0;
    for (uint64_t i = 0; i < self->block_count; i++) {
        ff_block *block = &self->blocks[i];
        uint64_t whole = mask_of_block(self, i), bits = atomic_load(&block->bits) & whole;
        uint32_t state = atomic_load(&block->state), wanted = 0;
        if (bits == whole && (state & FF_BLOCK_COMPLETE) != 0)
            wanted = FF_BLOCK_COMPLETE | (same_boot || synced ? state & FF_BLOCK_DOUBTED : FF_BLOCK_DOUBTED);
        bool believed = (state & FF_BLOCK_LEAVING) == 0 && (same_boot || wanted != 0) &&
                        i * self->block_bytes + block_length(self, i) <= file_bytes;
        if (!believed)
            wanted = 0;
        if (!believed && bits != 0) {
            lost += bytes_of_bits(self, i, bits);
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
    if (file_bytes != self->object_bytes)
        atomic_store(&self->header->sealed, 0);
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
    int64_t deadline = now_ns() + OPEN_WAIT_NS;
    unsigned tries = 0;
    int error;
    while ((error = open_once(self, data_path, map_path, create, &facts)) != 0) {
        release(self);
        if (error != -ESTALE)
            break;
        error = -EBUSY;
        if (!wait_until(deadline, &tries))
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

/* ---- looking ---------------------------------------------------------------------------------------------------- */

static uint64_t present_bits(const ff_block *block) {
    /* acquire: pairs with the release of the writer's bits */
    if ((atomic_load_explicit(&block->state, memory_order_acquire) & FF_BLOCK_LEAVING) != 0)
        return 0;
    return atomic_load_explicit(&block->bits, memory_order_acquire);
}

bool ff_object_next_missing(const ff_object *self, uint64_t offset, uint64_t end, uint64_t *from, uint64_t *to) {
    uint64_t size = self->object_bytes, block_bytes = self->block_bytes;
    uint32_t sub = self->sub_block_bytes;
    bool found = false;
    if (end > size)
        end = size;
    while (offset < end) {
        uint64_t index = offset / block_bytes;
        uint64_t start = index * block_bytes, stop = start + block_length(self, index);
        uint64_t touched = mask_touching(offset - start, (end < stop ? end : stop) - start, sub);
        uint64_t absent = touched & ~present_bits(&self->blocks[index]);
        unsigned first = 0; /* where the run goes on, if it began in an earlier block */
        if (!found && absent != 0) {
            first = (unsigned)__builtin_ctzll(absent);
            *from = start + (uint64_t)first * sub;
            found = true;
        }
        if (found) {
            uint64_t run = absent >> first;
            unsigned ones = run == UINT64_MAX ? 64 : (unsigned)__builtin_ctzll(~run);
            if (ones == 0)
                break;
            uint64_t run_end = start + (uint64_t)(first + ones) * sub;
            *to = run_end < stop ? run_end : stop;
            if (*to < stop)
                break;
        }
        offset = stop;
    }
    return found;
}

uint64_t ff_object_present_bytes(const ff_object *self) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < self->block_count; i++) {
        uint64_t bits = present_bits(&self->blocks[i]) & mask_of_block(self, i);
        if (bits != 0)
            total += bytes_of_bits(self, i, bits);
    }
    return total;
}

bool ff_object_complete(const ff_object *self) {
    for (uint64_t i = 0; i < self->block_count; i++)
        if ((~present_bits(&self->blocks[i]) & mask_of_block(self, i)) != 0)
            return false;
    return true;
}

void ff_object_touch(ff_object *self, uint64_t now_s) {
    if (atomic_load_explicit(&self->header->last_use_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&self->header->last_use_s, now_s, memory_order_relaxed);
}

/* ---- pins ------------------------------------------------------------------------------------------------------- */

/* False: the block is leaving, or the map is damaged; it counts as absent. */
static bool pin(const ff_object *self, ff_block *block) {
    atomic_fetch_add(&block->pins, 1);
    if ((atomic_load(&block->state) & FF_BLOCK_LEAVING) == 0 && !ff_map_guard_hit(self->guard))
        return true;
    atomic_fetch_sub(&block->pins, 1);
    return false;
}

/* Another process that opened the version alone may have cleared a pin it took for a dead one's; do not wrap. */
static void unpin(ff_block *block) {
    uint32_t pins = atomic_load(&block->pins);
    while (pins != 0 && !atomic_compare_exchange_weak(&block->pins, &pins, pins - 1)) {
    }
}

/* Ends a seal, on the disk too: after a crash it would vouch for blocks that came later. */
static void unseal(ff_object *self) {
    if (atomic_exchange(&self->header->sealed, 0) != 0)
        msync(self->header, FF_MAP_HEADER_BYTES, MS_SYNC);
}

int64_t ff_object_drop_block(ff_object *self, uint64_t index, bool punch) {
    ff_block *block = &self->blocks[index];
    if ((atomic_fetch_or(&block->state, FF_BLOCK_LEAVING) & FF_BLOCK_LEAVING) != 0)
        return -EALREADY; /* another is at it */
    int64_t deadline = now_ns() + LEAVE_WAIT_NS;
    unsigned tries = 0;
    while (atomic_load(&block->pins) != 0) {
        if (!wait_until(deadline, &tries)) {
            atomic_fetch_and(&block->state, ~FF_BLOCK_LEAVING);
            return -EBUSY;
        }
    }
    if (ff_map_guard_hit(self->guard)) {
        atomic_fetch_and(&block->state, ~FF_BLOCK_LEAVING);
        return -EUCLEAN; /* others may see another map than we do, and read what we would punch */
    }
    unseal(self);
    atomic_store(&self->verified[index], 0);
    atomic_store(&block->state, FF_BLOCK_LEAVING);
    uint64_t bits = atomic_exchange(&block->bits, 0) & mask_of_block(self, index);
    atomic_fetch_add(&block->drops, 1);
    atomic_store(&block->checksum, 0);
    int error = 0;
    if (punch && fallocate(self->data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                           (off_t)(index * self->block_bytes), (off_t)block_length(self, index)) < 0)
        error = -errno;
    uint64_t freed = bits == 0 ? 0 : bytes_of_bits(self, index, bits);
    ff_usage_subtract(self->usage, freed);
    atomic_store(&block->state, 0);
    return error != 0 ? error : (int64_t)freed;
}

/* ---- comparing and reading --------------------------------------------------------------------------------------- */

static int hash_block(const ff_object *self, uint64_t index, uint64_t *checksum) {
    uint64_t offset = index * self->block_bytes, left = block_length(self, index);
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

/* Somebody cut the data file short while we have it open: what lay past its end is gone, and must be dropped before a
 * write makes the file long again, with zeros there. */
static void drop_past_end(ff_object *self) {
    struct stat data;
    if (fstat(self->data_fd, &data) < 0 || (uint64_t)data.st_size >= self->object_bytes)
        return;
    for (uint64_t i = (uint64_t)data.st_size / self->block_bytes; i < self->block_count; i++)
        if (atomic_load(&self->blocks[i].bits) != 0)
            ff_object_drop_block(self, i, false);
}

/* Drops a block that could not be read as it was written. The caller has no pin on it. Readers that compare one block at
 * the same time all find it bad; whoever drops it counts it. */
static void lose_block(ff_object *self, uint64_t index) {
    int64_t dropped = ff_object_drop_block(self, index, false);
    if (dropped > 0 || dropped == -EBUSY) {
        atomic_fetch_add(&self->bad_blocks, 1);
        atomic_fetch_add(&self->usage->bad_blocks, 1);
    }
    drop_past_end(self);
}

static bool is_loss(int64_t result) { return result == -EBADMSG || result == -EIO; }

/* As ff_object_verify_block, for a block that is pinned; a wrong block is not dropped yet. */
static int compare_block(ff_object *self, uint64_t index) {
    ff_block *block = &self->blocks[index];
    if ((atomic_load_explicit(&block->state, memory_order_acquire) & FF_BLOCK_COMPLETE) == 0)
        return 0;
    uint64_t checksum;
    int error = hash_block(self, index, &checksum);
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
    if (!pin(self, &self->blocks[index]))
        return 0;
    int result = compare_block(self, index);
    unpin(&self->blocks[index]);
    if (is_loss(result))
        lose_block(self, index);
    return result == -ENODATA ? 0 : result;
}

static int64_t read_in_block(ff_object *self, uint64_t index, uint64_t offset, char *out, size_t length,
                             ff_verify verify, bool nowait) {
    ff_block *block = &self->blocks[index];
    uint64_t start = index * self->block_bytes;
    uint64_t needed = mask_touching(offset - start, offset - start + length, self->sub_block_bytes);
    if (!pin(self, block))
        return -ENODATA;
    int64_t result;
    if ((atomic_load_explicit(&block->bits, memory_order_acquire) & needed) != needed) {
        result = -ENODATA;
    } else {
        uint32_t state = atomic_load_explicit(&block->state, memory_order_acquire);
        bool wanted = verify == FF_VERIFY_FIRST || (state & FF_BLOCK_DOUBTED) != 0;
        bool compare = (state & FF_BLOCK_COMPLETE) != 0 &&
                       (verify == FF_VERIFY_ALWAYS ||
                        (wanted && atomic_load_explicit(&self->verified[index], memory_order_acquire) == 0));
        int compared = !compare ? 1 : nowait ? -EAGAIN : compare_block(self, index);
        result = compared < 0 ? compared : ff_read_whole(self->data_fd, out, length, offset, nowait);
        if (result == -ENODATA && compared >= 0)
            result = -EBADMSG; /* present, and yet past the end of the file */
    }
    unpin(block);
    if (is_loss(result)) {
        if (nowait)
            return -EAGAIN; /* to drop it may take a while */
        lose_block(self, index);
    }
    return result;
}

int64_t ff_object_read(ff_object *self, uint64_t offset, void *out, size_t length, ff_verify verify,
                       bool nowait) {
    uint64_t size = self->object_bytes, block_bytes = self->block_bytes;
    if (offset >= size)
        return 0;
    if (length > size - offset)
        length = (size_t)(size - offset);
    size_t done = 0;
    while (done < length) {
        uint64_t at = offset + done, index = at / block_bytes;
        size_t left_in_block = (size_t)((index + 1) * block_bytes - at);
        size_t part = length - done < left_in_block ? length - done : left_in_block;
        int64_t n = read_in_block(self, index, at, (char *)out + done, part, verify, nowait);
        if (n < 0)
            return n;
        done += (size_t)n;
    }
    return (int64_t)done;
}

/* ---- sealing ----------------------------------------------------------------------------------------------------- */

static int64_t nanoseconds(struct timespec time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec; }

bool ff_object_alone(ff_object *self) { return flock(self->data_fd, LOCK_EX | LOCK_NB) == 0; }

/* A writer was killed between the last bit of a block and its checksum: do what it had still to do. */
static int finish_block(ff_object *self, uint64_t index) {
    ff_block *block = &self->blocks[index];
    if (!pin(self, block))
        return -EINVAL;
    int error = 0;
    uint64_t whole = mask_of_block(self, index), checksum;
    if ((atomic_load(&block->bits) & whole) != whole)
        error = -EINVAL;
    else if ((atomic_load(&block->state) & FF_BLOCK_COMPLETE) == 0 &&
             (error = hash_block(self, index, &checksum)) == 0) {
        atomic_store_explicit(&block->checksum, checksum, memory_order_relaxed);
        atomic_fetch_or_explicit(&block->state, FF_BLOCK_COMPLETE, memory_order_release);
        atomic_store_explicit(&self->verified[index], 1, memory_order_release);
    }
    unpin(block);
    if (is_loss(error))
        lose_block(self, index);
    return error;
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
    ff_map_header *header = self->header;
    header->seal_inode = data.st_ino;
    header->seal_mtime_ns = nanoseconds(data.st_mtim);
    header->seal_ctime_ns = nanoseconds(data.st_ctim);
    memcpy(header->seal_boot_id, boot_id, sizeof header->seal_boot_id);
    if ((uint64_t)data.st_size != self->object_bytes)
        return -EINVAL;
    /* Whoever drops a block marks it, then ends the seal; we seal, then look for marks: one of us sees the other. */
    atomic_store(&header->sealed, 1);
    if (!ff_object_complete(self) || ff_map_guard_hit(self->guard)) {
        atomic_store(&header->sealed, 0);
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
    if (atomic_load_explicit(&self->header->sealed, memory_order_acquire) == 0)
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
        unseal(self);
        drop_past_end(self);
    }
    return holds;
}

/* ---- the sink ---------------------------------------------------------------------------------------------------- */

/* Sets the bits of the sub-blocks of one block that the run, which now ends at `to`, covers whole. */
static void publish(ff_object_sink *self, uint64_t index, uint64_t to) {
    ff_object *object = self->object;
    ff_block *block = &object->blocks[index];
    uint64_t start = index * object->block_bytes, length = block_length(object, index);
    uint64_t sub = object->sub_block_bytes;
    uint64_t low = self->run_from > start ? self->run_from - start : 0, high = to - start;
    uint64_t first = (low + sub - 1) / sub;
    uint64_t last = high == length ? (length + sub - 1) / sub : high / sub; /* one past */
    if (first >= last)
        return;
    uint64_t mask = mask_touching(first * sub, (last - 1) * sub + 1, (uint32_t)sub);
    uint64_t before = atomic_fetch_or_explicit(&block->bits, mask, memory_order_acq_rel);
    if ((mask & ~before) != 0)
        ff_usage_add(object->usage, bytes_of_bits(object, index, mask & ~before));
    uint64_t whole = mask_of_block(object, index);
    if (((before | mask) & whole) != whole ||
        (atomic_load_explicit(&block->state, memory_order_acquire) & FF_BLOCK_COMPLETE) != 0)
        return;
    uint64_t checksum;
    if (self->hashed_from == start && self->hashed_to == start + length) {
        checksum = XXH3_64bits_digest(self->hash);
    } else {
        /* The block was put together by several: the last one reads it all. Should that fail, the bytes are there
         * all the same, and whoever seals the version tries again. */
        if (hash_block(object, index, &checksum) != 0)
            return;
    }
    atomic_store_explicit(&block->checksum, checksum, memory_order_relaxed);
    atomic_fetch_or_explicit(&block->state, FF_BLOCK_COMPLETE, memory_order_release);
    atomic_store_explicit(&object->verified[index], 1, memory_order_release);
    return;
}

/* Whether what a run has written in this block is still there; the block is pinned. If not, the run begins anew. */
static void follow_drops(ff_object_sink *self, uint64_t index, uint64_t offset) {
    uint64_t drops = atomic_load(&self->object->blocks[index].drops);
    if (self->block == index && self->drops != drops) {
        self->run_from = self->run_to = offset;
        self->hashed_from = self->hashed_to = UINT64_MAX;
    }
    self->block = index;
    self->drops = drops;
}

static int write_in_block(ff_object_sink *self, uint64_t index, uint64_t offset, const char *data, size_t length) {
    ff_object *object = self->object;
    ff_block *block = &object->blocks[index];
    uint64_t start = index * object->block_bytes;
    int64_t deadline = now_ns() + LEAVE_WAIT_NS;
    unsigned tries = 0;
    while (!pin(object, block)) {
        if (ff_map_guard_hit(object->guard))
            return -EUCLEAN;
        if (!wait_until(deadline, &tries))
            return -EBUSY;
    }
    follow_drops(self, index, offset);
    if (offset == start) {
        XXH3_64bits_reset(self->hash);
        self->hashed_from = self->hashed_to = start;
    }
    if (self->hashed_to == offset && self->hashed_from == start) {
        XXH3_64bits_update(self->hash, data, length);
        self->hashed_to = offset + length;
    }
    uint64_t touched = mask_touching(offset - start, offset - start + length, object->sub_block_bytes);
    bool there = (atomic_load_explicit(&block->bits, memory_order_acquire) & touched) == touched;
    int error = there ? 0 : ff_write_whole(object->data_fd, data, length, offset);
    if (error == 0) {
        if (self->run_to != offset)
            self->run_from = offset;
        self->run_to = offset + length;
        publish(self, index, offset + length);
    }
    unpin(block);
    return error;
}

static int sink_write(ff_sink *sink, uint64_t offset, const void *data, size_t length) {
    ff_object_sink *self = (ff_object_sink *)sink;
    uint64_t size = self->object->object_bytes, block_bytes = self->object->block_bytes;
    if (offset > size || length > size - offset)
        return -EFBIG;
    while (length > 0) {
        uint64_t index = offset / block_bytes;
        size_t left_in_block = (size_t)((index + 1) * block_bytes - offset);
        size_t part = length < left_in_block ? length : left_in_block;
        int error = write_in_block(self, index, offset, data, part);
        if (error != 0)
            return error;
        data = (const char *)data + part;
        offset += part;
        length -= part;
    }
    return 0;
}

static int sink_end(ff_sink *sink, int status) {
    (void)sink;
    (void)status; /* what arrived is right, whatever happened after it */
    return 0;
}

int ff_object_sink_init(ff_object_sink *self, ff_object *object) {
    self->sink.write = sink_write;
    self->sink.end = sink_end;
    self->object = object;
    self->run_from = self->run_to = UINT64_MAX;
    self->block = UINT64_MAX;
    self->drops = 0;
    self->hashed_from = self->hashed_to = UINT64_MAX;
    self->hash = XXH3_createState();
    return self->hash == NULL ? -ENOMEM : 0;
}

void ff_object_sink_free(ff_object_sink *self) {
    if (self->hash != NULL)
        XXH3_freeState(self->hash);
    self->hash = NULL;
}
