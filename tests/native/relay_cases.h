/* Cases of the relay that once went wrong, or must not: each is a mount of its own, and ends the program unless it holds. */
#ifndef FLUIDFS_TESTS_RELAY_CASES_H
#define FLUIDFS_TESTS_RELAY_CASES_H

#include "relay_faults.h"
#include "relay_kernel.h"
#include "relay_rig.h"

/* A mount with its kernel, whose answers are kept, and pyfuse3's end of the pair. */
typedef struct {
    rig_mount rig;
    kernel *kernel;
    int pair;
} relay_stage;

void stage_begin(relay_stage *self, rig_world *world, const ff_relay_options *options);
void stage_stop(relay_stage *self);
/* After stage_stop. */
void stage_free(relay_stage *self);
void stage_end(relay_stage *self);

/* The next ask of this kind; others before it are lost. */
ff_ask stage_ask(relay_stage *self, ff_ask_kind kind);
/* None comes for a while. */
void stage_require_no_ask(relay_stage *self);
/* A listing of the root: every file by the name `prefix`NN, and a directory "d". */
rig_listing *stage_list(relay_stage *self, const char *prefix);
/* Teaches the root that listing. */
void stage_learn(relay_stage *self, const char *prefix, int64_t good_for_ns);
uint64_t stage_lookup(relay_stage *self, const char *name);
/* Asks to open, or to read; the unique. */
uint64_t stage_open(relay_stage *self, uint64_t node);
uint64_t stage_read(relay_stage *self, uint64_t fh, uint64_t offset, uint32_t size);
/* Opens a file of the listing that was learnt, Python answering; the handle. */
uint64_t stage_opened(relay_stage *self, const char *name, unsigned file);
/* The answer's error; the answer is freed. */
int stage_error(relay_stage *self, uint64_t unique);
/* Requires bytes, and frees the answer. */
void stage_require_read(relay_stage *self, uint64_t unique);
/* INIT with everything offered; pyfuse3 answers. */
void stage_init(relay_stage *self);
/* What pyfuse3 gets next; its unique. */
uint64_t stage_pair_receive(relay_stage *self);
void stage_pair_answer(relay_stage *self, uint64_t unique, int32_t error, size_t body_bytes);
/* Waits until a condition holds, and ends the program if it does not. */
void stage_wait(bool (*holds)(void *context), void *context, const char *what);

typedef void relay_case(rig_world *world);
relay_case case_start_fails, case_end_is_told, case_notice_is_held_up, case_disk_hangs, case_workers_take_no_signals,
    case_facts_while_stopping, case_retried_while_asked, case_wrong_kind, case_wrong_errno, case_old_kernels, case_pair_ends,
    case_pair_says_nothing, case_pair_guesses, case_detached_while_opened, case_rewound, case_not_passed_through,
    case_given_up, case_killed, case_answers_are_lost;

#endif
