#include "http_source.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection_pool.h"
#include "dialer.h"
#include "http_answer.h"
#include "http_reader.h"
#include "http_request.h"
#include "s3_error.h"
#include "tls.h"

typedef struct {
    ff_source source; /* first, so that a pointer to it is one to the whole */
    ff_route route;
    ff_http_site site;
    double stall_timeout_s;
    ff_signer signer;
    ff_connection_pool pool;
    ff_counters *counters;
    /* What route and site point to: */
    char *host, *proxy_host, *host_header, *absolute;
    ff_header *headers;
} http_source;

typedef enum { KEEP, CLOSE, STALE } aftermath; /* what is to become of the connection */

static void no_answer(ff_result *result, int outcome, bool began) {
    switch (outcome) {
    case -ECANCELED:
        ff_result_set(result, FF_CANCELLED, 0, "cancelled");
        break;
    case -ETIMEDOUT:
        ff_result_set(result, FF_TIMEOUT, ETIMEDOUT, "the server stopped sending");
        break;
    case -EPROTO:
        ff_result_set(result, FF_PROTOCOL, 0, "the server's answer is not HTTP");
        break;
    default:
        ff_result_set(result, FF_TRUNCATED, -outcome, "the connection broke %s: %m",
                      began ? "in the middle of the answer" : "before the answer");
    }
}

static aftermath receive_range(http_source *self, ff_http_reader *reader, ff_delivery *delivery, bool whole,
                               ff_result *result) {
    while (delivery->missing > 0) {
        size_t room;
        char *space = ff_delivery_space(delivery, &room);
        ssize_t count = ff_http_reader_body(reader, space, room);
        if (count < 0) {
            no_answer(result, (int)count, true);
            return CLOSE;
        }
        if (count == 0) {
            ff_result_set(result, FF_TRUNCATED, 0, "the body ended early");
            return CLOSE;
        }
        ff_count(&self->counters->bytes_received, (uint64_t)count);
        int outcome = ff_delivery_advance(delivery, (size_t)count);
        if (outcome < 0) {
            ff_result_set(result, FF_SINK, -outcome, "the bytes could not be kept: %m");
            return CLOSE;
        }
    }
    int finished = ff_http_reader_finish(reader);
    /* The answer to a range said which bytes of how many it brings; a whole object's may be told by its end alone. */
    if (finished < 0 && whole)
        ff_result_set(result, FF_CHANGED, 0, "the object is longer than it was");
    return finished > 0 ? KEEP : CLOSE;
}

/* Reads the body of an error into `scratch`, so that the connection can be used again. */
static aftermath receive_refusal(ff_http_reader *reader, const ff_http_head *head, const ff_range *range,
                                 char *scratch, size_t scratch_size, ff_result *result) {
    size_t length = 0;
    ssize_t count = 1;
    /* The head's slices do not survive the body. */
    char region[sizeof result->region];
    ff_http_head kept = *head;
    if (kept.region.length >= sizeof region)
        kept.region.start = NULL;
    if (kept.region.start != NULL)
        kept.region.start = memcpy(region, kept.region.start, kept.region.length);
    while (length < scratch_size && (count = ff_http_reader_body(reader, scratch + length, scratch_size - length)) > 0)
        length += (size_t)count;
    if (count == -ECANCELED) {
        no_answer(result, -ECANCELED, true);
        return CLOSE;
    }
    ff_http_refuse(&kept, range, scratch, length, result);
    return count >= 0 && ff_http_reader_finish(reader) > 0 ? KEEP : CLOSE;
}

static aftermath exchange(http_source *self, ff_connection *connection, const char *request, size_t request_length,
                          const ff_range *range, ff_delivery *delivery, const ff_waiter *waiter, ff_result *result) {
    ff_http_reader reader;
    ff_http_head head;
    ff_http_reader_init(&reader, connection, waiter, self->stall_timeout_s);
    ff_count(&self->counters->requests_sent, 1);
    int outcome = ff_connection_send(connection, request, request_length, waiter, &reader.patience_ns);
    if (outcome == 0)
        outcome = ff_http_reader_head(&reader, &head);
    if (outcome < 0) {
        no_answer(result, outcome, reader.began);
        return !reader.began && result->status == FF_TRUNCATED ? STALE : CLOSE;
    }
    if (ff_http_accept(&head, range, result))
        return receive_range(self, &reader, delivery, head.status == 200, result);
    if (result->status != FF_HTTP)
        return CLOSE;
    /* Nothing was delivered yet, so the delivery's buffer is free to take the error's text. */
    return receive_refusal(&reader, &head, range, delivery->buffer,
                           delivery->capacity < FF_S3_ERROR_MAX ? delivery->capacity : FF_S3_ERROR_MAX, result);
}

