/* What the parts of relay_kernel.h share, and nobody else. */
#ifndef FLUIDFS_TESTS_RELAY_KERNEL_PARTS_H
#define FLUIDFS_TESTS_RELAY_KERNEL_PARTS_H

#include "fuse_wire.h"
#include "relay_kernel.h"

/* A request that waits, or whose answer is kept. */
typedef struct call {
    uint64_t unique;
    uint32_t opcode;
    uint64_t node;
    uint64_t offset; /* READ, READDIR */
    uint32_t size;
    unsigned file; /* READ: what is read, where that is known */
    bool keep;
    kernel_answer *answer;
    struct call *next;
} call;

#define CALL_BUCKETS 512u
#define RECENT 64u

struct kernel {
    rig_mount *rig;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    _Atomic bool ends;
    uint64_t next_unique;
    call *calls[CALL_BUCKETS];
    size_t waiting;
    bool keeps, strict;
    _Atomic bool dead;
    uint64_t recent[RECENT];
    size_t sent, notified;
    /* By hash, open addressing; an id of 0 is free. */
    kernel_node *nodes;
    kernel_handle *handles;
    size_t node_count, node_room, handle_count, handle_room;
};

/* Under the lock. */
kernel_node *kernel_find_node(const kernel *self, uint64_t id);
kernel_handle *kernel_find_handle(const kernel *self, uint64_t fh);
void kernel_note_entry(kernel *self, const struct fuse_entry_out *entry);
void kernel_note_handle(kernel *self, uint64_t fh, uint64_t node, bool directory, int32_t backing_id);
/* Holds an answer against its request, and remembers what it tells. */
void kernel_check(kernel *self, const call *asked, int error, const char *body, size_t length);

#endif
