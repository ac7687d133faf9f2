#include "relay_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

static void answer_error(ff_relay *self, const ff_request *request, int error) {
    ff_count_native(self, request->header->opcode);
    ff_reply_error(self, request->server->device_fd, request->header->unique, error);
}

/* ---- backing files */

int ff_backing_open(void *context, int file_fd) {
    ff_relay *self = context;
    ff_backing_map map = {.fd = file_fd};
    int id = ioctl(self->options.device_fd, FF_DEV_IOC_BACKING_OPEN, &map);
    if (id > 0)
        return id;
    atomic_store(&self->backing_error, id < 0 ? errno : EINVAL);
    return id < 0 ? -errno : -EINVAL;
}

void ff_backing_close(void *context, int32_t backing_id) {
    ff_relay *self = context;
    uint32_t id = (uint32_t)backing_id;
    ioctl(self->options.device_fd, FF_DEV_IOC_BACKING_CLOSE, &id);
}

bool ff_backing_allowed(void *context, const ff_content *content) {
    ff_relay *self = context;
    /* A kernel that refused for want of a right will refuse again. */
    int refused = atomic_load(&self->backing_error);
    return (ff_relay_session(self)->flags & FF_INIT_PASSTHROUGH) != 0 && content->may_pass && refused != EPERM &&
           refused != ENOTTY;
}

/* ---- OPEN, RELEASE */

/* 0 when it is answered; otherwise nothing was. */
static int open_and_reply(ff_relay *self, int device_fd, uint64_t unique, uint64_t node, ff_content *given) {
    ff_open_out answer = {0};
    bool passthrough = false;
    int32_t backing_id = 0;
    int error =
        ff_handles_open_file(&self->handles, &self->backing, node, given, &answer.fh, &passthrough, &backing_id);
    if (error != 0)
        return error;
    /* A node is one version for ever: the kernel's pages of it are always right. */
    answer.open_flags = passthrough ? FF_OPEN_PASSTHROUGH : FOPEN_KEEP_CACHE;
    if ((self->options.off & FF_OFF_NO_FLUSH) == 0)
        answer.open_flags |= FOPEN_NOFLUSH;
    answer.backing_id = passthrough ? backing_id : 0;
    ff_count(&self->opens, 1);
    ff_count(&self->passthrough_opens, passthrough);
    if (ff_reply(self, device_fd, unique, &answer, sizeof answer) != 0)
        ff_handles_close(&self->handles, &self->backing, answer.fh, ff_monotonic_ns());
    return 0;
}

/* Small files are found out about when they are read. NULL: it is not small, or there is no memory. */
static ff_content *new_small(ff_relay *self, uint64_t node) {
    int64_t size = ff_names_size(self->names, node);
    if (size < 0 || (uint64_t)size > self->options.small_max_bytes)
        return NULL;
    return ff_content_small(self->contents, (uint64_t)size, self->options.verify);
}

void ff_serve_open(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    struct fuse_open_in wanted;
    if (request->length < sizeof wanted)
        return answer_error(self, request, EINVAL);
    memcpy(&wanted, request->body, sizeof wanted);
    if ((wanted.flags & 03) != 0) /* O_ACCMODE: O_RDONLY is 0 */
        return answer_error(self, request, EROFS);
    int device_fd = request->server->device_fd;
    int error = open_and_reply(self, device_fd, header->unique, header->nodeid, NULL);
    ff_content *small = error == -ENODATA ? new_small(self, header->nodeid) : NULL;
    if (small != NULL) {
        error = open_and_reply(self, device_fd, header->unique, header->nodeid, small);
        ff_content_drop(small);
    }
    if (error == 0)
        return ff_count_native(self, header->opcode);
    if (error != -ENODATA)
        return answer_error(self, request, -error);
    ff_parked *parked = ff_parked_new(header->unique, device_fd, header->opcode, (pid_t)header->pid);
    if (parked != NULL)
        parked->node = header->nodeid;
    ff_park(self, request, parked, FF_ASK_OPEN);
}

void ff_relay_opened(ff_relay *self, uint64_t ticket, ff_content *content) {
    ff_parked *parked = ff_take_asked(self, ticket, FF_ASK_OPEN);
    if (parked == NULL)
        return;
    /* Of two that were asked at the same time the first counts: all opens of a node share one content. */
    int error = open_and_reply(self, parked->device_fd, parked->unique, parked->node, content);
    if (error != 0)
        ff_reply_error(self, parked->device_fd, parked->unique, -error);
    ff_answered(self, parked);
}

void ff_serve_release(ff_relay *self, const ff_request *request) {
    struct fuse_release_in wanted;
    if (request->length < sizeof wanted)
        return answer_error(self, request, EINVAL);
    memcpy(&wanted, request->body, sizeof wanted);
    ff_count_native(self, request->header->opcode);
    ff_handles_close(&self->handles, &self->backing, wanted.fh, ff_monotonic_ns());
    ff_reply_error(self, request->server->device_fd, request->header->unique, 0);
}

