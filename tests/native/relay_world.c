#include "relay_rig.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "relay_faults.h"

#define BLOCK_BYTES (256u << 10)
#define SLOTS 65536u
#define SLAB_BYTES (1u << 30) /* sparse */

static const uint8_t boot_id[16] = {1};

void rig_fail(const char *file, int line, const char *what, const char *format, ...) {
    va_list values;
    fprintf(stderr, "%s:%d: does not hold: %s: ", file, line, what);
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}

uint64_t rig_next(rig_random *random) {
    uint64_t mixed = *random += UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ mixed >> 31;
}

static char *path_of(const char *directory, const char *kind, unsigned number) {
    char *path = NULL;
    require(asprintf(&path, "%s/%u.%s", directory, number, kind) > 0, "no memory");
    return path;
}

static void make_file(rig_world *world, unsigned number) {
    static const struct {
        rig_kind kind;
        uint64_t size;
    } kinds[RIG_FILES] = {
        {RIG_OBJECT, RIG_LARGE_BYTES}, {RIG_OBJECT, BLOCK_BYTES},   {RIG_OBJECT, 100001}, {RIG_OBJECT, 20000},
        {RIG_SMALL, 1},                {RIG_SMALL, 4097},           {RIG_SMALL, 0},       {RIG_SMALL, RIG_SMALL_BYTES},
        {RIG_THROUGH, 70000},          {RIG_THROUGH, RIG_SMALL_BYTES + 1},
    };
    rig_file *file = &world->files[number];
    rig_random random = number + 1;
    *file = (rig_file){.kind = kinds[number].kind, .size = kinds[number].size};
    file->bytes = malloc(file->size + 1);
    require(file->bytes != NULL, "no memory");
    for (uint64_t i = 0; i < file->size; i++)
        file->bytes[i] = (char)rig_next(&random);
    memset(file->key, (int)(number + 1), sizeof file->key);
    if (file->kind != RIG_OBJECT)
        return;
    file->data_path = path_of(world->directory, "data", number);
    file->map_path = path_of(world->directory, "map", number);
    int error = ff_object_open(file->data_path, file->map_path, true, file->size, BLOCK_BYTES, "x", 1, boot_id, &world->usage,
                               &file->object);
    require(error == 0, "%s: %s", file->data_path, strerror(-error));
}

void rig_world_make(rig_world *world, const char *directory) {
    faults_spare(true);
    *world = (rig_world){.directory = strdup(directory), .usage = {.quota_bytes = UINT64_MAX}};
    for (unsigned number = 0; number < RIG_FILES; number++)
        make_file(world, number);
    world->slab_path = path_of(directory, "slab", 0);
    world->index_path = path_of(directory, "idx", 0);
    ff_slab *slab = NULL;
    int error = ff_slab_open(world->slab_path, world->index_path, SLOTS, SLAB_BYTES, boot_id, &world->usage, &slab);
    require(error == 0, "%s: %s", world->slab_path, strerror(-error));
    for (unsigned number = 0; number < RIG_FILES; number++) {
        const rig_file *file = &world->files[number];
        if (file->kind == RIG_SMALL && file->size > 0)
            require(ff_slab_put(slab, file->key, "x", 1, file->bytes, (uint32_t)file->size) >= 0, "file %u", number);
    }
    ff_slab_close(slab);
    faults_spare(false);
}

void rig_world_end(rig_world *world) {
    for (unsigned number = 0; number < RIG_FILES; number++) {
        rig_file *file = &world->files[number];
        if (file->object != NULL)
            ff_object_close(file->object);
        free(file->bytes);
        free(file->data_path);
        free(file->map_path);
    }
    free(world->slab_path);
    free(world->index_path);
    free(world->directory);
}

unsigned rig_file_of(uint64_t mtime_s, uint32_t mtime_ns) {
    return mtime_s > 0 && mtime_s <= RIG_FILES && mtime_ns == mtime_s ? (unsigned)mtime_s - 1 : RIG_NO_FILE;
}

/* ---- listings */

static void put_number(char *at, uint64_t number) {
    for (unsigned i = 0; i < 8; i++)
        at[i] = (char)(number >> (8 * i));
}

/* size, time, name, NUL, version */
static size_t put_record(const rig_world *world, char *at, const rig_entry *entry) {
    bool is_file = entry->file != RIG_NO_FILE;
    size_t name_bytes = strlen(entry->name);
    put_number(at, is_file ? world->files[entry->file].size : UINT64_MAX);
    put_number(at + 8, is_file ? (entry->file + 1) * UINT64_C(1000000001) : 5);
    memcpy(at + 16, entry->name, name_bytes + 1);
    if (is_file)
        at[16 + name_bytes + 1] = (char)('a' + entry->file);
    return 16 + name_bytes + 1 + is_file;
}

rig_listing *rig_list(rig_mount *self, const rig_entry *entries, size_t count, bool wide,
                      void (*mangle)(void *context, char *records, size_t records_bytes, void *ends, size_t ends_bytes),
                      void *context) {
    faults_spare(true);
    rig_listing *listed = calloc(1, sizeof *listed);
    size_t end_bytes = wide ? sizeof(uint64_t) : sizeof(uint32_t), room = 1;
    for (size_t i = 0; i < count; i++)
        room += 16 + strlen(entries[i].name) + 2;
    char *records = malloc(room), *ends = malloc(count * end_bytes + 1);
    require(listed != NULL && records != NULL && ends != NULL, "no memory");
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += put_record(self->world, records + used, &entries[i]);
        uint64_t end = used; /* this machine's order is little endian, as is the listing's */
        memcpy(ends + i * end_bytes, &end, end_bytes);
    }
    if (mangle != NULL)
        mangle(context, records, used, ends, count * end_bytes);
    /* As short as it is said to be: what is read past it is seen. */
    records = realloc(records, used > 0 ? used : 1);
    faults_spare(false);
    ff_listing *listing = ff_names_listing(self->names, records, used, ends, wide, count);
    if (listing == NULL) {
        free(records);
        free(ends);
        free(listed);
        return NULL;
    }
    *listed = (rig_listing){.listing = listing, .id = listing->id, .count = count, .records = records, .ends = ends};
    pthread_mutex_lock(&self->lock);
    listed->next = self->listings;
    self->listings = listed;
    pthread_mutex_unlock(&self->lock);
    return listed;
}

void rig_drop_listing(rig_mount *self, rig_listing *listing) { ff_names_drop_listing(self->names, listing->listing); }
