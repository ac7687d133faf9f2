#include "http_reader.h"

#include <errno.h>
#include <string.h>

/* One receive for heads and framing takes no more, so little of a body is ever copied. */
#define FRAMING_BYTES ((size_t)4096)

/* So many bytes renew the patience with a server. */
#define PROGRESS_BYTES ((size_t)4096)

#define INTERIM_HEADS_MAX 8

/* All bytes are there; only the reuse of the connection hangs on the end of the framing. */
#define LAST_PATIENCE_NS 200000000LL

void ff_http_reader_init(ff_http_reader *self, ff_connection *connection, const ff_waiter *waiter,
                         double stall_timeout_s) {
    /* Not by assignment of a whole struct: that would clear the 64 KiB of buffer. */
    self->connection = connection;
    self->waiter = waiter;
    self->stall_ns = ff_patience_ns(stall_timeout_s);
    self->patience_ns = self->stall_ns;
    self->progress = 0;
    self->began = false;
    self->body = FF_BODY_NONE;
    self->keep_alive = false;
    self->left = 0;
    self->chunked = (ff_chunked){0};
    self->start = self->end = 0;
}

static void renew_patience(ff_http_reader *self) {
    self->patience_ns = self->stall_ns;
    self->progress = 0;
}

/* As ff_connection_receive, but the end of the stream is -ECONNRESET. */
static ssize_t receive(ff_http_reader *self, char *into, size_t room) {
    ssize_t count = ff_connection_receive(self->connection, into, room, self->waiter, &self->patience_ns);
    if (count <= 0)
        return count < 0 ? count : -ECONNRESET;
    self->began = true;
    self->progress += (size_t)count;
    if (self->progress >= PROGRESS_BYTES && self->body != FF_BODY_NONE)
        renew_patience(self);
    return count;
}

/* Adds what arrives to the buffer, which has room. */
static int fill(ff_http_reader *self) {
    size_t room = sizeof self->buffer - self->end;
    ssize_t count = receive(self, self->buffer + self->end, room < FRAMING_BYTES ? room : FRAMING_BYTES);
    if (count < 0)
        return (int)count;
    self->end += (size_t)count;
    return 0;
}

static int receive_one_head(ff_http_reader *self, ff_http_head *head) {
    size_t seen = 0;
    for (;;) {
        size_t available = self->end - self->start;
        size_t length = ff_http_head_length(self->buffer + self->start, available, seen);
        if (length > 0) {
            const char *bytes = self->buffer + self->start;
            self->start += length;
            return ff_http_parse_head(bytes, length, head);
        }
        if (self->end == sizeof self->buffer)
            return -EPROTO;
        seen = available;
        int outcome = fill(self);
        if (outcome < 0)
            return outcome;
    }
}

int ff_http_reader_head(ff_http_reader *self, ff_http_head *head) {
    int outcome = 0;
    int heads = 0;
    do {
        outcome = ++heads <= INTERIM_HEADS_MAX ? receive_one_head(self, head) : -EPROTO;
    } while (outcome == 0 && head->status < 200);
    if (outcome < 0)
        return outcome;
    self->keep_alive = head->keep_alive;
    if (head->status == 204 || head->status == 304)
        self->body = FF_BODY_ENDED;
    else if (head->chunked)
        self->body = FF_BODY_CHUNKED;
    else if (head->has_length)
        self->body = head->content_length > 0 ? FF_BODY_LENGTH : FF_BODY_ENDED;
    else
        self->body = FF_BODY_UNTIL_CLOSE;
    self->left = head->content_length;
    renew_patience(self);
    return 0;
}

/* Payload bytes, no more than `most`: from the buffer if it has any, else from the connection. */
static ssize_t take(ff_http_reader *self, char *into, size_t room, uint64_t most) {
    size_t wanted = most < room ? (size_t)most : room;
    size_t buffered = self->end - self->start;
    if (buffered == 0)
        return receive(self, into, wanted);
    if (wanted > buffered)
        wanted = buffered;
    memcpy(into, self->buffer + self->start, wanted);
    self->start += wanted;
    return (ssize_t)wanted;
}

/* Consumes the framing that has already arrived. Returns 1 when a payload or the end follows, 0 for more, -EPROTO. */
static int skip_framing(ff_http_reader *self) {
    self->start += ff_chunked_feed(&self->chunked, self->buffer + self->start, self->end - self->start);
    switch (self->chunked.state) {
    case FF_CHUNK_PAYLOAD:
        return self->chunked.left > 0;
    case FF_CHUNK_END:
        self->body = FF_BODY_ENDED;
        return 1;
    case FF_CHUNK_BAD:
        return -EPROTO;
    default:
        return 0;
    }
}

static ssize_t take_chunked(ff_http_reader *self, char *into, size_t room) {
    for (;;) {
        int outcome = skip_framing(self);
        if (outcome < 0 || self->body == FF_BODY_ENDED)
            return outcome < 0 ? outcome : 0;
        if (outcome > 0)
            break;
        /* All that had arrived was framing, so the buffer is empty. */
        self->start = self->end = 0;
        outcome = fill(self);
        if (outcome < 0)
            return outcome;
    }
    ssize_t count = take(self, into, room, self->chunked.left);
    if (count > 0)
        self->chunked.left -= (uint64_t)count;
    return count;
}

ssize_t ff_http_reader_body(ff_http_reader *self, char *into, size_t room) {
    ssize_t count;
    switch (self->body) {
    case FF_BODY_LENGTH:
        count = take(self, into, room, self->left);
        if (count > 0 && (self->left -= (uint64_t)count) == 0)
            self->body = FF_BODY_ENDED;
        return count;
    case FF_BODY_CHUNKED:
        return take_chunked(self, into, room);
    case FF_BODY_UNTIL_CLOSE:
        count = take(self, into, room, room);
        if (count != -ECONNRESET)
            return count;
        self->keep_alive = false;
        self->body = FF_BODY_ENDED;
        return 0;
    default:
        return 0;
    }
}

int ff_http_reader_finish(ff_http_reader *self) {
    char extra;
    if (self->patience_ns > LAST_PATIENCE_NS)
        self->patience_ns = LAST_PATIENCE_NS;
    ssize_t count = ff_http_reader_body(self, &extra, 1);
    if (count > 0)
        return -EPROTO;
    return count == 0 && self->keep_alive && self->start == self->end;
}
