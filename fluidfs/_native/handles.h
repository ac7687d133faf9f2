/* Open files and directories: what a file handle of the kernel stands for.
 *
 * Handles are given and taken under the table's lock, and so is how a content is open: all opens of one node share one mode
 * and one backing id until the last is closed, because the kernel refuses anything else.
 *
 * Threads: any. Lock order: the handles' lock, then that of the names. */
#ifndef FLUIDFS_HANDLES_H
#define FLUIDFS_HANDLES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "content.h"
#include "listing.h"
#include "name_table.h"
#include "read_window.h"

/* Handles of ours have this bit, those of Python have not. */
#define FF_HANDLE_NATIVE (UINT64_C(1) << 62)

typedef struct ff_handle {
    uint64_t fh;
    uint64_t node;
    _Atomic uint32_t refs;
    ff_content *content; /* a file's, with a reference; NULL for a directory */
    /* Under `lock`: */
    pthread_mutex_t lock;
    ff_window window;
    ff_listing *listing; /* a directory's, as it was when opened or rewound, with a reference */
    int64_t good_until_ns;
    bool begun;
} ff_handle;

typedef struct {
    pthread_mutex_t lock;
    ff_names *names;
    ff_handle **slots;
    uint32_t *generations;
    uint32_t capacity;
    uint32_t used;
    uint32_t next_free; /* where to look for a free slot */
    uint32_t open_files;
} ff_handles;

/* How backing files are registered with the kernel. */
typedef struct {
    int (*open)(void *context, int file_fd); /* a backing id, or a negative errno */
    void (*close)(void *context, int32_t backing_id);
    bool (*allowed)(void *context, const ff_content *content);
    void *context;
    const uint8_t *boot_id; /* of 16 bytes; a seal of another boot does not hold */
} ff_backing;

int ff_handles_init(ff_handles *self, ff_names *names);
/* Closes all that is open, as `ff_handles_close` does. */
void ff_handles_close_all(ff_handles *self, const ff_backing *backing);
/* The same, and nobody may use it any more. */
void ff_handles_free(ff_handles *self, const ff_backing *backing);

/* Opens a node. One that has no content gets `given`, or with NULL is not opened: -ENODATA. Both in one step: what
 * was just given is idle, and might be detached before it is opened. 0: `*passthrough` says how, and then `*backing_id` by
 * which file; the handle's number is in `*fh`. -EISDIR, -ESTALE, -ENOMEM. */
int ff_handles_open_file(ff_handles *self, const ff_backing *backing, uint64_t node, ff_content *given, uint64_t *fh,
                         bool *passthrough, int32_t *backing_id);
/* Opens a directory; takes over the reference of `listing`, also when it fails: -ENOMEM. */
int ff_handles_open_directory(ff_handles *self, uint64_t node, ff_listing *listing, int64_t good_until_ns,
                              uint64_t *fh);
/* The handle with a reference, or NULL: there is no such handle. */
ff_handle *ff_handles_find(ff_handles *self, uint64_t fh);
void ff_handle_drop(ff_handles *self, ff_handle *handle);
/* RELEASE, RELEASEDIR. Unknown handles are no error. */
void ff_handles_close(ff_handles *self, const ff_backing *backing, uint64_t fh, int64_t now_ns);

/* ff_names_detach_idle, with nothing being opened meanwhile. */
size_t ff_handles_detach_idle(ff_handles *self, int64_t before_ns, size_t keep_most);
uint32_t ff_handles_count(ff_handles *self);

#endif
