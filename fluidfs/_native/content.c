#include "content.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Ids are given one after the other, so their low bits spread evenly over the buckets and chains are equally long. */
#define FIRST_BUCKETS 1024u
#define CHAIN_MAX 2u

struct ff_contents {
    pthread_mutex_t lock; /* of the contents, and of what has gone */
    ff_content **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    uint64_t next_id;
    ff_content *gone_contents;
    ff_slab_use *gone_slabs;
    pthread_mutex_t slab_lock; /* of the slabs that were not left; apart, because every READ of a small file takes it */
    ff_slab_use **slabs;       /* sorted by id */
    size_t slab_count;
    size_t slab_room;
    uint32_t next_slab_id;
};

ff_contents *ff_contents_new(void) {
    ff_contents *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    self->buckets = calloc(FIRST_BUCKETS, sizeof(ff_content *));
    if (self->buckets == NULL) {
        free(self);
        return NULL;
    }
    self->bucket_count = FIRST_BUCKETS;
    self->next_id = FF_CONTENT_IDS;
    self->next_slab_id = 1;
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->slab_lock, NULL);
    return self;
}

void ff_contents_free(ff_contents *self) {
    if (self == NULL)
        return;
    uint64_t ids[64];
    while (ff_contents_gone(self, ids, 64) != 0) {
    }
    for (size_t i = 0; i < self->slab_count; i++)
        free(self->slabs[i]);
    free(self->slabs);
    free(self->buckets);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->slab_lock);
    free(self);
}

static ff_content **bucket_of(const ff_contents *self, uint64_t id) {
    return &self->buckets[id & (self->bucket_count - 1)];
}

/* Doubles the buckets; without memory the chains grow longer instead. Under `lock`. */
static void grow(ff_contents *self) {
    size_t count = self->bucket_count;
    ff_content **before = self->buckets, **buckets = calloc(count * 2, sizeof(ff_content *));
    if (buckets == NULL)
        return;
    self->buckets = buckets;
    self->bucket_count = count * 2;
    for (size_t i = 0; i < count; i++) {
        for (ff_content *content = before[i], *next; content != NULL; content = next) {
            next = content->next;
            ff_content **bucket = bucket_of(self, content->id);
            content->next = *bucket;
            *bucket = content;
        }
    }
    free(before);
}

static ff_content *add(ff_contents *owner, ff_content_kind kind, uint64_t size, ff_object *object, ff_verify verify) {
    ff_content *content = calloc(1, sizeof *content);
    if (content == NULL)
        return NULL;
    content->owner = owner;
    content->kind = kind;
    content->verify = verify;
    content->size = size;
    content->object = object;
    content->backing_id = -1;
    atomic_init(&content->refs, 1);
    pthread_mutex_lock(&owner->lock);
    if (owner->count >= owner->bucket_count * CHAIN_MAX)
        grow(owner);
    content->id = owner->next_id++;
    ff_content **bucket = bucket_of(owner, content->id);
    content->next = *bucket;
    *bucket = content;
    owner->count++;
    pthread_mutex_unlock(&owner->lock);
    return content;
}

ff_content *ff_content_object(ff_contents *owner, ff_object *object, ff_verify verify) {
    return add(owner, FF_CONTENT_OBJECT, object->object_bytes, object, verify);
}

ff_content *ff_content_small(ff_contents *owner, uint64_t size, ff_verify verify) {
    return add(owner, FF_CONTENT_SMALL, size, NULL, verify);
}

ff_content *ff_content_through(ff_contents *owner, uint64_t size) {
    return add(owner, FF_CONTENT_THROUGH, size, NULL, FF_VERIFY_NEVER);
}

void ff_content_drop(ff_content *self) {
    /* acq_rel: what others did with the content is done before it goes */
    if (self == NULL || atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel) != 1)
        return;
    ff_contents *owner = self->owner;
    pthread_mutex_lock(&owner->lock);
    ff_content **link = bucket_of(owner, self->id);
    while (*link != self)
        link = &(*link)->next;
    *link = self->next;
    owner->count--;
    self->next = owner->gone_contents;
    owner->gone_contents = self;
    pthread_mutex_unlock(&owner->lock);
}

