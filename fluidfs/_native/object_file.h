/* One object version in the cache: a sparse data file and a mapped map that says which of its bytes are there.
 *
 * The data file holds the object's bytes at their own offsets. The map file is fixed in size and allocated before it is
 * mapped (a page of a hole would raise SIGBUS on a full disk): a header of 4096 bytes, then 32 bytes a block. Little
 * endian. Header:
 *
 *   offset size field
 *        0    8 magic           "FLUIDMAP"
 *        8    4 format          1
 *       12    4 header_bytes    4096
 *       16    8 object_bytes
 *       24    4 block_bytes     a power of two from 256 KiB to 64 MiB
 *       28    4 sub_block_bytes block_bytes / 64
 *       32    8 block_count
 *       40    8 last_use_s      atomic; seconds since the epoch, for eviction
 *       48   16 boot_id         of the boot that last had the version open: partial blocks of another boot are not
 *                               believed, for nothing says that their bytes reached the disk before their bits did
 *       64    4 sealed          atomic; 0: never; 1: the seal below was taken after fdatasync, with every block complete;
 *                               2: it was once, or nearly, and has been broken. But for 0 no block is ever punched: a
 *                               kernel may be reading the file by itself, and would read zeros
 *       68    4 identity_bytes  length of `identity`
 *       72    8 seal_inode      of the data file when sealed, and its other facts
 *       80    8 seal_mtime_ns
 *       88    8 seal_ctime_ns
 *       96   16 seal_boot_id
 *      112    8 identity_checksum  XXH3-64 of bytes 8 to 39, identity_bytes and identity: a torn header is no map
 *      512 3584 identity        who this is, as cache/identity.py writes it
 *
 * Block (32 bytes, at 4096 + 32 * index):
 *
 *        0    8 bits            atomic; sub-block i is present if bit i is set
 *        8    8 checksum        atomic; XXH3-64 of the block's bytes, valid while COMPLETE
 *       16    4 state           atomic; COMPLETE 1 | LEAVING 2 | DOUBTED 4
 *       20    4 pins            atomic; readers and writers inside the block
 *       24    8 drops           atomic; how often the block was made absent
 *
 * Processes: any number of processes map one version. Whoever has it open holds a shared flock on the data file;
 * whoever finds itself alone (exclusive lock) while opening it clears pins and LEAVING that a crash left behind. Files
 * lose their names only under the exclusive lock; after locking, both names must still be those of the files at hand.
 *
 * Order of writing: bytes (pwrite), then bits (release); for a complete block then checksum, then COMPLETE (release).
 * A reader loads state and bits (acquire) before it reads. A crash so leaves an absent block, never a wrong one. After
 * another boot, COMPLETE blocks of a version that was not sealed are DOUBTED: their bytes may not have reached the disk
 * before their states did, so they are compared even by readers that compare nothing else.
 *
 * Leaving: a block is dropped by setting LEAVING, then looking at pins; a reader or writer pins first, then looks at
 * LEAVING. Both sides use sequentially consistent operations, so at least one of them sees the other and steps back.
 * A pin spans one read or write. A writer whose sub-block takes several writes looks at `drops`: has it changed, what it
 * wrote before may have been punched, and its run begins anew.
 */
#ifndef FLUIDFS_OBJECT_FILE_H
#define FLUIDFS_OBJECT_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "map_guard.h"
#include "sink.h"
#include "usage.h"

#define FF_MAP_MAGIC "FLUIDMAP"
#define FF_MAP_FORMAT 1u
#define FF_MAP_HEADER_BYTES 4096u
#define FF_MAP_IDENTITY_OFFSET 512u
#define FF_MAP_IDENTITY_BYTES (FF_MAP_HEADER_BYTES - FF_MAP_IDENTITY_OFFSET)
#define FF_SUB_BLOCKS 64u
#define FF_BLOCK_COMPLETE 1u
#define FF_BLOCK_LEAVING 2u
#define FF_BLOCK_DOUBTED 4u
#define FF_SEALED 1u
#define FF_WAS_SEALED 2u

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t header_bytes;
    uint64_t object_bytes;
    uint32_t block_bytes;
    uint32_t sub_block_bytes;
    uint64_t block_count;
    _Atomic uint64_t last_use_s;
    uint8_t boot_id[16];
    _Atomic uint32_t sealed;
    uint32_t identity_bytes;
    uint64_t seal_inode;
    int64_t seal_mtime_ns;
    int64_t seal_ctime_ns;
    uint8_t seal_boot_id[16];
    uint64_t identity_checksum;
    uint8_t reserved[FF_MAP_IDENTITY_OFFSET - 120];
    char identity[FF_MAP_IDENTITY_BYTES];
} ff_map_header;

typedef struct {
    _Atomic uint64_t bits;
    _Atomic uint64_t checksum;
    _Atomic uint32_t state;
    _Atomic uint32_t pins;
    _Atomic uint64_t drops;
} ff_block;

_Static_assert(sizeof(ff_map_header) == FF_MAP_HEADER_BYTES, "the header is a page");
_Static_assert(offsetof(ff_map_header, identity) == FF_MAP_IDENTITY_OFFSET, "as the table above says");
_Static_assert(offsetof(ff_map_header, identity_checksum) == 112, "as the table above says");
_Static_assert(sizeof(ff_block) == 32, "as the table above says");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "processes share these: no lock may be hidden");

