/* Negotiating INIT: what the kernel offers, what we want of it, what the user switched off. Pure.
 *
 * libfuse answers INIT as well, for itself; its answer is replaced by this one, which it never sees. */
#ifndef FLUIDFS_FUSE_INIT_H
#define FLUIDFS_FUSE_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse_wire.h"

/* What `--fuse-disable` can switch off. Those of INIT are masked there; the others are the relay's to respect. */
enum {
    FF_OFF_PASSTHROUGH = 1 << 0,
    FF_OFF_CLONE = 1 << 1,
    FF_OFF_MAX_PAGES = 1 << 2,
    FF_OFF_PARALLEL_DIROPS = 1 << 3,
    FF_OFF_READDIRPLUS = 1 << 4,
    FF_OFF_CACHE_DIR = 1 << 5,
    FF_OFF_NO_FLUSH = 1 << 6,
    FF_OFF_ASYNC_READ = 1 << 7,
    FF_OFF_RESEND = 1 << 8,
    FF_OFF_IDMAP = 1 << 9,
    FF_OFF_REQUEST_TIMEOUT = 1 << 10,
};

/* The session that was agreed on. */
typedef struct {
    uint32_t minor;
    uint64_t flags;          /* granted: offered by the kernel, wanted by us, not switched off */
    uint32_t max_read_bytes; /* of one READ, as far as INIT says */
    uint32_t max_write_bytes;
    uint16_t max_background;
} ff_session;

/* Reads the kernel's INIT (`body` follows the request's header) and makes the answer.
 *
 * `wants_passthrough` is false where backing files cannot be registered anyway. `allow_idmap` must only be set when the
 * mount has `default_permissions`: the kernel refuses INIT otherwise. `body` need not be aligned.
 *
 * 0, and the answer is to be sent whole, all 64 bytes, which every kernel reads whose offer is taken.
 * -EPROTO  the kernel talks another major version, or is older than Linux 3.15 (before 7.23 the answer is shorter, and the
 *          mount would lack most of what we use). `answer` then has our version and nothing else, as the protocol wants
 *          for another major; an old kernel is to be refused with this error
 * -EINVAL  the message is too short */
int ff_init_negotiate(const void *body, size_t length, uint32_t off, bool wants_passthrough, bool allow_idmap,
                      ff_init_out *answer, ff_session *session);

#endif
