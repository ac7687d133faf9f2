#include "http_chunked.h"

#define SIZE_DIGITS_MAX 15 /* so that a size always fits 63 bits */
#define SIZE_LINE_MAX 1024 /* digits and extensions, which nobody uses */
#define TRAILERS_MAX 8192

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static ff_chunk_state size_line_ended(ff_chunked *self) {
    if (self->digits == 0)
        return FF_CHUNK_BAD;
    self->trailer_length = 0;
    self->trailer_line = 0;
    return self->left == 0 ? FF_CHUNK_TRAILER : FF_CHUNK_PAYLOAD;
}

static ff_chunk_state in_size_line(ff_chunked *self, char c) {
    if (++self->line_length > SIZE_LINE_MAX)
        return FF_CHUNK_BAD;
    if (c == '\n')
        return size_line_ended(self);
    if (self->state == FF_CHUNK_EXTENSION)
        return FF_CHUNK_EXTENSION;
    int digit = hex_value(c);
    if (digit < 0)
        return self->digits > 0 && (c == ';' || c == '\r' || c == ' ' || c == '\t') ? FF_CHUNK_EXTENSION
                                                                                  : FF_CHUNK_BAD;
    if (++self->digits > SIZE_DIGITS_MAX)
        return FF_CHUNK_BAD;
    self->left = self->left * 16 + (unsigned)digit;
    return FF_CHUNK_SIZE;
}

static ff_chunk_state in_trailer(ff_chunked *self, char c) {
    if (++self->trailer_length > TRAILERS_MAX)
        return FF_CHUNK_BAD;
    if (c == '\n') {
        if (self->trailer_line == 0)
            return FF_CHUNK_END;
        self->trailer_line = 0;
    } else if (c != '\r') {
        self->trailer_line++;
    }
    return FF_CHUNK_TRAILER;
}

static ff_chunk_state after_payload(ff_chunked *self, char c) {
    if (c == '\r' && self->line_length == 0) {
        self->line_length = 1;
        return FF_CHUNK_AFTER;
    }
    if (c != '\n')
        return FF_CHUNK_BAD;
    self->digits = 0;
    self->line_length = 0;
    return FF_CHUNK_SIZE;
}

size_t ff_chunked_feed(ff_chunked *self, const char *bytes, size_t length) {
    size_t taken = 0;
    while (taken < length) {
        switch (self->state) {
        case FF_CHUNK_SIZE:
        case FF_CHUNK_EXTENSION:
            self->state = in_size_line(self, bytes[taken++]);
            break;
        case FF_CHUNK_PAYLOAD:
            if (self->left > 0)
                return taken;
            self->line_length = 0;
            self->state = FF_CHUNK_AFTER;
            break;
        case FF_CHUNK_AFTER:
            self->state = after_payload(self, bytes[taken++]);
            break;
        case FF_CHUNK_TRAILER:
            self->state = in_trailer(self, bytes[taken++]);
            break;
        case FF_CHUNK_END:
        case FF_CHUNK_BAD:
            return taken;
        }
    }
    return taken;
}
