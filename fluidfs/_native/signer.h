/* The credentials of one source, and the signing of its requests with them.
 *
 * Threads: any; credentials may be replaced while requests are being signed, each of which uses one set throughout.
 * Secrets are zeroed before their memory is freed.
 */
#ifndef FLUIDFS_SIGNER_H
#define FLUIDFS_SIGNER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "sigv4.h"

/* One set of credentials. Immutable but for the signing key, which the signer's lock guards. */
typedef struct {
    atomic_int holders;
    char *access_key;
    char *secret_key;
    size_t secret_length;
    char *token;                      /* NULL without one */
    char day[FF_SIGV4_DAY_CHARS + 1]; /* that `key` is for; "" before the first */
    unsigned char key[FF_SIGV4_KEY_BYTES];
} ff_credentials;

typedef struct {
    pthread_mutex_t lock;
    char *region;
    ff_credentials *credentials; /* NULL: anonymous */
} ff_signer;

/* Copies `region`. Returns 0 or -ENOMEM. */
int ff_signer_init(ff_signer *self, const char *region);

void ff_signer_free(ff_signer *self);

/* Copies the strings; `token` may be NULL, and `access_key` NULL is anonymous. Returns 0 or -ENOMEM. */
int ff_signer_set(ff_signer *self, const char *access_key, const char *secret_key, size_t secret_length,
                  const char *token);

/* The current credentials, held until ff_credentials_release, or NULL; and in `key` the signing key of the day that
 * `date` begins with. Returns 0 or a negative errno, with nothing held. */
int ff_signer_hold(ff_signer *self, const char *date, ff_credentials **held,
                   unsigned char key[FF_SIGV4_KEY_BYTES]);

void ff_credentials_release(ff_credentials *credentials);

#endif
