#include "read_window.h"

/* The constants of readahead/window.py, with its reasons. */
#define FIRST_WINDOW_BYTES (UINT64_C(1) << 20)
#define STEP_BYTES (UINT64_C(16) << 20)
#define BACKWARD_BYTES (UINT64_C(4) << 20)
#define FORWARD_BYTES (UINT64_C(8) << 20)

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t greater(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* How much of the window may be used up before more is asked for. */
static uint64_t step_of(uint64_t window) { return lesser(window / 2, STEP_BYTES); }

/* The read at `offset` is near enough to where the stream would go on. */
static bool is_near(uint64_t expected, uint64_t offset) {
    return expected <= offset + BACKWARD_BYTES && offset <= expected + FORWARD_BYTES;
}

bool ff_window_plan(ff_window *self, uint64_t offset, uint64_t length, uint64_t size, uint64_t max_window_bytes,
                    uint64_t *from, uint64_t *to) {
    uint64_t end = offset + length;
    bool started = self->window_bytes > 0;
    /* Only a read that follows exactly starts a stream: random readers hit a near place by chance. */
    bool continues = started ? is_near(self->expected, offset) : offset == self->expected;
    if (max_window_bytes == 0 || !continues) {
        *self = (ff_window){.expected = end, .asked_to = end};
        return false;
    }
    uint64_t expected = started ? greater(end, self->expected) : end;
    uint64_t asked_to = started ? greater(self->asked_to, expected) : end;
    uint64_t window = self->window_bytes;
    if (asked_to - expected > window - step_of(window) || asked_to >= size) {
        *self = (ff_window){expected, greater(window, 1), asked_to};
        return false;
    }
    window = lesser(greater(window * 2, FIRST_WINDOW_BYTES), max_window_bytes);
    uint64_t wanted_to = lesser(expected + window, size);
    if (wanted_to <= asked_to) {
        *self = (ff_window){expected, window, asked_to};
        return false;
    }
    *self = (ff_window){expected, window, wanted_to};
    *from = asked_to;
    *to = wanted_to;
    return true;
}