/* ---- READ */

static void reply_read(ff_relay *self, int device_fd, uint64_t unique, const void *data, size_t length, bool hit) {
    ff_count(&self->read_requests, 1);
    ff_count(&self->read_bytes, length);
    if (hit)
        ff_count(&self->read_hit_bytes, length);
    ff_reply(self, device_fd, unique, data, length);
}

/* Whether there is something to fetch ahead, that is not there. */
static bool plan(ff_relay *self, ff_handle *handle, uint64_t offset, uint64_t length, uint64_t *from, uint64_t *to) {
    const ff_content *content = handle->content;
    if (content->kind != FF_CONTENT_OBJECT)
        return false;
    pthread_mutex_lock(&handle->lock);
    bool ahead = ff_window_plan(&handle->window, offset, length, content->size, self->options.max_window_bytes, from, to);
    pthread_mutex_unlock(&handle->lock);
    return ahead && !ff_content_present(handle->content, *from, *to - *from);
}

static void tell_ahead(ff_relay *self, const ff_handle *handle, uint64_t offset, uint32_t length, uint64_t from,
                       uint64_t to) {
    ff_ask note = {.kind = FF_ASK_AHEAD,
                   .node = handle->node,
                   .content_id = handle->content->id,
                   .fh = handle->fh,
                   .offset = offset,
                   .length = length,
                   .ahead_from = from,
                   .ahead_to = to};
    ff_parking_note(&self->parking, &note);
}

void ff_serve_read(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    struct fuse_read_in wanted;
    if (request->length < sizeof wanted)
        return answer_error(self, request, EINVAL);
    memcpy(&wanted, request->body, sizeof wanted);
    ff_handle *handle = ff_handles_find(&self->handles, wanted.fh);
    if (handle == NULL || handle->content == NULL) {
        ff_handle_drop(&self->handles, handle);
        return answer_error(self, request, EBADF);
    }
    ff_server *server = request->server;
    uint64_t size = handle->content->size, offset = wanted.offset;
    uint32_t length = wanted.size < FF_MESSAGE_BYTES ? wanted.size : FF_MESSAGE_BYTES;
    length = offset >= size ? 0 : length < size - offset ? length : (uint32_t)(size - offset);
    if (length == 0) {
        ff_count_native(self, header->opcode);
        reply_read(self, server->device_fd, header->unique, NULL, 0, true);
        return ff_handle_drop(&self->handles, handle);
    }
    uint64_t from = 0, to = 0;
    bool ahead = plan(self, handle, offset, length, &from, &to);
    int64_t n = ff_content_read(handle->content, offset, server->answer, length, true);
    if (n >= 0) {
        ff_count_native(self, header->opcode);
        if (ahead)
            tell_ahead(self, handle, offset, length, from, to);
        reply_read(self, server->device_fd, header->unique, server->answer, (size_t)n, true);
        return ff_handle_drop(&self->handles, handle);
    }
    ff_parked *parked = ff_parked_new(header->unique, server->device_fd, header->opcode, (pid_t)header->pid);
    if (parked == NULL) {
        ff_handle_drop(&self->handles, handle);
        return answer_error(self, request, ENOMEM);
    }
    parked->node = handle->node;
    parked->handle = handle;
    parked->content = ff_content_hold(handle->content);
    parked->offset = offset;
    parked->length = length;
    if (ahead) {
        parked->ahead_from = from;
        parked->ahead_to = to;
    }
    if (n == -ENODATA)
        return ff_park(self, request, parked, FF_ASK_READ);
    ff_count_native(self, header->opcode);
    if (ahead)
        tell_ahead(self, handle, offset, length, from, to);
    bool want_worker = false;
    if (!ff_parking_work(&self->parking, parked, &want_worker)) {
        ff_parked_drop(&self->parking, parked);
        ff_reply_error(self, server->device_fd, header->unique, EIO);
    } else if (want_worker) {
        ff_want_worker(self);
    }
}

void ff_relay_retry(ff_relay *self, uint64_t ticket) {
    bool want_worker = false;
    if (ff_parking_retry(&self->parking, ticket, &want_worker) && want_worker)
        ff_want_worker(self);
}

void ff_relay_give(ff_relay *self, uint64_t ticket, const void *data, size_t length) {
    ff_parked *parked = ff_take_asked(self, ticket, FF_ASK_READ);
    if (parked == NULL)
        return;
    reply_read(self, parked->device_fd, parked->unique, data, length < parked->length ? length : parked->length, false);
    ff_answered(self, parked);
}

void ff_relay_fail(ff_relay *self, uint64_t ticket, int error) {
    ff_parked *parked = ff_take(self, ticket);
    if (parked == NULL)
        return;
    if (parked->opcode == FUSE_READ) {
        ff_count(&self->read_requests, 1);
        ff_count(&self->read_errors, 1);
    }
    ff_reply_error(self, parked->device_fd, parked->unique, error == 0 ? EIO : error);
    ff_answered(self, parked);
}
