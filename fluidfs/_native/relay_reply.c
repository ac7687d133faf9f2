#include "relay_parts.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

static int write_reply(int device_fd, uint64_t unique, int error, const void *data, size_t length) {
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + length), .error = error, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)(uintptr_t)data, length}};
    ssize_t n;
    do
        n = writev(device_fd, parts, length == 0 ? 1 : 2);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : 0;
}

int ff_reply_error(ff_relay *self, int device_fd, uint64_t unique, int error) {
    /* The kernel takes no other error, and its caller would wait on. */
    if (error < 0 || error >= FF_ERRORS_END)
        error = EIO;
    int result = write_reply(device_fd, unique, -error, NULL, 0);
    if (result != 0 && result != -ENOENT)
        ff_count(&self->replies_failed, 1);
    return result;
}

int ff_reply(ff_relay *self, int device_fd, uint64_t unique, const void *data, size_t length) {
    int result = write_reply(device_fd, unique, 0, data, length);
    if (result == 0 || result == -ENOENT || result == -ENODEV)
        return result;
    /* The kernel did not take it (no memory, a page that could not be had), and the caller must not wait for ever. */
    ff_count(&self->replies_failed, 1);
    write_reply(device_fd, unique, -EIO, NULL, 0);
    return result;
}

void ff_park(ff_relay *self, const ff_request *request, ff_parked *parked, ff_ask_kind ask) {
    const struct fuse_in_header *header = request->header;
    ff_count_python(self, header->opcode);
    int error = parked == NULL ? ENOMEM : EIO;
    if (parked != NULL && ff_parking_ask(&self->parking, parked, ask))
        return;
    ff_parked_drop(&self->parking, parked);
    ff_reply_error(self, request->server->device_fd, header->unique, error);
}

ff_parked *ff_take(ff_relay *self, uint64_t ticket) {
    if (!ff_enter(self))
        return NULL;
    ff_parked *request = ff_parking_take(&self->parking, ticket);
    if (request == NULL)
        ff_leave(self);
    return request;
}

ff_parked *ff_take_asked(ff_relay *self, uint64_t ticket, ff_ask_kind ask) {
    ff_parked *request = ff_take(self, ticket);
    if (request == NULL || request->ask == ask)
        return request;
    ff_reply_error(self, request->device_fd, request->unique, EIO);
    ff_answered(self, request);
    return NULL;
}

void ff_answered(ff_relay *self, ff_parked *request) {
    ff_parked_drop(&self->parking, request);
    ff_leave(self);
}
