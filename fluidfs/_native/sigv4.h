/* AWS Signature Version 4 for a GET from S3, signed in headers. Pure: no clock, no socket, no shared state.
 *
 * botocore's S3SigV4Auth is the oracle: for the same request, date and credentials, the same Authorization header.
 * Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
#ifndef FLUIDFS_SIGV4_H
#define FLUIDFS_SIGV4_H

#include <stddef.h>

/* SHA-256 of nothing, in hex. What botocore sends as x-amz-content-sha256 of a GET, over http and https alike. */
#define FF_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#define FF_SIGV4_KEY_BYTES 32
#define FF_SIGV4_DAY_CHARS 8   /* YYYYMMDD */
#define FF_SIGV4_DATE_CHARS 16 /* YYYYMMDDThhmmssZ */

/* One header that is sent and signed. Names are lower case; values hold no control characters. */
typedef struct {
    const char *name;
    const char *value;
} ff_header;

/* The key that signs everything of one day, region and secret. `date` starts with the day. Returns 0 or -EIO. */
int ff_sigv4_signing_key(const char *secret, size_t secret_length, const char *date, const char *region,
                         unsigned char key[FF_SIGV4_KEY_BYTES]);

/* Writes the value of the Authorization header, NUL-terminated, into `out`.
 *
 * `headers` are all that are signed, "host", "x-amz-date" and "x-amz-content-sha256" among them, sorted by name, each
 * name once. `target` is the request's path as sent (S3 does not normalise it); a query after `?` must already be
 * canonical: sorted, each key with its `=`. Runs of white space in values count as one space, as the server's do.
 * Returns 0, -ENAMETOOLONG if `out` is too small, -EINVAL without a content hash, -ENOMEM, or -EIO of the library. */
int ff_sigv4_authorize(const unsigned char key[FF_SIGV4_KEY_BYTES], const char *access_key, const char *date,
                       const char *region, const char *target, const ff_header *headers, size_t header_count,
                       char *out, size_t out_size);

/* Orders headers by name, for ff_sigv4_authorize. */
void ff_sort_headers(ff_header *headers, size_t count);

#endif
