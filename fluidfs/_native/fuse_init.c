#include "fuse_init.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The newest protocol of which we know what it says; an older kernel's is taken as it is. */
#define KNOWN_MINOR 43u
/* Linux 3.15, of 2014: the answer has its present length since. */
#define OLDEST_MINOR 23u

/* One READ or WRITE at most. It is also what the kernel allows by its default (fs.fuse.max_pages_limit, 256 pages). */
#define TRANSFER_BYTES (1u << 20)
/* Without MAX_PAGES the kernel's own limit. */
#define DEFAULT_PAGES 32u

/* Requests that nobody waits for, readahead above all, under way at once; from the second number on the kernel puts off
 * more of them. An ordinary user gets no more than the kernel's max_user_bgreq. */
#define MAX_BACKGROUND 64u
#define CONGESTION_THRESHOLD 48u

/* Backing files lie on no stacked file system, and an overlay may still be put on top of the mount. */
#define MAX_STACK_DEPTH 1u

/* The backstop, longer than any deadline of ours: the kernel aborts the connection when a request is older. */
#define REQUEST_TIMEOUT_S 600u

/* What we want, and which of the user's switches takes it away. Not wanted: AUTO_INVAL_DATA (a node is one version, its
 * pages are always right), WRITEBACK_CACHE (excludes passthrough), SPLICE_* (the kernel ignores what is answered). */
static const struct {
    uint64_t flag;
    uint32_t off;
} wanted[] = {
    {FUSE_ASYNC_READ, FF_OFF_ASYNC_READ},
    {FUSE_BIG_WRITES, 0},
    {FUSE_PARALLEL_DIROPS, FF_OFF_PARALLEL_DIROPS},
    {FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO, FF_OFF_READDIRPLUS},
    {FUSE_MAX_PAGES, FF_OFF_MAX_PAGES},
    {FF_INIT_EXT, 0},
    {FF_INIT_PASSTHROUGH, FF_OFF_PASSTHROUGH},
    {FF_INIT_HAS_RESEND, FF_OFF_RESEND},
    {FF_INIT_ALLOW_IDMAP, FF_OFF_IDMAP},
    {FF_INIT_REQUEST_TIMEOUT, FF_OFF_REQUEST_TIMEOUT},
};

static uint64_t wanted_flags(uint32_t off, bool wants_passthrough, bool allow_idmap) {
    uint64_t flags = 0;
    if (!wants_passthrough)
        off |= FF_OFF_PASSTHROUGH;
    if (!allow_idmap)
        off |= FF_OFF_IDMAP;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if ((wanted[i].off & off) == 0)
            flags |= wanted[i].flag;
    return flags;
}

/* A READ is counted in pages, whose size is the machine's. */
static uint32_t pages_of(uint64_t flags, uint32_t page_bytes) {
    if ((flags & FUSE_MAX_PAGES) == 0)
        return DEFAULT_PAGES;
    return page_bytes < TRANSFER_BYTES ? TRANSFER_BYTES / page_bytes : 1;
}

int ff_init_negotiate(const void *body, size_t length, uint32_t off, bool wants_passthrough, bool allow_idmap,
                      ff_init_out *answer, ff_session *session) {
    /* Older kernels send less than the structure; what they do not send is 0. */
    struct fuse_init_in offer = {0};
    memset(answer, 0, sizeof *answer);
    memset(session, 0, sizeof *session);
    answer->major = FUSE_KERNEL_VERSION;
    answer->minor = KNOWN_MINOR;
    if (length < offsetof(struct fuse_init_in, max_readahead))
        return -EINVAL;
    memcpy(&offer, body, length < sizeof offer ? length : sizeof offer);
    if (offer.major != FUSE_KERNEL_VERSION || offer.minor < OLDEST_MINOR)
        return -EPROTO;
    if (length < offsetof(struct fuse_init_in, flags2))
        return -EINVAL;
    uint64_t offered = offer.flags;
    if ((offered & FF_INIT_EXT) != 0) {
        if (length < offsetof(struct fuse_init_in, unused))
            return -EINVAL;
        offered |= (uint64_t)offer.flags2 << 32;
    }
    uint64_t flags = offered & wanted_flags(off, wants_passthrough, allow_idmap);
    if ((flags & FUSE_DO_READDIRPLUS) == 0)
        flags &= ~(uint64_t)FUSE_READDIRPLUS_AUTO;
    uint32_t page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    uint32_t pages = pages_of(flags, page_bytes);

    session->minor = offer.minor < KNOWN_MINOR ? offer.minor : KNOWN_MINOR;
    session->flags = flags;
    session->max_read_bytes = pages * page_bytes;
    session->max_write_bytes = session->max_read_bytes < TRANSFER_BYTES ? session->max_read_bytes : TRANSFER_BYTES;
    session->max_background = MAX_BACKGROUND;

    answer->minor = session->minor;
    answer->max_readahead = offer.max_readahead;
    answer->flags = (uint32_t)flags;
    answer->flags2 = (uint32_t)(flags >> 32);
    answer->max_background = MAX_BACKGROUND;
    answer->congestion_threshold = CONGESTION_THRESHOLD;
    answer->max_write = session->max_write_bytes;
    answer->time_gran = 1;
    if ((flags & FUSE_MAX_PAGES) != 0)
        answer->max_pages = (uint16_t)pages;
    if ((flags & FF_INIT_PASSTHROUGH) != 0)
        answer->max_stack_depth = MAX_STACK_DEPTH;
    if ((flags & FF_INIT_REQUEST_TIMEOUT) != 0)
        answer->request_timeout_s = REQUEST_TIMEOUT_S;
    return 0;
}
