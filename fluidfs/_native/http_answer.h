/* Judges a response's head against the range that was asked for. Pure. */
#ifndef FLUIDFS_HTTP_ANSWER_H
#define FLUIDFS_HTTP_ANSWER_H

#include <stdbool.h>

#include "http_response.h"
#include "source.h"

/* Whether the body is the range's bytes, and of the right version. If not, `result` says why; FF_HTTP means that the
 * status is an error, which ff_http_refuse tells more of. */
bool ff_http_accept(const ff_http_head *head, const ff_range *range, ff_result *result);

/* What an error status means, with the body that came along (`length` 0 if it was not read). */
void ff_http_refuse(const ff_http_head *head, const ff_range *range, const char *body, size_t length,
                    ff_result *result);

#endif
