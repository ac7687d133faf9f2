/* A program that walks the mount and reads its files, and a kernel that does for it what kernels do. */
#include "fuzz_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse_wire.h"

typedef struct {
    fuzz_session *session;
    kernel *kernel;
    rig_random random;
} client;

static kernel_answer *call(client *self, uint32_t opcode, uint64_t node, const void *body, size_t length) {
    self->session->executions++;
    kernel_answer *answer = kernel_call(self->kernel, opcode, node, body, length);
    require(answer->error == 0, "opcode %u: %s", opcode, strerror(-answer->error));
    return answer;
}

static uint64_t look_up(client *self, uint64_t parent, const char *name) {
    struct fuse_entry_out entry;
    kernel_answer *answer = call(self, FUSE_LOOKUP, parent, name, strlen(name) + 1);
    memcpy(&entry, answer->data, sizeof entry);
    free(answer);
    require(entry.nodeid != 0, "%s is missing", name);
    return entry.nodeid;
}

static void forget(client *self, uint64_t node) {
    struct fuse_forget_in one = {.nlookup = 1};
    self->session->executions++;
    kernel_ask(self->kernel, FUSE_FORGET, node, &one, sizeof one);
}

static uint64_t open_node(client *self, uint32_t opcode, uint64_t node) {
    struct fuse_open_in wanted = {.flags = 0};
    struct fuse_open_out opened;
    kernel_answer *answer = call(self, opcode, node, &wanted, sizeof wanted);
    memcpy(&opened, answer->data, sizeof opened);
    free(answer);
    return opened.fh;
}

static void release(client *self, uint32_t opcode, uint64_t node, uint64_t fh) {
    struct fuse_release_in released = {.fh = fh};
    free(call(self, opcode, node, &released, sizeof released));
}

static void read_file(client *self, uint64_t node, unsigned file) {
    uint64_t fh = open_node(self, FUSE_OPEN, node), size = self->session->mount.world->files[file].size;
    for (uint64_t reads = rig_below(&self->random, 6); reads > 0; reads--) {
        struct fuse_read_in wanted = {.fh = fh, .offset = rig_below(&self->random, size + 100)};
        wanted.size = (uint32_t)rig_below(&self->random, rig_one_in(&self->random, 8) ? RIG_LARGE_BYTES : 8192);
        free(call(self, FUSE_READ, node, &wanted, sizeof wanted)); /* its bytes are looked at by the kernel's side */
    }
    release(self, FUSE_RELEASE, node, fh);
}

/* Every name, once, in any pieces. */
static void read_directory(client *self, uint64_t node) {
    uint64_t fh = open_node(self, FUSE_OPENDIR, node);
    struct fuse_read_in wanted = {.fh = fh};
    size_t names = 0;
    for (bool more = true; more;) {
        wanted.size = 512 + (uint32_t)rig_below(&self->random, 8192);
        kernel_answer *answer = call(self, FUSE_READDIRPLUS, node, &wanted, sizeof wanted);
        more = answer->length > 0;
        for (size_t at = 0; at < answer->length; names++) {
            struct fuse_direntplus entry;
            memcpy(&entry, answer->data + at, FUSE_NAME_OFFSET_DIRENTPLUS);
            wanted.offset = entry.dirent.off;
            if (entry.entry_out.nodeid != 0)
                forget(self, entry.entry_out.nodeid);
            at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + entry.dirent.namelen);
        }
        free(answer);
    }
    require(names == 2 + FUZZ_DIRECTORIES + RIG_FILES, "%zu names", names);
    release(self, FUSE_RELEASEDIR, node, fh);
}

static void walk(client *self) {
    uint64_t nodes[4] = {FF_ROOT_NODE};
    size_t depth = rig_below(&self->random, 3);
    char name[8];
    for (size_t i = 0; i < depth; i++) {
        snprintf(name, sizeof name, "d%u", (unsigned)rig_below(&self->random, FUZZ_DIRECTORIES));
        nodes[i + 1] = look_up(self, nodes[i], name);
    }
    if (rig_one_in(&self->random, 4))
        read_directory(self, nodes[depth]);
    unsigned file = (unsigned)rig_below(&self->random, RIG_FILES);
    snprintf(name, sizeof name, "f%02u", file);
    uint64_t node = look_up(self, nodes[depth], name);
    struct fuse_getattr_in all = {.getattr_flags = 0};
    free(call(self, FUSE_GETATTR, node, &all, sizeof all));
    read_file(self, node, file);
    if (rig_one_in(&self->random, 10)) {
        self->session->executions++;
        free(kernel_call(self->kernel, FUSE_STATFS, FF_ROOT_NODE, NULL, 0));
    }
    forget(self, node);
    for (; depth > 0; depth--)
        forget(self, nodes[depth]);
}

void *fuzz_run_client(void *context) {
    const fuzz_client *client_of = context;
    client self = {.session = client_of->session, .kernel = client_of->session->kernel, .random = client_of->seed};
    faults_spare(true);
    for (unsigned round = 0; round < client_of->rounds; round++)
        walk(&self);
    return NULL;
}
