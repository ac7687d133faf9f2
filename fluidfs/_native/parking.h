/* Requests that wait: for Python to find something out, for a worker to read a disk, for pyfuse3 to answer.
 *
 * Whoever takes a request out of here (ff_parking_take, ff_parking_claim) is the one to answer it, once; the others find
 * nothing. So a request that the watchdog gave up on is not answered again by a worker whose disk woke up.
 *
 * Asks are what Python is to find out: a parked request with its ticket, or a note without one. Python is woken once for
 * however many there are (an eventfd), and drains them in batches.
 *
 * Threads: any; one mutex inside, held for no I/O. Every request is counted: the table has a reference, and so has each
 * thread that works on it. */
#ifndef FLUIDFS_PARKING_H
#define FLUIDFS_PARKING_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "handles.h"

typedef enum {
    FF_ASK_LOOKUP,    /* `name` in directory `node` */
    FF_ASK_DIRECTORY, /* the listing of `node`, for OPENDIR or a rewound READDIR */
    FF_ASK_OPEN,      /* the content of `node` */
    FF_ASK_READ,      /* bytes of `content`, and what to fetch ahead */
    FF_ASK_AHEAD,     /* a note: fetch ahead */
    FF_ASK_DUE,       /* a note: the listing of `node` is in use, and should be renewed */
    FF_ASK_NOTHING,   /* waits for a worker */
    FF_ASK_PYFUSE3,   /* was passed on to pyfuse3 */
} ff_ask_kind;

typedef struct ff_parked {
    /* What the request is; not changed once it is parked. */
    uint64_t ticket;
    uint64_t unique;
    int device_fd; /* the clone that it came by, and must be answered by */
    uint32_t opcode;
    pid_t requester; /* its thread; 0 where it cannot be known */
    uint64_t node;
    ff_content *content; /* with a reference, or NULL */
    ff_handle *handle;   /* with a reference, or NULL */
    uint64_t offset;
    uint32_t length;
    uint64_t ahead_from; /* ahead_from < ahead_to: what to fetch ahead */
    uint64_t ahead_to;
    uint16_t name_bytes;
    char name[FF_NAME_BYTES_MAX + 1];
    /* Under the parking's lock: */
    ff_ask_kind ask;
    bool working; /* queued for a worker, or at one */
    bool asking;  /* queued for Python */
    bool claimed;
    bool interrupted;
    unsigned tries; /* how often Python was asked */
    int64_t since_ns;
    uint32_t refs;
    struct ff_parked *next_ask, *next_work, *bucket_next, *before, *after;
} ff_parked;

/* What Python drains. */
typedef struct {
    ff_ask_kind kind;
    unsigned tries;
    uint64_t ticket; /* 0: a note */
    uint64_t node;
    uint64_t content_id;
    uint64_t fh;
    uint64_t offset;
    uint32_t length;
    uint64_t ahead_from;
    uint64_t ahead_to;
    uint16_t name_bytes;
    char name[FF_NAME_BYTES_MAX + 1];
} ff_ask;

typedef struct ff_note ff_note;

#define FF_PARKING_BUCKETS 1024u
#define FF_INTERRUPTS 64u

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t work; /* signalled when there is work, or `closing` */
    int event_fd;
    uint64_t next_ticket;
    ff_parked *by_ticket[FF_PARKING_BUCKETS];
    ff_parked *first, *last; /* all that wait, the oldest first */
    size_t waiting;
    ff_parked *ask_first, *ask_last;
    ff_note *note_first, *note_last;
    ff_parked *work_first, *work_last;
    unsigned idle_workers, queued_work;
    size_t interrupted;
    uint64_t early[FF_INTERRUPTS]; /* interrupts that came before their request was parked */
    unsigned early_count;
    bool closing;
    ff_handles *handles;
} ff_parking;

/* 0 or a negative errno. */
int ff_parking_init(ff_parking *self, ff_handles *handles);
/* Nobody may use it any more; what is left is dropped unanswered. */
void ff_parking_free(ff_parking *self);

/* A request that is not parked yet, with one reference, the caller's; content and handle get references of their own. NULL:
 * no memory. */
ff_parked *ff_parked_new(uint64_t unique, int device_fd, uint32_t opcode, pid_t requester);
void ff_parked_drop(ff_parking *self, ff_parked *request);

/* Parks a request (taking over the caller's reference) and asks Python `ask`. False when it is closing: then it is still
 * the caller's to answer, and nothing was taken. */
bool ff_parking_ask(ff_parking *self, ff_parked *request, ff_ask_kind ask);
/* Parks a request for the workers. As above; `*want_worker` says that no worker is free to take it. */
bool ff_parking_work(ff_parking *self, ff_parked *request, bool *want_worker);
/* Parks a request that another answers by its `unique`. */
bool ff_parking_wait(ff_parking *self, ff_parked *request);
/* A note to Python. Lost when there is no memory: notes only hurry things. */
void ff_parking_note(ff_parking *self, const ff_ask *note);

/* Takes the request of a ticket, which is then the caller's to answer and to drop; NULL: answered already. */
ff_parked *ff_parking_take(ff_parking *self, uint64_t ticket);
/* The same by `unique`, of those parked by ff_parking_wait. */
ff_parked *ff_parking_take_unique(ff_parking *self, uint64_t unique);
/* Gives a READ that Python was asked about to the workers. False: answered already, or no READ. */
bool ff_parking_retry(ff_parking *self, uint64_t ticket, bool *want_worker);

/* A worker's loop: the next request, with a reference, or NULL when it is closing. It stays parked: claim it to answer. */
ff_parked *ff_parking_next_work(ff_parking *self);
/* Whether the caller is now the one to answer; false: somebody did. */
bool ff_parking_claim(ff_parking *self, ff_parked *request);
/* Asks Python again about a request that a worker could not answer. False: answered already, or closing. */
bool ff_parking_ask_again(ff_parking *self, ff_parked *request);

/* Up to `capacity` asks and notes, the oldest first. */
size_t ff_parking_drain(ff_parking *self, ff_ask *out, size_t capacity);

/* INTERRUPT for `unique`: noted, for the watchdog to judge. */
void ff_parking_interrupt(ff_parking *self, uint64_t unique);
/* Takes requests for which `give_up` says so, each with a reference and to be answered by the caller; how many. */
size_t ff_parking_give_up(ff_parking *self, bool (*give_up)(void *context, const ff_parked *request),
                          void *context, ff_parked **out, size_t capacity);

/* From now on nothing is parked any more, and workers end. What waits is taken with ff_parking_give_up. */
void ff_parking_close(ff_parking *self);
size_t ff_parking_waiting(ff_parking *self);

/* A request whose process got a signal. */
typedef struct {
    uint64_t ticket;
    pid_t requester;
    int64_t since_ns;
} ff_interrupted;
/* Up to `capacity` interrupted requests, the oldest first: for the watchdog to look at, and then to take. */
size_t ff_parking_interrupted(ff_parking *self, ff_interrupted *out, size_t capacity);

#endif
