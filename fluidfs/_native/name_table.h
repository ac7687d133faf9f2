/* The nodes that the kernel knows, and the listings that name them: LOOKUP, GETATTR, READDIR and FORGET without
 * Python.
 *
 * A node is one (path, version): node ids are ours, and are never given to another (path, version) while the kernel
 * knows them; `ino` (st_ino) is a hash of the path alone, so it is stable across versions and restarts. Node 1 is
 * the root.
 *
 * Python hands in listings with the time that they are good for. A directory whose listing is good is answered here;
 * any other answer is -ENODATA: Python is to be asked. A listing that replaces another keeps the nodes whose version
 * it confirms; the others lose their name, and live on for those who have them open until the kernel forgets them.
 *
 * Memory: a node takes 64 bytes and 4 to 6 in the hash, a directory in use 64 more; names lie in the listings. What
 * nodes took is kept for other nodes, not given back.
 *
 * Threads: any; one mutex inside, held for no I/O and no call out but ff_content_drop. Lock order: the handles'
 * (handles.h), this, the contents'. Times are CLOCK_MONOTONIC in nanoseconds, given by the caller: pure but for
 * memory. */
#ifndef FLUIDFS_NAME_TABLE_H
#define FLUIDFS_NAME_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "fuse_wire.h"
#include "listing.h"

#define FF_ROOT_NODE 1u

typedef struct ff_names ff_names;

/* What files and directories look like. */
typedef struct {
    uint32_t uid;
    uint32_t gid;
    uint32_t file_mode; /* permission bits */
    uint32_t dir_mode;
    int64_t root_mtime_ns;
} ff_ownership;

ff_names *ff_names_new(const ff_ownership *ownership);
/* Drops all references to listings and contents. Nobody else may have one of a listing; NULL is nothing to free. */
void ff_names_free(ff_names *self);

/* A listing over borrowed buffers with one reference, the caller's; NULL: not a listing, or no memory. */
ff_listing *ff_names_listing(ff_names *self, const void *records, size_t records_bytes, const void *ends, bool wide,
                             size_t count);
ff_listing *ff_listing_hold(ff_listing *listing);
/* Takes a reference unless the last was dropped already. Only for whoever calls ff_names_gone: until it told of the
 * listing, the structure is there. */
bool ff_listing_hold_if_used(ff_listing *listing);
void ff_names_drop_listing(ff_names *self, ff_listing *listing);
/* Ids of listings that nobody uses any more, each told once; how many. For one thread at a time. */
size_t ff_names_gone(ff_names *self, uint64_t *ids, size_t capacity);

/* A name that the kernel should look up again. */
typedef void (*ff_changed)(void *context, uint64_t parent, const char *name, size_t name_bytes);

/* The directory's listing from now on, good until `good_until_ns`; from `due_ns` on its use is a reason to renew it
 * (ff_names_take_due). Takes its own reference. `changed` (may be NULL) is called after the lock is given back, for
 * each name the kernel knows that now stands for another version, another kind, or nothing. The records being the
 * same as before, the directory keeps the listing that it has, and only the times change. The lock is not held while
 * listings are compared. -ESTALE, -ENOTDIR. -ENOMEM: nothing is known of the directory then. */
int ff_names_learn(ff_names *self, uint64_t directory, ff_listing *listing, int64_t good_until_ns, int64_t due_ns,
                   ff_changed changed, void *context);
/* What is known of the directory is not good any more. */
void ff_names_expire(ff_names *self, uint64_t directory);
/* Drops listings that expired before `before_ns`, the contents of small files that were last open before it and that
 * the kernel forgot, and nodes that only lived for these. Looks at all nodes, and lets others have the lock in
 * between. */
void ff_names_sweep(ff_names *self, int64_t before_ns);

/* LOOKUP. 0: `out` is filled and one lookup counted, or its nodeid is 0: there is no such name, for as long as
 * entry_valid says (0 s: not to be remembered). -ENODATA: ask Python. -ENAMETOOLONG (more than FF_NAME_BYTES_MAX),
 * -ENOTDIR, -ESTALE (unknown parent), -ENOMEM. */
int ff_names_lookup(ff_names *self, uint64_t parent, const char *name, size_t name_bytes, int64_t now_ns,
                    struct fuse_entry_out *out);
