#include "name_hash.h"

#include <stdlib.h>
#include <string.h>

#include "checksum.h"

#define SEGMENT_BUCKETS 1024u
#define INO_MASK (UINT64_MAX >> 1) /* tools exist that take bit 63 for a sign */

uint64_t ff_ino_of(uint64_t parent_ino, const char *name, size_t name_bytes) {
    uint64_t ino = XXH3_64bits_withSeed(name, name_bytes, parent_ino) & INO_MASK;
    /* 0 means nothing to many programs, 1 is the root's. */
    return ino > FF_ROOT_NODE ? ino : ino + 2;
}

static uint32_t *bucket_at(const ff_names *self, uint32_t bucket) {
    return &self->segments[bucket / SEGMENT_BUCKETS][bucket % SEGMENT_BUCKETS];
}

/* The first node of the bucket that a hash belongs to. */
static uint32_t *bucket_of(const ff_names *self, uint64_t ino) {
    uint32_t wide = (uint32_t)ino & (self->mask << 1 | 1);
    return bucket_at(self, wide < self->buckets ? wide : wide & self->mask);
}

static bool add_segment(ff_names *self) {
    if (self->segment_count == self->segment_room) {
        uint32_t room = self->segment_room == 0 ? 16 : self->segment_room * 2;
        uint32_t **segments = realloc(self->segments, room * sizeof *segments);
        if (segments == NULL)
            return false;
        self->segments = segments;
        self->segment_room = room;
    }
    uint32_t *segment = calloc(SEGMENT_BUCKETS, sizeof *segment);
    if (segment == NULL)
        return false;
    self->segments[self->segment_count++] = segment;
    return true;
}

/* Splits one bucket in two. Without memory, or at the end of what 31 bits tell apart, the chains get longer instead. */
static void add_bucket(ff_names *self) {
    uint32_t added = self->buckets, mask = self->mask << 1 | 1;
    if (added > INT32_MAX || (added / SEGMENT_BUCKETS == self->segment_count && !add_segment(self)))
        return;
    uint32_t *from = bucket_at(self, added & self->mask), *to = bucket_at(self, added);
    while (*from != FF_NO_SLOT) {
        ff_node *node = ff_node_in(self, *from);
        if (((uint32_t)node->ino & mask) == added) {
            *from = node->next;
            node->next = *to;
            *to = node->slot;
        } else {
            from = &node->next;
        }
    }
    if (added == mask)
        self->mask = mask;
    self->buckets = added + 1;
}

bool ff_hash_init(ff_names *self) {
    if (!add_segment(self))
        return false;
    self->buckets = SEGMENT_BUCKETS;
    self->mask = SEGMENT_BUCKETS - 1;
    return true;
}

void ff_hash_free(ff_names *self) {
    for (uint32_t segment = 0; segment < self->segment_count; segment++)
        free(self->segments[segment]);
    free(self->segments);
}

ff_node *ff_node_find(const ff_names *self, const ff_node *parent, uint64_t ino, const char *name, size_t name_bytes) {
    for (uint32_t slot = *bucket_of(self, ino); slot != FF_NO_SLOT;) {
        ff_node *node = ff_node_in(self, slot);
        if (node->ino == ino && node->parent == parent->slot) {
            ff_record record = ff_node_record(node);
            if (record.name_bytes == name_bytes && memcmp(record.name, name, name_bytes) == 0)
                return node;
        }
        slot = node->next;
    }
    return NULL;
}

void ff_hash_add(ff_names *self, ff_node *node) {
    if (++self->named > self->buckets)
        add_bucket(self);
    uint32_t *bucket = bucket_of(self, node->ino);
    node->next = *bucket;
    *bucket = node->slot;
    node->named = true;
}

void ff_hash_remove(ff_names *self, ff_node *node) {
    uint32_t *link = bucket_of(self, node->ino);
    while (*link != node->slot)
        link = &ff_node_in(self, *link)->next;
    *link = node->next;
    node->named = false;
    self->named--;
}

size_t ff_hash_memory(const ff_names *self) {
    return self->segment_count * (SEGMENT_BUCKETS * sizeof(uint32_t)) + self->segment_room * sizeof(uint32_t *);
}
