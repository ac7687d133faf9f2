/* Feeds mangled HTTP to the parsers that a hostile server reaches first. Built with sanitizers and run by
 * tests/unit/test_native_parsers.py; argument: how many rounds. The sequence is the same in each run. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_answer.h"
#include "http_chunked.h"
#include "http_response.h"
#include "s3_error.h"

static uint64_t state = 88172645463325252u;

static uint64_t random_below(uint64_t bound) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % bound;
}

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", what);
        exit(1);
    }
}

static const char *const SEEDS[] = {
    "HTTP/1.1 206 Partial Content\r\nContent-Length: 200\r\nContent-Range: bytes 0-199/1000\r\nETag: \"v1\"\r\n\r\n",
    "HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\nContent-Range: bytes 0-199/*\r\n\r\n",
    "HTTP/1.0 416 No\nContent-Range: bytes */18446744073709551615\nRetry-After: 3\nx-amz-bucket-region: r\n\n",
    "4;a=b\r\nabcd\r\nff\r\n0\r\nTrailer: x\r\n\r\n",
    "<Error><Code>Slow&amp;Down</Code><Message>&lt;&gt;&quot;&apos;&am</Message><Region>r</Region></Error>",
};

/* A seed with a few bytes changed, added or cut. Returns its length. */
static size_t mangle(char *into, size_t room) {
    const char *seed = SEEDS[random_below(sizeof SEEDS / sizeof *SEEDS)];
    size_t length = strlen(seed);
    memcpy(into, seed, length);
    for (uint64_t changes = random_below(6); changes > 0 && length > 0; changes--) {
        size_t at = random_below(length);
        switch (random_below(4)) {
        case 0:
            into[at] = (char)random_below(256);
            break;
        case 1:
            into[at] = "\r\n :;,/-*\"0f\t<>&"[random_below(16)];
            break;
        case 2:
            length = at;
            break;
        default:
            if (length + 40 < room) {
                size_t added = 1 + random_below(40);
                memmove(into + at + added, into + at, length - at);
                memset(into + at, into[at], added);
                length += added;
            }
        }
    }
    return length;
}

static void try_head(const char *bytes, size_t length) {
    size_t whole = ff_http_head_length(bytes, length, 0);
    require(whole <= length, "a head ends within what was received");
    /* However it arrives, it ends at the same place. */
    size_t cut = length > 0 ? random_below(length) : 0;
    size_t early = ff_http_head_length(bytes, cut, 0);
    require((early != 0 ? early : ff_http_head_length(bytes, length, cut)) == whole, "a head's end is found in parts");
    ff_http_head head;
    if (whole == 0 || ff_http_parse_head(bytes, whole, &head) < 0)
        return;
    require(head.status >= 100 && head.status <= 599, "a status has three digits");
    const ff_range range = {.target = "/k", .version = "v1", .offset = 0, .length = 200, .size = 1000};
    ff_result result = {0};
    if (ff_http_accept(&head, &range, &result))
        require(!head.has_length || head.content_length == 200, "a length that is accepted is the range's");
    else if (result.status == FF_HTTP)
        ff_http_refuse(&head, &range, bytes, length, &result);
    require(strlen(result.detail) < sizeof result.detail, "a detail ends");
}

static void try_chunks(const char *bytes, size_t length) {
    ff_chunked chunked = {0};
    size_t at = 0;
    while (at < length && chunked.state != FF_CHUNK_END && chunked.state != FF_CHUNK_BAD) {
        size_t given = 1 + random_below(length - at);
        size_t taken = ff_chunked_feed(&chunked, bytes + at, given);
        require(taken <= given, "framing is no longer than what was given");
        at += taken;
        if (chunked.state == FF_CHUNK_PAYLOAD && chunked.left > 0) {
            size_t payload = chunked.left < length - at ? (size_t)chunked.left : length - at;
            chunked.left -= payload;
            at += payload;
        } else {
            require(taken > 0 || chunked.state >= FF_CHUNK_END, "framing goes forward");
        }
    }
}

static void try_error(const char *bytes, size_t length) {
    char text[16];
    ff_s3_error_text(bytes, length, "Message", text, sizeof text);
    require(strlen(text) < sizeof text, "an error's text ends");
}

int main(int count, char **arguments) {
    long rounds = count > 1 ? atol(arguments[1]) : 1000;
    for (long round = 0; round < rounds; round++) {
        char work[1024];
        size_t length = mangle(work, sizeof work);
        /* Memory of the exact size, so that one byte too many is seen. */
        char *exact = malloc(length > 0 ? length : 1);
        if (exact == NULL)
            return 2;
        memcpy(exact, work, length);
        try_head(exact, length);
        try_chunks(exact, length);
        try_error(exact, length);
        free(exact);
    }
    return 0;
}
