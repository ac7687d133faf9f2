/* The kernel's requests, as it would send them, and mangled. */
#include "fuzz_parts.h"

#include <stdio.h>
#include <string.h>

#include "fuse_wire.h"

#define REQUEST_MAX (256u << 10)
/* More than this many wait for an answer only when it is slow in coming. */
#define WAITING_MAX 200u

static const struct {
    uint32_t opcode;
    unsigned weight;
} mix[] = {
    {FUSE_LOOKUP, 20}, {FUSE_READ, 25},      {FUSE_OPEN, 10},     {FUSE_GETATTR, 6},     {FUSE_FORGET, 4},
    {FUSE_OPENDIR, 5}, {FUSE_READDIR, 3},    {FUSE_RELEASE, 5},   {FUSE_READDIRPLUS, 5}, {FUSE_BATCH_FORGET, 3},
    {FUSE_INIT, 1},    {FUSE_RELEASEDIR, 4}, {FUSE_INTERRUPT, 4}, {FUSE_GETXATTR, 2},    {FUSE_STATFS, 2},
    {FUSE_FLUSH, 1},   {FUSE_DESTROY, 1},    {FUSE_WRITE, 1},     {FUSE_NOTIFY_REPLY, 1}, {0, 2},
};

static uint32_t any_opcode(rig_random *random) {
    unsigned total = 0;
    for (size_t i = 0; i < sizeof mix / sizeof *mix; i++)
        total += mix[i].weight;
    uint64_t at = rig_below(random, total);
    for (size_t i = 0; i < sizeof mix / sizeof *mix; i++) {
        if (at < mix[i].weight)
            return mix[i].opcode != 0 ? mix[i].opcode : (uint32_t)rig_next(random) >> rig_below(random, 32);
        at -= mix[i].weight;
    }
    return FUSE_LOOKUP;
}

/* A number that lies about something: near to the right one, or nowhere. */
static uint64_t garbage(rig_random *random, uint64_t near) {
    switch (rig_below(random, 5)) {
    case 0:
        return near ^ UINT64_C(1) << rig_below(random, 64);
    case 1:
        return rig_below(random, 40);
    case 2:
        return UINT64_MAX - rig_below(random, 3);
    case 3:
        return near + rig_below(random, 5) - 2;
    default:
        return rig_next(random);
    }
}

static uint64_t any_node(fuzz_session *self, bool directory) {
    kernel_node node = {.id = FF_ROOT_NODE};
    rig_random *random = &self->random;
    if (rig_one_in(random, 12))
        return garbage(random, FF_ROOT_NODE);
    if (directory && rig_one_in(random, 3))
        return FF_ROOT_NODE;
    for (int tries = 0; tries < 8 && kernel_any_node(self->kernel, random, &node) && node.directory != directory; tries++) {
    }
    return rig_one_in(random, 30) ? garbage(random, node.id) : node.id;
}

static uint64_t any_handle(fuzz_session *self, bool directory) {
    kernel_handle handle = {.fh = 0};
    rig_random *random = &self->random;
    for (int tries = 0; tries < 8 && kernel_any_handle(self->kernel, random, &handle) && handle.directory != directory; tries++) {
    }
    return rig_one_in(random, 15) ? garbage(random, handle.fh) : handle.fh;
}

/* With its NUL; how many bytes. */
static size_t any_name(rig_random *random, char *out) {
    static const char *const odd[] = {"", ".", "..", "a/b", "/", "\xff\xfe", "nothing", "user.fluidfs.x", "d0/f00"};
    size_t bytes;
    switch (rig_below(random, 12)) {
    case 0:
        strcpy(out, odd[rig_below(random, sizeof odd / sizeof *odd)]);
        return strlen(out) + 1;
    case 1:
        bytes = 250 + rig_below(random, 12);
        memset(out, 'n', bytes);
        out[bytes] = 0;
        return bytes + 1;
    case 2:
    case 3:
        return (size_t)sprintf(out, "d%u", (unsigned)rig_below(random, FUZZ_DIRECTORIES)) + 1;
    default:
        return (size_t)sprintf(out, "f%02u", (unsigned)rig_below(random, RIG_FILES)) + 1;
    }
}

static size_t put(char *at, const void *structure, size_t bytes) {
    memcpy(at, structure, bytes);
    return bytes;
}

static size_t put_read(fuzz_session *self, char *body, bool directory) {
    rig_random *random = &self->random;
    struct fuse_read_in read = {.fh = any_handle(self, directory), .size = 1u << rig_below(random, 21)};
    read.size += (uint32_t)rig_below(random, 3) - 1;
    if (!directory && rig_one_in(random, 2)) {
        /* Where the last one ended, as readers do. */
        read.fh = self->last_read.fh;
        read.offset = self->last_read.offset;
        read.size = 4096u << rig_below(random, 4);
    } else if (directory)
        read.offset = rig_one_in(random, 2) ? 0 : rig_below(random, 16);
    else
        read.offset = rig_below(random, rig_one_in(random, 2) ? RIG_SMALL_BYTES : RIG_LARGE_BYTES + 4096);
    if (rig_one_in(random, 20))
        read.offset = garbage(random, RIG_LARGE_BYTES);
    if (rig_one_in(random, 40))
        read.size = (uint32_t)garbage(random, 0);
    if (!directory) {
        self->last_read.fh = read.fh;
        self->last_read.offset = read.offset + read.size;
    }
    return put(body, &read, sizeof read);
}

