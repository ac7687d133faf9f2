/* Threads read contents while others place them, leave their slabs, drop them and collect what has gone. Built with
 * sanitizers and run by tests/unit/test_content.py; arguments: an empty directory, how many seconds.
 *
 * What has gone is freed or overwritten at once, so whoever uses it too long is found out. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "content.h"

enum { FILES = 8, READERS = 3, SMALL_BYTES = 3000, SLABS_KEPT = 3, LARGE_BYTES = 300000 };

static const uint8_t BOOT_ID[16] = "a boot of a test";
static ff_contents *contents;
static ff_usage usage;
static const char *directory;
static double end_s;
/* The ids that stand for the files now. */
static _Atomic uint64_t small[FILES];
static _Atomic uint64_t large;
static _Atomic uint64_t slab_ids[SLABS_KEPT];
static _Atomic uint32_t slots[SLABS_KEPT][FILES];
static _Atomic uint64_t hits;

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "does not hold: %s (%s)\n", what, strerror(errno));
        exit(1);
    }
}

static uint32_t random_below(uint64_t *state, uint32_t bound) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state % bound);
}

/* Every byte of a file says which file it is of. */
static uint8_t byte_of(uint32_t file) { return (uint8_t)(17 + file); }

static void check(const uint8_t *bytes, int64_t count, uint32_t file) {
    for (int64_t i = 0; i < count; i++)
        require(bytes[i] == byte_of(file), "bytes are those of the file");
}

static void *read_files(void *argument) {
    uint64_t state = 88172645463325252u + (uintptr_t)argument;
    static _Thread_local uint8_t out[LARGE_BYTES];
    while (now_s() < end_s) {
        uint32_t file = random_below(&state, FILES + 1);
        ff_content *content = ff_contents_find(contents, file == FILES ? large : small[file]);
        if (content == NULL)
            continue; /* dropped just now */
        uint64_t offset = random_below(&state, 2) != 0 ? 0 : random_below(&state, SMALL_BYTES);
        bool nowait = random_below(&state, 3) == 0;
        int64_t n = ff_content_read(content, offset, out, sizeof out, nowait);
        require(n == (int64_t)(content->size - offset) || n == -ENODATA || (n == -EAGAIN && nowait), "a read's answer");
        check(out, n, file);
        if (n > 0)
            atomic_fetch_add(&hits, 1);
        ff_content_present(content, 0, content->size);
        ff_content_sealed(content, BOOT_ID);
        ff_content_drop(content);
    }
    return NULL;
}

static void *place_files(void *argument) {
    uint64_t state = 99172645463325252u + (uintptr_t)argument;
    while (now_s() < end_s) {
        uint32_t file = random_below(&state, FILES), which = random_below(&state, SLABS_KEPT);
        ff_content *content = ff_contents_find(contents, small[file]);
        uint32_t slot = slots[which][file];
        if (content == NULL)
            continue;
        /* The slot may be that of the slab before: its slots are the same, for the same was stored in the same order. */
        if (random_below(&state, 4) != 0)
            ff_content_place(content, slab_ids[which], slot);
        else
            ff_content_unplace(content, slab_ids[which], slot);
        ff_content_drop(content);
    }
    return NULL;
}

static void *replace_contents(void *argument) {
    uint64_t state = 77172645463325252u + (uintptr_t)argument;
    while (now_s() < end_s) {
        uint32_t file = random_below(&state, FILES);
        ff_content *made = ff_content_small(contents, SMALL_BYTES, (ff_verify)random_below(&state, 3));
        require(made != NULL, "memory");
        uint64_t id = made->id;
        ff_content *old = ff_contents_find(contents, small[file]);
        atomic_store(&small[file], id);
        /* Of the old one: what finding it took, and what making it did. */
        ff_content_drop(old);
        ff_content_drop(old);
    }
    return NULL;
}

static ff_slab *new_slab(uint32_t generation) {
    char data[4096], index[4096];
    snprintf(data, sizeof data, "%s/%u.slab", directory, generation);
    snprintf(index, sizeof index, "%s/%u.idx", directory, generation);
    ff_slab *slab = NULL;
    require(ff_slab_open(data, index, 64, 1 << 20, BOOT_ID, &usage, &slab) == 0, "a slab is made");
    unlink(data);
    unlink(index);
    return slab;
}

static ff_slab *slab_of[SLABS_KEPT];
static ff_slab *leaving[SLABS_KEPT + 1];
static uint64_t leaving_ids[SLABS_KEPT + 1];

