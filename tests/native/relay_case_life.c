/* Cases of starting, ending, and of what may hang meanwhile. */
#include "relay_cases.h"

#include <errno.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

/* Whatever thread cannot be had, the device stays the caller's (rig_begin looks), and nothing runs. */
void case_start_fails(rig_world *world) {
    ff_relay_options options = rig_options();
    bool begun = false;
    for (int threads = 0; !begun; threads++) {
        rig_mount mount;
        faults.threads_left = threads;
        begun = rig_begin(&mount, world, &options, true);
        faults_clear();
        require(threads > 0 || !begun, "no thread was needed");
        if (begun) {
            rig_stop(&mount);
            rig_end(&mount);
        }
    }
}

static bool has_ended(void *relay) { return ff_relay_ended(relay); }

/* Python drains when it is woken, and must not lose that the connection has ended. */
void case_end_is_told(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    shutdown(stage.rig.kernel_fd, SHUT_RDWR);
    stage_wait(has_ended, stage.rig.relay, "the end is not seen");
    usleep(10000); /* the event comes just after; were it later still, the case would hold all the same */
    for (int i = 0; i < 3; i++) {
        ff_ask asks[4];
        struct pollfd ready = {.fd = ff_relay_event_fd(stage.rig.relay), .events = POLLIN};
        require(ff_relay_drain(stage.rig.relay, asks, 4) == 0, "something is asked");
        require(poll(&ready, 1, 1000) == 1, "Python sleeps on");
    }
    stage_end(&stage);
}

static void *stop(void *relay) { return ff_relay_stop(relay) ? relay : NULL; }

static bool notice_waits(void *context) {
    (void)context;
    return faults.notices_waiting > 0;
}

/* The kernel takes a notification only when somebody's lock is free, who waits for a request that nobody reads any more. */
void case_notice_is_held_up(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    faults.notices_wait = true;
    ff_relay_forget_name(stage.rig.relay, FF_ROOT_NODE, "x", 1);
    stage_wait(notice_waits, NULL, "no notification is sent");
    pthread_t thread;
    require(pthread_create(&thread, NULL, stop, stage.rig.relay) == 0, "no thread");
    int error = 0;
    while (error == 0)
        error = stage_error(&stage, kernel_ask(stage.kernel, FUSE_GETATTR, FF_ROOT_NODE, NULL, 0));
    require(error == EIO, "%s", strerror(error));
    faults.notices_wait = false;
    void *stopped;
    pthread_join(thread, &stopped);
    require(stopped != NULL, "a thread is stuck");
    kernel_finish(stage.kernel);
    stage_free(&stage);
}

static bool disk_hangs(void *context) {
    (void)context;
    return faults.hanging > 0;
}

/* A thread that waits for a disk for ever keeps the process, but not the mount. */
void case_disk_hangs(rig_world *world) {
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    rig_fill(&stage.rig, 1, 0, UINT64_MAX);
    uint64_t fh = stage_opened(&stage, "f01", 1);
    faults.nowait_always = faults.disk_hangs = true;
    uint64_t unique = stage_read(&stage, fh, 0, 100);
    stage_wait(disk_hangs, NULL, "no worker reads");
    require(stage_error(&stage, kernel_ask(stage.kernel, FUSE_GETATTR, FF_ROOT_NODE, NULL, 0)) == 0, "a hang is contagious");
    int64_t before_ns = ff_monotonic_ns();
    require(!ff_relay_stop(stage.rig.relay), "it was not stuck");
    require(ff_monotonic_ns() - before_ns < 10 * RIG_SECOND_NS, "stopping takes for ever");
    require(stage_error(&stage, unique) == EIO, "the READ waits still");
    close(stage.rig.unread_fd); /* it would keep the device open */
    stage.rig.unread_fd = -1;
    struct pollfd ready = {.fd = stage.rig.kernel_fd, .events = POLLIN};
    require(poll(&ready, 1, 1000) == 1 && (ready.revents & POLLHUP) != 0, "the device is still open");
    faults.disk_hangs = false;
    stage_stop(&stage);
    stage_free(&stage);
}

static unsigned threads_that_take_sigterm(void) {
    DIR *tasks = opendir("/proc/self/task");
    unsigned count = 0;
    require(tasks != NULL, "%s", strerror(errno));
    for (const struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[300];
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = task->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (status != NULL && fgets(line, sizeof line, status) != NULL)
            if (strncmp(line, "SigBlk:", 7) == 0)
                count += (strtoull(line + 7, NULL, 16) >> 14 & 1) == 0; /* 15 */
        if (status != NULL)
            fclose(status);
    }
    closedir(tasks);
    return count;
}

/* Signals of the process are for Python's thread, whoever starts a worker. */
void case_workers_take_no_signals(rig_world *world) {
    unsigned before = threads_that_take_sigterm();
    relay_stage stage;
    ff_relay_options options = rig_options();
    stage_begin(&stage, world, &options);
    stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
    rig_empty(&stage.rig, 1, 0);
    uint64_t unique = stage_read(&stage, stage_opened(&stage, "f01", 1), 0, 100);
    ff_ask ask = stage_ask(&stage, FF_ASK_READ);
    rig_fill(&stage.rig, 1, 0, UINT64_MAX);
    ff_relay_retry(stage.rig.relay, ask.ticket);
    stage_require_read(&stage, unique);
    unsigned after = threads_that_take_sigterm();
    require(after == before + 1, "%u threads more take signals, not just the kernel's", after - before);
    stage_end(&stage);
}

typedef struct {
    ff_relay *relay;
    _Atomic bool ends;
} looking;

static void *look(void *context) {
    looking *self = context;
    while (!self->ends) {
        ff_relay_facts facts;
        ff_relay_facts_of(self->relay, &facts);
        ff_relay_detach_idle(self->relay, 0, 0);
    }
    return NULL;
}

/* Whoever reports on a mount need not know that it is being stopped. */
void case_facts_while_stopping(rig_world *world) {
    for (int i = 0; i < 20; i++) {
        relay_stage stage;
        ff_relay_options options = rig_options();
        stage_begin(&stage, world, &options);
        stage_learn(&stage, "f", 60 * RIG_SECOND_NS);
        for (int opens = 0; opens < 4; opens++)
            stage_opened(&stage, "f05", 5);
        looking looker = {.relay = stage.rig.relay};
        pthread_t thread;
        require(pthread_create(&thread, NULL, look, &looker) == 0, "no thread");
        stage_stop(&stage);
        usleep(1000);
        looker.ends = true;
        pthread_join(thread, NULL);
        ff_relay_facts facts;
        ff_relay_facts_of(stage.rig.relay, &facts);
        require(facts.open_files == 0 && facts.waiting == 0, "%u files are open", facts.open_files);
        stage_free(&stage);
    }
}
