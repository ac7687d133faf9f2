/* The benchmark's reader: opens, reads and maps files as an application does, and is itself no bottleneck.
 *
 *   reader sequential PATH buffered|direct      a file from its beginning to its end, 1 MiB at a time
 *   reader mapped PATH SECONDS SEED             one byte of a random 4 KiB page again and again, each page once
 *   reader files THREADS SECONDS                opens, reads and closes the files whose names come NUL-separated on
 *                                               standard input, below the working directory
 *
 * The first two begin with nothing of the file in the page cache of the file system that it is on; a tmpfs has no other
 * place for it and keeps it.
 *
 * Prints what it did and how long that took as one JSON object: seconds, bytes, count. SECONDS bound a run that would
 * take longer; opening, and reading the names, is outside the time of the first two and inside that of `files`.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 20, PAGE_BYTES = 4096, SMALL_BUFFER_BYTES = 256 << 10, MAX_THREADS = 256 };

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int report(double seconds, uint64_t bytes, uint64_t count) {
    printf("{\"seconds\": %.9f, \"bytes\": %llu, \"count\": %llu}\n", seconds, (unsigned long long)bytes,
           (unsigned long long)count);
    return 0;
}

static void forget(int fd, const char *path) {
    if ((errno = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) != 0) fail(path);
}

static int sequential(const char *path, int flags) {
    void *buffer;
    uint64_t bytes = 0, count = 0;
    ssize_t length;
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    if (fd < 0) fail(path);
    forget(fd, path);
    if (posix_memalign(&buffer, PAGE_BYTES, READ_BYTES) != 0) fail("memory");
    /* Its pages are there before the clock starts: whoever is measured first must not pay for them. */
    memset(buffer, 1, READ_BYTES);
    double started = now_s();
    while ((length = read(fd, buffer, READ_BYTES)) > 0) {
        bytes += (uint64_t)length;
        count++;
    }
    double seconds = now_s() - started;
    if (length < 0) fail(path);
    return report(seconds, bytes, count);
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int mapped(const char *path, double limit_s, uint64_t seed) {
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) != 0) fail(path);
    forget(fd, path);
    uint64_t pages = (uint64_t)facts.st_size / PAGE_BYTES, count = 0;
    if (pages < 2) {
        errno = EINVAL;
        fail(path);
    }
    /* A stride without a common divisor with the number of pages visits each once, in no order to be guessed. */
    uint64_t stride = pages * 5 / 8 + seed % (pages / 8 + 1);
    while (common_divisor(stride, pages) != 1) stride++;
    const volatile unsigned char *bytes = mmap(NULL, (size_t)facts.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) fail("mmap");
    /* 4 KiB are 4 KiB: without this a fault reads all that lies around it. */
    if (madvise((void *)(uintptr_t)bytes, (size_t)facts.st_size, MADV_RANDOM) != 0) fail("madvise");
    uint64_t page = seed % pages;
    double started = now_s(), seconds = 0;
    while (count < pages && seconds < limit_s) {
        for (int turn = 0; turn < 64 && count < pages; turn++, count++) {
            (void)bytes[page * PAGE_BYTES]; /* volatile: it is read, though nobody wants to know */
            page = (page + stride) % pages;
        }
        seconds = now_s() - started;
    }
    return report(seconds, count * PAGE_BYTES, count);
}

/* What the threads of `files` share. `names` is NUL-separated and `starts` says where each begins. */
static struct {
    const char *names;
    const size_t *starts;
    uint64_t total;
    double deadline_s;
    atomic_uint_fast64_t next, bytes, count;
    atomic_int error;
} work;

static void *read_files(void *unused) {
    (void)unused;
    uint64_t bytes = 0, count = 0, turn;
    char *buffer = malloc(SMALL_BUFFER_BYTES);
    if (buffer == NULL) fail("memory");
    while ((turn = atomic_fetch_add(&work.next, 1)) < work.total && atomic_load(&work.error) == 0) {
        if (turn % 16 == 0 && now_s() > work.deadline_s) {
            /* Nobody starts another file. */
            atomic_store(&work.next, work.total);
        }
        const char *name = work.names + work.starts[turn];
        ssize_t length = -1;
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        while (fd >= 0 && (length = read(fd, buffer, SMALL_BUFFER_BYTES)) > 0) bytes += (uint64_t)length;
        if (fd < 0 || length < 0) {
            int error = errno, none = 0;
            if (atomic_compare_exchange_strong(&work.error, &none, error))
                fprintf(stderr, "%s: %s\n", name, strerror(error));
        }
        if (fd >= 0) close(fd);
        count++;
    }
    atomic_fetch_add(&work.bytes, bytes);
    atomic_fetch_add(&work.count, count);
    free(buffer);
    return NULL;
}

static int files(int threads, double limit_s) {
    size_t size = 0, room = 1 << 20, total = 0;
    char *names = malloc(room);
    ssize_t length;
    while (names != NULL && (length = read(STDIN_FILENO, names + size, room - size)) > 0) {
        size += (size_t)length;
        if (size == room) names = realloc(names, room *= 2);
    }
    if (names == NULL || length < 0) fail("standard input");
    size_t *starts = malloc((size + 1) * sizeof *starts);
    if (starts == NULL) fail("memory");
    for (size_t at = 0; at < size; at += strlen(names + at) + 1) starts[total++] = at;
    pthread_t all[MAX_THREADS];
    double started = now_s();
    work.names = names;
    work.starts = starts;
    work.total = total;
    work.deadline_s = started + limit_s;
    for (int thread = 0; thread < threads; thread++)
        if ((errno = pthread_create(&all[thread], NULL, read_files, NULL)) != 0) fail("thread");
    for (int thread = 0; thread < threads; thread++) pthread_join(all[thread], NULL);
    double seconds = now_s() - started;
    if (atomic_load(&work.error) != 0) return 1;
    return report(seconds, atomic_load(&work.bytes), atomic_load(&work.count));
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "sequential") == 0)
        return sequential(argv[2], strcmp(argv[3], "direct") == 0 ? O_DIRECT : 0);
    if (argc == 5 && strcmp(argv[1], "mapped") == 0)
        return mapped(argv[2], atof(argv[3]), strtoull(argv[4], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "files") == 0) {
        int threads = atoi(argv[2]);
        if (threads > 0 && threads <= MAX_THREADS) return files(threads, atof(argv[3]));
    }
    fprintf(stderr, "usage: reader sequential|mapped|files …\n");
    return 2;
}
