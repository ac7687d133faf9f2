#include "relay_kernel_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "relay_faults.h"

#define ENTRY_BYTES sizeof(struct fuse_entry_out)
#define BILLION 1000000000u

static uint64_t hash(uint64_t id) { return id * UINT64_C(0x9e3779b97f4a7c15) >> 20; }

kernel_node *kernel_find_node(const kernel *self, uint64_t id) {
    for (uint64_t at = hash(id); self->node_room > 0; at++) {
        kernel_node *node = &self->nodes[at & (self->node_room - 1)];
        if (node->id == id || node->id == 0)
            return node->id == 0 ? NULL : node;
    }
    return NULL;
}

kernel_handle *kernel_find_handle(const kernel *self, uint64_t fh) {
    for (uint64_t at = hash(fh); self->handle_room > 0; at++) {
        kernel_handle *handle = &self->handles[at & (self->handle_room - 1)];
        if (handle->fh == fh || handle->fh == 0)
            return handle->fh == 0 ? NULL : handle;
    }
    return NULL;
}

static void place_node(kernel_node *nodes, size_t room, const kernel_node *node) {
    uint64_t at = hash(node->id);
    while (nodes[at & (room - 1)].id != 0)
        at++;
    nodes[at & (room - 1)] = *node;
}

static void place_handle(kernel_handle *handles, size_t room, const kernel_handle *handle) {
    uint64_t at = hash(handle->fh);
    while (handles[at & (room - 1)].fh != 0)
        at++;
    handles[at & (room - 1)] = *handle;
}

static void add_node(kernel *self, const kernel_node *node) {
    if (self->node_count * 2 >= self->node_room) {
        size_t room = self->node_room == 0 ? 256 : self->node_room * 2;
        kernel_node *nodes = calloc(room, sizeof *nodes);
        require(nodes != NULL, "no memory");
        for (size_t i = 0; i < self->node_room; i++)
            if (self->nodes[i].id != 0)
                place_node(nodes, room, &self->nodes[i]);
        free(self->nodes);
        self->nodes = nodes;
        self->node_room = room;
    }
    place_node(self->nodes, self->node_room, node);
    self->node_count++;
}

void kernel_note_handle(kernel *self, uint64_t fh, uint64_t node_id, bool directory, int32_t backing_id) {
    require((fh & FF_HANDLE_NATIVE) != 0, "handle %llx", (unsigned long long)fh);
    require(kernel_find_handle(self, fh) == NULL, "handle %llx was given twice", (unsigned long long)fh);
    if (self->handle_count * 2 >= self->handle_room) {
        size_t room = self->handle_room == 0 ? 256 : self->handle_room * 2;
        kernel_handle *handles = calloc(room, sizeof *handles);
        require(handles != NULL, "no memory");
        for (size_t i = 0; i < self->handle_room; i++)
            if (self->handles[i].fh != 0)
                place_handle(handles, room, &self->handles[i]);
        free(self->handles);
        self->handles = handles;
        self->handle_room = room;
    }
    const kernel_node *node = kernel_find_node(self, node_id);
    kernel_handle handle = {.fh = fh,
                            .node = node_id,
                            .file = node == NULL ? RIG_NO_FILE : node->file,
                            .backing_id = backing_id,
                            .directory = directory,
                            .open = true};
    place_handle(self->handles, self->handle_room, &handle);
    self->handle_count++;
}

/* ---- what answers say */

static unsigned file_of(const kernel *self, const struct fuse_attr *attributes) {
    unsigned file = rig_file_of(attributes->mtime, attributes->mtimensec);
    return file != RIG_NO_FILE && self->rig->world->files[file].size == attributes->size ? file : RIG_NO_FILE;
}

static void check_attributes(const struct fuse_attr *attributes) {
    require(attributes->ino != 0 && attributes->nlink == 1, "inode %llu", (unsigned long long)attributes->ino);
    require(S_ISDIR(attributes->mode) || S_ISREG(attributes->mode), "mode %o", attributes->mode);
    require(attributes->mtimensec < BILLION, "%u ns", attributes->mtimensec);
}

void kernel_note_entry(kernel *self, const struct fuse_entry_out *entry) {
    check_attributes(&entry->attr);
    require(entry->generation == 0 && entry->entry_valid_nsec < BILLION && entry->attr_valid_nsec < BILLION, "an entry");
    require(entry->nodeid != FUSE_ROOT_ID, "the root has a name");
    kernel_node told = {.id = entry->nodeid,
                        .lookups = 1,
                        .file = file_of(self, &entry->attr),
                        .directory = S_ISDIR(entry->attr.mode)};
    kernel_node *node = kernel_find_node(self, told.id);
    if (node == NULL)
        return add_node(self, &told);
    require(node->file == told.file && node->directory == told.directory, "node %llx is another", (unsigned long long)told.id);
    node->lookups++;
}

static void check_read(const kernel *self, const call *asked, const char *body, size_t length) {
    require(length <= asked->size && length <= (1u << 20), "%zu bytes", length);
    if (asked->file == RIG_NO_FILE)
        return;
    const rig_file *file = &self->rig->world->files[asked->file];
    uint64_t left = asked->offset < file->size ? file->size - asked->offset : 0;
    uint64_t wanted = asked->size < left ? asked->size : left;
    require(length == wanted, "%zu bytes of file %u at %llu, not %llu", length, asked->file,
            (unsigned long long)asked->offset, (unsigned long long)wanted);
    require(length == 0 || memcmp(body, file->bytes + asked->offset, length) == 0, "bytes of file %u at %llu differ",
            asked->file, (unsigned long long)asked->offset);
}

