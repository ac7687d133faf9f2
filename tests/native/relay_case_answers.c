/* Cases of answers: Python's, pyfuse3's, the watchdog's. */
#include "relay_cases.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

static const ff_ask_kind kinds[] = {FF_ASK_LOOKUP, FF_ASK_DIRECTORY, FF_ASK_OPEN, FF_ASK_READ};

/* Has the kernel ask what Python is asked about; the unique. The file is number 1, of kind OBJECT. */
static uint64_t have_asked(relay_stage *stage, ff_ask_kind kind, uint64_t node, uint64_t fh) {
    struct fuse_open_in open = {.flags = 0};
    switch (kind) {
    case FF_ASK_LOOKUP:
        ff_names_expire(stage->rig.names, FF_ROOT_NODE);
        return kernel_ask(stage->kernel, FUSE_LOOKUP, FF_ROOT_NODE, "f01", 4);
    case FF_ASK_DIRECTORY:
        ff_names_expire(stage->rig.names, FF_ROOT_NODE);
        return kernel_ask(stage->kernel, FUSE_OPENDIR, FF_ROOT_NODE, &open, sizeof open);
    case FF_ASK_OPEN:
        return stage_open(stage, node);
    default:
        return stage_read(stage, fh, 0, 4096);
    }
}

static void answer_as(relay_stage *stage, ff_ask_kind kind, uint64_t ticket) {
    rig_listing *listing = stage_list(stage, "f");
    ff_content *content = rig_content(&stage->rig, 2, FF_VERIFY_FIRST);
    switch (kind) {
    case FF_ASK_LOOKUP:
        ff_relay_found(stage->rig.relay, ticket, listing->listing, 1, RIG_SECOND_NS);
        break;
    case FF_ASK_DIRECTORY:
        ff_relay_directory(stage->rig.relay, ticket, listing->listing, RIG_SECOND_NS);
        break;
    case FF_ASK_OPEN:
        ff_relay_opened(stage->rig.relay, ticket, content);
        break;
    case FF_ASK_READ:
        ff_relay_give(stage->rig.relay, ticket, "no bytes of this file", 21);
        break;
    default: /* as if it could be read by now */
        ff_relay_retry(stage->rig.relay, ticket);
    }
    ff_content_drop(content);
    rig_drop_listing(&stage->rig, listing);
}

/* An answer to another question is an error to whoever asked, and never bytes of another form. */
void case_wrong_kind(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    rig_empty(&stage.rig, 1, 0);
    uint64_t fh = stage_opened(&stage, "f01", 1), node = stage_lookup(&stage, "f00");
    for (unsigned asked = 0; asked < 4; asked++) {
        for (unsigned answered = 0; answered < 4; answered++) {
            if (kinds[asked] == kinds[answered])
                continue;
            uint64_t unique = have_asked(&stage, kinds[asked], node, fh);
            answer_as(&stage, kinds[answered], stage_ask(&stage, kinds[asked]).ticket);
            require(stage_error(&stage, unique) == EIO, "%u was answered by %u", asked, answered);
        }
        if (kinds[asked] == FF_ASK_READ)
            continue;
        /* There is nothing to be read: it goes on waiting. */
        uint64_t unique = have_asked(&stage, kinds[asked], node, fh), ticket = stage_ask(&stage, kinds[asked]).ticket;
        answer_as(&stage, FF_ASK_NOTHING, ticket);
        ff_relay_fail(stage.rig.relay, ticket, ENOENT);
        require(stage_error(&stage, unique) == ENOENT, "%u was answered by a retry", asked);
    }
    stage_end(&stage);
}

/* The kernel ignores an answer whose error is none that it knows, and its caller would wait for ever. */
void case_wrong_errno(rig_world *world) {
    static const int wrong[] = {0, -1, -EIO, 512, 1000, INT_MAX, INT_MIN};
    static const int wrong_in_header[] = {1, EIO, -512, -1000, INT_MAX, INT_MIN};
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint64_t unique = kernel_ask(stage.kernel, FUSE_LOOKUP, FF_ROOT_NODE, "x", 2);
        ff_relay_fail(stage.rig.relay, stage_ask(&stage, FF_ASK_LOOKUP).ticket, wrong[i]);
        require(stage_error(&stage, unique) == EIO, "%d", wrong[i]);
    }
    for (size_t i = 0; i < sizeof wrong_in_header / sizeof *wrong_in_header; i++) {
        uint64_t unique = kernel_ask(stage.kernel, FUSE_STATFS, FF_ROOT_NODE, NULL, 0);
        stage_pair_answer(&stage, stage_pair_receive(&stage), wrong_in_header[i], 0);
        require(stage_error(&stage, unique) == EIO, "%d", wrong_in_header[i]);
    }
    stage_end(&stage);
}

