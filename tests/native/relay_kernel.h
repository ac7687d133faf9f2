/* The kernel's side of the device: sends requests, and holds what comes back against what was asked.
 *
 * Every request that expects an answer gets exactly one, of the length and form that its kind has; the bytes of a READ are
 * those of the file; what no answer is expected to, gets none. What is not so ends the program. What answers tell (nodes,
 * handles, lookups) is remembered, as the kernel does.
 *
 * Threads: any; a thread of its own receives. */
#ifndef FLUIDFS_TESTS_RELAY_KERNEL_H
#define FLUIDFS_TESTS_RELAY_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "relay_rig.h"

typedef struct kernel kernel;

/* A node that was told; `file` is RIG_NO_FILE where it cannot be known, or for a directory. */
typedef struct {
    uint64_t id;
    uint64_t lookups;
    unsigned file;
    bool directory;
} kernel_node;

typedef struct {
    uint64_t fh;
    uint64_t node;
    unsigned file;
    int32_t backing_id; /* 0: read through the relay */
    bool directory;
    bool open;
} kernel_handle;

typedef struct {
    int error; /* negative, or 0 */
    size_t length;
    char data[]; /* aligned as what the kernel gets */
} kernel_answer;

/* One with the rig's device, whose bytes are told apart by `seed`. */
kernel *kernel_new(rig_mount *rig, uint64_t seed);
/* After the relay stopped: takes in what was sent last, and requires that nothing but what the relay never read was left
 * unanswered. */
void kernel_finish(kernel *self);
void kernel_free(kernel *self);

/* A request's bytes, its header first, as they are; `unique` in them is replaced by a new one, which is returned. */
uint64_t kernel_send(kernel *self, char *request, size_t length);
/* A well-formed request, and its answer, which the caller frees. */
uint64_t kernel_ask(kernel *self, uint32_t opcode, uint64_t node, const void *body, size_t length);
kernel_answer *kernel_wait(kernel *self, uint64_t unique);
/* The same, when it comes in time; NULL when not. */
kernel_answer *kernel_wait_for(kernel *self, uint64_t unique, int64_t timeout_ns);
kernel_answer *kernel_call(kernel *self, uint32_t opcode, uint64_t node, const void *body, size_t length);
/* Answers are kept for kernel_wait, or (as at first) not. */
void kernel_keep_answers(kernel *self, bool keep);
/* Nobody releases a handle that is not theirs: then it also holds how a file is open against how it was. */
void kernel_be_strict(kernel *self);
/* The connection ends, as at umount -f: nothing is answered any more, nor has to be. */
void kernel_die(kernel *self);

/* How many requests wait for an answer; waits until they are at most so many. Ends the program when none comes for long. */
size_t kernel_waiting(kernel *self);
void kernel_wait_until(kernel *self, size_t at_most);

/* Something that was told, by chance; false: nothing was yet. */
bool kernel_any_node(kernel *self, rig_random *random, kernel_node *out);
bool kernel_any_handle(kernel *self, rig_random *random, kernel_handle *out);
/* A unique that waits now, or did not long ago. */
uint64_t kernel_any_unique(kernel *self, rig_random *random);
bool kernel_knows_node(kernel *self, uint64_t id, kernel_node *out);
size_t kernel_open_files(kernel *self);
/* Has every lookup that was counted forgotten. */
void kernel_forget_all(kernel *self);
/* Notifications that came; of names to be looked up again. */
size_t kernel_notified(kernel *self);

/* Byte `i` of what pyfuse3 answers to a request. */
static inline char kernel_byte_of(uint64_t unique, size_t i) { return (char)(unique * 31 + i); }
#define KERNEL_ANSWER_MAX 512u

#endif
