/* The way to pyfuse3 and back: it sees what the native side does not serve, as if the pair of sockets were the device. */
#include "relay_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* What pyfuse3 may answer with: it answers nothing that carries a file's bytes. */
#define ANSWER_ROOM (FF_REQUEST_ROOM)

int ff_outbox_init(ff_outbox *self) {
    *self = (ff_outbox){.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (self->event_fd < 0)
        return -errno;
    pthread_mutex_init(&self->lock, NULL);
    return 0;
}

void ff_outbox_free(ff_outbox *self) {
    ff_message *message;
    while ((message = ff_outbox_take(self)) != NULL)
        free(message);
    close(self->event_fd);
    pthread_mutex_destroy(&self->lock);
}

bool ff_outbox_put(ff_outbox *self, const void *head, size_t head_bytes, const void *tail, size_t tail_bytes) {
    ff_message *message = malloc(sizeof *message + head_bytes + tail_bytes);
    if (message == NULL)
        return false;
    message->next = NULL;
    message->length = head_bytes + tail_bytes;
    memcpy(message->bytes, head, head_bytes);
    if (tail_bytes > 0)
        memcpy(message->bytes + head_bytes, tail, tail_bytes);
    pthread_mutex_lock(&self->lock);
    if (self->last != NULL)
        self->last->next = message;
    else
        self->first = message;
    self->last = message;
    pthread_mutex_unlock(&self->lock);
    uint64_t one = 1;
    ssize_t n = write(self->event_fd, &one, sizeof one);
    (void)n;
    return true;
}

ff_message *ff_outbox_take(ff_outbox *self) {
    pthread_mutex_lock(&self->lock);
    ff_message *message = self->first;
    if (message != NULL) {
        self->first = message->next;
        if (self->first == NULL)
            self->last = NULL;
    }
    pthread_mutex_unlock(&self->lock);
    return message;
}

/* A message that pyfuse3 will never get must not leave its caller waiting; the watchdog may have been first. */
static void answer_undelivered(ff_relay *self, uint64_t unique, int error) {
    ff_parked *parked = ff_parking_take_unique(&self->parking, unique);
    if (parked == NULL)
        return;
    ff_reply_error(self, parked->device_fd, parked->unique, error);
    ff_parked_drop(&self->parking, parked);
}

static void forward(ff_relay *self, const ff_request *request, const struct fuse_in_header *header, const void *body,
                    size_t length) {
    int device_fd = request->server->device_fd;
    ff_count_python(self, header->opcode);
    ff_parked *parked = ff_parked_new(header->unique, device_fd, header->opcode, (pid_t)header->pid);
    int error = parked == NULL ? ENOMEM : EIO;
    if (parked == NULL || !ff_parking_wait(&self->parking, parked)) {
        ff_parked_drop(&self->parking, parked);
        ff_reply_error(self, device_fd, header->unique, error);
        return;
    }
    /* Parked first: the answer may be back before we are. */
    if (!ff_outbox_put(&self->to_python, header, sizeof *header, body, length))
        answer_undelivered(self, header->unique, ENOMEM);
}

void ff_serve_by_python(ff_relay *self, const ff_request *request) {
    forward(self, request, request->header, request->body, request->length);
}

void ff_serve_init(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    ff_init_out answer;
    ff_session session;
    int error = ff_init_negotiate(request->body, request->length, self->options.off, self->options.wants_passthrough,
                                  self->options.allow_idmap, &answer, &session);
    uint32_t major = 0;
    if (error == -EPROTO)
        memcpy(&major, request->body, sizeof major);
    if (major > FUSE_KERNEL_VERSION) {
        /* It tries again with our major version. */
        ff_reply(self, request->server->device_fd, header->unique, &answer, sizeof answer);
        return;
    }
    int none = FF_NOT_AGREED;
    if (error == 0 && !atomic_compare_exchange_strong(&self->agreement, &none, FF_AGREEING))
        error = -EIO; /* a mount has one INIT; the others look at what was agreed on */
    if (error != 0) {
        ff_reply_error(self, request->server->device_fd, header->unique, -error);
        return;
    }
    self->init_answer = answer;
    self->session = session;
    atomic_store_explicit(&self->agreement, FF_AGREED, memory_order_release);
    /* libfuse is offered a plain kernel: no splicing through a pair of sockets, nothing that only we can keep up. */
    struct fuse_in_header shown_header = *header;
    struct fuse_init_in shown = {.major = FUSE_KERNEL_VERSION, .minor = 31};
    memcpy(&shown.max_readahead, request->body + 2 * sizeof(uint32_t), sizeof shown.max_readahead);
    /* READDIRPLUS is what pyfuse3 insists on. */
    shown.flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS | FUSE_DO_READDIRPLUS;
    size_t length = offsetof(struct fuse_init_in, flags2);
    shown_header.len = (uint32_t)(sizeof shown_header + length);
    forward(self, request, &shown_header, &shown, length);
}

static void take_answer(ff_relay *self, const char *message, size_t length) {
    struct fuse_out_header header;
    if (length < sizeof header)
        return;
    memcpy(&header, message, sizeof header);
    if (header.len != length)
        return;
    if (header.unique == 0) {
        /* A notification; it goes the way that ours go. */
        ff_outbox_put(&self->to_kernel, message, length, NULL, 0);
        return;
    }
    ff_parked *parked = ff_parking_take_unique(&self->parking, header.unique);
    if (parked == NULL)
        return;
    if (header.error != 0)
        ff_reply_error(self, parked->device_fd, parked->unique, header.error > -FF_ERRORS_END ? -header.error : EIO);
    else if (parked->opcode == FUSE_INIT)
        ff_reply(self, parked->device_fd, parked->unique, &self->init_answer, sizeof self->init_answer);
    else
        ff_reply(self, parked->device_fd, parked->unique, message + sizeof header, length - sizeof header);
    ff_parked_drop(&self->parking, parked);
}

/* Sends what is in the outbox, the one that is `held` up first; what did not fit is held. */
static ff_message *send_on(ff_relay *self, ff_message *held) {
    ff_message *message = held;
    while (message != NULL || (message = ff_outbox_take(&self->to_python)) != NULL) {
        ssize_t n = send(self->pair[0], message->bytes, message->length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
            return message;
        if (n < 0) {
            struct fuse_in_header header;
            memcpy(&header, message->bytes, sizeof header);
            answer_undelivered(self, header.unique, EIO);
        }
        free(message);
        message = NULL;
    }
    return NULL;
}

static bool is_with_pyfuse3(void *context, const ff_parked *request) {
    (void)context;
    return request->ask == FF_ASK_PYFUSE3;
}

/* pyfuse3 is gone, or as good as gone: what it has will not be answered, and what comes for it from now on fails to be sent. */
static void end_pair(ff_relay *self) {
    shutdown(self->pair[0], SHUT_RDWR);
    ff_answer_where(self, is_with_pyfuse3, NULL, EIO);
}

void *ff_run_pair(void *context) {
    ff_relay *self = context;
    char *buffer = malloc(ANSWER_ROOM);
    ff_message *held = NULL;
    bool open = buffer != NULL;
    if (!open)
        end_pair(self);
    while (!atomic_load(&self->stopping)) {
        struct pollfd ready[2] = {
            {.fd = open ? self->pair[0] : -1, .events = (short)(POLLIN | (held != NULL ? POLLOUT : 0))},
            {.fd = self->to_python.event_fd, .events = POLLIN},
        };
        if (poll(ready, 2, 1000) < 0 && errno != EINTR)
            break;
        uint64_t ignored;
        ssize_t n = read(self->to_python.event_fd, &ignored, sizeof ignored);
        (void)n;
        if ((ready[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            ssize_t length = recv(self->pair[0], buffer, ANSWER_ROOM, MSG_DONTWAIT);
            if (length > 0)
                take_answer(self, buffer, (size_t)length);
            else if (length == 0 || (errno != EAGAIN && errno != EINTR)) {
                open = false;
                end_pair(self);
            }
        }
        held = send_on(self, held);
    }
    free(held);
    free(buffer);
    return NULL;
}
