/* What of the FUSE protocol <linux/fuse.h> may lack: the headers that we build with are older than the kernels we run on.
 *
 * Facts from the kernel's include/uapi/linux/fuse.h at protocol 7.43; structures that grew since are declared anew under
 * our own names, with their sizes asserted. Everything is in the machine's byte order: the kernel talks to itself. */
#ifndef FLUIDFS_FUSE_WIRE_H
#define FLUIDFS_FUSE_WIRE_H

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/ioctl.h>

/* INIT's flags that are newer than 7.38; above bit 31 they are in `flags2`. */
#define FF_INIT_EXT (UINT64_C(1) << 30)
#define FF_INIT_PASSTHROUGH (UINT64_C(1) << 37)
#define FF_INIT_NO_EXPORT_SUPPORT (UINT64_C(1) << 38)
#define FF_INIT_HAS_RESEND (UINT64_C(1) << 39)
#define FF_INIT_ALLOW_IDMAP (UINT64_C(1) << 40)
#define FF_INIT_REQUEST_TIMEOUT (UINT64_C(1) << 42)

/* OPEN's flags that are newer than 7.38. */
#define FF_OPEN_PASSTHROUGH (1u << 7)

/* Set in `unique` of a request that is delivered again (NOTIFY_RESEND). */
#define FF_UNIQUE_RESENT (UINT64_C(1) << 63)

/* INIT's answer since 7.41; kernels that know less read less of it. */
typedef struct {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint16_t max_background;
    uint16_t congestion_threshold;
    uint32_t max_write;
    uint32_t time_gran;
    uint16_t max_pages;
    uint16_t map_alignment;
    uint32_t flags2;
    uint32_t max_stack_depth;
    uint16_t request_timeout_s;
    uint16_t unused[11];
} ff_init_out;
_Static_assert(sizeof(ff_init_out) == 64, "as the kernel has it");

/* OPEN's answer since 7.40. */
typedef struct {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
} ff_open_out;
_Static_assert(sizeof(ff_open_out) == sizeof(struct fuse_open_out), "as the kernel has it");

/* Registering a file that the kernel reads by itself; needs CAP_SYS_ADMIN. */
typedef struct {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
} ff_backing_map;
#define FF_DEV_IOC_BACKING_OPEN _IOW(229, 1, ff_backing_map)
#define FF_DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)
#define FF_DEV_IOC_CLONE _IOR(229, 0, uint32_t)

#endif
