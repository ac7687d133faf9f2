#include "relay_kernel_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "relay_faults.h"

/* Longer than anything may take that the tests do, on a slow machine, with sanitizers. */
#define PATIENCE_NS (60 * RIG_SECOND_NS)
#define ROOM ((1u << 20) + 4096u)
#define ROUND_MS 20

static call **bucket_of(kernel *self, uint64_t unique) { return &self->calls[unique / 2 % CALL_BUCKETS]; }

static call *find_call(kernel *self, uint64_t unique) {
    call *asked = *bucket_of(self, unique);
    while (asked != NULL && asked->unique != unique)
        asked = asked->next;
    return asked;
}

static void remove_call(kernel *self, call *asked) {
    call **link = bucket_of(self, asked->unique);
    while (*link != asked)
        link = &(*link)->next;
    *link = asked->next;
    free(asked->answer);
    free(asked);
}

/* ---- receiving */

static kernel_answer *answer_of(int error, const char *body, size_t length) {
    kernel_answer *answer = malloc(sizeof *answer + length);
    require(answer != NULL, "no memory");
    answer->error = error;
    answer->length = length;
    if (length > 0)
        memcpy(answer->data, body, length);
    return answer;
}

static void take_in(kernel *self, const char *message, size_t length) {
    struct fuse_out_header header;
    require(length >= sizeof header, "an answer of %zu bytes", length);
    memcpy(&header, message, sizeof header);
    require(header.len == length, "an answer of %zu bytes says %u", length, header.len);
    const char *body = message + sizeof header;
    size_t body_bytes = length - sizeof header;
    pthread_mutex_lock(&self->lock);
    if (header.unique == 0) {
        self->notified++;
    } else {
        /* The kernel takes nothing else, and goes on waiting. */
        require(header.error > -512 && header.error <= 0, "the error is %d", header.error);
        call *asked = find_call(self, header.unique);
        require(asked != NULL && asked->answer == NULL, "%llx was answered twice, or wanted no answer (error %d, %zu bytes)",
                (unsigned long long)header.unique, header.error, body_bytes);
        kernel_check(self, asked, header.error, body, body_bytes);
        self->waiting--;
        if (asked->keep)
            asked->answer = answer_of(header.error, body, body_bytes);
        else
            remove_call(self, asked);
    }
    pthread_cond_broadcast(&self->answered);
    pthread_mutex_unlock(&self->lock);
}

static void *receive(void *context) {
    kernel *self = context;
    faults_spare(true);
    char *buffer = malloc(ROOM);
    require(buffer != NULL, "no memory");
    for (;;) {
        bool last = self->ends; /* looked at first: what came before is taken in */
        struct pollfd ready = {.fd = self->rig->kernel_fd, .events = POLLIN};
        poll(&ready, 1, last ? 0 : ROUND_MS);
        ssize_t n = recv(self->rig->kernel_fd, buffer, ROOM, MSG_DONTWAIT);
        if (n > 0)
            take_in(self, buffer, (size_t)n);
        else if (last || n == 0 || self->dead)
            break;
    }
    free(buffer);
    return NULL;
}

/* ---- life */

kernel *kernel_new(rig_mount *rig, uint64_t seed) {
    faults_spare(true);
    kernel *self = calloc(1, sizeof *self);
    require(self != NULL, "no memory");
    self->rig = rig;
    self->next_unique = (seed & 0xffffff) << 20 | 2;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->answered, NULL);
    require(pthread_create(&self->thread, NULL, receive, self) == 0, "no thread");
    faults_spare(false);
    return self;
}

void kernel_finish(kernel *self) {
    self->ends = true;
    pthread_join(self->thread, NULL);
    char *buffer = malloc(ROOM);
    require(buffer != NULL, "no memory");
    for (ssize_t n; (n = recv(self->rig->unread_fd, buffer, ROOM, MSG_DONTWAIT)) > 0;) {
        struct fuse_in_header header;
        if ((size_t)n < sizeof header)
            continue;
        memcpy(&header, buffer, sizeof header);
        call *asked = find_call(self, header.unique);
        if (asked != NULL && asked->answer == NULL) {
            remove_call(self, asked);
            self->waiting--;
        }
    }
    free(buffer);
    for (unsigned i = 0; i < CALL_BUCKETS; i++)
        for (const call *asked = self->calls[i]; asked != NULL; asked = asked->next)
            require(self->dead || asked->answer != NULL, "%llx (opcode %u) was never answered", (unsigned long long)asked->unique,
                    asked->opcode);
}

void kernel_free(kernel *self) {
    for (unsigned i = 0; i < CALL_BUCKETS; i++)
        while (self->calls[i] != NULL)
            remove_call(self, self->calls[i]);
    free(self->nodes);
    free(self->handles);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->answered);
    free(self);
}

/* ---- sending */

static bool wants_answer(const struct fuse_in_header *header) {
    return header->opcode != FUSE_FORGET && header->opcode != FUSE_BATCH_FORGET && header->opcode != FUSE_INTERRUPT &&
           header->opcode != FUSE_NOTIFY_REPLY;
}

static void note_release(kernel *self, const char *body, size_t length) {
    struct fuse_release_in released;
    if (length < sizeof released)
        return;
    memcpy(&released, body, sizeof released);
    kernel_handle *handle = kernel_find_handle(self, released.fh);
    if (handle != NULL)
        handle->open = false;
}

