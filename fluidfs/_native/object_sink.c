#include "object_block.h"

#include "checksum.h"
#include "file_io.h"

/* Sets the bits of the sub-blocks of one block that the run, which now ends at `to`, covers whole. */
static void publish(ff_object_sink *self, uint64_t index, uint64_t to) {
    ff_object *object = self->object;
    ff_block *block = &object->blocks[index];
    uint64_t start = index * object->block_bytes, length = ff_block_length(object, index);
    uint64_t sub = object->sub_block_bytes;
    uint64_t low = self->run_from > start ? self->run_from - start : 0, high = to - start;
    uint64_t first = (low + sub - 1) / sub;
    uint64_t last = high == length ? (length + sub - 1) / sub : high / sub; /* one past */
    if (first >= last)
        return;
    uint64_t mask = ff_mask_touching(first * sub, (last - 1) * sub + 1, (uint32_t)sub);
    uint64_t before = atomic_fetch_or_explicit(&block->bits, mask, memory_order_acq_rel);
    if ((mask & ~before) != 0)
        ff_usage_add(object->usage, ff_block_bytes_of(object, index, mask & ~before));
    uint64_t whole = ff_block_mask(object, index);
    if (((before | mask) & whole) != whole ||
        (atomic_load_explicit(&block->state, memory_order_acquire) & FF_BLOCK_COMPLETE) != 0)
        return;
    uint64_t checksum;
    if (self->hashed_from == start && self->hashed_to == start + length) {
        checksum = XXH3_64bits_digest(self->hash);
    } else {
        /* The block was put together by several: the last one reads it all. Should that fail, the bytes are there
         * all the same, and whoever seals the version tries again. */
        if (ff_block_hash(object, index, &checksum) != 0)
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
    int64_t deadline = ff_now_ns() + LEAVE_WAIT_NS;
    unsigned tries = 0;
    while (!ff_block_pin(object, block)) {
        if (ff_map_guard_hit(object->guard))
            return -EUCLEAN;
        if (!ff_wait_until(deadline, &tries))
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
    uint64_t touched = ff_mask_touching(offset - start, offset - start + length, object->sub_block_bytes);
    bool there = (atomic_load_explicit(&block->bits, memory_order_acquire) & touched) == touched;
    int error = there ? 0 : ff_write_whole(object->data_fd, data, length, offset);
    if (error == 0) {
        if (self->run_to != offset)
            self->run_from = offset;
        self->run_to = offset + length;
        publish(self, index, offset + length);
    }
    ff_block_unpin(block);
    return error;
}

static int sink_write(ff_sink *sink, uint64_t offset, const void *data, size_t length) {
    ff_object_sink *self = (ff_object_sink *)sink;
    uint64_t size = self->object->object_bytes, block_bytes = self->object->block_bytes;
    if (offset > size || length > size - offset)
        return -EFBIG;
    ff_object_heal_cut(self->object);
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
