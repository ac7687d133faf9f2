/* Finds nodes by their parent and the hash of their name; see name_nodes.h. */
#ifndef FLUIDFS_NAME_HASH_H
#define FLUIDFS_NAME_HASH_H

#include <stdbool.h>
#include <stddef.h>

#include "name_nodes.h"

bool ff_hash_init(ff_names *self);
void ff_hash_free(ff_names *self);
/* Makes the node a named one. */
void ff_hash_add(ff_names *self, ff_node *node);
/* Takes its name from a named node. */
void ff_hash_remove(ff_names *self, ff_node *node);
size_t ff_hash_memory(const ff_names *self);

#endif