void case_old_kernels(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    struct fuse_init_in offer = {.major = FUSE_KERNEL_VERSION, .minor = 22};
    uint64_t unique = kernel_ask(stage.kernel, FUSE_INIT, 0, &offer, sizeof offer);
    require(stage_error(&stage, unique) == EPROTO, "an old kernel is taken");
    offer.major = FUSE_KERNEL_VERSION - 1;
    unique = kernel_ask(stage.kernel, FUSE_INIT, 0, &offer, sizeof offer);
    require(stage_error(&stage, unique) == EPROTO, "an ancient kernel is taken");
    offer.major = FUSE_KERNEL_VERSION + 1;
    kernel_answer *answer = kernel_call(stage.kernel, FUSE_INIT, 0, &offer, sizeof offer);
    require(answer->error == 0, "a newer one is told nothing"); /* that it is told our version is seen to */
    free(answer);
    require(ff_relay_session(stage.rig.relay)->minor == 0, "something was agreed on");
    stage_init(&stage);
    require(ff_relay_session(stage.rig.relay)->minor == 43, "nothing was agreed on");
    offer.major = FUSE_KERNEL_VERSION;
    offer.minor = 40;
    unique = kernel_ask(stage.kernel, FUSE_INIT, 0, &offer, sizeof offer);
    require(stage_error(&stage, unique) == EIO, "a mount is agreed on twice");
    require(ff_relay_session(stage.rig.relay)->minor == 43, "something else was agreed on");
    stage_end(&stage);
}

/* What pyfuse3 had, and what comes for it later, is answered at once. */
void case_pair_ends(rig_world *world) {
    for (int i = 0; i < 2; i++) {
        relay_stage stage;
        ff_relay_options options = rig_options();
        options.give_up_ns = options.silence_ns = 3600 * RIG_SECOND_NS;
        stage_begin(&stage, world, &options);
        uint64_t had = kernel_ask(stage.kernel, FUSE_STATFS, FF_ROOT_NODE, NULL, 0);
        stage_pair_receive(&stage);
        if (i == 0)
            shutdown(stage.pair, SHUT_RDWR);
        else
            require(send(stage.pair, "", 0, MSG_NOSIGNAL) == 0, "%s", strerror(errno)); /* as good as an end */
        require(stage_error(&stage, had) == EIO, "what pyfuse3 had");
        uint64_t later = kernel_ask(stage.kernel, FUSE_STATFS, FF_ROOT_NODE, NULL, 0);
        require(stage_error(&stage, later) == EIO, "what came later");
        stage_end(&stage);
    }
}

void case_pair_says_nothing(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    options.give_up_ns = RIG_SECOND_NS / 10;
    stage_begin(&stage, world, &options);
    uint64_t unique = kernel_ask(stage.kernel, FUSE_STATFS, FF_ROOT_NODE, NULL, 0), told = stage_pair_receive(&stage);
    require(stage_error(&stage, unique) == EIO, "it waits still");
    stage_pair_answer(&stage, told, 0, 80);        /* too late, and not passed on */
    stage_pair_answer(&stage, told ^ 0x55, 0, 80); /* nobody's */
    unique = kernel_ask(stage.kernel, FUSE_STATFS, FF_ROOT_NODE, NULL, 0);
    stage_pair_answer(&stage, stage_pair_receive(&stage), 0, 80);
    require(stage_error(&stage, unique) == 0, "it is not passed on");
    stage_end(&stage);
}

static bool reads_hang(void *context) {
    (void)context;
    return faults.hanging > 0;
}

/* Only what was passed on to pyfuse3 is pyfuse3's to answer. */
void case_pair_guesses(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    rig_fill(&stage.rig, 1, 0, UINT64_MAX);
    uint64_t fh = stage_opened(&stage, "f01", 1);
    faults.nowait_always = faults.disk_hangs = true;
    uint64_t unique = stage_read(&stage, fh, 0, 100);
    stage_wait(reads_hang, NULL, "no worker reads");
    stage_pair_answer(&stage, unique, 0, 100);
    require(kernel_wait_for(stage.kernel, unique, RIG_SECOND_NS / 5) == NULL, "pyfuse3 has answered a READ");
    faults_clear();
    stage_require_read(&stage, unique);
    stage_end(&stage);
}

