/* Fetches ranges of files under a directory, and of nothing outside of it. */
#ifndef FLUIDFS_FILE_SOURCE_H
#define FLUIDFS_FILE_SOURCE_H

#include <stdbool.h>

#include "counters.h"
#include "source.h"

/* A new source of the directory `root`, or NULL with errno set. Holds `counters`. */
ff_source *ff_file_source_new(const char *root, ff_counters *counters);

/* Opens a regular file for reading by its `path` relative to `root_fd`. With `resolved_by_kernel` symbolic links that
 * stay inside are followed (openat2, Linux 5.6); without, for kernels and seccomp filters that know no openat2, none
 * is. Returns a descriptor or a negative errno: -EXDEV or -ELOOP for an escape, -EISDIR or -EINVAL for what is no
 * regular file, -ENOSYS without openat2. */
int ff_open_beneath(int root_fd, const char *path, bool resolved_by_kernel);

#endif
