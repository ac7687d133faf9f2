/* Which signals a native thread takes: those that its own faults raise, and no others, which are for Python's thread.
 *
 * A fault whose signal is blocked ends the process whatever handler there is, and map_guard's has to see SIGBUS. */
#ifndef FLUIDFS_THREAD_SIGNALS_H
#define FLUIDFS_THREAD_SIGNALS_H

#include <signal.h>

/* What to block while a thread is created: it inherits the mask. */
static inline void ff_thread_signals(sigset_t *blocked) {
    sigfillset(blocked);
    sigdelset(blocked, SIGBUS);
    sigdelset(blocked, SIGSEGV);
    sigdelset(blocked, SIGFPE);
    sigdelset(blocked, SIGILL);
    sigdelset(blocked, SIGABRT);
}

#endif