typedef struct {
    ff_relay *relay;
    _Atomic bool ends;
} detaching;

static void *detach(void *context) {
    detaching *self = context;
    while (!self->ends)
        ff_relay_detach_idle(self->relay, 0, 0);
    return NULL;
}

/* What Python has just brought is not idle, though nobody has it open yet. */
void case_detached_while_opened(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    detaching detached = {.relay = stage.rig.relay};
    pthread_t thread;
    require(pthread_create(&thread, NULL, detach, &detached) == 0, "no thread");
    for (int i = 0; i < 2000; i++) {
        uint64_t fh = stage_opened(&stage, "f01", 1);
        struct fuse_release_in released = {.fh = fh};
        uint64_t unique = kernel_ask(stage.kernel, FUSE_RELEASE, 0, &released, sizeof released);
        require(stage_error(&stage, unique) == 0, "RELEASE");
        ff_relay_detach_idle(stage.rig.relay, 0, 0);
    }
    detached.ends = true;
    pthread_join(thread, NULL);
    stage_end(&stage);
}

static uint64_t open_directory(relay_stage *stage, uint32_t *flags) {
    struct fuse_open_in open = {.flags = 0};
    kernel_answer *answer = kernel_call(stage->kernel, FUSE_OPENDIR, FF_ROOT_NODE, &open, sizeof open);
    struct fuse_open_out opened = {.fh = 0};
    require(answer->error == 0, "%s", strerror(-answer->error));
    memcpy(&opened, answer->data, sizeof opened);
    free(answer);
    *flags = opened.open_flags;
    return opened.fh;
}

/* A directory that is read again from its start shows what is there now; what the kernel kept of it until then is of both,
 * and must not be kept any longer. */
void case_rewound(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    uint32_t flags;
    stage_begin(&stage, world, &options);
    int64_t good_for_ns = RIG_SECOND_NS / 10, until_ns = ff_monotonic_ns() + good_for_ns;
    stage_learn(&stage, "f", good_for_ns);
    struct fuse_read_in read = {.fh = open_directory(&stage, &flags), .size = 4096};
    require((flags & FOPEN_KEEP_CACHE) == 0, "kept at first");
    require(stage_error(&stage, kernel_ask(stage.kernel, FUSE_READDIR, FF_ROOT_NODE, &read, sizeof read)) == 0, "READDIR");
    while (ff_monotonic_ns() <= until_ns + good_for_ns / 10)
        usleep(1000);
    uint64_t unique = kernel_ask(stage.kernel, FUSE_READDIRPLUS, FF_ROOT_NODE, &read, sizeof read);
    ff_ask ask = stage_ask(&stage, FF_ASK_DIRECTORY);
    rig_listing *listing = stage_list(&stage, "g");
    int64_t good_until_ns = ff_monotonic_ns() + 60 * RIG_SECOND_NS;
    ff_names_learn(stage.rig.names, FF_ROOT_NODE, listing->listing, good_until_ns, good_until_ns, NULL, NULL);
    ff_relay_directory(stage.rig.relay, ask.ticket, listing->listing, 60 * RIG_SECOND_NS);
    rig_drop_listing(&stage.rig, listing);
    kernel_answer *answer = kernel_wait(stage.kernel, unique);
    require(answer->error == 0 && memmem(answer->data, answer->length, "g03", 3) != NULL, "what is there now is not shown");
    free(answer);
    open_directory(&stage, &flags);
    require((flags & FOPEN_KEEP_CACHE) == 0, "what was begun of another listing is kept");
    open_directory(&stage, &flags);
    require((flags & FOPEN_KEEP_CACHE) != 0, "not kept, though it is the same");
    stage_end(&stage);
}

/* A kernel that cannot register the file is told to read through us, and is not asked again. */
void case_not_passed_through(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_init(&stage);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    rig_fill(&stage.rig, 0, 0, UINT64_MAX);
    require(ff_object_seal(world->files[0].object, options.boot_id) == 0, "not sealed");
    uint64_t fh = stage_opened(&stage, "f00", 0);
    ff_relay_facts facts;
    ff_relay_facts_of(stage.rig.relay, &facts);
    require(facts.backing_error == ENOTTY && facts.passthrough_opens == 0, "%d", facts.backing_error);
    stage_require_read(&stage, stage_read(&stage, fh, 1000, 200000));
    stage_end(&stage);
}

