#include "map_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

static ff_map_guard guards[FF_MAP_GUARDS];
static _Atomic uint32_t next_guard; /* where the search for a free one begins */

/* Written once, before the handler is set. */
static struct sigaction previous;
static uintptr_t page_bytes;
static bool installed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static ff_map_guard *guard_of(uintptr_t address) {
    for (uint32_t i = 0; i < FF_MAP_GUARDS; i++) {
        uintptr_t base = atomic_load_explicit(&guards[i].base, memory_order_acquire);
        if (base == 0 || address < base)
            continue;
        size_t bytes = atomic_load_explicit(&guards[i].bytes, memory_order_acquire);
        /* Another thread may have given the guard to another mapping between the two loads. */
        if (address - base < bytes && atomic_load_explicit(&guards[i].base, memory_order_acquire) == base)
            return &guards[i];
    }
    return NULL;
}

static void chain(int number, siginfo_t *info, void *context) {
    if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != NULL) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else if (info->si_code > 0 || previous.sa_handler == SIG_DFL) {
        /* The faulting instruction runs again, or the signal comes again, and ends the process as it would have. */
        signal(number, SIG_DFL);
        if (info->si_code <= 0)
            raise(number);
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved_errno = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    /* si_code is positive only when the kernel means an access of ours. */
    ff_map_guard *guard = info->si_code > 0 ? guard_of(address) : NULL;
    void *page = (void *)(address & ~(page_bytes - 1));
    if (guard != NULL) {
        /* Before the page: whoever sees the zeros must see the hit. */
        atomic_fetch_add(&guard->hits, 1);
        if (mmap(page, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
            errno = saved_errno;
            return;
        }
    }
    chain(number, info, context);
    errno = saved_errno;
}

static void install(void) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigemptyset(&action.sa_mask);
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    installed = sigaction(SIGBUS, NULL, &previous) == 0 && sigaction(SIGBUS, &action, NULL) == 0;
}

ff_map_guard *ff_map_guard_add(void *base, size_t bytes) {
    pthread_once(&once, install);
    if (!installed)
        return NULL;
    uint32_t first = atomic_fetch_add_explicit(&next_guard, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < FF_MAP_GUARDS; i++) {
        ff_map_guard *guard = &guards[(first + i) % FF_MAP_GUARDS];
        uint32_t is_free = 0;
        if (!atomic_compare_exchange_strong(&guard->taken, &is_free, 1))
            continue;
        atomic_store(&guard->hits, 0);
        atomic_store(&guard->bytes, bytes);
        atomic_store_explicit(&guard->base, (uintptr_t)base, memory_order_release);
        return guard;
    }
    return NULL;
}

void ff_map_guard_remove(ff_map_guard *guard) {
    if (guard == NULL)
        return;
    atomic_store(&guard->base, 0);
    atomic_store_explicit(&guard->taken, 0, memory_order_release);
}
