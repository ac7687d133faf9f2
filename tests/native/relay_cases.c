/* Runs one case of relay_cases.h; arguments: an empty directory, and the case's name. */
#include "relay_cases.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define PATIENCE_NS (60 * RIG_SECOND_NS)
#define A_WHILE_MS 300

void stage_begin(relay_stage *self, rig_world *world, const ff_relay_options *options) {
    require(rig_begin(&self->rig, world, options, true), "no relay");
    self->kernel = kernel_new(&self->rig, 1);
    kernel_keep_answers(self->kernel, true);
    self->pair = ff_relay_take_pair(self->rig.relay);
}

void stage_stop(relay_stage *self) {
    rig_stop(&self->rig);
    kernel_finish(self->kernel);
}

void stage_free(relay_stage *self) {
    kernel_free(self->kernel);
    rig_end(&self->rig);
    close(self->pair);
    faults_clear();
}

void stage_end(relay_stage *self) {
    stage_stop(self);
    stage_free(self);
}

/* ---- Python */

ff_ask stage_ask(relay_stage *self, ff_ask_kind kind) {
    int64_t until_ns = ff_monotonic_ns() + PATIENCE_NS;
    for (;;) {
        ff_ask ask;
        while (ff_relay_drain(self->rig.relay, &ask, 1) == 1)
            if (ask.kind == kind)
                return ask;
        struct pollfd ready = {.fd = ff_relay_event_fd(self->rig.relay), .events = POLLIN};
        poll(&ready, 1, 100);
        require(ff_monotonic_ns() < until_ns, "ask %d does not come", (int)kind);
    }
}

void stage_require_no_ask(relay_stage *self) {
    struct pollfd ready = {.fd = ff_relay_event_fd(self->rig.relay), .events = POLLIN};
    require(poll(&ready, 1, A_WHILE_MS) == 0, "Python is woken");
}

rig_listing *stage_list(relay_stage *self, const char *prefix) {
    rig_entry entries[RIG_FILES + 1] = {{.name = "d", .file = RIG_NO_FILE}};
    for (unsigned file = 0; file < RIG_FILES; file++) {
        entries[file + 1].file = file;
        snprintf(entries[file + 1].name, sizeof entries->name, "%s%02u", prefix, file);
    }
    rig_listing *listing = rig_list(&self->rig, entries, RIG_FILES + 1, false, NULL, NULL);
    require(listing != NULL, "no listing");
    return listing;
}

void stage_learn(relay_stage *self, const char *prefix, int64_t good_for_ns) {
    rig_listing *listing = stage_list(self, prefix);
    int64_t now_ns = ff_monotonic_ns();
    ff_names_learn(self->rig.names, FF_ROOT_NODE, listing->listing, now_ns + good_for_ns, now_ns + good_for_ns, NULL, NULL);
    rig_drop_listing(&self->rig, listing);
}

/* ---- the kernel's requests */

uint64_t stage_lookup(relay_stage *self, const char *name) {
    kernel_answer *answer = kernel_call(self->kernel, FUSE_LOOKUP, FF_ROOT_NODE, name, strlen(name) + 1);
    struct fuse_entry_out entry = {.nodeid = 0};
    require(answer->error == 0, "%s: %s", name, strerror(-answer->error));
    memcpy(&entry, answer->data, sizeof entry);
    free(answer);
    return entry.nodeid;
}

uint64_t stage_open(relay_stage *self, uint64_t node) {
    struct fuse_open_in wanted = {.flags = 0};
    return kernel_ask(self->kernel, FUSE_OPEN, node, &wanted, sizeof wanted);
}

uint64_t stage_opened(relay_stage *self, const char *name, unsigned file) {
    uint64_t unique = stage_open(self, stage_lookup(self, name));
    if (self->rig.world->files[file].kind != RIG_SMALL) {
        ff_ask ask = stage_ask(self, FF_ASK_OPEN);
        ff_content *content = rig_content(&self->rig, file, FF_VERIFY_FIRST);
        ff_relay_opened(self->rig.relay, ask.ticket, content);
        ff_content_drop(content);
    }
    kernel_answer *answer = kernel_wait(self->kernel, unique);
    struct fuse_open_out opened = {.fh = 0};
    require(answer->error == 0, "%s: %s", name, strerror(-answer->error));
    memcpy(&opened, answer->data, sizeof opened);
    free(answer);
    return opened.fh;
}

