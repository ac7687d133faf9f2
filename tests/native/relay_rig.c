#include "relay_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay_faults.h"

#define BLOCK_BYTES (256u << 10)
/* The largest message that passes; a READ's answer above all. */
#define SOCKET_BYTES (1 << 20)

static const uint8_t boot_id[16] = {1};

/* A file of the cache that the relay uses for a content or a slab, until its id is told as gone. */
struct rig_borrowed {
    uint64_t id;
    ff_object *object;
    ff_slab *slab;
    rig_borrowed *next;
};

static void borrow(rig_mount *self, uint64_t id, ff_object *object, ff_slab *slab) {
    rig_borrowed *borrowed = calloc(1, sizeof *borrowed);
    require(borrowed != NULL, "no memory");
    *borrowed = (rig_borrowed){.id = id, .object = object, .slab = slab, .next = self->borrowed};
    self->borrowed = borrowed;
}

static void give_back(rig_borrowed *borrowed) {
    if (borrowed->object != NULL)
        ff_object_close(borrowed->object);
    if (borrowed->slab != NULL)
        ff_slab_close(borrowed->slab);
    free(borrowed);
}

/* ---- life */

ff_relay_options rig_options(void) {
    ff_relay_options options = {
        .threads = 3,
        .at_device = 1,
        .workers = 2,
        .spin_us = 0,
        .verify = FF_VERIFY_FIRST,
        .wants_passthrough = true,
        .allow_idmap = true,
        .small_max_bytes = RIG_SMALL_BYTES,
        .max_window_bytes = 1u << 20,
        .give_up_ns = 10 * RIG_SECOND_NS,
        .silence_ns = 10 * RIG_SECOND_NS,
    };
    memcpy(options.boot_id, boot_id, sizeof boot_id);
    return options;
}

static void end_tables(rig_mount *self) {
    ff_names_free(self->names);
    self->names = NULL;
    /* What it held it has let go of: nobody else holds any listing now. */
    for (rig_listing *listing = self->listings, *next; listing != NULL; listing = next) {
        next = listing->next;
        free(listing->records);
        free(listing->ends);
        free(listing);
    }
    self->listings = NULL;
    if (self->contents != NULL) {
        if (self->slab_id != 0)
            ff_contents_leave_slab(self->contents, self->slab_id);
        require(ff_contents_count(self->contents) == 0, "%zu contents are referred to", ff_contents_count(self->contents));
        rig_collect(self);
        require(self->borrowed == NULL, "file %llu is in use", (unsigned long long)self->borrowed->id);
        ff_contents_free(self->contents);
    }
    close(self->kernel_fd);
    close(self->unread_fd);
    pthread_mutex_destroy(&self->lock);
}

bool rig_begin(rig_mount *self, rig_world *world, const ff_relay_options *options, bool starts) {
    int ends[2], size = SOCKET_BYTES;
    *self = (rig_mount){.world = world, .options = *options};
    pthread_mutex_init(&self->lock, NULL);
    require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "%s", strerror(errno));
    for (int i = 0; i < 2; i++)
        setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    self->kernel_fd = ends[0];
    self->options.device_fd = ends[1];
    self->unread_fd = fcntl(ends[1], F_DUPFD_CLOEXEC, 0);
    ff_ownership ownership = {.uid = 1, .gid = 2, .file_mode = 0444, .dir_mode = 0555, .root_mtime_ns = 3};
    self->names = ff_names_new(&ownership);
    self->contents = ff_contents_new();
    if (self->names != NULL && self->contents != NULL)
        self->relay = ff_relay_new(&self->options, self->names, self->contents);
    if (self->relay == NULL || (starts && ff_relay_start(self->relay) != 0)) {
        if (self->relay != NULL)
            ff_relay_free(self->relay);
        require(fcntl(ends[1], F_GETFD) >= 0, "the device was closed, though the relay has not started");
        close(ends[1]);
        end_tables(self);
        return false;
    }
    return true;
}

void rig_stop(rig_mount *self) {
    require(ff_relay_stop(self->relay), "a thread is stuck");
    require(faults_backing_count() == 0, "%u backing files are left registered", faults_backing_count());
}

void rig_end(rig_mount *self) {
    ff_relay_free(self->relay);
    end_tables(self);
}

/* ---- contents */

