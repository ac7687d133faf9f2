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

/* Past this many slots tried, the table counts as full: three quarters filled, a probe is rarely longer than 32. */
#define MAX_PROBES 128u

static uint64_t first_slot(const ff_slab *self, const uint8_t key[16]) {
    uint64_t hash;
    memcpy(&hash, key, sizeof hash); /* the key is a hash already */
    return hash & (self->header->slot_count - 1);
}

static size_t index_size(uint32_t slot_count) { return FF_SLAB_HEADER_BYTES + (size_t)slot_count * sizeof(ff_slot); }

/* The index is made beside its place and renamed there, so that it is whole or not there. */
static int create_index(const char *path, uint32_t slot_count, uint64_t capacity_bytes) {
    ff_slab_header header = {.format = FF_SLAB_FORMAT, .slot_count = slot_count, .capacity_bytes = capacity_bytes};
    memcpy(header.magic, FF_SLAB_MAGIC, sizeof header.magic);
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
    if (error == 0 && rename(temporary, path) < 0)
        error = -errno;
    if (error != 0)
        unlink(temporary);
    free(temporary);
    return error;
}

static int load_index(ff_slab *self, const char *path) {
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return -errno;
    struct stat facts;
    int error = fstat(fd, &facts) < 0 ? -errno : 0;
    void *base = MAP_FAILED;
    if (error == 0 && (uint64_t)facts.st_size < index_size(1))
        error = -EUCLEAN;
    if (error == 0) {
        base = mmap(NULL, (size_t)facts.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
            error = -errno;
    }
    close(fd);
    if (error != 0)
        return error;
    const ff_slab_header *header = base;
    if (memcmp(header->magic, FF_SLAB_MAGIC, sizeof header->magic) != 0 || header->format != FF_SLAB_FORMAT ||
        header->slot_count == 0 || (header->slot_count & (header->slot_count - 1)) != 0 ||
        index_size(header->slot_count) != (size_t)facts.st_size || header->capacity_bytes > UINT32_MAX) {
        munmap(base, (size_t)facts.st_size);
        return -EUCLEAN;
    }
    self->header = base;
    self->slots = (ff_slot *)((char *)base + FF_SLAB_HEADER_BYTES);
    self->index_bytes = (size_t)facts.st_size;
    return 0;
}

static void release(ff_slab *self) {
    if (self->header != NULL)
        munmap(self->header, self->index_bytes);
    if (self->data_fd >= 0)
        close(self->data_fd);
    free((void *)self->verified);
    free(self);
}

int ff_slab_open(const char *data_path, const char *index_path, uint32_t slot_count, uint64_t capacity_bytes,
                 ff_usage *usage, ff_slab **out) {
    bool create = slot_count != 0;
    if (create && ((slot_count & (slot_count - 1)) != 0 || capacity_bytes == 0 || capacity_bytes > UINT32_MAX))
        return -EINVAL;
    ff_slab *self = calloc(1, sizeof *self);
    if (self == NULL)
        return -ENOMEM;
    self->usage = usage;
    self->data_fd = open(data_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600);
    int error = self->data_fd < 0 ? -errno : 0;
    struct stat facts;
    if (error == 0 && flock(self->data_fd, LOCK_SH) < 0)
        error = -errno;
    if (error == 0 && fstat(self->data_fd, &facts) < 0)
        error = -errno;
    if (error == 0 && facts.st_nlink == 0)
        error = -ENOENT;
    if (error == 0)
        error = load_index(self, index_path);
    if (error == -ENOENT && create) {
        error = create_index(index_path, slot_count, capacity_bytes);
        if (error == 0)
            error = load_index(self, index_path);
    }
    if (error == 0) {
        self->verified = calloc(self->header->slot_count, 1);
        if (self->verified == NULL)
            error = -ENOMEM;
    }
    if (error != 0) {
        release(self);
        return error;
    }
    *out = self;
    return 0;
}

void ff_slab_close(ff_slab *self) { release(self); }

int64_t ff_slab_find(const ff_slab *self, const uint8_t key[16]) {
    uint64_t slot = first_slot(self, key);
    for (uint32_t i = 0; i < MAX_PROBES; i++, slot = (slot + 1) & (self->header->slot_count - 1)) {
        const ff_slot *candidate = &self->slots[slot];
        uint32_t state = atomic_load_explicit(&candidate->state, memory_order_acquire);
        if (state == FF_SLOT_EMPTY)
            return -ENOENT;
        if (state == FF_SLOT_COMPLETE && memcmp(candidate->key, key, sizeof candidate->key) == 0)
            return (int64_t)slot;
    }
    return -ENOENT;
}

/* Wins an empty slot for `key`; -ENOSPC when there is none near its place. */
static int64_t win_slot(ff_slab *self, const uint8_t key[16]) {
    if (atomic_load(&self->header->used_slots) >= self->header->slot_count / 4 * 3)
        return -ENOSPC;
    uint64_t slot = first_slot(self, key);
    for (uint32_t i = 0; i < MAX_PROBES; i++, slot = (slot + 1) & (self->header->slot_count - 1)) {
        uint32_t empty = FF_SLOT_EMPTY;
        if (atomic_compare_exchange_strong(&self->slots[slot].state, &empty, FF_SLOT_WRITING)) {
            atomic_fetch_add(&self->header->used_slots, 1);
            return (int64_t)slot;
        }
    }
    return -ENOSPC;
}

int64_t ff_slab_put(ff_slab *self, const uint8_t key[16], const void *identity, uint32_t identity_bytes,
                    const void *data, uint32_t length) {
    uint64_t record = (uint64_t)identity_bytes + length;
    uint64_t space = (record + FF_SLAB_ALIGN - 1) / FF_SLAB_ALIGN * FF_SLAB_ALIGN;
    if (atomic_load(&self->header->tail) + space > self->header->capacity_bytes)
        return -ENOSPC;
    int64_t index = win_slot(self, key);
    if (index < 0)
        return index;
    ff_slot *slot = &self->slots[index];
    uint64_t offset = atomic_fetch_add(&self->header->tail, space);
    int error = offset + space > self->header->capacity_bytes ? -ENOSPC : 0;
    if (error == 0)
        error = ff_write_whole(self->data_fd, identity, identity_bytes, offset);
    if (error == 0)
        error = ff_write_whole(self->data_fd, data, length, offset + identity_bytes);
    if (error != 0) {
        atomic_store(&slot->state, FF_SLOT_DROPPED);
        return error;
    }
    memcpy(slot->key, key, sizeof slot->key);
    slot->offset = (uint32_t)(offset + identity_bytes);
    slot->length = length;
    slot->identity_bytes = identity_bytes;
    slot->checksum = XXH3_64bits(data, length);
    atomic_store_explicit(&self->verified[index], 1, memory_order_relaxed);
    atomic_store_explicit(&slot->state, FF_SLOT_COMPLETE, memory_order_release);
    ff_usage_add(self->usage, space);
    return index;
}

/* A record that the file does not hold was cut off by somebody. */
static int64_t read_at(int fd, char *out, size_t length, uint64_t offset, bool nowait) {
    int64_t n = ff_read_whole(fd, out, length, offset, nowait);
    return n == -ENODATA ? -EBADMSG : n;
}

/* The slot's facts, if its object is there and lies inside the file. The index is only a file, and may be wrong. */
static int take_slot(const ff_slab *self, uint64_t index, const ff_slot **out) {
    if (index >= self->header->slot_count)
        return -EINVAL;
    const ff_slot *slot = &self->slots[index];
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != FF_SLOT_COMPLETE)
        return -ENODATA;
    if (slot->offset < slot->identity_bytes || (uint64_t)slot->offset + slot->length > self->header->capacity_bytes)
        return -EBADMSG;
    *out = slot;
    return 0;
}

