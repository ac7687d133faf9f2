/* The watchdog: answers for requests whose process was killed, that wait for too long, or for a Python half that hangs; and
 * has a thread replaced at the device that is held up in what should have been short. */
#include "relay_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROUND_MS 100
/* A short answer takes microseconds; so much later somebody else goes to the device. */
#define HELD_UP_NS 50000000
/* Where the requester cannot be looked at, an interrupted request is given so much time still. */
#define UNSEEN_NS 2000000000
#define BATCH 64u

/* Whether a thread was killed: SIGKILL waits for it, which a thread in an uninterruptible wait cannot act on. Another
 * signal is no reason to fail its read. */
static bool killed(pid_t thread) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return n < 0 && errno == ESRCH;
    text[n] = '\0';
    static const char *const fields[] = {"\nSigPnd:", "\nShdPnd:"};
    for (unsigned i = 0; i < 2; i++) {
        const char *at = strstr(text, fields[i]);
        if (at != NULL && (strtoull(at + strlen(fields[i]), NULL, 16) & (UINT64_C(1) << 8)) != 0) /* SIGKILL is 9 */
            return true;
    }
    return false;
}

static void answer(ff_relay *self, ff_parked *request, int error) {
    if (request->opcode == FUSE_READ) {
        ff_count(&self->read_requests, 1);
        ff_count(&self->read_errors, 1);
    }
    ff_reply_error(self, request->device_fd, request->unique, error);
    ff_parked_drop(&self->parking, request);
}

static void answer_killed(ff_relay *self, int64_t now_ns) {
    ff_interrupted found[BATCH];
    size_t count = ff_parking_interrupted(&self->parking, found, BATCH);
    for (size_t i = 0; i < count; i++) {
        bool dead = found[i].requester == 0 ? now_ns - found[i].since_ns > UNSEEN_NS : killed(found[i].requester);
        ff_parked *request = dead ? ff_parking_take(&self->parking, found[i].ticket) : NULL;
        if (request != NULL) {
            ff_count(&self->interrupted, 1);
            answer(self, request, EINTR);
        }
    }
}

/* What has waited since before a time. */
static bool waits_since(void *context, const ff_parked *request) {
    const int64_t *before_ns = context;
    return request->since_ns <= *before_ns;
}

size_t ff_answer_where(ff_relay *self, bool (*where)(void *context, const ff_parked *request), void *context, int error) {
    ff_parked *found[BATCH];
    size_t count, total = 0;
    do {
        count = ff_parking_give_up(&self->parking, where, context, found, BATCH);
        for (size_t i = 0; i < count; i++)
            answer(self, found[i], error);
        total += count;
    } while (count == BATCH);
    return total;
}

static size_t answer_older(ff_relay *self, int64_t before_ns, int error) {
    return ff_answer_where(self, waits_since, &before_ns, error);
}

void ff_answer_all(ff_relay *self, int error) { answer_older(self, INT64_MAX, error); }

static void relieve_held_up(ff_relay *self, int64_t now_ns) {
    for (unsigned i = 0; i < self->options.threads; i++) {
        ff_server *server = &self->servers[i];
        int serving = FF_SERVING_SHORT;
        if (atomic_load(&server->state) == FF_SERVING_SHORT &&
            now_ns - atomic_load(&server->serving_since_ns) > HELD_UP_NS &&
            atomic_compare_exchange_strong(&server->state, &serving, FF_REPLACED))
            sem_post(&self->places);
    }
}

void *ff_run_watch(void *context) {
    ff_relay *self = context;
    while (!atomic_load(&self->stopping)) {
        struct pollfd ready = {.fd = self->watch_fd, .events = POLLIN};
        poll(&ready, 1, ROUND_MS);
        int64_t now_ns = ff_monotonic_ns();
        const ff_relay_options *options = &self->options;
        relieve_held_up(self, now_ns);
        answer_killed(self, now_ns);
        bool silent = now_ns - atomic_load(&self->beat_ns) > options->silence_ns;
        int64_t patience_ns = silent && options->silence_ns < options->give_up_ns ? options->silence_ns : options->give_up_ns;
        ff_count(&self->given_up, answer_older(self, now_ns - patience_ns, EIO));
    }
    return NULL;
}
