/* Feeds the relay malformed and truncated messages from both sides, and answers of Python that are late, doubled or to
 * another question, while memory and disks fail; then sane clients, many at once. What must hold whatever comes is said in
 * relay_kernel.h; besides, nothing is left over when all is freed.
 *
 *     fuzz_relay DIRECTORY fuzz|clients EXECUTIONS SEED
 *
 * An execution is a message to the relay, from the kernel or from pyfuse3, or a call of Python's. What is sent follows from
 * the seed alone; how threads take turns does not. */
#include "fuzz_parts.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define SESSION_REQUESTS 3000u
#define CLIENTS 6u
#define CLIENT_ROUNDS 40u

static unsigned any_of(rig_random *random, const unsigned *values, size_t count) { return values[rig_below(random, count)]; }

static ff_relay_options any_options(rig_random *random) {
    ff_relay_options options = rig_options();
    options.threads = 2 + (unsigned)rig_below(random, 4);
    options.at_device = 1 + (unsigned)rig_below(random, 2);
    options.workers = 1 + (unsigned)rig_below(random, 3);
    options.spin_us = rig_one_in(random, 2) ? 0 : 30;
    options.verify = (ff_verify)rig_below(random, 3);
    options.off = rig_one_in(random, 2) ? 0 : (uint32_t)rig_next(random);
    options.max_window_bytes = rig_one_in(random, 3) ? 0 : 1u << 20;
    options.give_up_ns = (60 + (int64_t)rig_below(random, 150)) * 1000000;
    options.silence_ns = (100 + (int64_t)rig_below(random, 200)) * 1000000;
    return options;
}

static void any_faults(rig_random *random) {
    static const unsigned memory[] = {0, 0, 0, 300, 40}, nowait[] = {0, 2, 20}, slow[] = {0, 0, 40}, broken[] = {0, 0, 0, 30};
    faults.memory_one_in = any_of(random, memory, sizeof memory / sizeof *memory);
    faults.nowait_one_in = any_of(random, nowait, sizeof nowait / sizeof *nowait);
    faults.slow_one_in = any_of(random, slow, sizeof slow / sizeof *slow);
    faults.stall_one_in = rig_one_in(random, 8) ? 100 : 0;
    faults.broken_one_in = any_of(random, broken, sizeof broken / sizeof *broken);
}

static void require_all_forgotten(fuzz_session *self) {
    int64_t until_ns = ff_monotonic_ns() + 60 * RIG_SECOND_NS;
    size_t known;
    while ((known = ff_names_known(self->mount.names)) != 1) {
        require(ff_monotonic_ns() < until_ns, "%zu nodes are known after all were forgotten", known);
        usleep(1000);
    }
}

/* Nothing waits, and nothing is open but what was opened. */
static void require_quiet(fuzz_session *self) {
    ff_relay_facts facts;
    kernel_wait_until(self->kernel, 0);
    ff_relay_facts_of(self->mount.relay, &facts);
    size_t open = kernel_open_files(self->kernel);
    require(facts.waiting == 0, "%u wait", facts.waiting);
    require(self->sane ? facts.open_files == 0 : facts.open_files <= open, "%u are open, not %zu", facts.open_files, open);
    require(!self->sane || (facts.given_up == 0 && facts.interrupted == 0), "something was given up");
    require(facts.replies_failed == 0, "%" PRIu64 " replies have failed", facts.replies_failed);
}

/* INIT, as mounts begin; not always, where not all are sane. */
static void offer_all(fuzz_session *self) {
    struct fuse_init_in offer = {.major = FUSE_KERNEL_VERSION, .minor = 43, .flags = UINT32_MAX, .flags2 = UINT32_MAX};
    if (!self->sane && rig_one_in(&self->random, 3))
        return;
    kernel_ask(self->kernel, FUSE_INIT, 0, &offer, sizeof offer);
    kernel_wait_until(self->kernel, 0);
}

