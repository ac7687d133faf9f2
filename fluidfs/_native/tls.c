#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static const char *library_reason(void) {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "no reason given";
}

SSL_CTX *ff_tls_context(const char *ca_file, char *why, size_t why_size) {
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL) {
        snprintf(why, why_size, "OpenSSL does not start: %s", library_reason());
        return NULL;
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    /* An idle connection then holds no record buffers, which are 34 KiB of it. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    int loaded = ca_file != NULL ? SSL_CTX_load_verify_file(context, ca_file)
                                 : SSL_CTX_set_default_verify_paths(context);
    if (loaded != 1) {
        snprintf(why, why_size, "no certificates can be read from %s: %s",
                 ca_file != NULL ? ca_file : "the system's trust store", library_reason());
        SSL_CTX_free(context);
        return NULL;
    }
    return context;
}

/* Names an address must be checked as an address; only names are sent as SNI (RFC 6066). */
static bool expect_host(SSL *tls, const char *host) {
    unsigned char address[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(tls), host) == 1;
    SSL_set_hostflags(tls, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(tls, host) == 1 && SSL_set_tlsext_host_name(tls, host) == 1;
}

static void explain(SSL *tls, const char *host, int outcome, ff_result *result) {
    long verified = SSL_get_verify_result(tls);
    if (outcome == -ECANCELED)
        ff_result_set(result, FF_CANCELLED, 0, "cancelled");
    else if (outcome == -EPROTO && verified != X509_V_OK)
        ff_result_set(result, FF_TLS, 0, "the certificate of %s is not trusted: %s", host,
                      X509_verify_cert_error_string(verified));
    else if (outcome == -EPROTO)
        ff_result_set(result, FF_TLS, 0, "no TLS with %s: %s", host, library_reason());
    else if (outcome > 0)
        ff_result_set(result, FF_CONNECT, ECONNRESET, "%s closed the connection during the TLS handshake", host);
    else
        ff_result_set(result, FF_CONNECT, -outcome, "no TLS handshake with %s: %m", host);
}

bool ff_tls_start(ff_connection *connection, SSL_CTX *context, const char *host, const ff_waiter *waiter,
                  int64_t *patience_ns, ff_result *result) {
    ERR_clear_error();
    SSL *tls = connection->tls = SSL_new(context);
    if (tls == NULL || SSL_set_fd(tls, connection->fd) != 1 || !expect_host(tls, host)) {
        ff_result_set(result, FF_TLS, ENOMEM, "no TLS with %s: %s", host, library_reason());
        return false;
    }
    for (;;) {
        ERR_clear_error();
        errno = 0;
        int connected = SSL_connect(tls);
        if (connected == 1)
            return true;
        int outcome = ff_connection_wait_for_tls(connection, connected, waiter, patience_ns);
        if (outcome != 0) {
            explain(tls, host, outcome, result);
            return false;
        }
    }
}
