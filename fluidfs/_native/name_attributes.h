/* What the kernel is told of a node: its attributes, and for how long they and its name are to be believed. Pure. */
#ifndef FLUIDFS_NAME_ATTRIBUTES_H
#define FLUIDFS_NAME_ATTRIBUTES_H

#include <stdint.h>
#include <sys/stat.h>

#include "fuse_wire.h"
#include "name_nodes.h"

/* What a node id stands for belongs to one version for ever; a change gives the name another node id. */
#define FF_ATTRIBUTES_VALID_S 3600u

/* What a reader is told to read at once; the kernel's largest READ. */
#define FF_IO_BYTES (1u << 20)

#define FF_NS_PER_S INT64_C(1000000000)

static inline uint32_t ff_mode_of(const ff_names *self, bool is_directory) {
    return is_directory ? S_IFDIR | self->ownership.dir_mode : S_IFREG | self->ownership.file_mode;
}

static inline void ff_fill_attributes(const ff_names *self, const ff_node *node, struct fuse_attr *out) {
    ff_record record = {.size = -1, .mtime_ns = self->ownership.root_mtime_ns};
    if (node->slot != FF_ROOT_SLOT)
        record = ff_node_record(node);
    uint64_t size = record.size < 0 ? 0 : (uint64_t)record.size;
    /* Rounded down: a time before 1970 is a negative second and a positive part of it. */
    int64_t part = record.mtime_ns % FF_NS_PER_S, second = record.mtime_ns / FF_NS_PER_S - (part < 0);
    uint32_t part_ns = (uint32_t)(part < 0 ? part + FF_NS_PER_S : part);
    *out = (struct fuse_attr){
        .ino = node->ino,
        .size = size,
        .blocks = (size + 511) / 512,
        .atime = (uint64_t)second,
        .mtime = (uint64_t)second,
        .ctime = (uint64_t)second,
        .atimensec = part_ns,
        .mtimensec = part_ns,
        .ctimensec = part_ns,
        .mode = ff_mode_of(self, node->is_directory),
        /* Of directories too, as file systems do that do not count subdirectories: `find` then looks into each. */
        .nlink = 1,
        .uid = self->ownership.uid,
        .gid = self->ownership.gid,
        .blksize = FF_IO_BYTES,
    };
}

/* `node` NULL: there is no such name. */
static inline void ff_fill_entry(const ff_names *self, const ff_node *node, int64_t now_ns, int64_t good_until_ns,
                                 struct fuse_entry_out *out) {
    uint64_t valid_ns = good_until_ns > now_ns ? (uint64_t)good_until_ns - (uint64_t)now_ns : 0;
    *out = (struct fuse_entry_out){
        .entry_valid = valid_ns / FF_NS_PER_S,
        .entry_valid_nsec = (uint32_t)(valid_ns % FF_NS_PER_S),
    };
    if (node == NULL)
        return;
    out->nodeid = ff_node_id(node);
    out->attr_valid = FF_ATTRIBUTES_VALID_S;
    ff_fill_attributes(self, node, &out->attr);
}

#endif
