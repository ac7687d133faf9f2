/* XXH3 of the system's library, compiled in so that it may use the instructions that the compiler is told of. */
#ifndef FLUIDFS_CHECKSUM_H
#define FLUIDFS_CHECKSUM_H

#define XXH_INLINE_ALL
#include <xxhash.h>

#endif
