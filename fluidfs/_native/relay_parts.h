/* What the parts of relay.h share, and nobody else. */
#ifndef FLUIDFS_RELAY_PARTS_H
#define FLUIDFS_RELAY_PARTS_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <unistd.h>

#include "clock.h"
#include "relay.h"

/* The largest READ that is answered, and what a WRITE may carry; a request's header and arguments come on top. */
#define FF_MESSAGE_BYTES (1u << 20)
#define FF_REQUEST_ROOM (FF_MESSAGE_BYTES + 4096u)
#define FF_BUFFER_ALIGN 4096u
/* Bytes from which answering counts as long: another thread goes to the device meanwhile. */
#define FF_LONG_BYTES (256u << 10)

enum { FF_AT_DEVICE, FF_SERVING_SHORT, FF_REPLACED, FF_SERVING_LONG };

/* INIT: what was agreed on is written once, before FF_AGREED (release), and read after it (acquire). */
enum { FF_NOT_AGREED, FF_AGREEING, FF_AGREED };

/* A serving thread. */
typedef struct {
    ff_relay *relay;
    pthread_t thread;
    int device_fd;
    bool started;
    char *request; /* FF_REQUEST_ROOM */
    char *answer;  /* FF_MESSAGE_BYTES */
    _Atomic int state;
    _Atomic int64_t serving_since_ns;
    _Atomic bool done;
} ff_server;

typedef struct ff_message {
    struct ff_message *next;
    size_t length;
    char bytes[];
} ff_message;

/* A queue of messages that one thread sends on. */
typedef struct {
    pthread_mutex_t lock;
    ff_message *first, *last;
    int event_fd;
} ff_outbox;

struct ff_relay {
    ff_relay_options options;
    ff_names *names;
    ff_contents *contents;
    ff_handles handles;
    ff_parking parking;
    ff_backing backing;
    _Atomic int agreement;
    ff_session session;
    ff_init_out init_answer;
    ff_server *servers;
    sem_t places; /* at the device */
    pthread_t *workers;
    pthread_mutex_t workers_lock;
    unsigned worker_count;
    int pair[2]; /* ours, pyfuse3's */
    ff_outbox to_python;
    ff_outbox to_kernel;
    pthread_t pair_thread, notify_thread, watch_thread;
    int watch_fd;
    _Atomic bool stopping;
    _Atomic int answering; /* calls of Python that may write to the device */
    _Atomic bool ended;
    _Atomic int64_t beat_ns;
    _Atomic int backing_error;
    _Atomic uint64_t native[FF_OPCODES], python[FF_OPCODES];
    _Atomic uint64_t read_requests, read_bytes, read_hit_bytes, read_errors;
    _Atomic uint64_t opens, passthrough_opens, given_up, interrupted, replies_failed;
    uint32_t clones;
    bool pair_running, notify_running, watch_running;
};

/* A request as it was read: the header, and `length` bytes behind it. */
typedef struct {
    const struct fuse_in_header *header;
    const char *body;
    size_t length;
    ff_server *server;
} ff_request;

static inline void ff_count(_Atomic uint64_t *counter, uint64_t by) {
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}
static inline void ff_count_native(ff_relay *self, uint32_t opcode) {
    ff_count(&self->native[opcode < FF_OPCODES ? opcode : FF_OPCODES - 1], 1);
}
static inline void ff_count_python(ff_relay *self, uint32_t opcode) {
    ff_count(&self->python[opcode < FF_OPCODES ? opcode : FF_OPCODES - 1], 1);
}

/* relay_serve.c */
void *ff_run_server(void *server);

static inline void ff_wake(int event_fd) {
    uint64_t one = 1;
    /* It fails only when the counter is full, and then it is readable. */
    ssize_t n = write(event_fd, &one, sizeof one);
    (void)n;
}

/* Of what the kernel sends, all but this waits for an answer. */
static inline bool ff_wants_answer(uint32_t opcode) {
    return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT && opcode != FUSE_NOTIFY_REPLY;
}

