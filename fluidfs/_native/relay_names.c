#include "relay_parts.h"

#include <errno.h>
#include <string.h>

static void answer_error(ff_relay *self, const ff_request *request, int error) {
    ff_count_native(self, request->header->opcode);
    ff_reply_error(self, request->server->device_fd, request->header->unique, error);
}

static ff_parked *parked_of(const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    ff_parked *parked = ff_parked_new(header->unique, request->server->device_fd, header->opcode, (pid_t)header->pid);
    if (parked != NULL)
        parked->node = header->nodeid;
    return parked;
}

/* An entry that did not reach the kernel is one that it does not count. */
static void reply_entry(ff_relay *self, int device_fd, uint64_t unique, const struct fuse_entry_out *entry) {
    if (ff_reply(self, device_fd, unique, entry, sizeof *entry) != 0 && entry->nodeid != 0)
        ff_names_forget(self->names, entry->nodeid, 1);
}

void ff_serve_lookup(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    const char *end = memchr(request->body, '\0', request->length);
    if (end == NULL)
        return answer_error(self, request, EINVAL);
    size_t name_bytes = (size_t)(end - request->body);
    if (name_bytes > FF_NAME_BYTES_MAX)
        return answer_error(self, request, ENAMETOOLONG);
    struct fuse_entry_out entry;
    int error = ff_names_lookup(self->names, header->nodeid, request->body, name_bytes, ff_monotonic_ns(), &entry);
    if (error == 0) {
        ff_count_native(self, header->opcode);
        return reply_entry(self, request->server->device_fd, header->unique, &entry);
    }
    if (error != -ENODATA)
        return answer_error(self, request, -error);
    ff_parked *parked = parked_of(request);
    if (parked != NULL) {
        parked->name_bytes = (uint16_t)name_bytes;
        memcpy(parked->name, request->body, name_bytes);
    }
    ff_park(self, request, parked, FF_ASK_LOOKUP);
}

void ff_relay_missing(ff_relay *self, uint64_t ticket, int64_t good_for_ns) {
    ff_parked *parked = ff_take_asked(self, ticket, FF_ASK_LOOKUP);
    if (parked == NULL)
        return;
    if (good_for_ns > 0) {
        /* Node 0: the kernel remembers that there is no such name. */
        struct fuse_entry_out entry = {.entry_valid = (uint64_t)good_for_ns / 1000000000,
                                       .entry_valid_nsec = (uint32_t)(good_for_ns % 1000000000)};
        ff_reply(self, parked->device_fd, parked->unique, &entry, sizeof entry);
    } else {
        ff_reply_error(self, parked->device_fd, parked->unique, ENOENT);
    }
    ff_answered(self, parked);
}

void ff_relay_found(ff_relay *self, uint64_t ticket, ff_listing *listing, size_t index, int64_t good_for_ns) {
    ff_parked *parked = ff_take_asked(self, ticket, FF_ASK_LOOKUP);
    if (parked == NULL)
        return;
    struct fuse_entry_out entry;
    int64_t now_ns = ff_monotonic_ns();
    int error = ff_names_found(self->names, parked->node, listing, index, now_ns, now_ns + good_for_ns, &entry);
    if (error == 0)
        reply_entry(self, parked->device_fd, parked->unique, &entry);
    else
        ff_reply_error(self, parked->device_fd, parked->unique, -error);
    ff_answered(self, parked);
}

void ff_serve_getattr(ff_relay *self, const ff_request *request) {
    struct fuse_attr_out attributes;
    int error = ff_names_attributes(self->names, request->header->nodeid, &attributes);
    if (error != 0)
        return answer_error(self, request, -error);
    ff_count_native(self, request->header->opcode);
    ff_reply(self, request->server->device_fd, request->header->unique, &attributes, sizeof attributes);
}

void ff_serve_forget(ff_relay *self, const ff_request *request) {
    ff_count_native(self, request->header->opcode);
    if (request->header->opcode == FUSE_FORGET) {
        struct fuse_forget_in one;
        if (request->length < sizeof one)
            return;
        memcpy(&one, request->body, sizeof one);
        return ff_names_forget(self->names, request->header->nodeid, one.nlookup);
    }
    struct fuse_batch_forget_in batch;
    if (request->length < sizeof batch)
        return;
    memcpy(&batch, request->body, sizeof batch);
    size_t there = (request->length - sizeof batch) / sizeof(struct fuse_forget_one);
    for (size_t i = 0; i < batch.count && i < there; i++) {
        struct fuse_forget_one one;
        memcpy(&one, request->body + sizeof batch + i * sizeof one, sizeof one);
        ff_names_forget(self->names, one.nodeid, one.nlookup);
    }
}

/* Takes over the listing's reference. */
static void reply_opendir(ff_relay *self, int device_fd, uint64_t unique, uint64_t node, ff_listing *listing,
                          int64_t good_until_ns, bool unchanged) {
    ff_open_out answer = {.open_flags = 0};
    int error = ff_handles_open_directory(&self->handles, node, listing, good_until_ns, &answer.fh);
    if (error != 0) {
        ff_reply_error(self, device_fd, unique, -error);
        return;
    }
    if ((self->options.off & FF_OFF_CACHE_DIR) == 0)
        answer.open_flags = FOPEN_CACHE_DIR | (unchanged ? FOPEN_KEEP_CACHE : 0);
    if (ff_reply(self, device_fd, unique, &answer, sizeof answer) != 0)
        ff_handles_close(&self->handles, &self->backing, answer.fh, ff_monotonic_ns());
}

