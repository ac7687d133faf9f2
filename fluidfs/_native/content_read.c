#include "content.h"

#include <errno.h>

bool ff_content_place(ff_content *self, uint64_t slab_id, uint64_t slot) {
    if (self->kind != FF_CONTENT_SMALL || slot > UINT32_MAX)
        return false;
    ff_slab_use *use = ff_contents_hold_slab(self->owner, slab_id);
    if (use == NULL)
        return false;
    bool inside = slot < use->slab->slot_count;
    ff_contents_release_slab(self->owner, use);
    /* Should the slab be left meanwhile, the place leads nowhere, which every READ finds out. */
    if (inside)
        atomic_store_explicit(&self->place, slab_id << 32 | slot, memory_order_release);
    return inside;
}

static void unplace(ff_content *self, uint64_t place) {
    atomic_compare_exchange_strong(&self->place, &place, 0);
}

void ff_content_unplace(ff_content *self, uint64_t slab_id, uint64_t slot) {
    if (slab_id != 0 && slab_id < FF_CONTENT_IDS && slot <= UINT32_MAX)
        unplace(self, slab_id << 32 | slot);
}

/* The slab that `place` names, with a use for the caller; NULL: nowhere. */
static ff_slab_use *hold_place(ff_content *self, uint64_t place) {
    return place == 0 ? NULL : ff_contents_hold_slab(self->owner, place >> 32);
}

static int64_t read_small(ff_content *self, uint64_t offset, void *out, size_t length, bool nowait) {
    uint64_t place = atomic_load_explicit(&self->place, memory_order_acquire);
    if (place == 0)
        return -ENODATA;
    bool always = self->verify == FF_VERIFY_ALWAYS;
    if (always && nowait)
        return -EAGAIN;
    ff_slab_use *use = hold_place(self, place);
    int64_t n = -ENODATA;
    if (use != NULL) {
        n = ff_slab_read(use->slab, (uint32_t)place, offset, out, length, always, nowait);
        /* Looked at first: threads that read one slab do not fight over the line. */
        if (n > 0 && !atomic_load_explicit(&use->used, memory_order_relaxed))
            atomic_store_explicit(&use->used, true, memory_order_relaxed);
        ff_contents_release_slab(self->owner, use);
    }
    /* A record that is shorter than its object is none of it. */
    if (n != (int64_t)length && n != -EAGAIN)
        unplace(self, place);
    return n;
}

int64_t ff_content_read(ff_content *self, uint64_t offset, void *out, size_t length, bool nowait) {
    if (offset >= self->size || length == 0)
        return 0;
    if (length > self->size - offset)
        length = (size_t)(self->size - offset);
    int64_t n = -ENODATA;
    if (self->kind == FF_CONTENT_OBJECT)
        n = ff_object_read(self->object, offset, out, length, self->verify, nowait);
    else if (self->kind == FF_CONTENT_SMALL)
        n = read_small(self, offset, out, length, nowait);
    return n == (int64_t)length || (n == -EAGAIN && nowait) ? n : -ENODATA;
}

bool ff_content_present(ff_content *self, uint64_t offset, uint64_t length) {
    if (offset >= self->size || length == 0)
        return true;
    if (length > self->size - offset)
        length = self->size - offset;
    uint64_t from, to;
    if (self->kind == FF_CONTENT_OBJECT)
        return !ff_object_next_missing(self->object, offset, offset + length, &from, &to);
    ff_slab_use *use = hold_place(self, atomic_load_explicit(&self->place, memory_order_acquire));
    if (use == NULL)
        return false;
    ff_contents_release_slab(self->owner, use);
    return true;
}

bool ff_content_sealed(ff_content *self, const uint8_t boot_id[16]) {
    return self->kind == FF_CONTENT_OBJECT && self->verify != FF_VERIFY_ALWAYS &&
           ff_object_seal_holds(self->object, boot_id, false);
}
