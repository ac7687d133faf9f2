#include "http_answer.h"

#include <inttypes.h>
#include <string.h>

#include "s3_error.h"

static bool wrong_version(const ff_http_head *head, const ff_range *range, ff_result *result) {
    if (range->version[0] == 0 || head->etag.start == NULL || ff_http_etag_is(head->etag, range->version))
        return false;
    ff_result_set(result, FF_CHANGED, 0, "the server sent the ETag %.*s in place of \"%s\"",
                  head->etag.length < 100 ? (int)head->etag.length : 100, head->etag.start, range->version);
    return true;
}

static bool wrong_size(uint64_t size, const ff_range *range, ff_result *result) {
    if (size == range->size)
        return false;
    ff_result_set(result, FF_CHANGED, 0, "the object has %" PRIu64 " bytes, not %" PRIu64, size, range->size);
    return true;
}

static bool protocol_error(ff_result *result, const char *what) {
    ff_result_set(result, FF_PROTOCOL, 0, "%s", what);
    return false;
}

static bool accept_part(const ff_http_head *head, const ff_range *range, ff_result *result) {
    if (!head->has_range || !head->has_total)
        return protocol_error(result, "a 206 without a Content-Range that says what it is");
    if (wrong_version(head, range, result) || wrong_size(head->range_total, range, result))
        return false;
    if (head->range_first != range->offset || head->range_last != range->offset + range->length - 1)
        return protocol_error(result, "a 206 with another range than was asked for");
    return true;
}

static bool accept_whole(const ff_http_head *head, const ff_range *range, ff_result *result) {
    if (wrong_version(head, range, result))
        return false;
    if (range->offset != 0 || range->length != range->size)
        return protocol_error(result, "the server ignored Range and sent the whole object");
    return !(head->has_length && wrong_size(head->content_length, range, result));
}

bool ff_http_accept(const ff_http_head *head, const ff_range *range, ff_result *result) {
    result->http_status = head->status;
    if (head->status != 206 && head->status != 200) {
        result->status = FF_HTTP;
        return false;
    }
    if (head->encoded)
        return protocol_error(result, "a Content-Encoding that was not asked for");
    if (!(head->status == 206 ? accept_part(head, range, result) : accept_whole(head, range, result)))
        return false;
    if (head->has_length && head->content_length != range->length)
        return protocol_error(result, "a Content-Length that is not the range's");
    return true;
}

static bool is_one_of(const char *code, const char *const *codes) {
    for (; *codes != NULL; codes++)
        if (strcmp(code, *codes) == 0)
            return true;
    return false;
}

static ff_status meaning(const ff_http_head *head, const ff_range *range, const ff_result *result) {
    /* https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and what other servers use for the same. */
    static const char *const throttled[] = {"SlowDown",           "TooManyRequests",      "TooManyRequestsException",
                                            "ServiceUnavailable", "ThrottlingException",  "Throttling",
                                            "RequestThrottled",   "RequestLimitExceeded", NULL};
    /* S3 answers 400 to these, and what the caller can do about them is what it does about a 403. */
    static const char *const credentials[] = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", NULL};
    switch (head->status) {
    case 301:
    case 302:
    case 307:
    case 308:
        return FF_REDIRECT;
    case 401:
    case 403:
        return FF_DENIED;
    case 404:
        return FF_NOT_FOUND;
    case 412:
        return FF_CHANGED;
    case 416:
        return head->unsatisfied && head->has_total && head->range_total != range->size ? FF_CHANGED : FF_HTTP;
    case 429:
        return FF_SLOW_DOWN;
    case 400:
        if (is_one_of(result->code, credentials))
            return FF_DENIED;
        /* AuthorizationHeaderMalformed with the region that it expects. */
        return result->region[0] != 0 ? FF_REDIRECT : FF_HTTP;
    case 503:
        return head->retry_after_s > 0 || is_one_of(result->code, throttled) ? FF_SLOW_DOWN : FF_SERVER;
    default:
        return head->status >= 500 ? FF_SERVER : FF_HTTP;
    }
}

void ff_http_refuse(const ff_http_head *head, const ff_range *range, const char *body, size_t length,
                    ff_result *result) {
    char message[160];
    result->http_status = head->status;
    result->retry_after_s = head->retry_after_s;
    ff_s3_error_text(body, length, "Code", result->code, sizeof result->code);
    ff_s3_error_text(body, length, "Message", message, sizeof message);
    ff_s3_error_text(body, length, "Region", result->region, sizeof result->region);
    if (head->region.start != NULL && head->region.length < sizeof result->region) {
        memcpy(result->region, head->region.start, head->region.length);
        result->region[head->region.length] = 0;
    }
    ff_make_printable(result->code);
    ff_make_printable(result->region);
    ff_result_set(result, meaning(head, range, result), 0, "HTTP %d%s%s%s%s%s%s", head->status,
                  result->code[0] != 0 ? " " : "", result->code, message[0] != 0 ? ": " : "", message,
                  result->region[0] != 0 ? ", region " : "", result->region);
}