void ff_serve_opendir(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    ff_listing *listing;
    int64_t good_until_ns;
    bool unchanged;
    int error = ff_names_open_directory(self->names, header->nodeid, ff_monotonic_ns(), &listing, &good_until_ns,
                                        &unchanged);
    if (error == 0) {
        ff_count_native(self, header->opcode);
        return reply_opendir(self, request->server->device_fd, header->unique, header->nodeid, listing, good_until_ns,
                             unchanged);
    }
    if (error != -ENODATA)
        return answer_error(self, request, -error);
    ff_park(self, request, parked_of(request), FF_ASK_DIRECTORY);
}

/* One answer of READDIR or READDIRPLUS. With `plus` what did not reach the kernel is not counted by it: there is no undoing
 * one by one, and counts that are too high only keep nodes. */
static void reply_readdir(ff_relay *self, int device_fd, uint64_t unique, ff_handle *handle, uint64_t offset,
                          uint32_t size, bool plus, char *buffer) {
    pthread_mutex_lock(&handle->lock);
    ff_listing *listing = ff_listing_hold(handle->listing);
    int64_t good_until_ns = handle->good_until_ns;
    handle->begun = true;
    pthread_mutex_unlock(&handle->lock);
    size_t capacity = size < FF_MESSAGE_BYTES ? size : FF_MESSAGE_BYTES;
    size_t length = ff_names_read_directory(self->names, handle->node, listing, offset, plus, ff_monotonic_ns(),
                                            good_until_ns, buffer, capacity);
    ff_reply(self, device_fd, unique, buffer, length);
    ff_names_drop_listing(self->names, listing);
}

void ff_serve_readdir(ff_relay *self, const ff_request *request) {
    const struct fuse_in_header *header = request->header;
    struct fuse_read_in wanted;
    if (request->length < sizeof wanted)
        return answer_error(self, request, EINVAL);
    memcpy(&wanted, request->body, sizeof wanted);
    ff_handle *handle = ff_handles_find(&self->handles, wanted.fh);
    if (handle == NULL || handle->content != NULL) {
        ff_handle_drop(&self->handles, handle);
        return answer_error(self, request, EBADF);
    }
    pthread_mutex_lock(&handle->lock);
    /* rewinddir(3) shows what is there now. */
    bool anew = wanted.offset == 0 && handle->begun && handle->good_until_ns <= ff_monotonic_ns();
    pthread_mutex_unlock(&handle->lock);
    if (!anew) {
        ff_count_native(self, header->opcode);
        reply_readdir(self, request->server->device_fd, header->unique, handle, wanted.offset, wanted.size,
                      header->opcode == FUSE_READDIRPLUS, request->server->answer);
        return ff_handle_drop(&self->handles, handle);
    }
    ff_parked *parked = parked_of(request);
    if (parked != NULL) {
        parked->node = handle->node;
        parked->handle = handle;
        parked->length = wanted.size;
    } else {
        ff_handle_drop(&self->handles, handle);
    }
    ff_park(self, request, parked, FF_ASK_DIRECTORY);
}

void ff_relay_directory(ff_relay *self, uint64_t ticket, ff_listing *listing, int64_t good_for_ns) {
    ff_parked *parked = ff_take_asked(self, ticket, FF_ASK_DIRECTORY);
    if (parked == NULL)
        return;
    int64_t good_until_ns = ff_monotonic_ns() + good_for_ns;
    ff_listing_hold(listing);
    if (parked->handle == NULL) {
        bool unchanged = false;
        ff_names_note_opened(self->names, parked->node, listing, &unchanged);
        reply_opendir(self, parked->device_fd, parked->unique, parked->node, listing, good_until_ns, unchanged);
    } else {
        ff_handle *handle = parked->handle;
        pthread_mutex_lock(&handle->lock);
        ff_listing *before = handle->listing;
        handle->listing = listing;
        handle->good_until_ns = good_until_ns;
        pthread_mutex_unlock(&handle->lock);
        ff_names_drop_listing(self->names, before);
        /* A rewound directory is read again from its start, in an answer of the size that was asked for. It does not count
         * as opened with this listing: what the kernel keeps of it may be of both, and the next OPENDIR has that dropped. */
        _Alignas(8) char buffer[16384];
        uint32_t size = parked->length < sizeof buffer ? parked->length : (uint32_t)sizeof buffer;
        reply_readdir(self, parked->device_fd, parked->unique, handle, 0, size, parked->opcode == FUSE_READDIRPLUS,
                      buffer);
    }
    ff_answered(self, parked);
}

void ff_serve_releasedir(ff_relay *self, const ff_request *request) {
    struct fuse_release_in wanted;
    if (request->length < sizeof wanted)
        return answer_error(self, request, EINVAL);
    memcpy(&wanted, request->body, sizeof wanted);
    ff_count_native(self, request->header->opcode);
    ff_handles_close(&self->handles, &self->backing, wanted.fh, ff_monotonic_ns());
    ff_reply_error(self, request->server->device_fd, request->header->unique, 0);
}
