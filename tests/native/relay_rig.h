/* A relay between two ends that tests play: the device is a pair of SOCK_SEQPACKET sockets, whose borders of messages are
 * those of the device; the cache's files, listings and contents are real.
 *
 * The world is made once for a process: files of three kinds, whose bytes are known. A rig is one mount of it. What a
 * record or a node stands for is told by its time: rig_file_of.
 *
 * Threads: any, but world and rig are made and ended by one. */
#ifndef FLUIDFS_TESTS_RELAY_RIG_H
#define FLUIDFS_TESTS_RELAY_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay.h"

#define RIG_FILES 10u
#define RIG_NO_FILE RIG_FILES
/* What small files are up to, and the largest of the others. */
#define RIG_SMALL_BYTES 16384u
#define RIG_LARGE_BYTES 300000u

typedef enum { RIG_OBJECT, RIG_SMALL, RIG_THROUGH } rig_kind;

typedef struct {
    rig_kind kind;
    uint64_t size;
    char *bytes;
    char *data_path, *map_path; /* OBJECT */
    ff_object *object;          /* OBJECT: by which it is filled, as another process would */
    uint8_t key[16];            /* SMALL: in the slab */
} rig_file;

typedef struct {
    char *directory;
    ff_usage usage;
    rig_file files[RIG_FILES];
    char *slab_path, *index_path;
} rig_world;

/* A listing and the buffers that it borrows, which are freed when the table has told that nobody uses it. */
typedef struct rig_listing {
    ff_listing *listing; /* with a reference, until rig_drop_listing */
    uint64_t id;
    size_t count;
    char *records;
    void *ends;
    struct rig_listing *next;
} rig_listing;

typedef struct rig_borrowed rig_borrowed;

typedef struct {
    rig_world *world;
    ff_names *names;
    ff_contents *contents;
    ff_relay *relay;
    ff_relay_options options;
    int kernel_fd; /* our end of the device */
    int unread_fd; /* another descriptor of the relay's end: what it did not read is found here */
    pthread_mutex_t lock; /* of the two below, and of the slab */
    rig_listing *listings;
    rig_borrowed *borrowed; /* files that contents and slabs use */
    uint64_t slab_id;       /* 0: none just now */
} rig_mount;

#define RIG_SECOND_NS INT64_C(1000000000)

/* Ends the program with a message unless it holds. */
#define require(holds, ...) ((holds) ? (void)0 : rig_fail(__FILE__, __LINE__, #holds, __VA_ARGS__))
_Noreturn void rig_fail(const char *file, int line, const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

typedef uint64_t rig_random;
uint64_t rig_next(rig_random *random);
static inline uint64_t rig_below(rig_random *random, uint64_t bound) { return rig_next(random) % bound; }
static inline bool rig_one_in(rig_random *random, unsigned n) { return rig_next(random) % n == 0; }

void rig_world_make(rig_world *world, const char *directory);
void rig_world_end(rig_world *world);
/* The file that a time stands for; RIG_NO_FILE: none, a directory. */
unsigned rig_file_of(uint64_t mtime_s, uint32_t mtime_ns);

ff_relay_options rig_options(void);
/* A relay that runs, or (with `starts` false) is yet to be started. False: there was no memory, or no thread. */
bool rig_begin(rig_mount *self, rig_world *world, const ff_relay_options *options, bool starts);
/* Stops the relay; answers and what it did not read are still in the sockets. */
void rig_stop(rig_mount *self);
/* Frees all, and requires that nothing is left that anybody refers to. */
void rig_end(rig_mount *self);

/* What to list: a name, and the file it stands for or RIG_NO_FILE for a directory. Sorted by name. */
typedef struct {
    char name[FF_NAME_BYTES_MAX + 1];
    unsigned file;
} rig_entry;
/* NULL: the table refused it, which it must not unless memory is short, or bytes were changed: `mangle` (may be NULL) is
 * called with the buffers before the table sees them. */
rig_listing *rig_list(rig_mount *self, const rig_entry *entries, size_t count, bool wide,
                      void (*mangle)(void *context, char *records, size_t records_bytes, void *ends, size_t ends_bytes),
                      void *context);
void rig_drop_listing(rig_mount *self, rig_listing *listing);

/* A content of the file, whose reference is the caller's; NULL: no memory. */
ff_content *rig_content(rig_mount *self, unsigned file, ff_verify verify);
/* Writes bytes of an OBJECT to the cache, or makes a block of it absent. */
void rig_fill(rig_mount *self, unsigned file, uint64_t from, uint64_t to);
void rig_empty(rig_mount *self, unsigned file, uint64_t block);
/* Completes an OBJECT, from when on the kernel may read it by itself. */
void rig_seal(rig_mount *self, unsigned file);
/* Tells a SMALL content where it lies; the slab is opened if it was left. */
void rig_place(rig_mount *self, unsigned file, ff_content *content);
void rig_leave_slab(rig_mount *self);
/* Closes and frees what the tables told to be unused. */
void rig_collect(rig_mount *self);

#endif
