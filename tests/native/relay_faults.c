#include "relay_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse_wire.h"
#include "relay_rig.h"

#define BACKING_IDS 4096u
#define STALL_US 70000
#define SLOW_US 3000
#define HANGING_US 1000

relay_faults faults = {.threads_left = -1};

static _Atomic uint64_t next_state = 1;
static _Thread_local uint64_t state;
static _Thread_local unsigned spared;

void faults_spare(bool more) { spared = more ? spared + 1 : spared - 1; }

void faults_clear(void) {
    faults.memory_one_in = faults.nowait_one_in = faults.slow_one_in = faults.broken_one_in = faults.stall_one_in = 0;
    faults.nowait_always = faults.disk_hangs = faults.notices_wait = faults.passes = false;
    faults.threads_left = -1;
}

static bool is_hit(unsigned one_in) {
    if (one_in == 0 || spared > 0)
        return false;
    if (state == 0)
        state = atomic_fetch_add(&next_state, 1) * UINT64_C(0x9e3779b97f4a7c15);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % one_in == 0;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
ssize_t __real_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags);
ssize_t __real_write(int fd, const void *data, size_t bytes);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
int __real_ioctl(int fd, unsigned long request, ...);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
ssize_t __wrap_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context);
int __wrap_ioctl(int fd, unsigned long request, ...);

void *__wrap_malloc(size_t bytes) { return is_hit(faults.memory_one_in) ? NULL : __real_malloc(bytes); }

void *__wrap_calloc(size_t count, size_t bytes) {
    return is_hit(faults.memory_one_in) ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes) {
    return is_hit(faults.memory_one_in) ? NULL : __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return is_hit(faults.memory_one_in) ? NULL : __real_aligned_alloc(alignment, bytes);
}

ssize_t __wrap_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    if ((flags & RWF_NOWAIT) != 0) {
        if (spared == 0 && (faults.nowait_always || is_hit(faults.nowait_one_in))) {
            errno = EAGAIN;
            return -1;
        }
        if (is_hit(faults.stall_one_in))
            usleep(STALL_US);
        ssize_t n = __real_preadv2(fd, parts, count, offset, flags);
        /* tmpfs knows no RWF_NOWAIT; the tests are to go the same ways wherever they lie. */
        return n < 0 && errno == EOPNOTSUPP ? __real_preadv2(fd, parts, count, offset, 0) : n;
    }
    if (faults.disk_hangs && spared == 0) {
        atomic_fetch_add(&faults.hanging, 1);
        while (faults.disk_hangs)
            usleep(HANGING_US);
        atomic_fetch_sub(&faults.hanging, 1);
    }
    if (is_hit(faults.slow_one_in))
        usleep(SLOW_US);
    if (is_hit(faults.broken_one_in)) {
        errno = EIO;
        return -1;
    }
    return __real_preadv2(fd, parts, count, offset, flags);
}

/* Of an event (8 bytes) nobody has to wait. */
ssize_t __wrap_write(int fd, const void *data, size_t bytes) {
    if (bytes != sizeof(uint64_t) && spared == 0 && faults.notices_wait) {
        atomic_fetch_add(&faults.notices_waiting, 1);
        while (faults.notices_wait)
            usleep(HANGING_US);
        atomic_fetch_sub(&faults.notices_waiting, 1);
    }
    return __real_write(fd, data, bytes);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context) {
    int left = faults.threads_left;
    while (spared == 0 && left >= 0) {
        if (left == 0)
            return EAGAIN;
        if (atomic_compare_exchange_weak(&faults.threads_left, &left, left - 1))
            break;
    }
    return __real_pthread_create(thread, attributes, run, context);
}

/* ---- the device's ioctls */

static pthread_mutex_t backing_lock = PTHREAD_MUTEX_INITIALIZER;
static bool backing[BACKING_IDS];
static unsigned backing_count;

unsigned faults_backing_count(void) {
    pthread_mutex_lock(&backing_lock);
    unsigned count = backing_count;
    pthread_mutex_unlock(&backing_lock);
    return count;
}

bool faults_is_backing(int id) {
    pthread_mutex_lock(&backing_lock);
    bool is = id > 0 && id < (int)BACKING_IDS && backing[id];
    pthread_mutex_unlock(&backing_lock);
    return is;
}

static int open_backing(void) {
    static unsigned last;
    if (is_hit(8)) {
        errno = EMFILE;
        return -1;
    }
    pthread_mutex_lock(&backing_lock);
    require(backing_count < BACKING_IDS / 2, "%u backing files are left registered", backing_count);
    do
        last = last % (BACKING_IDS - 1) + 1;
    while (backing[last]);
    backing[last] = true;
    backing_count++;
    int id = (int)last;
    pthread_mutex_unlock(&backing_lock);
    return id;
}

static int close_backing(uint32_t id) {
    pthread_mutex_lock(&backing_lock);
    require(id > 0 && id < BACKING_IDS && backing[id], "backing file %u is not registered", id);
    backing[id] = false;
    backing_count--;
    pthread_mutex_unlock(&backing_lock);
    return 0;
}

int __wrap_ioctl(int fd, unsigned long request, ...) {
    va_list values;
    va_start(values, request);
    void *argument = va_arg(values, void *);
    va_end(values);
    if (!faults.passes)
        return __real_ioctl(fd, request, argument);
    switch (request) {
    case FF_DEV_IOC_BACKING_OPEN:
        return open_backing();
    case FF_DEV_IOC_BACKING_CLOSE:
        return close_backing(*(const uint32_t *)argument);
    case FF_DEV_IOC_CLONE:
        return dup3((int)*(const uint32_t *)argument, fd, O_CLOEXEC) < 0 ? -1 : 0;
    default:
        errno = ENOTTY;
        return -1;
    }
}
