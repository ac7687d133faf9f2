#include "slab.h"

#include <errno.h>
#include <fcntl.h>
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

/* An exclusive lock is held only while a slab is recovered. */
#define OPEN_WAIT_NS 1000000000ll

/* Past this many slots tried, the table counts as full: three quarters filled, a probe is rarely longer than 32. */
#define MAX_PROBES 128u

static uint64_t first_slot(const ff_slab *self, const uint8_t key[16]) {
    uint64_t hash;
    memcpy(&hash, key, sizeof hash); /* the key is a hash already */
    return hash & (self->slot_count - 1);
}

static size_t index_size(uint32_t slot_count) { return FF_SLAB_HEADER_BYTES + (size_t)slot_count * sizeof(ff_slot); }

/* The index is made beside its place and linked there, so that it is whole or not there, and that of two makers one has
 * to take the other's: with two indexes over one data file, records would lie upon each other. -EEXIST: there is one. */
static int create_index(const char *path, uint32_t slot_count, uint64_t capacity_bytes, const uint8_t *boot_id) {
    ff_slab_header header = {.format = FF_SLAB_FORMAT, .slot_count = slot_count, .capacity_bytes = capacity_bytes};
    memcpy(header.magic, FF_SLAB_MAGIC, sizeof header.magic);
    memcpy(header.boot_id, boot_id, sizeof header.boot_id);
    atomic_init(&header.last_use_s, (uint64_t)time(NULL));
    char *temporary = NULL;
    if (asprintf(&temporary, "%s.%d.new", path, (int)getpid()) < 0)
        return -ENOMEM;
    int error = 0, fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        error = -errno;
    if (error == 0)
        error = -posix_fallocate(fd, 0, (off_t)index_size(slot_count));
    if (error == 0)
        error = ff_write_whole(fd, &header, sizeof header, 0);
    if (fd >= 0)
        close(fd);
    if (error == 0 && link(temporary, path) < 0)
        error = -errno;
    unlink(temporary);
    free(temporary);
    return error;
}

static int opening_error(int error) {
    return error == ELOOP || error == EISDIR || error == ENXIO || error == EACCES || error == EPERM ? -EUCLEAN : -error;
}

static int load_index(ff_slab *self, const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return opening_error(errno);
    struct stat facts;
    int error = fstat(fd, &facts) < 0 ? -errno : 0;
    void *base = MAP_FAILED;
    if (error == 0 && (!S_ISREG(facts.st_mode) || (uint64_t)facts.st_size < index_size(1) ||
                       (uint64_t)facts.st_size > index_size(1u << 31)))
        error = -EUCLEAN;
    size_t size = error == 0 ? (size_t)facts.st_size : 0;
    if (error == 0) {
        base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
            error = -errno;
    }
    close(fd);
    if (error != 0)
        return error;
    ff_map_guard *guard = ff_map_guard_add(base, size);
    const ff_slab_header *header = base;
    uint32_t slot_count = header->slot_count;
    uint64_t capacity_bytes = header->capacity_bytes;
    if (memcmp(header->magic, FF_SLAB_MAGIC, sizeof header->magic) != 0 || header->format != FF_SLAB_FORMAT ||
        slot_count == 0 || (slot_count & (slot_count - 1)) != 0 || index_size(slot_count) != size ||
        capacity_bytes > UINT32_MAX || ff_map_guard_hit(guard)) {
        ff_map_guard_remove(guard);
        munmap(base, size);
        return -EUCLEAN;
    }
    self->header = base;
    self->slots = (ff_slot *)((char *)base + FF_SLAB_HEADER_BYTES);
    self->index_bytes = size;
    self->slot_count = slot_count;
    self->capacity_bytes = capacity_bytes;
    self->guard = guard;
    return 0;
}

static uint64_t aligned(uint64_t bytes) { return (bytes + FF_SLAB_ALIGN - 1) / FF_SLAB_ALIGN * FF_SLAB_ALIGN; }

