#include "listing.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define NAME_AT 16u /* behind the two numbers */

static size_t end_of(const ff_listing *self, size_t index) {
    if (self->wide) {
        uint64_t end;
        memcpy(&end, (const char *)self->ends + index * sizeof end, sizeof end);
        return end;
    }
    uint32_t end;
    memcpy(&end, (const char *)self->ends + index * sizeof end, sizeof end);
    return end;
}

static size_t start_of(const ff_listing *self, size_t index) { return index == 0 ? 0 : end_of(self, index - 1); }

static int64_t number_at(const char *at) {
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return (int64_t)le64toh(number);
}

ff_record ff_listing_record(const ff_listing *self, size_t index) {
    size_t start = start_of(self, index);
    const char *at = self->records + start, *end = self->records + end_of(self, index);
    ff_record record = {.size = number_at(at), .mtime_ns = number_at(at + 8), .name = at + NAME_AT};
    const char *nul = memchr(record.name, 0, (size_t)(end - record.name));
    record.name_bytes = (size_t)(nul - record.name);
    record.version = nul + 1;
    record.version_bytes = (size_t)(end - record.version);
    return record;
}

/* As memcmp: by bytes, the shorter of two first that begin alike. */
static int compare_names(const char *one, size_t one_bytes, const char *other, size_t other_bytes) {
    int order = memcmp(one, other, one_bytes < other_bytes ? one_bytes : other_bytes);
    if (order != 0)
        return order;
    return one_bytes < other_bytes ? -1 : one_bytes > other_bytes;
}

static bool name_is_possible(const ff_record *record) {
    const char *name = record->name;
    size_t bytes = record->name_bytes;
    if (bytes == 0 || bytes > FF_NAME_BYTES_MAX || memchr(name, '/', bytes) != NULL)
        return false;
    return !(name[0] == '.' && (bytes == 1 || (bytes == 2 && name[1] == '.')));
}

bool ff_listing_valid(const ff_listing *self) {
    if (self->count > FF_LISTING_COUNT_MAX)
        return false;
    size_t start = 0;
    ff_record last = {.name_bytes = 0};
    for (size_t index = 0; index < self->count; index++) {
        size_t end = end_of(self, index);
        if (end > self->records_bytes || end < start || end - start <= NAME_AT ||
            memchr(self->records + start + NAME_AT, 0, end - start - NAME_AT) == NULL)
            return false;
        ff_record record = ff_listing_record(self, index);
        if (record.size < -1 || !name_is_possible(&record))
            return false;
        if (index > 0 && compare_names(last.name, last.name_bytes, record.name, record.name_bytes) >= 0)
            return false;
        last = record;
        start = end;
    }
    return start == self->records_bytes;
}

int64_t ff_listing_find(const ff_listing *self, const char *name, size_t name_bytes) {
    size_t low = 0, high = self->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        ff_record record = ff_listing_record(self, middle);
        int order = compare_names(record.name, record.name_bytes, name, name_bytes);
        if (order == 0)
            return (int64_t)middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

bool ff_record_confirms(const ff_record *now, const ff_record *before) {
    if (now->size != before->size)
        return false;
    if (now->size < 0)
        return true;
    return now->mtime_ns == before->mtime_ns && now->version_bytes == before->version_bytes &&
           memcmp(now->version, before->version, now->version_bytes) == 0;
}

bool ff_listing_equal(const ff_listing *self, const ff_listing *other) {
    if (self == other)
        return true;
    if (self->count != other->count || self->records_bytes != other->records_bytes || self->wide != other->wide)
        return false;
    if (self->count == 0)
        return true;
    size_t ends_bytes = self->count * (self->wide ? sizeof(uint64_t) : sizeof(uint32_t));
    return memcmp(self->records, other->records, self->records_bytes) == 0 &&
           memcmp(self->ends, other->ends, ends_bytes) == 0;
}

uint32_t *ff_listing_confirmed(const ff_listing *now, const ff_listing *before) {
    uint32_t *confirmed = calloc(before->count + 1, sizeof *confirmed);
    if (confirmed == NULL)
        return NULL;
    for (size_t left = 0, right = 0; left < before->count && right < now->count;) {
        ff_record old = ff_listing_record(before, left), new = ff_listing_record(now, right);
        int order = compare_names(old.name, old.name_bytes, new.name, new.name_bytes);
        if (order == 0 && ff_record_confirms(&new, &old))
            confirmed[left] = (uint32_t)right + 1;
        left += order <= 0;
        right += order >= 0;
    }
    return confirmed;
}

ff_listing *ff_listing_copy(const ff_listing *self, size_t index) {
    size_t start = start_of(self, index), bytes = end_of(self, index) - start;
    uint64_t end = bytes;
    char *memory = malloc(sizeof(ff_listing) + sizeof end + bytes);
    if (memory == NULL)
        return NULL;
    char *ends = memory + sizeof(ff_listing), *records = ends + sizeof end;
    memcpy(ends, &end, sizeof end);
    memcpy(records, self->records + start, bytes);
    ff_listing *copy = (ff_listing *)memory;
    *copy = (ff_listing){.records = records, .records_bytes = bytes, .ends = ends, .wide = true, .count = 1};
    atomic_init(&copy->refs, 1);
    return copy;
}

size_t ff_listing_copy_bytes(const ff_listing *copy) {
    return sizeof(ff_listing) + sizeof(uint64_t) + copy->records_bytes;
}