/* relay_life.c: a thread that signals of the process do not come to: they are for Python's. 0 or a negative errno. */
int ff_start_thread(pthread_t *thread, void *(*run)(void *context), void *context);

/* The kernel's own errors begin here (ERESTARTSYS), which it does not take from us. */
#define FF_ERRORS_END 512

/* relay_reply.c: 0, or the negative errno of the device. -ENOENT: the kernel does not wait for it any more. Bytes that the
 * kernel would not take are answered by EIO. */
int ff_reply(ff_relay *self, int device_fd, uint64_t unique, const void *data, size_t length);
int ff_reply_error(ff_relay *self, int device_fd, uint64_t unique, int error);

/* Around whatever Python answers: false when the device is about to be closed, and nothing is left to answer. */
static inline bool ff_enter(ff_relay *self) {
    atomic_fetch_add(&self->answering, 1);
    if (!atomic_load(&self->stopping))
        return true;
    atomic_fetch_sub(&self->answering, 1);
    return false;
}
static inline void ff_leave(ff_relay *self) { atomic_fetch_sub(&self->answering, 1); }
/* As ff_parking_take, entered; ff_answered ends both. NULL: nothing to answer, and not entered. */
ff_parked *ff_take(ff_relay *self, uint64_t ticket);
/* The same, of a request that Python was asked that about; another one is answered by EIO here. */
ff_parked *ff_take_asked(ff_relay *self, uint64_t ticket, ff_ask_kind ask);
void ff_answered(ff_relay *self, ff_parked *request);

/* Parks a request as `ask`, or answers it with an error when it cannot be. */
void ff_park(ff_relay *self, const ff_request *request, ff_parked *parked, ff_ask_kind ask);

/* relay_names.c: requests about names. They answer, or park. */
void ff_serve_lookup(ff_relay *self, const ff_request *request);
void ff_serve_getattr(ff_relay *self, const ff_request *request);
void ff_serve_forget(ff_relay *self, const ff_request *request);
void ff_serve_opendir(ff_relay *self, const ff_request *request);
void ff_serve_readdir(ff_relay *self, const ff_request *request);
void ff_serve_releasedir(ff_relay *self, const ff_request *request);

/* relay_files.c: requests about open files, and the workers. */
void ff_serve_open(ff_relay *self, const ff_request *request);
void ff_serve_read(ff_relay *self, const ff_request *request);
void ff_serve_release(ff_relay *self, const ff_request *request);
/* Has one more worker run, if there may be one. */
void ff_want_worker(ff_relay *self);
/* False when the time has come and one is still at a disk. */
bool ff_join_workers(ff_relay *self, int64_t deadline_ns);
int ff_backing_open(void *context, int file_fd);
void ff_backing_close(void *context, int32_t backing_id);
bool ff_backing_allowed(void *context, const ff_content *content);

/* relay_pair.c: the way to pyfuse3 and back. */
int ff_outbox_init(ff_outbox *self);
void ff_outbox_free(ff_outbox *self);
bool ff_outbox_put(ff_outbox *self, const void *head, size_t head_bytes, const void *tail, size_t tail_bytes);
ff_message *ff_outbox_take(ff_outbox *self);
void ff_serve_init(ff_relay *self, const ff_request *request);
void ff_serve_by_python(ff_relay *self, const ff_request *request);
void *ff_run_pair(void *relay);

/* relay_notify.c */
void *ff_run_notify(void *relay);
/* Joins that thread, after all that serve: the kernel may hold a notification up until a request is answered, and what
 * comes meanwhile is answered with an error here. False when the time has come and it is still held up. */
bool ff_end_notify(ff_relay *self, int64_t deadline_ns);

/* relay_watch.c */
void *ff_run_watch(void *relay);
/* Answers all that waits with an error, or all of which `where` says so; how many. */
void ff_answer_all(ff_relay *self, int error);
size_t ff_answer_where(ff_relay *self, bool (*where)(void *context, const ff_parked *request), void *context, int error);

#endif
