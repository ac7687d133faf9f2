#include "delivery.h"

static size_t smaller(uint64_t left, uint64_t right) { return (size_t)(left < right ? left : right); }

void ff_delivery_init(ff_delivery *self, ff_sink *sink, void *buffer, size_t capacity, uint64_t offset,
                      uint64_t length) {
    *self = (ff_delivery){
        .sink = sink,
        .buffer = buffer,
        .capacity = capacity,
        .offset = offset,
        .missing = length,
        .chunk = smaller(FF_DELIVERY_UNIT, length),
    };
}

char *ff_delivery_space(const ff_delivery *self, size_t *room) {
    *room = self->chunk - self->filled;
    return self->buffer + self->filled;
}

int ff_delivery_advance(ff_delivery *self, size_t count) {
    self->filled += count;
    self->missing -= count;
    if (self->filled < self->chunk)
        return 0;
    int outcome = self->sink->write(self->sink, self->offset, self->buffer, self->filled);
    if (outcome < 0) {
        self->sink_error = -outcome;
        return outcome;
    }
    self->offset += self->filled;
    self->delivered += self->filled;
    self->filled = 0;
    self->chunk = smaller(self->capacity, self->missing);
    if (self->progress != NULL)
        self->progress(self->context, self->delivered);
    return 0;
}