static void check_directory(kernel *self, const call *asked, bool plus, const char *body, size_t length) {
    require(length <= asked->size && length <= (1u << 20), "%zu bytes", length);
    uint64_t position = asked->offset;
    size_t before_name = plus ? FUSE_NAME_OFFSET_DIRENTPLUS : FUSE_NAME_OFFSET;
    for (size_t at = 0; at < length; position++) {
        struct fuse_entry_out entry = {.nodeid = 0};
        struct fuse_dirent dirent;
        require(length - at >= before_name, "%zu bytes are no entry", length - at);
        if (plus)
            memcpy(&entry, body + at, sizeof entry);
        memcpy(&dirent, body + at + before_name - FUSE_NAME_OFFSET, FUSE_NAME_OFFSET);
        const char *name = body + at + before_name;
        require(dirent.namelen > 0 && dirent.namelen <= FF_NAME_BYTES_MAX, "a name of %u", dirent.namelen);
        require(FUSE_DIRENT_ALIGN(before_name + dirent.namelen) <= length - at, "a name of %u", dirent.namelen);
        require(memchr(name, '/', dirent.namelen) == NULL && memchr(name, 0, dirent.namelen) == NULL, "a name");
        require(dirent.off == position + 1 && dirent.ino != 0, "position %llu", (unsigned long long)dirent.off);
        require(position > 1 || entry.nodeid == 0, "a dot is counted");
        if (entry.nodeid != 0)
            kernel_note_entry(self, &entry);
        at += FUSE_DIRENT_ALIGN(before_name + dirent.namelen);
    }
}

/* A node has one way of being open at a time, and one backing file, which stays registered: the kernel says EIO else. */
static void check_mode(const kernel *self, uint64_t node, int32_t backing_id) {
    require(backing_id == 0 || faults_is_backing(backing_id), "backing file %d is not registered", backing_id);
    for (size_t i = 0; i < self->handle_room; i++) {
        const kernel_handle *other = &self->handles[i];
        if (other->fh != 0 && other->open && !other->directory && other->node == node)
            require(other->backing_id == backing_id, "opened by %d and by %d", other->backing_id, backing_id);
    }
}

static void check_open(kernel *self, const call *asked, const char *body) {
    ff_open_out opened;
    memcpy(&opened, body, sizeof opened);
    bool directory = asked->opcode == FUSE_OPENDIR;
    bool passed = !directory && (opened.open_flags & FF_OPEN_PASSTHROUGH) != 0;
    uint32_t may = directory ? FOPEN_CACHE_DIR | FOPEN_KEEP_CACHE : FOPEN_NOFLUSH | (passed ? FF_OPEN_PASSTHROUGH : FOPEN_KEEP_CACHE);
    require((opened.open_flags & ~may) == 0 && (opened.backing_id != 0) == passed, "flags %x", opened.open_flags);
    if (self->strict && !directory)
        check_mode(self, asked->node, passed ? opened.backing_id : 0);
    kernel_note_handle(self, opened.fh, asked->node, directory, opened.backing_id);
}

static void check_forwarded(const call *asked, const char *body, size_t length) {
    require(length <= KERNEL_ANSWER_MAX, "%zu bytes", length);
    for (size_t i = 0; i < length; i++)
        require(body[i] == kernel_byte_of(asked->unique, i), "another's answer");
}

void kernel_check(kernel *self, const call *asked, int error, const char *body, size_t length) {
    if (error != 0) {
        require(length == 0, "opcode %u: an error with %zu bytes", asked->opcode, length);
        return;
    }
    switch (asked->opcode) {
    case FUSE_LOOKUP: {
        struct fuse_entry_out entry;
        require(length == ENTRY_BYTES, "%zu bytes", length);
        memcpy(&entry, body, sizeof entry);
        if (entry.nodeid != 0)
            kernel_note_entry(self, &entry);
        return;
    }
    case FUSE_GETATTR: {
        struct fuse_attr_out attributes;
        require(length == sizeof attributes, "%zu bytes", length);
        memcpy(&attributes, body, sizeof attributes);
        check_attributes(&attributes.attr);
        const kernel_node *node = kernel_find_node(self, asked->node);
        require(node == NULL || node->file == file_of(self, &attributes.attr), "node %llx is another",
                (unsigned long long)asked->node);
        return;
    }
    case FUSE_OPEN:
    case FUSE_OPENDIR:
        require(length == sizeof(ff_open_out), "%zu bytes", length);
        return check_open(self, asked, body);
    case FUSE_READ:
        return check_read(self, asked, body, length);
    case FUSE_READDIR:
    case FUSE_READDIRPLUS:
        return check_directory(self, asked, asked->opcode == FUSE_READDIRPLUS, body, length);
    case FUSE_INIT: {
        ff_init_out agreed;
        require(length == sizeof agreed, "%zu bytes", length);
        memcpy(&agreed, body, sizeof agreed);
        require(agreed.major == FUSE_KERNEL_VERSION, "version %u", agreed.major);
        return;
    }
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FLUSH:
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
    case FUSE_DESTROY:
        require(length == 0, "%zu bytes", length);
        return;
    default:
        return check_forwarded(asked, body, length);
    }
}