static size_t put_batch(fuzz_session *self, char *body) {
    rig_random *random = &self->random;
    size_t count = rig_below(random, rig_one_in(random, 20) ? 5000 : 20), at = sizeof(struct fuse_batch_forget_in);
    struct fuse_batch_forget_in batch = {.count = (uint32_t)(rig_one_in(random, 4) ? garbage(random, count) : count)};
    put(body, &batch, sizeof batch);
    for (size_t i = 0; i < count; i++) {
        struct fuse_forget_one one = {.nodeid = any_node(self, rig_one_in(random, 2)), .nlookup = rig_below(random, 3)};
        at += put(body + at, &one, sizeof one);
    }
    return at;
}

static size_t put_body(fuzz_session *self, uint32_t opcode, char *body) {
    rig_random *random = &self->random;
    switch (opcode) {
    case FUSE_LOOKUP:
        return any_name(random, body);
    case FUSE_READ:
        return put_read(self, body, false);
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return put_read(self, body, true);
    case FUSE_OPEN:
    case FUSE_OPENDIR: {
        struct fuse_open_in open = {.flags = rig_one_in(random, 20) ? (uint32_t)rig_next(random) : 0};
        return put(body, &open, sizeof open);
    }
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR: {
        struct fuse_release_in release = {.fh = any_handle(self, opcode == FUSE_RELEASEDIR)};
        return put(body, &release, sizeof release);
    }
    case FUSE_FORGET: {
        struct fuse_forget_in forget = {.nlookup = rig_one_in(random, 9) ? garbage(random, 1) : 1};
        return put(body, &forget, sizeof forget);
    }
    case FUSE_BATCH_FORGET:
        return put_batch(self, body);
    case FUSE_INTERRUPT: {
        struct fuse_interrupt_in interrupt = {.unique = kernel_any_unique(self->kernel, random)};
        if (rig_one_in(random, 3))
            interrupt.unique += 2 * rig_below(random, 4); /* what is yet to come */
        return put(body, &interrupt, sizeof interrupt);
    }
    case FUSE_INIT: {
        struct fuse_init_in offer = {.major = rig_one_in(random, 4) ? (uint32_t)garbage(random, 7) : 7,
                                     .minor = (uint32_t)rig_below(random, 50),
                                     .flags = (uint32_t)rig_next(random),
                                     .flags2 = (uint32_t)rig_next(random)};
        return put(body, &offer, sizeof offer);
    }
    case FUSE_GETXATTR: {
        struct fuse_getxattr_in wanted = {.size = 100};
        size_t at = put(body, &wanted, sizeof wanted);
        return at + any_name(random, body + at);
    }
    default: {
        size_t bytes = rig_below(random, rig_one_in(random, 10) ? REQUEST_MAX / 2 : 200);
        memset(body, (int)rig_next(random), bytes);
        return bytes;
    }
    }
}

/* `length` of the request afterwards; its first four bytes say so, or lie. */
static size_t mangle(rig_random *random, char *request, size_t length) {
    uint32_t says;
    for (uint64_t changes = 1 + rig_below(random, 3); changes > 0; changes--) {
        size_t at = sizeof says + rig_below(random, length - sizeof says);
        switch (rig_below(random, 5)) {
        case 0:
            request[at] = (char)rig_next(random);
            break;
        case 1:
            length = at;
            break;
        case 2: {
            size_t added = rig_below(random, 300);
            memset(request + length, (int)rig_next(random), added);
            length += added;
            break;
        }
        default:
            request[at] ^= (char)(1 << rig_below(random, 8));
        }
        if (length <= sizeof says)
            break;
    }
    says = (uint32_t)(rig_one_in(random, 12) ? garbage(random, length) : length);
    memcpy(request, &says, sizeof says < length ? sizeof says : length);
    return length;
}

void fuzz_request(fuzz_session *self) {
    static char request[sizeof(struct fuse_in_header) + REQUEST_MAX];
    rig_random *random = &self->random;
    static const uint32_t pids[] = {0, 1, 0x3ffffff0}; /* unknown, alive, dead */
    struct fuse_in_header header = {.opcode = any_opcode(random), .uid = 1, .pid = pids[rig_below(random, 3)]};
    if (self->hoards && (header.opcode == FUSE_RELEASE || header.opcode == FUSE_RELEASEDIR))
        header.opcode = FUSE_OPEN;
    bool of_directory = header.opcode == FUSE_LOOKUP || header.opcode == FUSE_OPENDIR || header.opcode == FUSE_READDIRPLUS;
    header.nodeid = any_node(self, of_directory || rig_one_in(random, 8));
    header.len = (uint32_t)(sizeof header + put_body(self, header.opcode, request + sizeof header));
    header.unique = rig_one_in(random, 50) ? FF_UNIQUE_RESENT : 0;
    memcpy(request, &header, sizeof header);
    size_t length = header.len;
    if (rig_one_in(random, 4))
        length = mangle(random, request, length);
    kernel_wait_until(self->kernel, WAITING_MAX);
    kernel_send(self->kernel, request, length > 0 ? length : 1);
    self->executions++;
}