ff_content *ff_contents_find(ff_contents *self, uint64_t id) {
    pthread_mutex_lock(&self->lock);
    ff_content *content = *bucket_of(self, id);
    while (content != NULL && content->id != id)
        content = content->next;
    if (content != NULL) {
        /* Whoever dropped the last reference may be waiting for the lock: what is 0 stays 0. */
        uint32_t refs = atomic_load_explicit(&content->refs, memory_order_relaxed);
        while (refs != 0 && !atomic_compare_exchange_weak_explicit(&content->refs, &refs, refs + 1,
                                                                   memory_order_relaxed, memory_order_relaxed)) {
        }
        if (refs == 0)
            content = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    return content;
}

size_t ff_contents_count(ff_contents *self) {
    pthread_mutex_lock(&self->lock);
    size_t count = self->count;
    pthread_mutex_unlock(&self->lock);
    return count;
}

/* The index of the slab, or of the first with a higher id. Under `slab_lock`. */
static size_t slab_index(const ff_contents *self, uint64_t id) {
    size_t low = 0, high = self->slab_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->slabs[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_slab(const ff_contents *self, size_t index, uint64_t id) {
    return index < self->slab_count && self->slabs[index]->id == id;
}

ff_slab_use *ff_contents_hold_slab(ff_contents *self, uint64_t id) {
    ff_slab_use *use = NULL;
    pthread_mutex_lock(&self->slab_lock);
    size_t index = slab_index(self, id);
    if (is_slab(self, index, id)) {
        use = self->slabs[index];
        atomic_fetch_add_explicit(&use->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&self->slab_lock);
    return use;
}

void ff_contents_release_slab(ff_contents *self, ff_slab_use *use) {
    if (atomic_fetch_sub_explicit(&use->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&self->lock);
    use->next = self->gone_slabs;
    self->gone_slabs = use;
    pthread_mutex_unlock(&self->lock);
}

ff_slab_use *ff_contents_add_slab(ff_contents *self, ff_slab *slab) {
    ff_slab_use *use = calloc(1, sizeof *use);
    if (use == NULL)
        return NULL;
    use->slab = slab;
    atomic_init(&use->refs, 1);
    pthread_mutex_lock(&self->slab_lock);
    size_t room = self->slab_room == 0 ? 16 : self->slab_room * 2;
    ff_slab_use **slabs = self->slabs;
    if (self->slab_count == self->slab_room) {
        slabs = realloc(self->slabs, room * sizeof *slabs);
        if (slabs != NULL) {
            self->slabs = slabs;
            self->slab_room = room;
        }
    }
    /* Ids end: a place has 32 bits for them. */
    if (slabs == NULL || self->next_slab_id == UINT32_MAX) {
        free(use);
        use = NULL;
    } else {
        use->id = self->next_slab_id++;
        self->slabs[self->slab_count++] = use;
    }
    pthread_mutex_unlock(&self->slab_lock);
    return use;
}

void ff_contents_leave_slab(ff_contents *self, uint64_t slab_id) {
    ff_slab_use *use = NULL;
    pthread_mutex_lock(&self->slab_lock);
    size_t index = slab_index(self, slab_id);
    if (is_slab(self, index, slab_id)) {
        use = self->slabs[index];
        self->slab_count--;
        memmove(&self->slabs[index], &self->slabs[index + 1], (self->slab_count - index) * sizeof *self->slabs);
    }
    pthread_mutex_unlock(&self->slab_lock);
    if (use != NULL)
        ff_contents_release_slab(self, use);
}

size_t ff_contents_used_slabs(ff_contents *self, uint64_t *ids, size_t capacity) {
    size_t count = 0;
    pthread_mutex_lock(&self->slab_lock);
    for (size_t i = 0; i < self->slab_count && count < capacity; i++)
        if (atomic_exchange_explicit(&self->slabs[i]->used, false, memory_order_relaxed))
            ids[count++] = self->slabs[i]->id;
    pthread_mutex_unlock(&self->slab_lock);
    return count;
}

size_t ff_contents_gone(ff_contents *self, uint64_t *ids, size_t capacity) {
    ff_content *contents = NULL;
    ff_slab_use *slabs = NULL;
    size_t count = 0;
    pthread_mutex_lock(&self->lock);
    for (; count < capacity && self->gone_contents != NULL; count++) {
        ff_content *content = self->gone_contents;
        self->gone_contents = content->next;
        content->next = contents;
        contents = content;
        ids[count] = content->id;
    }
    for (; count < capacity && self->gone_slabs != NULL; count++) {
        ff_slab_use *use = self->gone_slabs;
        self->gone_slabs = use->next;
        use->next = slabs;
        slabs = use;
        ids[count] = use->id;
    }
    pthread_mutex_unlock(&self->lock);
    for (ff_content *next; contents != NULL; contents = next) {
        next = contents->next;
        free(contents);
    }
    for (ff_slab_use *next; slabs != NULL; slabs = next) {
        next = slabs->next;
        free(slabs);
    }
    return count;
}