/* When a complete block's checksum is compared with its bytes. */
typedef enum { FF_VERIFY_FIRST, FF_VERIFY_ALWAYS, FF_VERIFY_NEVER } ff_verify;

/* The sizes are the process's own copy: the map is a file, and may change under us. */
typedef struct {
    int data_fd;
    bool in_ram; /* reading the data file waits for no disk */
    uint64_t object_bytes;
    uint64_t block_count;
    uint32_t block_bytes;
    uint32_t sub_block_bytes;
    ff_map_header *header; /* the whole map, mapped shared */
    ff_block *blocks;
    size_t map_bytes;
    uint64_t map_inode;
    ff_map_guard *guard; /* of the map; after a hit nothing is read, kept or dropped any more */
    _Atomic uint8_t *verified; /* per block: this process compared it, or trusts the seal */
    ff_usage *usage;           /* of the level; outlives the object */
    _Atomic uint64_t bad_blocks;
} ff_object;

/* Opens (or with `create` makes) the version whose files are `data_path` and `map_path`.
 *
 * Returns 0 and an object that ff_object_close frees, or a negative errno: -ENOENT (not there, and create is false),
 * -EUCLEAN (there, but not a version of this format, identity and sizes: to be removed), -EBUSY (another process held
 * the exclusive lock for a second), or that of the call that failed. `boot_id` has 16 bytes. */
int ff_object_open(const char *data_path, const char *map_path, bool create, uint64_t object_bytes,
                   uint32_t block_bytes, const void *identity, uint32_t identity_bytes, const uint8_t *boot_id,
                   ff_usage *usage, ff_object **out);

/* No other call may be under way or follow. The lock goes with the descriptor. */
void ff_object_close(ff_object *self);

/* The first extent at or after `offset`, before `end`, whose sub-blocks are absent, widened to sub-blocks and cut at
 * the object's end. Returns false when there is none. */
bool ff_object_next_missing(const ff_object *self, uint64_t offset, uint64_t end, uint64_t *from, uint64_t *to);

/* Reads up to `length` bytes at `offset` into `out` (cut at the object's end; returns how many).
 *
 * -ENODATA   not all of it is present
 * -EAGAIN    `nowait`, and it would have to wait for the disk or compare a checksum
 * -EBADMSG   a block did not match its checksum, or the file was cut short; it was dropped and counted
 * -EIO       the disk could not give it; dropped and counted like a wrong one, so that it is written anew
 * other      the system's own error; to be treated as a miss */
int64_t ff_object_read(ff_object *self, uint64_t offset, void *out, size_t length, ff_verify verify, bool nowait);

/* Compares one block with its checksum. 1: right; 0: not complete, nothing to compare; -EBADMSG: wrong, -EIO: not to be
 * had from the disk, both dropped and counted; another negative errno. */
int ff_object_verify_block(ff_object *self, uint64_t index);

/* Makes one block absent, and with `punch` gives its space back. Returns the bytes that were present; -EBUSY when it
 * is in use, -EALREADY when somebody else is dropping it, -EUCLEAN when the map is damaged, -EPERM with `punch` when the
 * version is sealed or ever was; another negative errno when its space did not come back, though it is absent. A seal
 * ends with it. */
int64_t ff_object_drop_block(ff_object *self, uint64_t index, bool punch);

/* Bytes present, counted from the bits. */
uint64_t ff_object_present_bytes(const ff_object *self);

/* Whether every byte is present. */
bool ff_object_complete(const ff_object *self);

/* Whether nobody else has the version open; if so, nobody else can open it until this object is closed. The lock is
 * lost when the answer is no, so close the object after either answer. */
bool ff_object_alone(ff_object *self);

/* Seals a complete version: takes the checksums that a killed writer left out, compares what this process has not
 * compared yet, fdatasync, then the seal. Waits for the disk. 0, -EINVAL if not complete, -EBADMSG if a block was wrong,
 * or an errno. */
int ff_object_seal(ff_object *self, const uint8_t *boot_id);

/* Whether the seal is there and the data file is still the one that was sealed. Then (and with `trust`) every block
 * counts as verified; when the seal is broken, no block does any more. */
bool ff_object_seal_holds(ff_object *self, const uint8_t *boot_id, bool trust);

void ff_object_touch(ff_object *self, uint64_t now_s);

/* A sink that keeps what it is given. It may start and end anywhere; only sub-blocks written whole become present. What
 * is present already is not written again, for that would end a seal. Its errors, but for the disk's own: -EBUSY when a
 * block is being dropped for too long, -EUCLEAN when the map was damaged under us.
 * Borrows `object`. */
typedef struct {
    ff_sink sink;
    ff_object *object;
    uint64_t run_from;    /* start of the bytes that were written without a gap */
    uint64_t run_to;      /* and their end */
    uint64_t block;       /* that the last write was in */
    uint64_t drops;       /* of that block, as it was then */
    void *hash;           /* XXH3_state_t *, aligned, owned */
    uint64_t hashed_from; /* the running hash covers [hashed_from, hashed_to) */
    uint64_t hashed_to;
} ff_object_sink;

/* 0 or -ENOMEM. */
int ff_object_sink_init(ff_object_sink *self, ff_object *object);
void ff_object_sink_free(ff_object_sink *self);

/* XXH3-64 with seed 0, the checksum of all that the cache holds. */
uint64_t ff_checksum(const void *data, size_t length);

#endif
