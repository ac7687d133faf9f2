/* What a directory's node knows of its listing; see name_nodes.h. */
#ifndef FLUIDFS_NAME_DIRECTORY_H
#define FLUIDFS_NAME_DIRECTORY_H

#include <stdint.h>

#include "name_nodes.h"

/* The directory, if it has a listing that is good now; else NULL. */
static inline ff_directory *ff_directory_good(const ff_node *node, int64_t now_ns) {
    ff_directory *directory = node->directory;
    return directory != NULL && directory->listing != NULL && now_ns < directory->good_until_ns ? directory : NULL;
}

/* Its listing is used: has it told if it is due for renewal, and was not told. */
void ff_directory_note_use(ff_names *self, ff_node *node, int64_t now_ns);

#endif
