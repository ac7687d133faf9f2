#include "dialer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_response.h"
#include "resolver.h"
#include "tls.h"

/* `why` NULL: what the errno says. */
static void fail(ff_result *result, int outcome, const char *host, uint16_t port, const char *why) {
    if (outcome == -ECANCELED)
        ff_result_set(result, FF_CANCELLED, 0, "cancelled");
    else if (why == NULL)
        ff_result_set(result, FF_CONNECT, -outcome, "no connection to %s port %u: %m", host, port);
    else
        ff_result_set(result, FF_CONNECT, -outcome, "no connection to %s port %u: %s", host, port, why);
}

/* A connected non-blocking socket, or a negative errno. */
static int connect_address(const struct addrinfo *address, const ff_waiter *waiter, int64_t *patience_ns) {
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const int on = 1;
    /* Requests are single small segments; best effort. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int outcome = connect(fd, address->ai_addr, address->ai_addrlen) == 0 ? 0 : -errno;
    if (outcome == -EINPROGRESS || outcome == -EINTR) {
        outcome = ff_wait(waiter, fd, POLLOUT, patience_ns);
        int error = 0;
        socklen_t size = sizeof error;
        if (outcome == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0)
            outcome = -error;
    }
    if (outcome == 0)
        return fd;
    close(fd);
    return outcome;
}

/* Tries each address in turn; each may use an equal share of the patience that is left. */
static int connect_any(const struct addrinfo *addresses, const ff_waiter *waiter, int64_t *patience_ns) {
    int64_t untried = 0;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next)
        untried++;
    int outcome = -EADDRNOTAVAIL;
    for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
        int64_t share_ns = *patience_ns / untried--;
        *patience_ns -= share_ns;
        outcome = connect_address(address, waiter, &share_ns);
        *patience_ns += share_ns;
        if (outcome >= 0 || outcome == -ECANCELED)
            break;
    }
    return outcome;
}

static ff_connection *connect_host(const char *host, uint16_t port, const ff_waiter *waiter, int64_t *patience_ns,
                                   ff_result *result) {
    struct addrinfo *addresses;
    int lookup_error;
    int outcome = ff_resolve(host, port, waiter, patience_ns, &addresses, &lookup_error);
    if (outcome < 0) {
        fail(result, outcome, host, port, lookup_error != 0 ? gai_strerror(lookup_error) : NULL);
        return NULL;
    }
    int fd = connect_any(addresses, waiter, patience_ns);
    freeaddrinfo(addresses);
    if (fd < 0) {
        fail(result, fd, host, port, NULL);
        return NULL;
    }
    ff_connection *connection = ff_connection_new(fd);
    if (connection == NULL) {
        close(fd);
        fail(result, -ENOMEM, host, port, NULL);
    }
    return connection;
}

/* Receives the proxy's answer to CONNECT. Nothing may follow its head: the server waits for us to begin. */
static int receive_tunnel_head(ff_connection *connection, const ff_waiter *waiter, int64_t *patience_ns,
                               ff_http_head *head) {
    char answer[4096];
    size_t filled = 0;
    while (filled < sizeof answer) {
        ssize_t count =
            ff_connection_receive(connection, answer + filled, sizeof answer - filled, waiter, patience_ns);
        if (count <= 0)
            return count < 0 ? (int)count : -ECONNRESET;
        size_t length = ff_http_head_length(answer, filled + (size_t)count, filled);
        filled += (size_t)count;
        if (length == 0)
            continue;
        if (ff_http_parse_head(answer, length, head) < 0)
            return -EPROTO;
        /* A refusal may bring a body, and the connection is not used further then. */
        return head->status / 100 == 2 && length != filled ? -EPROTO : 0;
    }
    return -EPROTO;
}

static bool open_tunnel(ff_connection *connection, const ff_route *route, const ff_waiter *waiter,
                        int64_t *patience_ns, ff_result *result) {
    char request[1024];
    bool bracketed = strchr(route->host, ':') != NULL;
    int length = snprintf(request, sizeof request, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n\r\n",
                          bracketed ? "[" : "", route->host, bracketed ? "]" : "", route->port, bracketed ? "[" : "",
                          route->host, bracketed ? "]" : "", route->port);
    int outcome = -ENAMETOOLONG;
    ff_http_head head = {0};
    if (length > 0 && (size_t)length < sizeof request)
        outcome = ff_connection_send(connection, request, (size_t)length, waiter, patience_ns);
    if (outcome == 0)
        outcome = receive_tunnel_head(connection, waiter, patience_ns, &head);
    if (outcome < 0) {
        fail(result, outcome, route->proxy_host, route->proxy_port, "the proxy opened no tunnel");
        return false;
    }
    if (head.status / 100 != 2) {
        ff_result_set(result, FF_CONNECT, ECONNREFUSED, "the proxy %s port %u refused a tunnel to %s: HTTP %d",
                      route->proxy_host, route->proxy_port, route->host, head.status);
        result->http_status = head.status;
        return false;
    }
    return true;
}

ff_connection *ff_dial(const ff_route *route, const ff_waiter *waiter, ff_result *result) {
    int64_t patience_ns = ff_patience_ns(route->timeout_s);
    bool proxied = route->proxy_host != NULL;
    ff_connection *connection = connect_host(proxied ? route->proxy_host : route->host,
                                             proxied ? route->proxy_port : route->port, waiter, &patience_ns, result);
    if (connection == NULL || route->tls == NULL)
        return connection;
    if (proxied && !open_tunnel(connection, route, waiter, &patience_ns, result)) {
        ff_connection_close(connection);
        return NULL;
    }
    if (!ff_tls_start(connection, route->tls, route->host, waiter, &patience_ns, result)) {
        ff_connection_close(connection);
        return NULL;
    }
    return connection;
}