/* Closes the slabs that are told to have gone. */
static void collect(void) {
    uint64_t ids[5];
    size_t count;
    while ((count = ff_contents_gone(contents, ids, 5)) != 0)
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j <= SLABS_KEPT; j++)
                if (ids[i] < FF_CONTENT_IDS && leaving_ids[j] == ids[i]) {
                    ff_slab_close(leaving[j]);
                    leaving_ids[j] = 0;
                }
}

static void *turn_slabs_over(void *argument) {
    (void)argument;
    uint8_t bytes[SMALL_BYTES];
    for (uint32_t generation = 0; now_s() < end_s || generation < SLABS_KEPT; generation++) {
        uint32_t which = generation % SLABS_KEPT;
        ff_slab *slab = new_slab(generation);
        for (uint32_t file = 0; file < FILES; file++) {
            uint8_t key[16] = {byte_of(file)};
            memset(bytes, byte_of(file), sizeof bytes);
            int64_t slot = ff_slab_put(slab, key, "who", 3, bytes, sizeof bytes);
            require(slot >= 0, "an object is stored");
            atomic_store(&slots[which][file], (uint32_t)slot);
        }
        ff_slab_use *use = ff_contents_add_slab(contents, slab);
        require(use != NULL, "a slab is known");
        uint64_t old = atomic_exchange(&slab_ids[which], use->id);
        if (old != 0) {
            size_t place = 0;
            while (leaving_ids[place] != 0) {
                place = (place + 1) % (SLABS_KEPT + 1);
                if (place == 0)
                    collect(); /* a read of it is under way */
            }
            leaving[place] = slab_of[which];
            leaving_ids[place] = old;
            ff_contents_leave_slab(contents, old);
        }
        slab_of[which] = slab;
        uint64_t used[2];
        ff_contents_used_slabs(contents, used, 2);
        collect();
    }
    return NULL;
}

static ff_object *make_large(void) {
    char data[4096], map[4096];
    snprintf(data, sizeof data, "%s/v.data", directory);
    snprintf(map, sizeof map, "%s/v.map", directory);
    ff_object *object = NULL;
    require(ff_object_open(data, map, true, LARGE_BYTES, 256 << 10, "who", 3, BOOT_ID, &usage, &object) == 0, "a file");
    ff_object_sink sink;
    static uint8_t bytes[LARGE_BYTES];
    memset(bytes, byte_of(FILES), sizeof bytes);
    require(ff_object_sink_init(&sink, object) == 0 && sink.sink.write(&sink.sink, 0, bytes, sizeof bytes) == 0, "bytes");
    ff_object_sink_free(&sink);
    require(ff_object_seal(object, BOOT_ID) == 0, "it is sealed");
    return object;
}

int main(int count, char **arguments) {
    require(count == 3, "a directory and seconds are given");
    directory = arguments[1];
    contents = ff_contents_new();
    ff_object *object = make_large();
    ff_content *first = ff_content_object(contents, object, FF_VERIFY_FIRST);
    large = first->id;
    for (uint32_t file = 0; file < FILES; file++)
        small[file] = ff_content_small(contents, SMALL_BYTES, FF_VERIFY_FIRST)->id;
    end_s = now_s() + atof(arguments[2]);
    pthread_t threads[READERS + 3];
    for (uintptr_t i = 0; i < READERS + 3; i++) {
        void *(*act)(void *) = i < READERS         ? read_files
                               : i == READERS      ? place_files
                               : i == READERS + 1u ? replace_contents
                                                   : turn_slabs_over;
        require(pthread_create(&threads[i], NULL, act, (void *)i) == 0, "a thread");
    }
    for (size_t i = 0; i < READERS + 3; i++)
        pthread_join(threads[i], NULL);
    require(hits > 0, "some reads found their bytes");
    require(ff_contents_count(contents) == FILES + 1, "all references were given back");
    ff_content_drop(first);
    for (uint32_t file = 0; file < FILES; file++) {
        ff_content *content = ff_contents_find(contents, small[file]);
        ff_content_drop(content);
        ff_content_drop(content);
    }
    for (size_t i = 0; i < SLABS_KEPT; i++) {
        leaving_ids[i] = slab_ids[i];
        leaving[i] = slab_of[i];
        ff_contents_leave_slab(contents, slab_ids[i]);
    }
    collect();
    for (size_t i = 0; i < SLABS_KEPT; i++)
        require(leaving_ids[i] == 0, "a slab without readers has gone");
    require(ff_contents_count(contents) == 0, "no content is left");
    ff_contents_free(contents);
    ff_object_close(object);
    return 0;
}
