/* The serving threads: one request after the other from the device, to whoever answers it. */
#include "relay_parts.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static void serve(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    switch (header->opcode) {
    case FUSE_LOOKUP:
        return ff_serve_lookup(self, request);
    case FUSE_GETATTR:
        return ff_serve_getattr(self, request);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
        return ff_serve_forget(self, request);
    case FUSE_OPEN:
        return ff_serve_open(self, request);
    case FUSE_READ:
        return ff_serve_read(self, request);
    case FUSE_RELEASE:
        return ff_serve_release(self, request);
    case FUSE_OPENDIR:
        return ff_serve_opendir(self, request);
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return ff_serve_readdir(self, request);
    case FUSE_RELEASEDIR:
        return ff_serve_releasedir(self, request);
    case FUSE_INIT:
        return ff_serve_init(self, request);
    case FUSE_INTERRUPT: {
        struct fuse_interrupt_in interrupt;
        if (request->length >= sizeof interrupt) {
            memcpy(&interrupt, request->body, sizeof interrupt);
            ff_parking_interrupt(&self->parking, interrupt.unique);
        }
        return;
    }
    case FUSE_NOTIFY_REPLY: /* of what we never ask for; it waits for no answer */
        return;
    case FUSE_FLUSH: /* nothing is written yet that could be flushed */
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_DESTROY:
        ff_count_native(self, header->opcode);
        ff_reply_error(self, request->server->device_fd, header->unique, 0);
        return;
    case FUSE_GETXATTR: {
        /* Attributes of ours are Python's; the kernel and `ls` ask for others at every turn. */
        struct fuse_getxattr_in wanted;
        static const char ours[] = "user.fluidfs.";
        if (request->length >= sizeof wanted + sizeof ours - 1 &&
            memcmp(request->body + sizeof wanted, ours, sizeof ours - 1) == 0)
            return ff_serve_by_python(self, request);
        ff_count_native(self, header->opcode);
        ff_reply_error(self, request->server->device_fd, header->unique, ENODATA);
        return;
    }
    default:
        return ff_serve_by_python(self, request);
    }
}

/* Whether answering may take longer than another request should wait for its turn. */
static bool is_long(const struct fuse_in_header *header, const char *body, size_t length) {
    struct fuse_read_in wanted;
    switch (header->opcode) {
    case FUSE_READ:
        if (length < sizeof wanted)
            return false;
        memcpy(&wanted, body, sizeof wanted);
        return wanted.size > FF_LONG_BYTES;
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
    case FUSE_BATCH_FORGET:
        return true;
    default:
        return false;
    }
}

static bool ends_connection(int error) {
    return error == ENODEV || error == EBADF || error == ECONNABORTED || error == ECONNRESET;
}

static void note_end(ff_relay *self) {
    atomic_store(&self->ended, true);
    ff_wake(self->parking.event_fd);
}

/* Looks for a request for a short while, without sleeping. */
static bool spin(const ff_relay *self, int device_fd) {
    int64_t until_ns = ff_monotonic_ns() + (int64_t)self->options.spin_us * 1000;
    do {
        struct pollfd ready = {.fd = device_fd, .events = POLLIN};
        if (poll(&ready, 1, 0) != 0)
            return true;
    } while (ff_monotonic_ns() < until_ns && !atomic_load_explicit(&self->stopping, memory_order_relaxed));
    return false;
}

/* Serves until the thread has given its place at the device away, or everything ends. */
static void serve_from_place(ff_relay *self, ff_server *server) {
    /* A lone reader that comes back at once is worth looking out for; among many, whoever is looked out for needs the core
     * that the looking takes. */
    bool fast = false;
    uint32_t last_requester = 0;
    while (!atomic_load_explicit(&self->stopping, memory_order_relaxed)) {
        if (fast)
            fast = spin(self, server->device_fd);
        int64_t before_ns = ff_monotonic_ns();
        ssize_t n = read(server->device_fd, server->request, FF_REQUEST_ROOM);
        if (n == 0 || (n < 0 && ends_connection(errno))) {
            note_end(self);
            break;
        }
        struct fuse_in_header header;
        if (n < (ssize_t)sizeof header)
            continue; /* EINTR, EAGAIN; ENOENT: the request was taken back; a message that is none */
        memcpy(&header, server->request, sizeof header);
        if (header.len != (size_t)n)
            continue;
        int64_t now_ns = ff_monotonic_ns();
        fast = header.pid == last_requester && now_ns - before_ns < (int64_t)self->options.spin_us * 1000;
        last_requester = header.pid;
        ff_request request = {
            .header = &header,
            .body = server->request + sizeof header,
            .length = (size_t)n - sizeof header,
            .server = server,
        };
        if (is_long(&header, request.body, request.length)) {
            atomic_store(&server->state, FF_SERVING_LONG);
            sem_post(&self->places);
            serve(self, &request);
            return;
        }
        atomic_store(&server->serving_since_ns, now_ns);
        atomic_store(&server->state, FF_SERVING_SHORT);
        serve(self, &request);
        if (atomic_exchange(&server->state, FF_AT_DEVICE) == FF_REPLACED)
            return;
    }
    sem_post(&self->places);
}

void *ff_run_server(void *context) {
    ff_server *server = context;
    ff_relay *self = server->relay;
    while (!atomic_load(&self->stopping) && !atomic_load(&self->ended)) {
        while (sem_wait(&self->places) < 0 && errno == EINTR && !atomic_load(&self->stopping)) {
        }
        if (atomic_load(&self->stopping))
            break;
        atomic_store(&server->state, FF_AT_DEVICE);
        serve_from_place(self, server);
    }
    atomic_store(&server->done, true);
    return NULL;
}

