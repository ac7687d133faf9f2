/* What the parts of fuzz_relay.c share, and nobody else. */
#ifndef FLUIDFS_TESTS_FUZZ_PARTS_H
#define FLUIDFS_TESTS_FUZZ_PARTS_H

#include "relay_faults.h"
#include "relay_kernel.h"
#include "relay_rig.h"

/* One mount, with all who take part. An execution is a message to the relay, from either side, or a call of Python's. */
typedef struct {
    rig_mount mount;
    kernel *kernel;
    int pair;
    uint64_t seed;
    rig_random random; /* of the thread that runs the session; the others have their own, from the seed */
    bool sane;         /* everybody does what they should */
    bool hoards;       /* the kernel closes little of what it opens */
    struct {
        uint64_t fh, offset;
    } last_read;
    _Atomic bool ends;
    _Atomic uint64_t executions;
} fuzz_session;

/* fuzz_requests.c: sends one request, or what was one before it was mangled. */
void fuzz_request(fuzz_session *self);

/* fuzz_python.c: threads that play Python until the session ends: one drains asks and answers them, the other does what
 * Python does besides. */
void *fuzz_python(void *session);
void *fuzz_upkeep(void *session);

/* fuzz_pyfuse3.c: the same for pyfuse3, on its end of the pair. */
void *fuzz_pyfuse3(void *session);

/* fuzz_client.c: a thread that does what programs do, so many times; only where all are sane. */
typedef struct {
    fuzz_session *session;
    unsigned rounds;
    uint64_t seed;
} fuzz_client;
void *fuzz_run_client(void *client);

/* What a name stands for: files are f00 to f09 (by number where all are sane, else whatever comes), directories d0 to d2. */
#define FUZZ_DIRECTORIES 3u
unsigned fuzz_file_of(fuzz_session *self, rig_random *random, unsigned number);
/* A listing of a directory: all of it where all are sane, else a part. NULL: the table refused it. */
rig_listing *fuzz_list(fuzz_session *self, rig_random *random);

#endif