/* What answer is expected. Under the lock. */
static void expect(kernel *self, const struct fuse_in_header *header, const char *body, size_t length) {
    call *asked = calloc(1, sizeof *asked);
    require(asked != NULL, "no memory");
    *asked = (call){.unique = header->unique, .opcode = header->opcode, .node = header->nodeid, .keep = self->keeps};
    asked->file = RIG_NO_FILE;
    struct fuse_read_in read;
    if ((header->opcode == FUSE_READ || header->opcode == FUSE_READDIR || header->opcode == FUSE_READDIRPLUS) &&
        length >= sizeof read) {
        memcpy(&read, body, sizeof read);
        asked->offset = read.offset;
        asked->size = read.size;
        const kernel_handle *handle = kernel_find_handle(self, read.fh);
        if (handle != NULL && !handle->directory)
            asked->file = handle->file;
    }
    asked->next = *bucket_of(self, asked->unique);
    *bucket_of(self, asked->unique) = asked;
    self->waiting++;
}

uint64_t kernel_send(kernel *self, char *request, size_t length) {
    struct fuse_in_header header = {0};
    faults_spare(true);
    pthread_mutex_lock(&self->lock);
    uint64_t unique = self->next_unique += 2;
    if (length >= sizeof header) {
        memcpy(&header, request, sizeof header);
        header.unique = unique |= header.unique & FF_UNIQUE_RESENT;
        memcpy(request, &header, sizeof header);
    }
    self->recent[self->sent++ % RECENT] = unique;
    const char *body = request + sizeof header;
    /* What is no message is dropped: the kernel sends none such. */
    if (length >= sizeof header && header.len == length) {
        if (header.opcode == FUSE_RELEASE || header.opcode == FUSE_RELEASEDIR)
            note_release(self, body, length - sizeof header);
        if (wants_answer(&header))
            expect(self, &header, body, length - sizeof header);
    }
    pthread_mutex_unlock(&self->lock);
    ssize_t n = send(self->rig->kernel_fd, request, length, MSG_NOSIGNAL);
    require(n == (ssize_t)length || errno == EPIPE || errno == ECONNRESET, "%s", strerror(errno));
    faults_spare(false);
    return unique;
}

uint64_t kernel_ask(kernel *self, uint32_t opcode, uint64_t node, const void *body, size_t length) {
    struct fuse_in_header header = {
        .len = (uint32_t)(sizeof header + length), .opcode = opcode, .nodeid = node, .uid = 1, .gid = 1};
    char *request = malloc(sizeof header + length);
    require(request != NULL, "no memory");
    memcpy(request, &header, sizeof header);
    if (length > 0)
        memcpy(request + sizeof header, body, length);
    uint64_t unique = kernel_send(self, request, sizeof header + length);
    free(request);
    return unique;
}

/* False when the time has come. Under the lock. */
static bool wait_a_while(kernel *self, int64_t until_ns) {
    struct timespec until;
    if (ff_monotonic_ns() > until_ns)
        return false;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ROUND_MS * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(&self->answered, &self->lock, &until);
    return true;
}

kernel_answer *kernel_wait_for(kernel *self, uint64_t unique, int64_t timeout_ns) {
    int64_t until_ns = ff_monotonic_ns() + timeout_ns;
    pthread_mutex_lock(&self->lock);
    call *asked = find_call(self, unique);
    require(asked != NULL && asked->keep, "%llx waits for nothing", (unsigned long long)unique);
    while (asked->answer == NULL && wait_a_while(self, until_ns)) {
    }
    kernel_answer *answer = asked->answer;
    asked->answer = NULL;
    if (answer != NULL)
        remove_call(self, asked);
    pthread_mutex_unlock(&self->lock);
    return answer;
}

kernel_answer *kernel_wait(kernel *self, uint64_t unique) {
    kernel_answer *answer = kernel_wait_for(self, unique, PATIENCE_NS);
    require(answer != NULL, "%llx is not answered", (unsigned long long)unique);
    return answer;
}

kernel_answer *kernel_call(kernel *self, uint32_t opcode, uint64_t node, const void *body, size_t length) {
    return kernel_wait(self, kernel_ask(self, opcode, node, body, length));
}

void kernel_keep_answers(kernel *self, bool keep) {
    pthread_mutex_lock(&self->lock);
    self->keeps = keep;
    pthread_mutex_unlock(&self->lock);
}

void kernel_be_strict(kernel *self) {
    pthread_mutex_lock(&self->lock);
    self->strict = true;
    pthread_mutex_unlock(&self->lock);
}

void kernel_die(kernel *self) {
    self->dead = true;
    shutdown(self->rig->kernel_fd, SHUT_RDWR);
}

size_t kernel_waiting(kernel *self) {
    pthread_mutex_lock(&self->lock);
    size_t waiting = self->waiting;
    pthread_mutex_unlock(&self->lock);
    return waiting;
}

void kernel_wait_until(kernel *self, size_t at_most) {
    int64_t until_ns = ff_monotonic_ns() + PATIENCE_NS;
    pthread_mutex_lock(&self->lock);
    while (self->waiting > at_most)
        require(wait_a_while(self, until_ns), "%zu requests are not answered", self->waiting);
    pthread_mutex_unlock(&self->lock);
}
