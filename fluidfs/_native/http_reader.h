/* Receives one HTTP response from a connection: its head, then its body, free of framing.
 *
 * Body bytes go from the socket to where the caller wants them; only those that arrive together with a head or with
 * chunk framing (at most a few KiB each) are copied once.
 *
 * A server has `stall_timeout_s` to send the head, and then the same for each further 4 KiB (or the rest): a server
 * that drips bytes is stalled, too. Only waiting counts, not what the caller does in between.
 */
#ifndef FLUIDFS_HTTP_READER_H
#define FLUIDFS_HTTP_READER_H

#include "connection.h"
#include "http_chunked.h"
#include "http_response.h"

typedef struct {
    ff_connection *connection;
    const ff_waiter *waiter;
    int64_t stall_ns;
    int64_t patience_ns;
    size_t progress; /* bytes since patience was renewed */
    bool began;      /* a byte has arrived */
    enum { FF_BODY_NONE, FF_BODY_LENGTH, FF_BODY_CHUNKED, FF_BODY_UNTIL_CLOSE, FF_BODY_ENDED } body;
    bool keep_alive;
    uint64_t left; /* of FF_BODY_LENGTH */
    ff_chunked chunked;
    size_t start, end;             /* of what has arrived and is not consumed, in `buffer` */
    char buffer[FF_HTTP_HEAD_MAX]; /* not initialised beyond `end` */
} ff_http_reader;

void ff_http_reader_init(ff_http_reader *self, ff_connection *connection, const ff_waiter *waiter,
                         double stall_timeout_s);

/* Receives the head of the final response; interim ones (1xx) are skipped. Returns 0, or a negative errno:
 * -EPROTO is no HTTP, -ECONNRESET also stands for the stream's end. The head's slices are valid until the first call
 * of ff_http_reader_body. */
int ff_http_reader_head(ff_http_reader *self, ff_http_head *head);

/* Receives 1 to `room` bytes of the body. Returns how many, 0 at its end, or a negative errno as above. */
ssize_t ff_http_reader_body(ff_http_reader *self, char *into, size_t room);

/* After the last byte that is of interest: makes sure that the body ends here, waiting briefly for framing still to
 * come. Returns 1 if the connection can carry another request, 0 if not, -EPROTO if the body goes on. */
int ff_http_reader_finish(ff_http_reader *self);

#endif
