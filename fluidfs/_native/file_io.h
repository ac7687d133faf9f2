/* Reading and writing all of a buffer, which read(2) and write(2) do not promise. */
#ifndef FLUIDFS_FILE_IO_H
#define FLUIDFS_FILE_IO_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

/* Whether the file lies on tmpfs: it knows no RWF_NOWAIT, and needs none, for reading it waits for no disk. */
static inline bool ff_in_ram(int fd) {
    struct statfs facts;
    return fstatfs(fd, &facts) == 0 && facts.f_type == 0x01021994; /* TMPFS_MAGIC of linux/magic.h */
}

/* 0, or a negative errno after which an unknown part was written. */
static inline int ff_write_whole(int fd, const void *data, size_t length, uint64_t offset) {
    while (length > 0) {
        ssize_t n = pwrite(fd, data, length, (off_t)offset);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        data = (const char *)data + n;
        length -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* `length`, or a negative errno: -ENODATA when the file ends before, and with `nowait` -EAGAIN for what the page cache
 * does not hold. */
static inline int64_t ff_read_whole(int fd, void *out, size_t length, uint64_t offset, bool nowait) {
    size_t done = 0;
    while (done < length) {
        struct iovec vector = {.iov_base = (char *)out + done, .iov_len = length - done};
        ssize_t n = preadv2(fd, &vector, 1, (off_t)(offset + done), nowait ? RWF_NOWAIT : 0);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            /* A file system that knows no RWF_NOWAIT says so; the caller then waits elsewhere. */
            return errno == EOPNOTSUPP ? -EAGAIN : -errno;
        }
        /* Some kernels answer 0 for what they would have to read; only a read that may wait knows the end. */
        if (n == 0)
            return nowait ? -EAGAIN : -ENODATA;
        done += (size_t)n;
    }
    return (int64_t)done;
}

#endif
