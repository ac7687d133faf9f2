/* What the relay tells of itself, and the small calls that Python makes of it. */
#include <string.h>

#include "relay_parts.h"

int ff_relay_take_pair(ff_relay *self) {
    int fd = self->pair[1];
    self->pair[1] = -1;
    return fd;
}

int ff_relay_event_fd(const ff_relay *self) { return self->parking.event_fd; }

bool ff_relay_ended(const ff_relay *self) { return atomic_load(&self->ended); }

void ff_relay_beat(ff_relay *self) { atomic_store(&self->beat_ns, ff_monotonic_ns()); }

const ff_session *ff_relay_session(const ff_relay *self) {
    static const ff_session none;
    return atomic_load_explicit(&self->agreement, memory_order_acquire) == FF_AGREED ? &self->session : &none;
}

size_t ff_relay_drain(ff_relay *self, ff_ask *out, size_t capacity) {
    ff_relay_beat(self);
    size_t count = ff_parking_drain(&self->parking, out, capacity);
    /* An empty queue is not readable any more, but an end is for ever. */
    if (atomic_load(&self->ended))
        ff_wake(self->parking.event_fd);
    /* Directories that are in use are told here, when there is something to drain anyway, and with each beat. */
    uint64_t due[16];
    size_t room = capacity - count < 16 ? capacity - count : 16;
    size_t due_count = room == 0 ? 0 : ff_names_take_due(self->names, due, room);
    for (size_t i = 0; i < due_count; i++)
        out[count++] = (ff_ask){.kind = FF_ASK_DUE, .node = due[i]};
    return count;
}

size_t ff_relay_detach_idle(ff_relay *self, int64_t idle_for_ns, size_t keep_most) {
    return ff_handles_detach_idle(&self->handles, ff_monotonic_ns() - idle_for_ns, keep_most);
}

void ff_relay_facts_of(ff_relay *self, ff_relay_facts *out) {
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i < FF_OPCODES; i++) {
        out->native[i] = atomic_load_explicit(&self->native[i], memory_order_relaxed);
        out->python[i] = atomic_load_explicit(&self->python[i], memory_order_relaxed);
    }
    out->read_requests = atomic_load(&self->read_requests);
    out->read_bytes = atomic_load(&self->read_bytes);
    out->read_hit_bytes = atomic_load(&self->read_hit_bytes);
    out->read_errors = atomic_load(&self->read_errors);
    out->passthrough_opens = atomic_load(&self->passthrough_opens);
    out->opens = atomic_load(&self->opens);
    out->given_up = atomic_load(&self->given_up);
    out->interrupted = atomic_load(&self->interrupted);
    out->replies_failed = atomic_load(&self->replies_failed);
    out->waiting = (uint32_t)ff_parking_waiting(&self->parking);
    out->open_files = ff_handles_count(&self->handles);
    out->clones = self->clones;
    out->backing_error = atomic_load(&self->backing_error);
}