/* LOOKUP with Python's answer: record `index` of `listing`, which need not be the directory's. The last answer
 * counts: a node that the name had at another version loses it. -EINVAL: no such record. -ENOTDIR, -ESTALE, -ENOMEM. */
int ff_names_found(ff_names *self, uint64_t parent, ff_listing *listing, size_t index, int64_t now_ns,
                   int64_t good_until_ns, struct fuse_entry_out *out);

/* GETATTR. 0 or -ESTALE. */
int ff_names_attributes(ff_names *self, uint64_t node, struct fuse_attr_out *out);

/* FORGET; more than were counted is no error. A node that has its name is kept although the kernel forgot it, for
 * its content or for its listing, until a sweep finds that expired. */
void ff_names_forget(ff_names *self, uint64_t node, uint64_t count);

/* OPENDIR: the directory's listing with a reference for the caller, how long it is good, and whether it is the one that
 * the directory was last opened with (the kernel's own copy of the names is good then). -ENODATA, -ENOTDIR, -ESTALE. */
int ff_names_open_directory(ff_names *self, uint64_t directory, int64_t now_ns, ff_listing **out,
                            int64_t *good_until_ns, bool *unchanged);
/* Notes that the directory was opened with this listing, which Python brought; `unchanged` as above. -ENOTDIR, -ESTALE,
 * -ENOMEM. */
int ff_names_note_opened(ff_names *self, uint64_t directory, const ff_listing *listing, bool *unchanged);

/* READDIR(PLUS) into `out`, from position `offset` (0 ".", 1 "..", then the listing); how many bytes: 0 at the end,
 * also where there is no such directory. With `plus` a lookup is counted for each entry that has a node id; it is 0
 * for the first two, and where the directory's present listing knows better than this one: the kernel then looks the
 * name up when it wants it. `good_until_ns` in the past gives entries that are not to be remembered. `out` is
 * aligned to 8 bytes. */
size_t ff_names_read_directory(ff_names *self, uint64_t directory, ff_listing *listing, uint64_t offset, bool plus,
                               int64_t now_ns, int64_t good_until_ns, char *out, size_t capacity);

/* OPEN: the node's content with a reference for the caller. -ENODATA: it has none, ask Python. -EISDIR, -ESTALE. */
int ff_names_content(ff_names *self, uint64_t node, ff_content **out);
/* The node's size in bytes; -EISDIR, -ESTALE. */
int64_t ff_names_size(ff_names *self, uint64_t node);
/* Gives the node a content, taking a reference, or none (NULL); one that it had is dropped. -EISDIR, -ESTALE,
 * -ENOMEM. */
int ff_names_set_content(ff_names *self, uint64_t node, ff_content *content);
/* Takes contents of kind OBJECT or THROUGH that are not open from their nodes: those idle since before `before_ns`,
 * and, the longest idle first, as many more as leave at most `keep_most` that are not open. How many were taken. The
 * handles' lock is held by the caller. */
size_t ff_names_detach_idle(ff_names *self, int64_t before_ns, size_t keep_most);

/* The names from the root to the node, joined by "/", ended by NUL: their length, -ENAMETOOLONG when `capacity` is too
 * small, or -ESTALE. The root's is empty. */
int64_t ff_names_path(ff_names *self, uint64_t node, char *out, size_t capacity);
/* The record that a node stands for, as a listing (with a reference for the caller) and an index. -ESTALE; -EISDIR
 * for the root, which has none. */
int ff_names_record(ff_names *self, uint64_t node, ff_listing **listing, size_t *index);
/* The node that has a path now, known to the kernel or kept for what it has; 0: none. */
uint64_t ff_names_at(ff_names *self, const char *path, size_t path_bytes);

/* Directories in use whose listings are due for renewal, each told once until it is learnt again. */
size_t ff_names_take_due(ff_names *self, uint64_t *directories, size_t capacity);
/* Whether there is something to take; without the lock, to be asked after each request. */
bool ff_names_any_due(const ff_names *self);

/* Nodes that the kernel knows, the root included; and all that the table takes, in bytes, without the listings'
 * buffers. */
size_t ff_names_known(ff_names *self);
size_t ff_names_memory(ff_names *self);

#endif
