/* The data plane: native threads that own the FUSE device, answer what the tables know, and have Python asked for the rest.
 *
 *     kernel ── device and clones ── serving threads ─┬─ answered: names, hits, opens
 *                                                     ├─ parked, and asked of Python (ff_relay_drain, then an answer by ticket)
 *                                                     ├─ parked for a worker, where a disk or a checksum would be waited for
 *                                                     └─ sent to pyfuse3 over a pair of sockets, whose answers come back here
 *
 * Serving threads never wait for a disk, a network or Python. One of them at a time is at the device, unless many cores are
 * there: it answers what is short itself, and lets the next one to the device before anything long. So a lone reader's
 * requests wake one thread, not all. A watchdog answers for those who will not: the dead, the stuck, the killed.
 *
 * Threads: all functions may be called from any thread, but new, start, stop and free, which belong to one. None of them
 * waits for longer than it takes to write to the device, but stop. Errors are negative errnos. */
#ifndef FLUIDFS_RELAY_H
#define FLUIDFS_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "fuse_init.h"
#include "name_table.h"
#include "parking.h"

typedef struct ff_relay ff_relay;

typedef struct {
    int device_fd;    /* mounted; taken over by ff_relay_start, closed by ff_relay_stop */
    uint32_t off;     /* FF_OFF_… */
    bool wants_passthrough;
    bool allow_idmap; /* the mount has default_permissions */
    unsigned threads; /* that serve; at least 2 */
    unsigned at_device; /* of them, how many may be at the device at once; at least 1 */
    unsigned workers; /* that wait for disks, at most */
    unsigned spin_us; /* how long to look for the next request before sleeping, while they come that fast */
    ff_verify verify;
    uint64_t small_max_bytes;  /* files up to this size are opened without Python */
    uint64_t max_window_bytes; /* of readahead */
    int64_t give_up_ns;        /* a request that waited so long is answered with EIO */
    int64_t silence_ns;        /* Python not having beaten for so long, what waits for it is answered with EIO */
    uint8_t boot_id[16];
} ff_relay_options;

/* Requests by opcode; those past the end count as the last. */
#define FF_OPCODES 64u

typedef struct {
    uint64_t native[FF_OPCODES]; /* answered without Python */
    uint64_t python[FF_OPCODES]; /* that Python, or pyfuse3, was asked about */
    uint64_t read_requests;
    uint64_t read_bytes;
    uint64_t read_hit_bytes; /* of them, given without asking */
    uint64_t read_errors;
    uint64_t passthrough_opens;
    uint64_t opens;
    uint64_t given_up;      /* answered by the watchdog: overdue, or Python silent */
    uint64_t interrupted;   /* answered by the watchdog: their process was killed */
    uint64_t replies_failed;
    uint32_t waiting;       /* now */
    uint32_t open_files;    /* now */
    uint32_t clones;        /* of the device, beside the first */
    int32_t backing_error;  /* errno of the last backing file that the kernel refused; 0: none */
} ff_relay_facts;

/* `names` and `contents` are borrowed. NULL: no memory, or no descriptors. */
ff_relay *ff_relay_new(const ff_relay_options *options, ff_names *names, ff_contents *contents);
/* Starts the threads. On an error nothing runs, and the device is still the caller's. */
int ff_relay_start(ff_relay *self);
/* Ends everything: what waits gets EIO, threads end, the device is closed. False when a thread is stuck in a disk that hangs:
 * the device is closed then too, but the relay must not be freed until a later call has found the thread back. Waits for some
 * seconds at most. */
bool ff_relay_stop(ff_relay *self);
void ff_relay_free(ff_relay *self);

/* The end of the pair that pyfuse3 is started on; the caller's to close. */
int ff_relay_take_pair(ff_relay *self);
/* Readable when there are asks, and for ever when the connection has ended. */
int ff_relay_event_fd(const ff_relay *self);
/* The connection is gone: unmounted, or aborted. */
bool ff_relay_ended(const ff_relay *self);
/* Python is alive. */
void ff_relay_beat(ff_relay *self);
size_t ff_relay_drain(ff_relay *self, ff_ask *out, size_t capacity);
void ff_relay_facts_of(ff_relay *self, ff_relay_facts *out);
const ff_session *ff_relay_session(const ff_relay *self);

/* ---- Python's answers; a ticket that was answered already is no error, an answer to another kind of ask is EIO */

/* Any request: an error, `error` > 0; what is no error of the kernel's is EIO. */
void ff_relay_fail(ff_relay *self, uint64_t ticket, int error);
/* LOOKUP: no such name, and for how long. */
void ff_relay_missing(ff_relay *self, uint64_t ticket, int64_t good_for_ns);
/* LOOKUP: record `index` of the listing, which is borrowed. */
void ff_relay_found(ff_relay *self, uint64_t ticket, ff_listing *listing, size_t index, int64_t good_for_ns);
/* DIRECTORY: its listing, which is borrowed. */
void ff_relay_directory(ff_relay *self, uint64_t ticket, ff_listing *listing, int64_t good_for_ns);
/* OPEN: the node's content, of which a reference is taken, unless the node has one by now. */
void ff_relay_opened(ff_relay *self, uint64_t ticket, ff_content *content);
/* READ: the bytes may be there now; asked again if not. */
void ff_relay_retry(ff_relay *self, uint64_t ticket);
/* READ: the bytes, kept nowhere. */
void ff_relay_give(ff_relay *self, uint64_t ticket, const void *data, size_t length);

/* Has the kernel look a name up again; sent by a thread of its own. */
void ff_relay_forget_name(ff_relay *self, uint64_t parent, const char *name, size_t name_bytes);
size_t ff_relay_detach_idle(ff_relay *self, int64_t idle_for_ns, size_t keep_most);

#endif