static int64_t drop(ff_slab *self, uint64_t index, int64_t error) {
    atomic_store(&self->slots[index].state, FF_SLOT_DROPPED);
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
    if (!always && atomic_load_explicit(&self->verified[index], memory_order_acquire) != 0)
        return read_at(self->data_fd, out, length, slot->offset + offset, nowait);
    /* Compare all of it; straight into `out` where all of it is asked for. */
    bool whole = offset == 0 && length == slot->length;
    char *buffer = whole ? out : malloc(slot->length);
    if (buffer == NULL)
        return -ENOMEM;
    int64_t n = read_at(self->data_fd, buffer, slot->length, slot->offset, nowait);
    if (n >= 0 && XXH3_64bits(buffer, slot->length) != slot->checksum)
        n = -EBADMSG;
    if (n >= 0) {
        atomic_store_explicit(&self->verified[index], 1, memory_order_release);
        if (!whole)
            memcpy(out, buffer + offset, length);
        n = (int64_t)length;
    } else if (n == -EBADMSG) {
        drop(self, index, n);
    }
    if (!whole)
        free(buffer);
    return n;
}

int ff_slab_verify(ff_slab *self, uint64_t index) {
    if (index >= self->header->slot_count)
        return -EINVAL;
    const ff_slot *slot = &self->slots[index];
    if (atomic_load_explicit(&slot->state, memory_order_acquire) != FF_SLOT_COMPLETE)
        return 0;
    char *buffer = malloc(slot->length == 0 ? 1 : slot->length);
    if (buffer == NULL)
        return -ENOMEM;
    int64_t n = ff_slab_read(self, index, 0, buffer, slot->length, true, false);
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
