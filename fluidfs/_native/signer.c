#include "signer.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

static void forget(char *secret, size_t length) {
    if (secret != NULL)
        OPENSSL_cleanse(secret, length);
    free(secret);
}

void ff_credentials_release(ff_credentials *self) {
    /* Acquire: whoever frees sees all that other holders did before they let go. */
    if (self == NULL || atomic_fetch_sub_explicit(&self->holders, 1, memory_order_acq_rel) > 1)
        return;
    free(self->access_key);
    forget(self->secret_key, self->secret_length);
    forget(self->token, self->token != NULL ? strlen(self->token) : 0);
    OPENSSL_cleanse(self, sizeof *self);
    free(self);
}

static ff_credentials *copied(const char *access_key, const char *secret_key, size_t secret_length,
                              const char *token) {
    ff_credentials *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    atomic_init(&self->holders, 1);
    self->access_key = strdup(access_key);
    self->secret_key = malloc(secret_length + 1);
    self->token = token != NULL ? strdup(token) : NULL;
    if (self->secret_key != NULL) {
        memcpy(self->secret_key, secret_key, secret_length);
        self->secret_length = secret_length;
    }
    if (self->access_key == NULL || self->secret_key == NULL || (token != NULL && self->token == NULL)) {
        ff_credentials_release(self);
        return NULL;
    }
    return self;
}

int ff_signer_init(ff_signer *self, const char *region) {
    self->credentials = NULL;
    self->region = strdup(region);
    if (self->region == NULL)
        return -ENOMEM;
    pthread_mutex_init(&self->lock, NULL);
    return 0;
}

void ff_signer_free(ff_signer *self) {
    ff_credentials_release(self->credentials);
    pthread_mutex_destroy(&self->lock);
    free(self->region);
}

int ff_signer_set(ff_signer *self, const char *access_key, const char *secret_key, size_t secret_length,
                  const char *token) {
    ff_credentials *credentials = NULL;
    if (access_key != NULL) {
        credentials = copied(access_key, secret_key, secret_length, token);
        if (credentials == NULL)
            return -ENOMEM;
    }
    pthread_mutex_lock(&self->lock);
    ff_credentials *replaced = self->credentials;
    self->credentials = credentials;
    pthread_mutex_unlock(&self->lock);
    ff_credentials_release(replaced);
    return 0;
}

int ff_signer_hold(ff_signer *self, const char *date, ff_credentials **held,
                   unsigned char key[FF_SIGV4_KEY_BYTES]) {
    int outcome = 0;
    *held = NULL;
    pthread_mutex_lock(&self->lock);
    ff_credentials *credentials = self->credentials;
    if (credentials != NULL && strncmp(credentials->day, date, FF_SIGV4_DAY_CHARS) != 0) {
        outcome = ff_sigv4_signing_key(credentials->secret_key, credentials->secret_length, date, self->region,
                                       credentials->key);
        /* A day that could not be computed is computed again by the next request. */
        memset(credentials->day, 0, sizeof credentials->day);
        if (outcome == 0)
            memcpy(credentials->day, date, FF_SIGV4_DAY_CHARS);
    }
    if (credentials != NULL && outcome == 0) {
        memcpy(key, credentials->key, FF_SIGV4_KEY_BYTES);
        /* Relaxed: the lock orders it before any release by a later holder. */
        atomic_fetch_add_explicit(&credentials->holders, 1, memory_order_relaxed);
        *held = credentials;
    }
    pthread_mutex_unlock(&self->lock);
    return outcome;
}
