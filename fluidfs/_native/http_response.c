#include "http_response.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static bool is(ff_slice slice, const char *text) {
    return slice.length == strlen(text) && strncasecmp(slice.start, text, slice.length) == 0;
}

static ff_slice trimmed(const char *start, const char *end) {
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (ff_slice){start, (size_t)(end - start)};
}

/* Takes a decimal number off the front of `slice`. False without a digit, or if it does not fit. */
static bool take_number(ff_slice *slice, uint64_t *number) {
    uint64_t value = 0;
    size_t digits = 0;
    for (; digits < slice->length; digits++) {
        unsigned digit = (unsigned)(unsigned char)slice->start[digits] - '0';
        if (digit > 9)
            break;
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (digits == 0)
        return false;
    slice->start += digits;
    slice->length -= digits;
    *number = value;
    return true;
}

static bool take(ff_slice *slice, char expected) {
    if (slice->length == 0 || *slice->start != expected)
        return false;
    slice->start++;
    slice->length--;
    return true;
}

/* Whether a comma-separated list has `token`. */
static bool list_has(ff_slice list, const char *token) {
    const char *end = list.start + list.length;
    for (const char *item = list.start; item < end;) {
        const char *comma = memchr(item, ',', (size_t)(end - item));
        const char *item_end = comma != NULL ? comma : end;
        if (is(trimmed(item, item_end), token))
            return true;
        item = item_end + 1;
    }
    return false;
}

static int parse_content_length(ff_slice value, ff_http_head *head) {
    uint64_t length;
    if (!take_number(&value, &length) || value.length != 0)
        return -EPROTO;
    if (head->has_length && head->content_length != length)
        return -EPROTO;
    head->has_length = true;
    head->content_length = length;
    return 0;
}

static int parse_content_range(ff_slice value, ff_http_head *head) {
    if (head->has_range || head->unsatisfied)
        return -EPROTO;
    if (value.length < 6 || strncasecmp(value.start, "bytes", 5) != 0)
        return -EPROTO;
    value = trimmed(value.start + 5, value.start + value.length);
    if (take(&value, '*'))
        head->unsatisfied = true;
    else if (take_number(&value, &head->range_first) && take(&value, '-') && take_number(&value, &head->range_last))
        head->has_range = true;
    else
        return -EPROTO;
    if (!take(&value, '/'))
        return -EPROTO;
    if (!take(&value, '*')) {
        if (!take_number(&value, &head->range_total))
            return -EPROTO;
        head->has_total = true;
    }
    return value.length == 0 ? 0 : -EPROTO;
}

static int parse_header(ff_slice name, ff_slice value, ff_http_head *head) {
    if (is(name, "content-length"))
        return parse_content_length(value, head);
    if (is(name, "content-range"))
        return parse_content_range(value, head);
    if (is(name, "transfer-encoding")) {
        /* We ask for no other coding, and one that we cannot undo would be taken for the body. */
        if (!is(value, "chunked") || head->chunked)
            return -EPROTO;
        head->chunked = true;
    } else if (is(name, "connection")) {
        if (list_has(value, "close"))
            head->keep_alive = false;
        else if (list_has(value, "keep-alive"))
            head->keep_alive = true;
    } else if (is(name, "content-encoding")) {
        /* "aws-chunked" describes how an object was uploaded; S3 may hand it back with plain bytes. */
        if (value.length != 0 && !is(value, "identity") && !is(value, "aws-chunked"))
            head->encoded = true;
    } else if (is(name, "etag")) {
        head->etag = value;
    } else if (is(name, "x-amz-bucket-region")) {
        head->region = value;
    } else if (is(name, "retry-after")) {
        uint64_t seconds;
        if (take_number(&value, &seconds) && value.length == 0)
            head->retry_after_s = (double)seconds;
    }
    return 0;
}

/* "HTTP/1.1 206 Partial Content" */
static int parse_status_line(const char *line, const char *end, ff_http_head *head) {
    static const char protocol[] = "HTTP/1.";
    const size_t minor = sizeof protocol - 1;
    if ((size_t)(end - line) < minor + 5 || memcmp(line, protocol, minor) != 0)
        return -EPROTO;
    if ((line[minor] != '0' && line[minor] != '1') || line[minor + 1] != ' ')
        return -EPROTO;
    head->keep_alive = line[minor] == '1';
    ff_slice rest = {line + minor + 2, (size_t)(end - line) - minor - 2};
    uint64_t status;
    if (!take_number(&rest, &status) || status < 100 || status > 599)
        return -EPROTO;
    if (rest.length != 0 && *rest.start != ' ')
        return -EPROTO;
    head->status = (int)status;
    return 0;
}

static int parse_header_line(const char *line, const char *end, ff_http_head *head) {
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (colon == NULL || colon == line)
        return -EPROTO;
    for (const char *p = line; p < colon; p++)
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return -EPROTO;
    return parse_header((ff_slice){line, (size_t)(colon - line)}, trimmed(colon + 1, end), head);
}

size_t ff_http_head_length(const char *bytes, size_t length, size_t seen) {
    /* A blank line that straddles the two calls began at most three bytes before what is new. */
    size_t from = seen > 3 ? seen - 3 : 0;
    while (from < length) {
        const char *newline = memchr(bytes + from, '\n', length - from);
        if (newline == NULL)
            return 0;
        size_t next = (size_t)(newline - bytes) + 1;
        if (next < length && bytes[next] == '\n')
            return next + 1;
        if (next + 1 < length && bytes[next] == '\r' && bytes[next + 1] == '\n')
            return next + 2;
        from = next;
    }
    return 0;
}

int ff_http_parse_head(const char *bytes, size_t length, ff_http_head *head) {
    memset(head, 0, sizeof *head);
    if (length > FF_HTTP_HEAD_MAX || memchr(bytes, 0, length) != NULL)
        return -EPROTO;
    const char *end = bytes + length;
    bool first = true;
    for (const char *line = bytes; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (newline == NULL)
            return -EPROTO;
        const char *line_end = newline > line && newline[-1] == '\r' ? newline - 1 : newline;
        if (line_end == line && !first) {
            if (newline + 1 != end)
                return -EPROTO;
            /* RFC 9112 6.3: the transfer coding overrides, and such a connection is not to be trusted further. */
            if (head->chunked && head->has_length) {
                head->has_length = false;
                head->keep_alive = false;
            }
            return 0;
        }
        int outcome = first ? parse_status_line(line, line_end, head) : parse_header_line(line, line_end, head);
        if (outcome < 0)
            return outcome;
        first = false;
        line = newline + 1;
    }
    return -EPROTO;
}

bool ff_http_etag_is(ff_slice etag, const char *version) {
    size_t length = strlen(version);
    if (etag.length >= 2 && etag.start[0] == '"' && etag.start[etag.length - 1] == '"') {
        etag.start++;
        etag.length -= 2;
    }
    return etag.length == length && memcmp(etag.start, version, length) == 0;
}
