/* Notifications to the kernel, sent by a thread that serves nothing: the kernel may wait for a request to be answered
 * before it takes one (it locks the directory, or a page). */
#include "relay_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_EVERY_MS 5

void ff_relay_forget_name(ff_relay *self, uint64_t parent, const char *name, size_t name_bytes) {
    if (name_bytes == 0 || name_bytes > FF_NAME_BYTES_MAX)
        return;
    struct {
        struct fuse_out_header header;
        struct fuse_notify_inval_entry_out entry;
    } head = {
        .header = {.len = (uint32_t)(sizeof head + name_bytes + 1), .error = FUSE_NOTIFY_INVAL_ENTRY},
        .entry = {.parent = parent, .namelen = (uint32_t)name_bytes},
    };
    char ended[FF_NAME_BYTES_MAX + 1];
    memcpy(ended, name, name_bytes);
    ended[name_bytes] = '\0';
    /* Lost for want of memory it is told by the entry's time to live. */
    ff_outbox_put(&self->to_kernel, &head, sizeof head, ended, name_bytes + 1);
}

void *ff_run_notify(void *context) {
    ff_relay *self = context;
    while (!atomic_load(&self->stopping)) {
        struct pollfd ready = {.fd = self->to_kernel.event_fd, .events = POLLIN};
        if (poll(&ready, 1, 1000) < 0 && errno != EINTR)
            break;
        uint64_t ignored;
        ssize_t n = read(self->to_kernel.event_fd, &ignored, sizeof ignored);
        ff_message *message;
        while (!atomic_load(&self->stopping) && (message = ff_outbox_take(&self->to_kernel)) != NULL) {
            /* ENOENT: the kernel does not know the name; nothing is to be done about the others either. */
            n = write(self->options.device_fd, message->bytes, message->length);
            free(message);
        }
        (void)n;
    }
    return NULL;
}

/* Answers a request that came after all others had gone. */
static void answer_unserved(ff_relay *self, char *buffer) {
    struct pollfd ready = {.fd = self->options.device_fd, .events = POLLIN};
    struct fuse_in_header header;
    ssize_t n = poll(&ready, 1, LOOK_EVERY_MS) == 1 ? read(self->options.device_fd, buffer, FF_REQUEST_ROOM) : 0;
    if (n < (ssize_t)sizeof header)
        return;
    memcpy(&header, buffer, sizeof header);
    if (header.len == (size_t)n && ff_wants_answer(header.opcode))
        ff_reply_error(self, self->options.device_fd, header.unique, EIO);
}

bool ff_end_notify(ff_relay *self, int64_t deadline_ns) {
    if (!self->notify_running)
        return true;
    char *buffer = malloc(FF_REQUEST_ROOM);
    int flags = fcntl(self->options.device_fd, F_GETFL);
    /* A request may be taken back after it was seen: nothing may wait for it here. */
    fcntl(self->options.device_fd, F_SETFL, flags | O_NONBLOCK);
    bool ended;
    while (!(ended = pthread_tryjoin_np(self->notify_thread, NULL) == 0) && ff_monotonic_ns() < deadline_ns) {
        if (buffer != NULL)
            answer_unserved(self, buffer);
        else
            usleep(LOOK_EVERY_MS * 1000);
    }
    fcntl(self->options.device_fd, F_SETFL, flags);
    free(buffer);
    self->notify_running = !ended;
    return ended;
}
