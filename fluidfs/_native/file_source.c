#include "file_source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* O_NONBLOCK: opening a FIFO must not wait for its writer. It changes nothing about regular files. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

typedef struct {
    ff_source source;
    ff_counters *counters;
    int root_fd;
} file_source;

static int open_by_kernel(int root_fd, const char *path) {
    struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    for (;;) {
        long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof how);
        /* EAGAIN: a rename raced with a "..", openat2(2) says to try again. */
        if (fd >= 0 || (errno != EINTR && errno != EAGAIN))
            return fd >= 0 ? (int)fd : -errno;
    }
}

/* One directory after the other, following no links. */
static int open_by_steps(int root_fd, const char *path) {
    int directory = root_fd;
    for (;;) {
        char name[256]; /* NAME_MAX and the NUL */
        size_t length = strcspn(path, "/");
        bool last = path[length] == 0;
        int fd;
        if (length >= sizeof name) {
            fd = -ENAMETOOLONG;
        } else {
            memcpy(name, path, length);
            name[length] = 0;
            if (length == 0 || strcmp(name, "..") == 0)
                fd = -EXDEV;
            else {
                fd = openat(directory, name, OPEN_FLAGS | O_NOFOLLOW | (last ? 0 : O_DIRECTORY));
                fd = fd >= 0 ? fd : -errno;
            }
        }
        if (directory != root_fd)
            close(directory);
        if (fd < 0 || last)
            return fd;
        directory = fd;
        path += length + 1;
    }
}

int ff_open_beneath(int root_fd, const char *path, bool resolved_by_kernel) {
    struct stat found;
    int fd = resolved_by_kernel ? open_by_kernel(root_fd, path) : open_by_steps(root_fd, path);
    if (fd < 0)
        return fd;
    int outcome = fstat(fd, &found) < 0 ? -errno : 0;
    if (outcome == 0 && S_ISREG(found.st_mode))
        return fd;
    if (outcome == 0)
        outcome = S_ISDIR(found.st_mode) ? -EISDIR : -EINVAL;
    close(fd);
    return outcome;
}

static int open_file(const file_source *self, const char *path) {
    int fd = ff_open_beneath(self->root_fd, path, true);
    /* EPERM: some seccomp filters answer so to system calls that they do not know. */
    return fd == -ENOSYS || fd == -EPERM ? ff_open_beneath(self->root_fd, path, false) : fd;
}

static void refuse(int outcome, ff_result *result) {
    ff_status status = FF_IO;
    if (outcome == -ENOENT || outcome == -ENOTDIR)
        status = FF_NOT_FOUND;
    else if (outcome == -EACCES || outcome == -EPERM || outcome == -EXDEV || outcome == -ELOOP)
        status = FF_DENIED;
    ff_result_set(result, status, -outcome, "the file cannot be opened: %m");
}

static bool is_version(int fd, const ff_range *range, ff_result *result) {
    struct stat now;
    char version[96];
    if (fstat(fd, &now) < 0) {
        ff_result_set(result, FF_IO, errno, "the file cannot be examined: %m");
        return false;
    }
    int64_t mtime_ns = (int64_t)now.st_mtim.tv_sec * 1000000000 + now.st_mtim.tv_nsec;
    snprintf(version, sizeof version, "%" PRId64 "-%" PRId64 "-%" PRIu64, mtime_ns, (int64_t)now.st_size,
             (uint64_t)now.st_ino);
    if ((uint64_t)now.st_size == range->size && (range->version[0] == 0 || strcmp(version, range->version) == 0))
        return true;
    ff_result_set(result, FF_CHANGED, 0, "the file is now %s, not %s", version, range->version);
    return false;
}

/* Each chunk is read, then the file is looked at again, and only then does the sink get the chunk: so no bytes of a
 * later version are ever taken for the range's, as far as mtime tells. */
static void read_range(file_source *self, int fd, const ff_range *range, ff_delivery *delivery,
                       const ff_waiter *waiter, ff_result *result) {
    uint64_t position = range->offset;
    while (delivery->missing > 0) {
        size_t room;
        char *space = ff_delivery_space(delivery, &room);
        if (ff_waiter_cancelled(waiter)) {
            ff_result_set(result, FF_CANCELLED, 0, "cancelled");
            return;
        }
        ssize_t count = pread(fd, space, room, (off_t)position);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            ff_result_set(result, FF_IO, errno, "the file cannot be read: %m");
            return;
        }
        if (!is_version(fd, range, result))
            return;
        if (count == 0) {
            ff_result_set(result, FF_TRUNCATED, 0, "the file ended early");
            return;
        }
        position += (uint64_t)count;
        ff_count(&self->counters->bytes_received, (uint64_t)count);
        int outcome = ff_delivery_advance(delivery, (size_t)count);
        if (outcome < 0) {
            ff_result_set(result, FF_SINK, -outcome, "the bytes could not be kept: %m");
            return;
        }
    }
}

static void fetch(ff_source *source, const ff_range *range, ff_delivery *delivery, const ff_waiter *waiter,
                  ff_result *result) {
    file_source *self = (file_source *)source;
    int fd = open_file(self, range->target);
    if (fd < 0) {
        refuse(fd, result);
        return;
    }
    if (is_version(fd, range, result))
        read_range(self, fd, range, delivery, waiter, result);
    close(fd);
}

static void free_source(ff_source *source) {
    file_source *self = (file_source *)source;
    close(self->root_fd);
    ff_counters_release(self->counters);
    free(self);
}

ff_source *ff_file_source_new(const char *root, ff_counters *counters) {
    int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0)
        return NULL;
    file_source *self = calloc(1, sizeof *self);
    if (self == NULL) {
        close(root_fd);
        errno = ENOMEM;
        return NULL;
    }
    self->source = (ff_source){.fetch = fetch, .free = free_source};
    self->counters = ff_counters_hold(counters);
    self->root_fd = root_fd;
    return &self->source;
}