static bool has_ended(void *relay) { return ff_relay_ended(relay); }

/* What the kernel never got it does not count, and never closes. */
void case_answers_are_lost(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    uint64_t node = stage_lookup(&stage, "f01");
    for (unsigned asked = 0; asked < 3; asked++)
        have_asked(&stage, kinds[2 - asked], node, 0);
    ff_ask asks[3];
    for (unsigned asked = 0; asked < 3; asked++)
        asks[asked] = stage_ask(&stage, kinds[2 - asked]);
    kernel_die(stage.kernel);
    stage_wait(has_ended, stage.rig.relay, "the end is not seen");
    for (unsigned asked = 0; asked < 3; asked++)
        answer_as(&stage, kinds[2 - asked], asks[asked].ticket);
    ff_relay_facts facts;
    ff_relay_facts_of(stage.rig.relay, &facts);
    require(facts.replies_failed == 3 && facts.open_files == 0, "%u files are open", facts.open_files);
    ff_names_forget(stage.rig.names, node, 1);
    require(ff_names_known(stage.rig.names) == 1, "a name is counted");
    stage_end(&stage);
}

void case_given_up(rig_world *world) {
    for (int silent = 0; silent < 2; silent++) {
        relay_stage stage;
        ff_relay_options options = rig_options();
        *(silent ? &options.silence_ns : &options.give_up_ns) = RIG_SECOND_NS / 5;
        stage_begin(&stage, world, &options);
        uint64_t unique = kernel_ask(stage.kernel, FUSE_LOOKUP, FF_ROOT_NODE, "x", 2);
        ff_ask ask = stage_ask(&stage, FF_ASK_LOOKUP);
        require(stage_error(&stage, unique) == EIO, "it waits still");
        ff_relay_missing(stage.rig.relay, ask.ticket, 0); /* too late */
        ff_relay_facts facts;
        ff_relay_facts_of(stage.rig.relay, &facts);
        require(facts.given_up == 1 && facts.waiting == 0, "%llu", (unsigned long long)facts.given_up);
        stage_end(&stage);
    }
}

/* As if sent by a thread; the request's unique. */
static uint64_t lookup_by(relay_stage *stage, pid_t pid) {
    struct {
        struct fuse_in_header header;
        char name[8];
    } request = {.header = {.opcode = FUSE_LOOKUP, .nodeid = FF_ROOT_NODE, .pid = (uint32_t)pid}, .name = "x"};
    request.header.len = sizeof request.header + 2;
    return kernel_send(stage->kernel, (char *)&request, request.header.len);
}

/* A signal is no reason to fail a request, but death is; the interrupt may come before its request. */
void case_killed(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    pid_t dead = fork();
    if (dead == 0)
        _exit(0);
    require(waitpid(dead, NULL, 0) == dead, "%s", strerror(errno));
    uint64_t of_dead = lookup_by(&stage, dead), of_living = lookup_by(&stage, getpid());
    uint64_t next = of_living + 3 * 2; /* two interrupts come before it */
    struct fuse_interrupt_in interrupts[] = {{of_dead}, {next}, {of_living}};
    kernel_ask(stage.kernel, FUSE_INTERRUPT, 0, &interrupts[0], sizeof *interrupts);
    kernel_ask(stage.kernel, FUSE_INTERRUPT, 0, &interrupts[1], sizeof *interrupts);
    require(lookup_by(&stage, dead) == next, "uniques are given otherwise");
    kernel_ask(stage.kernel, FUSE_INTERRUPT, 0, &interrupts[2], sizeof *interrupts);
    require(stage_error(&stage, of_dead) == EINTR, "the dead one's");
    require(stage_error(&stage, next) == EINTR, "the dead one's, interrupted before");
    require(kernel_wait_for(stage.kernel, of_living, RIG_SECOND_NS / 3) == NULL, "a signal has failed a request");
    ff_ask ask = {.name = ""};
    do
        ask = stage_ask(&stage, FF_ASK_LOOKUP);
    while (ask.ticket == 0);
    ff_relay_fail(stage.rig.relay, ask.ticket, ENOENT);
    require(stage_error(&stage, of_living) == ENOENT, "the living one's");
    stage_end(&stage);
}
