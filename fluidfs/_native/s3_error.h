/* Reads what the engine needs of an S3 error body. Pure, and safe on any bytes. */
#ifndef FLUIDFS_S3_ERROR_H
#define FLUIDFS_S3_ERROR_H

#include <stddef.h>

/* Error bodies longer than this are not read: the connection is closed instead. */
#define FF_S3_ERROR_MAX ((size_t)64 * 1024)

/* Copies the text of the first <element> of `body` into `out` (NUL-terminated, cut to fit, the five XML entities
 * undone), or "" if there is none. No XML parser: these bodies are flat, and what is not one of them yields "". */
void ff_s3_error_text(const char *body, size_t length, const char *element, char *out, size_t out_size);

#endif