static void run_clients(fuzz_session *self) {
    pthread_t threads[CLIENTS];
    fuzz_client clients[CLIENTS];
    kernel_keep_answers(self->kernel, true);
    kernel_be_strict(self->kernel);
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i] = (fuzz_client){.session = self, .rounds = CLIENT_ROUNDS, .seed = rig_next(&self->random)};
        require(pthread_create(&threads[i], NULL, fuzz_run_client, &clients[i]) == 0, "no thread");
    }
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    require_quiet(self);
    require_all_forgotten(self);
}

static void end_connection(fuzz_session *self) {
    int64_t until_ns = ff_monotonic_ns() + 60 * RIG_SECOND_NS;
    kernel_die(self->kernel);
    while (!ff_relay_ended(self->mount.relay)) {
        require(ff_monotonic_ns() < until_ns, "the end is not seen");
        usleep(1000);
    }
}

static void run_fuzz(fuzz_session *self) {
    for (unsigned sent = 0; sent < SESSION_REQUESTS; sent++)
        fuzz_request(self);
    switch (rig_below(&self->random, 6)) {
    case 0: /* stopped in the midst of it */
        return;
    case 1:
        return end_connection(self);
    }
    require_quiet(self);
    kernel_forget_all(self->kernel);
    require_all_forgotten(self);
}

/* How many executions it had. */
static uint64_t run_session(rig_world *world, bool sane, uint64_t seed) {
    fuzz_session self = {.seed = seed * 4, .random = seed * 4, .sane = sane};
    ff_relay_options options = any_options(&self.random);
    faults.passes = rig_one_in(&self.random, 2);
    self.hoards = rig_one_in(&self.random, 4);
    faults.memory_one_in = !sane && rig_one_in(&self.random, 3) ? 8 : 0;
    if (sane) {
        options.give_up_ns = options.silence_ns = 300 * RIG_SECOND_NS;
        options.off &= ~(uint32_t)FF_OFF_PASSTHROUGH;
    }
    if (!rig_begin(&self.mount, world, &options, true)) {
        faults_clear();
        return 0;
    }
    if (sane) {
        faults.nowait_one_in = 3;
    } else {
        any_faults(&self.random);
    }
    faults_spare(true);
    self.kernel = kernel_new(&self.mount, seed);
    self.pair = ff_relay_take_pair(self.mount.relay);
    pthread_t python, upkeep, pyfuse3;
    require(pthread_create(&python, NULL, fuzz_python, &self) == 0, "no thread");
    require(pthread_create(&upkeep, NULL, fuzz_upkeep, &self) == 0, "no thread");
    require(pthread_create(&pyfuse3, NULL, fuzz_pyfuse3, &self) == 0, "no thread");
    offer_all(&self);
    if (sane)
        run_clients(&self);
    else
        run_fuzz(&self);
    rig_stop(&self.mount);
    self.ends = true;
    pthread_join(python, NULL);
    pthread_join(upkeep, NULL);
    pthread_join(pyfuse3, NULL);
    kernel_finish(self.kernel);
    kernel_free(self.kernel);
    faults_spare(false);
    faults_clear();
    rig_end(&self.mount);
    close(self.pair);
    return self.executions;
}

int main(int count, char **arguments) {
    rig_world world;
    require(count == 5, "usage: fuzz_relay DIRECTORY fuzz|clients EXECUTIONS SEED");
    bool sane = strcmp(arguments[2], "clients") == 0;
    uint64_t wanted = strtoull(arguments[3], NULL, 10), seed = strtoull(arguments[4], NULL, 10), done = 0, sessions = 0;
    signal(SIGPIPE, SIG_IGN);
    rig_world_make(&world, arguments[1]);
    int64_t from_ns = ff_monotonic_ns();
    for (; done < wanted; sessions++) {
        /* To be seen when it fails: the seed of this session alone. */
        fprintf(stderr, "session %" PRIu64 ": seed %" PRIu64 "\n", sessions, seed + sessions);
        done += run_session(&world, sane, seed + sessions);
    }
    double took_s = (double)(ff_monotonic_ns() - from_ns) / 1e9;
    rig_world_end(&world);
    printf("%s: %" PRIu64 " executions in %" PRIu64 " sessions from seed %" PRIu64 ", %.0f a second\n", arguments[2], done,
           sessions, seed, (double)done / took_s);
    return 0;
}