/* We are alone (exclusive lock): whoever was writing is dead, and after another boot the tail may be an old one. */
static void recover(ff_slab *self, const uint8_t *boot_id) {
    ff_slab_header *header = self->header;
    bool same_boot = memcmp(header->boot_id, boot_id, sizeof header->boot_id) == 0;
    uint64_t tail = atomic_load(&header->tail), end = tail & ~FF_SLAB_RETIRED;
    uint32_t used_slots = 0;
    for (uint64_t i = 0; i < self->slot_count; i++) {
        ff_slot *slot = &self->slots[i];
        uint32_t state = atomic_load(&slot->state);
        if (state == FF_SLOT_WRITING)
            atomic_store(&slot->state, FF_SLOT_DROPPED);
        if (state == FF_SLOT_EMPTY)
            continue;
        used_slots++;
        uint64_t record_end = aligned((uint64_t)slot->offset + slot->length);
        if (state == FF_SLOT_COMPLETE && record_end > end && record_end <= self->capacity_bytes)
            end = record_end;
    }
    if (same_boot)
        return;
    atomic_store(&header->tail, end | (tail & FF_SLAB_RETIRED));
    atomic_store(&header->used_slots, used_slots);
    memcpy(header->boot_id, boot_id, sizeof header->boot_id);
}

static void release(ff_slab *self) {
    if (self->header != NULL) {
        ff_map_guard_remove(self->guard);
        munmap(self->header, self->index_bytes);
    }
    if (self->data_fd >= 0)
        close(self->data_fd);
    free((void *)self->verified);
    *self = (ff_slab){.data_fd = -1, .usage = self->usage};
}

typedef struct {
    const char *data_path;
    const char *index_path;
    uint32_t slot_count; /* 0: do not make it */
    uint64_t capacity_bytes;
    const uint8_t *boot_id;
} opening;