uint64_t stage_read(relay_stage *self, uint64_t fh, uint64_t offset, uint32_t size) {
    struct fuse_read_in wanted = {.fh = fh, .offset = offset, .size = size};
    return kernel_ask(self->kernel, FUSE_READ, 0, &wanted, sizeof wanted);
}

int stage_error(relay_stage *self, uint64_t unique) {
    kernel_answer *answer = kernel_wait(self->kernel, unique);
    int error = answer->error;
    free(answer);
    return -error;
}

void stage_require_read(relay_stage *self, uint64_t unique) {
    int error = stage_error(self, unique); /* that the bytes are right is seen to by the kernel's side */
    require(error == 0, "%s", strerror(error));
}

/* ---- pyfuse3 */

uint64_t stage_pair_receive(relay_stage *self) {
    char buffer[8192];
    struct pollfd ready = {.fd = self->pair, .events = POLLIN};
    require(poll(&ready, 1, (int)(PATIENCE_NS / 1000000)) == 1, "pyfuse3 gets nothing");
    ssize_t n = recv(self->pair, buffer, sizeof buffer, 0);
    struct fuse_in_header header;
    require(n >= (ssize_t)sizeof header, "pyfuse3 gets %zd bytes", n);
    memcpy(&header, buffer, sizeof header);
    require(header.len == (size_t)n, "%zd bytes say %u", n, header.len);
    return header.unique;
}

void stage_pair_answer(relay_stage *self, uint64_t unique, int32_t error, size_t body_bytes) {
    char buffer[sizeof(struct fuse_out_header) + KERNEL_ANSWER_MAX];
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + body_bytes), .error = error, .unique = unique};
    memcpy(buffer, &header, sizeof header);
    for (size_t i = 0; i < body_bytes; i++)
        buffer[sizeof header + i] = kernel_byte_of(unique, i);
    require(send(self->pair, buffer, header.len, MSG_NOSIGNAL) == (ssize_t)header.len, "%s", strerror(errno));
}

void stage_init(relay_stage *self) {
    struct fuse_init_in offer = {
        .major = FUSE_KERNEL_VERSION, .minor = 43, .max_readahead = 131072, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
    uint64_t unique = kernel_ask(self->kernel, FUSE_INIT, 0, &offer, sizeof offer);
    stage_pair_answer(self, stage_pair_receive(self), 0, 24);
    require(stage_error(self, unique) == 0, "INIT fails");
}

void stage_wait(bool (*holds)(void *context), void *context, const char *what) {
    int64_t until_ns = ff_monotonic_ns() + PATIENCE_NS;
    while (!holds(context)) {
        require(ff_monotonic_ns() < until_ns, "%s", what);
        usleep(1000);
    }
}

int main(int count, char **arguments) {
    static const struct {
        const char *name;
        relay_case *run;
    } cases[] = {
        {"start_fails", case_start_fails},
        {"end_is_told", case_end_is_told},
        {"notice_is_held_up", case_notice_is_held_up},
        {"disk_hangs", case_disk_hangs},
        {"workers_take_no_signals", case_workers_take_no_signals},
        {"facts_while_stopping", case_facts_while_stopping},
        {"retried_while_asked", case_retried_while_asked},
        {"wrong_kind", case_wrong_kind},
        {"wrong_errno", case_wrong_errno},
        {"old_kernels", case_old_kernels},
        {"pair_ends", case_pair_ends},
        {"pair_says_nothing", case_pair_says_nothing},
        {"pair_guesses", case_pair_guesses},
        {"detached_while_opened", case_detached_while_opened},
        {"rewound", case_rewound},
        {"not_passed_through", case_not_passed_through},
        {"given_up", case_given_up},
        {"killed", case_killed},
        {"answers_are_lost", case_answers_are_lost},
    };
    rig_world world;
    require(count == 3, "usage: relay_cases DIRECTORY CASE");
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, arguments[2]) != 0)
            continue;
        rig_world_make(&world, arguments[1]);
        cases[i].run(&world);
        rig_world_end(&world);
        return 0;
    }
    fprintf(stderr, "no case is called %s\n", arguments[2]);
    return 2;
}