static void fetch(ff_source *source, const ff_range *range, ff_delivery *delivery, const ff_waiter *waiter,
                  ff_result *result) {
    http_source *self = (http_source *)source;
    char *request;
    size_t request_length;
    int outcome = ff_http_request(&self->site, &self->signer, range, time(NULL), &request, &request_length);
    if (outcome < 0) {
        ff_result_set(result, FF_PROTOCOL, -outcome, "the request could not be written: %m");
        return;
    }
    /* A kept connection that the server closed meanwhile costs one try, on a new connection, and is no error. */
    ff_connection *connection = ff_connection_pool_take(&self->pool);
    bool reused = connection != NULL;
    aftermath then = STALE;
    if (reused) {
        ff_count(&self->counters->connections_reused, 1);
        then = exchange(self, connection, request, request_length, range, delivery, waiter, result);
    }
    if (then == STALE) {
        ff_connection_close(connection);
        memset(result, 0, sizeof *result);
        connection = ff_dial(&self->route, waiter, result);
        if (connection != NULL) {
            ff_count(&self->counters->connections_opened, 1);
            then = exchange(self, connection, request, request_length, range, delivery, waiter, result);
        }
    }
    if (connection != NULL && then == KEEP)
        ff_connection_pool_put(&self->pool, connection);
    else
        ff_connection_close(connection);
    ff_http_request_free(request, request_length);
}

static void free_source(ff_source *source) {
    http_source *self = (http_source *)source;
    ff_connection_pool_free(&self->pool);
    ff_signer_free(&self->signer);
    SSL_CTX_free(self->route.tls);
    for (size_t i = 0; i < self->site.header_count; i++) {
        /* Among the headers may be the key of SSE-C. */
        char *value = (char *)self->headers[i].value;
        if (value != NULL)
            OPENSSL_cleanse(value, strlen(value));
        free(value);
        free((char *)self->headers[i].name);
    }
    ff_counters_release(self->counters);
    free(self->headers);
    free(self->absolute);
    free(self->host_header);
    free(self->proxy_host);
    free(self->host);
    free(self);
}

static bool copy_headers(http_source *self, const ff_http_options *options) {
    self->headers = calloc(options->header_count + 1, sizeof *self->headers);
    if (self->headers == NULL)
        return false;
    self->site.header_count = options->header_count;
    self->site.headers = self->headers;
    for (size_t i = 0; i < options->header_count; i++) {
        self->headers[i].name = strdup(options->headers[i].name);
        self->headers[i].value = strdup(options->headers[i].value);
        if (self->headers[i].name == NULL || self->headers[i].value == NULL)
            return false;
    }
    return true;
}

static bool copy_options(http_source *self, const ff_http_options *options) {
    bool absolute = options->proxy_host != NULL && !options->tls;
    self->host = strdup(options->host);
    self->host_header = strdup(options->host_header);
    self->proxy_host = options->proxy_host != NULL ? strdup(options->proxy_host) : NULL;
    if (asprintf(&self->absolute, "%s%s", absolute ? "http://" : "", absolute ? options->host_header : "") < 0)
        self->absolute = NULL;
    if (self->host == NULL || self->host_header == NULL || self->absolute == NULL ||
        (options->proxy_host != NULL && self->proxy_host == NULL) || !copy_headers(self, options))
        return false;
    self->route.host = self->host;
    self->route.port = options->port;
    self->route.proxy_host = self->proxy_host;
    self->route.proxy_port = options->proxy_port;
    self->route.timeout_s = options->connect_timeout_s;
    self->stall_timeout_s = options->stall_timeout_s;
    self->site.host_header = self->host_header;
    self->site.absolute = self->absolute;
    return true;
}

ff_source *ff_http_source_new(const ff_http_options *options, ff_counters *counters, char *why, size_t why_size) {
    snprintf(why, why_size, "out of memory");
    http_source *self = calloc(1, sizeof *self);
    if (self == NULL)
        return NULL;
    if (ff_signer_init(&self->signer, options->region) < 0) {
        free(self);
        return NULL;
    }
    ff_connection_pool_init(&self->pool);
    self->source = (ff_source){.fetch = fetch, .free = free_source};
    self->counters = ff_counters_hold(counters);
    bool made = copy_options(self, options);
    if (made && options->tls)
        made = (self->route.tls = ff_tls_context(options->ca_file, why, why_size)) != NULL;
    if (!made) {
        free_source(&self->source);
        return NULL;
    }
    return &self->source;
}

int ff_http_source_set_credentials(ff_source *source, const char *access_key, const char *secret_key,
                                   size_t secret_length, const char *token) {
    return ff_signer_set(&((http_source *)source)->signer, access_key, secret_key, secret_length, token);
}