/* One try. -ESTALE: another process has the exclusive lock for a moment; try again. */
static int open_once(ff_slab *self, const opening *wanted) {
    bool create = wanted->slot_count != 0;
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (create ? O_CREAT : 0);
    struct stat facts;
    self->data_fd = open(wanted->data_path, flags, 0600);
    if (self->data_fd < 0)
        return opening_error(errno);
    bool alone = flock(self->data_fd, LOCK_EX | LOCK_NB) == 0;
    if (!alone && flock(self->data_fd, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -ESTALE : -errno;
    if (fstat(self->data_fd, &facts) < 0)
        return -errno;
    if (!S_ISREG(facts.st_mode))
        return -EUCLEAN;
    if (facts.st_nlink == 0)
        return -ENOENT;
    self->in_ram = ff_in_ram(self->data_fd);
    int error = load_index(self, wanted->index_path);
    if (error == -ENOENT && create) {
        error = create_index(wanted->index_path, wanted->slot_count, wanted->capacity_bytes, wanted->boot_id);
        if (error != 0 && error != -EEXIST && alone && facts.st_size == 0)
            unlink(wanted->data_path); /* a full disk must not fill with empty files */
        if (error == 0 || error == -EEXIST)
            error = load_index(self, wanted->index_path);
    }
    if (error != 0)
        return error;
    if (alone) {
        recover(self, wanted->boot_id);
        if (flock(self->data_fd, LOCK_SH | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? -ESTALE : -errno;
    }
    self->writable = memcmp(self->header->boot_id, wanted->boot_id, sizeof self->header->boot_id) == 0;
    self->verified = calloc(self->slot_count, 1);
    return self->verified == NULL ? -ENOMEM : 0;
}

int ff_slab_open(const char *data_path, const char *index_path, uint32_t slot_count, uint64_t capacity_bytes,
                 const uint8_t *boot_id, ff_usage *usage, ff_slab **out) {
    if (slot_count != 0 && ((slot_count & (slot_count - 1)) != 0 || capacity_bytes == 0 || capacity_bytes > UINT32_MAX))
        return -EINVAL;
    ff_slab *self = calloc(1, sizeof *self);
    if (self == NULL)
        return -ENOMEM;
    self->usage = usage;
    self->data_fd = -1;
    opening wanted = {data_path, index_path, slot_count, capacity_bytes, boot_id};
    struct timespec pause = {.tv_nsec = 1000000};
    int error = -ESTALE;
    for (int64_t waited_ns = 0; error == -ESTALE && waited_ns < OPEN_WAIT_NS; waited_ns += pause.tv_nsec) {
        if (waited_ns > 0)
            nanosleep(&pause, NULL);
        error = open_once(self, &wanted);
        if (error != 0)
            release(self);
    }
    if (error != 0) {
        free(self);
        return error == -ESTALE ? -EBUSY : error;
    }
    *out = self;
    return 0;
}

void ff_slab_close(ff_slab *self) {
    release(self);
    free(self);
}

uint64_t ff_slab_used_bytes(const ff_slab *self) { return atomic_load(&self->header->tail) & ~FF_SLAB_RETIRED; }

uint64_t ff_slab_room_bytes(const ff_slab *self) {
    uint64_t tail = atomic_load(&self->header->tail);
    if (!self->writable || (tail & FF_SLAB_RETIRED) != 0 || tail >= self->capacity_bytes ||
        atomic_load(&self->header->used_slots) >= self->slot_count / 4 * 3 || ff_map_guard_hit(self->guard))
        return 0;
    return self->capacity_bytes - tail;
}

uint64_t ff_slab_retire(ff_slab *self) {
    return atomic_fetch_or(&self->header->tail, FF_SLAB_RETIRED) & ~FF_SLAB_RETIRED;
}

int64_t ff_slab_find(const ff_slab *self, const uint8_t key[16]) {
    uint64_t slot = first_slot(self, key);
    for (uint32_t i = 0; i < MAX_PROBES; i++, slot = (slot + 1) & (self->slot_count - 1)) {
        const ff_slot *candidate = &self->slots[slot];
        uint32_t state = atomic_load_explicit(&candidate->state, memory_order_acquire);
        if (state == FF_SLOT_EMPTY)
            return -ENOENT;
        if (state == FF_SLOT_COMPLETE && memcmp(candidate->key, key, sizeof candidate->key) == 0)
            return ff_map_guard_hit(self->guard) ? -ENOENT : (int64_t)slot;
    }
    return -ENOENT;
}

/* Wins an empty slot for `key`; -ENOSPC when there is none near its place. */
static int64_t win_slot(ff_slab *self, const uint8_t key[16]) {
    if (atomic_load(&self->header->used_slots) >= self->slot_count / 4 * 3)
        return -ENOSPC;
    uint64_t slot = first_slot(self, key);
    for (uint32_t i = 0; i < MAX_PROBES; i++, slot = (slot + 1) & (self->slot_count - 1)) {
        uint32_t empty = FF_SLOT_EMPTY;
        if (atomic_compare_exchange_strong(&self->slots[slot].state, &empty, FF_SLOT_WRITING)) {
            atomic_fetch_add(&self->header->used_slots, 1);
            return (int64_t)slot;
        }
    }
    return -ENOSPC;
}

/* Takes `space` bytes at the tail: their offset, or -ENOSPC. What is taken counts at once, so that the slab's used bytes
 * are always what it was counted for. */
static int64_t take_space(ff_slab *self, uint64_t space) {
    uint64_t tail = atomic_load(&self->header->tail);
    do {
        if ((tail & FF_SLAB_RETIRED) != 0 || tail > self->capacity_bytes || space > self->capacity_bytes - tail)
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak(&self->header->tail, &tail, tail + space));
    ff_usage_add(self->usage, space);
    return (int64_t)tail;
}

int64_t ff_slab_put(ff_slab *self, const uint8_t key[16], const void *identity, uint32_t identity_bytes,
                    const void *data, uint32_t length) {
    if (length > FF_SLAB_OBJECT_MAX || identity_bytes > FF_SLAB_IDENTITY_MAX)
        return -EINVAL;
    uint64_t space = aligned((uint64_t)identity_bytes + length);
    if (ff_slab_room_bytes(self) < space)
        return -ENOSPC;
    int64_t index = win_slot(self, key);
    if (index < 0)
        return index;
    ff_slot *slot = &self->slots[index];
    int64_t offset = take_space(self, space);
    int error = offset < 0 ? (int)offset : 0;
    if (error == 0 && ff_map_guard_hit(self->guard))
        error = -ENOSPC; /* the tail we saw may be ours alone: nothing may be written there */
    if (error == 0)
        error = ff_write_whole(self->data_fd, identity, identity_bytes, (uint64_t)offset);
    if (error == 0)
        error = ff_write_whole(self->data_fd, data, length, (uint64_t)offset + identity_bytes);
    if (error != 0) {
        atomic_store(&slot->state, FF_SLOT_DROPPED);
        return error;
    }
    memcpy(slot->key, key, sizeof slot->key);
    slot->offset = (uint32_t)((uint64_t)offset + identity_bytes);
    slot->length = length;
    slot->identity_bytes = identity_bytes;
    slot->checksum = XXH3_64bits(data, length);
    atomic_store_explicit(&self->verified[index], 1, memory_order_relaxed);
    atomic_store_explicit(&slot->state, FF_SLOT_COMPLETE, memory_order_release);
    return index;
}

/* A record that the file does not hold was cut off by somebody. */
static int64_t read_at(const ff_slab *self, char *out, size_t length, uint64_t offset, bool nowait) {
    int64_t n = ff_read_whole(self->data_fd, out, length, offset, nowait && !self->in_ram);
    return n == -ENODATA ? -EBADMSG : n;
}

/* The slot's facts, if its object is there and lies inside the file. The index is only a file, and may be wrong. */
static int take_slot(const ff_slab *self, uint64_t index, const ff_slot **out) {
    if (index >= self->slot_count)
        return -EINVAL;
    const ff_slot *slot = &self->slots[index];
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != FF_SLOT_COMPLETE)
        return -ENODATA;
    if (ff_map_guard_hit(self->guard))
        return -ENODATA;
    if (slot->length > FF_SLAB_OBJECT_MAX || slot->identity_bytes > FF_SLAB_IDENTITY_MAX ||
        slot->offset < slot->identity_bytes || (uint64_t)slot->offset + slot->length > self->capacity_bytes)
        return -EBADMSG;
    *out = slot;
    return 0;
}

/* Of several that find the object bad at the same time one counts it. */
static int64_t drop(ff_slab *self, uint64_t index, int64_t error) {
    uint32_t complete = FF_SLOT_COMPLETE;
    if (atomic_compare_exchange_strong(&self->slots[index].state, &complete, FF_SLOT_DROPPED))
        atomic_fetch_add(&self->usage->bad_blocks, 1);
    return error;
}

int64_t ff_slab_read(ff_slab *self, uint64_t index, uint64_t offset, void *out, size_t length, bool always,
                     bool nowait) {
    const ff_slot *slot;
    int error = take_slot(self, index, &slot);
    if (error == -EBADMSG)
        return drop(self, index, error);
    if (error != 0)
        return error;
    if (offset >= slot->length)
        return 0;
    if (length > slot->length - offset)
        length = (size_t)(slot->length - offset);
    if (!always && atomic_load_explicit(&self->verified[index], memory_order_acquire) != 0) {
        int64_t n = read_at(self, out, length, slot->offset + offset, nowait);
        return n == -EBADMSG || n == -EIO ? drop(self, index, n) : n;
    }
    /* Compare all of it; straight into `out` where all of it is asked for. */
    uint32_t record = slot->length;
    if (record > FF_SLAB_OBJECT_MAX)
        return drop(self, index, -EBADMSG);
    bool whole = offset == 0 && length == record;
    char *buffer = whole ? out : malloc(record);
    if (buffer == NULL)
        return -ENOMEM;
    int64_t n = read_at(self, buffer, record, slot->offset, nowait);
    if (n >= 0 && XXH3_64bits(buffer, record) != slot->checksum)
        n = -EBADMSG;
    if (n >= 0) {
        atomic_store_explicit(&self->verified[index], 1, memory_order_release);
        if (!whole)
            memcpy(out, buffer + offset, length);
        n = (int64_t)length;
    } else if (n == -EBADMSG || n == -EIO) {
        drop(self, index, n);
    }
    if (!whole)
        free(buffer);
    return n;
}

int ff_slab_verify(ff_slab *self, uint64_t index) {
    if (index >= self->slot_count)
        return -EINVAL;
    const ff_slot *slot = &self->slots[index];
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != FF_SLOT_COMPLETE)
        return 0;
    uint32_t length = slot->length <= FF_SLAB_OBJECT_MAX ? slot->length : 0;
    char *buffer = malloc(length == 0 ? 1 : length);
    if (buffer == NULL)
        return -ENOMEM;
    int64_t n = ff_slab_read(self, index, 0, buffer, length, true, false);
    free(buffer);
    return n < 0 ? (int)n : 1;
}

static int sink_write(ff_sink *sink, uint64_t offset, const void *data, size_t length) {
    ff_slab_sink *self = (ff_slab_sink *)sink;
    if (offset > self->length || length > self->length - offset)
        return -EFBIG;
    if (offset != self->filled)
        return -EINVAL;
    memcpy(self->base + offset, data, length);
    self->filled += (uint32_t)length;
    return 0;
}

static int sink_end(ff_sink *sink, int status) {
    ff_slab_sink *self = (ff_slab_sink *)sink;
    if (status != 0 || self->filled != self->length)
        return 0;
    self->slot = ff_slab_put(self->slab, self->key, self->identity, self->identity_bytes, self->base, self->length);
    return 0; /* the bytes are right, stored or not */
}

void ff_slab_sink_init(ff_slab_sink *self) {
    self->sink.write = sink_write;
    self->sink.end = sink_end;
    self->filled = 0;
    self->slot = -ENODATA;
}
