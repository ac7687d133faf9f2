#include "object_block.h"

#include "file_io.h"

bool ff_object_next_missing(const ff_object *self, uint64_t offset, uint64_t end, uint64_t *from, uint64_t *to) {
    uint64_t size = self->object_bytes, block_bytes = self->block_bytes;
    uint32_t sub = self->sub_block_bytes;
    bool found = false;
    if (end > size)
        end = size;
    while (offset < end) {
        uint64_t index = offset / block_bytes;
        uint64_t start = index * block_bytes, stop = start + ff_block_length(self, index);
        uint64_t touched = ff_mask_touching(offset - start, (end < stop ? end : stop) - start, sub);
        uint64_t absent = touched & ~ff_block_present(&self->blocks[index]);
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
        uint64_t bits = ff_block_present(&self->blocks[i]) & ff_block_mask(self, i);
        if (bits != 0)
            total += ff_block_bytes_of(self, i, bits);
    }
    return total;
}

bool ff_object_complete(const ff_object *self) {
    for (uint64_t i = 0; i < self->block_count; i++)
        if ((~ff_block_present(&self->blocks[i]) & ff_block_mask(self, i)) != 0)
            return false;
    return true;
}

void ff_object_touch(ff_object *self, uint64_t now_s) {
    if (atomic_load_explicit(&self->header->last_use_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&self->header->last_use_s, now_s, memory_order_relaxed);
}

static int64_t read_in_block(ff_object *self, uint64_t index, uint64_t offset, char *out, size_t length,
                             ff_verify verify, bool nowait) {
    ff_block *block = &self->blocks[index];
    uint64_t start = index * self->block_bytes;
    uint64_t needed = ff_mask_touching(offset - start, offset - start + length, self->sub_block_bytes);
    if (!ff_block_pin(self, block))
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
        int compared = !compare ? 1 : nowait ? -EAGAIN : ff_block_compare(self, index);
        result = compared < 0 ? compared : ff_read_whole(self->data_fd, out, length, offset, nowait && !self->in_ram);
        if (result == -ENODATA && compared >= 0)
            result = -EBADMSG; /* present, and yet past the end of the file */
    }
    ff_block_unpin(block);
    if (ff_is_loss(result)) {
        if (nowait)
            return -EAGAIN; /* to drop it may take a while */
        ff_object_lose_block(self, index);
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