ff_content *rig_content(rig_mount *self, unsigned number, ff_verify verify) {
    const rig_file *file = &self->world->files[number];
    if (file->kind == RIG_SMALL)
        return ff_content_small(self->contents, file->size, verify);
    if (file->kind == RIG_THROUGH)
        return ff_content_through(self->contents, file->size);
    faults_spare(true);
    ff_object *object = NULL;
    int error = ff_object_open(file->data_path, file->map_path, false, file->size, BLOCK_BYTES, "x", 1, boot_id,
                               &self->world->usage, &object);
    require(error == 0, "%s: %s", file->data_path, strerror(-error));
    object->in_ram = false; /* the tests are to go the same ways wherever they lie */
    faults_spare(false);
    pthread_mutex_lock(&self->lock);
    ff_content *content = ff_content_object(self->contents, object, verify);
    faults_spare(true);
    if (content != NULL) {
        content->may_pass = true;
        borrow(self, content->id, object, NULL);
    } else {
        ff_object_close(object);
    }
    faults_spare(false);
    pthread_mutex_unlock(&self->lock);
    return content;
}

void rig_fill(rig_mount *self, unsigned number, uint64_t from, uint64_t to) {
    rig_file *file = &self->world->files[number];
    ff_object_sink sink;
    to = to < file->size ? to : file->size;
    if (from >= to)
        return;
    faults_spare(true);
    require(ff_object_sink_init(&sink, file->object) == 0, "no memory");
    int error = sink.sink.write(&sink.sink, from, file->bytes + from, to - from);
    require(error == 0 || error == -EBUSY, "file %u: %s", number, strerror(-error));
    ff_object_sink_free(&sink);
    faults_spare(false);
}

void rig_empty(rig_mount *self, unsigned number, uint64_t block) {
    rig_file *file = &self->world->files[number];
    faults_spare(true);
    if (block < file->object->block_count)
        ff_object_drop_block(file->object, block, true);
    faults_spare(false);
}

void rig_seal(rig_mount *self, unsigned number) {
    faults_spare(true);
    rig_fill(self, number, 0, UINT64_MAX);
    /* It may be emptied meanwhile. */
    ff_object_seal(self->world->files[number].object, boot_id);
    faults_spare(false);
}

void rig_place(rig_mount *self, unsigned number, ff_content *content) {
    pthread_mutex_lock(&self->lock);
    faults_spare(true);
    ff_slab *slab = NULL;
    if (self->slab_id == 0) {
        int error = ff_slab_open(self->world->slab_path, self->world->index_path, 0, 0, boot_id, &self->world->usage, &slab);
        require(error == 0, "%s: %s", self->world->slab_path, strerror(-error));
        slab->in_ram = false;
        self->slab_id = ff_contents_add_slab(self->contents, slab)->id;
        borrow(self, self->slab_id, NULL, slab);
    }
    for (const rig_borrowed *borrowed = self->borrowed; slab == NULL; borrowed = borrowed->next)
        if (borrowed->id == self->slab_id)
            slab = borrowed->slab;
    const rig_file *file = &self->world->files[number];
    int64_t slot = ff_slab_find(slab, file->key);
    if (slot < 0) /* a read failed, and the record was dropped */
        slot = ff_slab_put(slab, file->key, "x", 1, file->bytes, (uint32_t)file->size);
    if (slot >= 0)
        ff_content_place(content, self->slab_id, (uint64_t)slot);
    faults_spare(false);
    pthread_mutex_unlock(&self->lock);
}

void rig_leave_slab(rig_mount *self) {
    pthread_mutex_lock(&self->lock);
    if (self->slab_id != 0)
        ff_contents_leave_slab(self->contents, self->slab_id);
    self->slab_id = 0;
    pthread_mutex_unlock(&self->lock);
}

void rig_collect(rig_mount *self) {
    uint64_t ids[16];
    size_t count;
    pthread_mutex_lock(&self->lock);
    while ((count = ff_contents_gone(self->contents, ids, 16)) > 0) {
        for (size_t i = 0; i < count; i++) {
            rig_borrowed **link = &self->borrowed, *gone;
            while (*link != NULL && (*link)->id != ids[i])
                link = &(*link)->next;
            if ((gone = *link) != NULL) {
                *link = gone->next;
                give_back(gone);
            }
        }
    }
    while (self->names != NULL && (count = ff_names_gone(self->names, ids, 16)) > 0) {
        for (size_t i = 0; i < count; i++) {
            rig_listing **link = &self->listings;
            while (*link != NULL && (*link)->id != ids[i])
                link = &(*link)->next;
            rig_listing *gone = *link;
            require(gone != NULL, "listing %llu was told as gone twice", (unsigned long long)ids[i]);
            *link = gone->next;
            free(gone->records);
            free(gone->ends);
            free(gone);
        }
    }
    pthread_mutex_unlock(&self->lock);
}
