#include "http_request.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define OWN_HEADERS_MAX 6 /* host, if-match, range, and the three x-amz- ones */

/* Not signed, as botocore does not: proxies may rewrite them. identity: a range of a compressed body is no use. */
#define UNSIGNED_HEADERS "accept-encoding: identity\r\nuser-agent: fluidfs\r\n"

typedef struct {
    char date[FF_SIGV4_DATE_CHARS + 1];
    char range[64];
    char *if_match;
    ff_header headers[OWN_HEADERS_MAX + FF_EXTRA_HEADERS_MAX];
    size_t count;
    char authorization[2048];
} draft;

static void add(draft *self, const char *name, const char *value) {
    self->headers[self->count++] = (ff_header){name, value};
}

/* All headers that are signed, sorted. */
static int fill(draft *self, const ff_http_site *site, const ff_range *range, const ff_credentials *credentials) {
    add(self, "host", site->host_header);
    if (range->version[0] != 0) {
        if (asprintf(&self->if_match, "\"%s\"", range->version) < 0) {
            self->if_match = NULL;
            return -ENOMEM;
        }
        add(self, "if-match", self->if_match);
    }
    snprintf(self->range, sizeof self->range, "bytes=%" PRIu64 "-%" PRIu64, range->offset,
             range->offset + range->length - 1);
    add(self, "range", self->range);
    if (credentials != NULL) {
        add(self, "x-amz-content-sha256", FF_EMPTY_SHA256);
        add(self, "x-amz-date", self->date);
        if (credentials->token != NULL)
            add(self, "x-amz-security-token", credentials->token);
    }
    for (size_t i = 0; i < site->header_count; i++)
        add(self, site->headers[i].name, site->headers[i].value);
    ff_sort_headers(self->headers, self->count);
    return 0;
}

static int write_out(const draft *self, const ff_http_site *site, const char *target, char **request,
                     size_t *length) {
    size_t room = strlen(site->absolute) + strlen(target) + strlen(self->authorization) + 256;
    for (size_t i = 0; i < self->count; i++)
        room += strlen(self->headers[i].name) + strlen(self->headers[i].value) + 4;
    char *memory = malloc(room);
    if (memory == NULL)
        return -ENOMEM;
    ff_text text = ff_text_in(memory, room);
    ff_text_add(&text, "GET ");
    ff_text_add(&text, site->absolute);
    ff_text_add(&text, target);
    ff_text_add(&text, " HTTP/1.1\r\n");
    for (size_t i = 0; i < self->count; i++) {
        ff_text_add(&text, self->headers[i].name);
        ff_text_add(&text, ": ");
        ff_text_add(&text, self->headers[i].value);
        ff_text_add(&text, "\r\n");
    }
    if (self->authorization[0] != 0) {
        ff_text_add(&text, "authorization: ");
        ff_text_add(&text, self->authorization);
        ff_text_add(&text, "\r\n");
    }
    ff_text_add(&text, UNSIGNED_HEADERS "\r\n");
    *request = memory;
    *length = text.length;
    if (!text.overflowed)
        return 0;
    ff_http_request_free(memory, text.length);
    return -EOVERFLOW;
}

int ff_http_request(const ff_http_site *site, ff_signer *signer, const ff_range *range, time_t now, char **request,
                    size_t *length) {
    draft self = {.count = 0};
    struct tm utc;
    unsigned char key[FF_SIGV4_KEY_BYTES];
    ff_credentials *credentials;
    if (site->header_count > FF_EXTRA_HEADERS_MAX)
        return -E2BIG;
    if (gmtime_r(&now, &utc) == NULL || strftime(self.date, sizeof self.date, "%Y%m%dT%H%M%SZ", &utc) == 0)
        return -EOVERFLOW;
    int outcome = ff_signer_hold(signer, self.date, &credentials, key);
    if (outcome < 0)
        return outcome;
    outcome = fill(&self, site, range, credentials);
    if (outcome == 0 && credentials != NULL)
        outcome = ff_sigv4_authorize(key, credentials->access_key, self.date, signer->region, range->target,
                                     self.headers, self.count, self.authorization, sizeof self.authorization);
    if (outcome == 0)
        outcome = write_out(&self, site, range->target, request, length);
    ff_credentials_release(credentials);
    OPENSSL_cleanse(key, sizeof key);
    free(self.if_match);
    return outcome;
}

void ff_http_request_free(char *request, size_t length) {
    OPENSSL_cleanse(request, length);
    free(request);
}
