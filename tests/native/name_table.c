/* What the name table does with contents, and in many threads. Built with sanitizers and run by
 * tests/unit/test_name_table_upkeep.py; argument: how many rounds each thread makes. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "name_table.h"

#define THREADS 4
#define DIRECTORIES 3
#define FILES 12
#define LISTINGS 40
#define FOREVER INT64_MAX

static void require(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "does not hold: %s\n", what);
        exit(1);
    }
}

/* ---- listings in memory of our own */

typedef struct {
    char records[FILES * 64];
    uint32_t ends[FILES];
    ff_listing *listing;
} packed;

static ff_listing *pack(ff_names *names, packed *into, int directories, unsigned version) {
    uint32_t at = 0, count = directories ? DIRECTORIES : FILES;
    for (uint32_t i = 0; i < count; i++) {
        int64_t numbers[2] = {directories ? -1 : 4096 + (int64_t)(version % 2), 1};
        memcpy(into->records + at, numbers, sizeof numbers);
        at += sizeof numbers;
        /* One file in three changes with each version. */
        at += (uint32_t)sprintf(into->records + at, "%c%02u", directories ? 'd' : 'f', i) + 1;
        if (!directories)
            at += (uint32_t)sprintf(into->records + at, "v%u", i % 3 == version % 3 ? version : 0);
        into->ends[i] = at;
    }
    into->listing = ff_names_listing(names, into->records, at, into->ends, false, count);
    require(into->listing != NULL, "what was packed is a listing");
    return into->listing;
}

static uint64_t look_up(ff_names *names, uint64_t parent, const char *name) {
    struct fuse_entry_out entry;
    require(ff_names_lookup(names, parent, name, strlen(name), 0, &entry) == 0, "a name is looked up");
    return entry.nodeid;
}

static ff_names *new_names(void) {
    ff_ownership ownership = {.uid = 1, .gid = 2, .file_mode = 0444, .dir_mode = 0555};
    return ff_names_new(&ownership);
}

/* ---- contents */

static size_t contents_left(ff_contents *contents) {
    uint64_t ids[64];
    while (ff_contents_gone(contents, ids, 64) != 0) {
    }
    return ff_contents_count(contents);
}

static void give(ff_names *names, uint64_t node, ff_content *content, int64_t idle_since_ns) {
    content->idle_since_ns = idle_since_ns;
    require(ff_names_set_content(names, node, content) == 0, "a file takes a content");
    ff_content_drop(content);
}

static int has_content(ff_names *names, uint64_t node) {
    ff_content *content;
    int error = ff_names_content(names, node, &content);
    if (error == 0)
        ff_content_drop(content);
    require(error == 0 || error == -ENODATA, "a file has a content or has none");
    return error == 0;
}

static void check_contents(void) {
    ff_names *names = new_names();
    ff_contents *contents = ff_contents_new();
    packed files, changed;
    ff_names_learn(names, FF_ROOT_NODE, pack(names, &files, 0, 0), FOREVER, FOREVER, NULL, NULL);
    uint64_t nodes[FILES];
    char name[16];
    for (int i = 0; i < FILES; i++) {
        sprintf(name, "f%02d", i);
        nodes[i] = look_up(names, FF_ROOT_NODE, name);
    }
    require(ff_names_set_content(names, FF_ROOT_NODE, NULL) == -EISDIR, "a directory takes no content");
    require(ff_names_set_content(names, 12345, NULL) == -ESTALE, "what is not known takes no content");
    require(!has_content(names, nodes[0]), "a new node has no content");

    give(names, nodes[0], ff_content_through(contents, 1), 0);
    give(names, nodes[0], ff_content_through(contents, 1), 0);
    require(contents_left(contents) == 1, "a content that is replaced is dropped");
    require(ff_names_set_content(names, nodes[0], NULL) == 0, "a content is taken away");
    require(!has_content(names, nodes[0]) && contents_left(contents) == 0, "a content that was taken away is gone");

    /* Idle since 0, 1, 2, …; the last is open, and one is a small file's. */
    for (int i = 0; i < 8; i++)
        give(names, nodes[i], ff_content_through(contents, 1), i);
    give(names, nodes[8], ff_content_small(contents, 1, FF_VERIFY_FIRST), 0);
    ff_content *open;
    require(ff_names_content(names, nodes[7], &open) == 0, "a content is held");
    open->opens = 1;
    require(ff_names_detach_idle(names, 2, SIZE_MAX) == 2, "the ones idle for long are detached");
    require(!has_content(names, nodes[0]) && !has_content(names, nodes[1]), "those that were closed first");
    require(has_content(names, nodes[2]), "and no others");
    require(ff_names_detach_idle(names, 0, 2) == 3, "of the idle ones no more than that many are left");
    require(!has_content(names, nodes[4]) && has_content(names, nodes[5]), "those that were closed last");
    require(ff_names_detach_idle(names, 1000, 0) == 2, "all idle ones are detached");
    require(has_content(names, nodes[7]) && has_content(names, nodes[8]), "what is open, or small, stays");
    open->opens = 0;
    ff_content_drop(open);
    require(ff_names_detach_idle(names, 1000, SIZE_MAX) == 1, "closed, it is detached as well");
    require(ff_names_detach_idle(names, 1000, 0) == 0, "nothing is detached twice");

    /* Kept for what they have, though the kernel forgot them. */
    give(names, nodes[1], ff_content_through(contents, 1), 5);
    ff_names_forget(names, nodes[1], 1);
    ff_names_forget(names, nodes[8], 1);
    ff_names_forget(names, nodes[9], 1);
    require(look_up(names, FF_ROOT_NODE, "f01") == nodes[1], "a content keeps a node that was forgotten");
    require(look_up(names, FF_ROOT_NODE, "f09") != nodes[9], "without one it is gone");
    ff_names_forget(names, nodes[1], 1);
    require(ff_names_detach_idle(names, 6, SIZE_MAX) == 1 && ff_names_size(names, nodes[1]) == -ESTALE,
            "detached, the node goes as well");
    ff_content *held;
    require(ff_names_content(names, nodes[8], &held) == 0, "a small file's content keeps its node");
    ff_names_sweep(names, 1000);
    require(has_content(names, nodes[8]), "what somebody uses is not swept");
    ff_content_drop(held);
    ff_names_sweep(names, 0);
    require(has_content(names, nodes[8]), "what was open just now is not swept");
    ff_names_sweep(names, 1);
    require(ff_names_size(names, nodes[8]) == -ESTALE && contents_left(contents) == 0, "a small file is swept at last");

    /* A node that lost its name keeps its content for those who have it open, and no longer. */
    give(names, nodes[4], ff_content_through(contents, 1), 0);
    give(names, nodes[7], ff_content_through(contents, 1), 0);
    ff_names_forget(names, nodes[7], 1);
    ff_names_learn(names, FF_ROOT_NODE, pack(names, &changed, 0, 1), FOREVER, FOREVER, NULL, NULL);
    require(ff_names_size(names, nodes[7]) == -ESTALE, "forgotten and replaced, it goes");
    require(contents_left(contents) == 1, "and what it had");
    require(has_content(names, nodes[4]), "an old version is read on");
    ff_names_forget(names, nodes[4], 1);
    require(contents_left(contents) == 0, "until it is forgotten");

    give(names, nodes[0], ff_content_small(contents, 1, FF_VERIFY_FIRST), 0);
    give(names, nodes[2], ff_content_through(contents, 1), 0);
    ff_names_drop_listing(names, files.listing);
    ff_names_drop_listing(names, changed.listing);
    ff_names_free(names);
    require(contents_left(contents) == 0, "with the table all of its contents go");
    ff_contents_free(contents);
}

/* ---- threads */

typedef struct {
    ff_names *names;
    ff_contents *contents;
    packed root;
    packed listings[LISTINGS];
    uint64_t rounds;
    uint64_t seed;
    _Atomic int64_t now_ns;
    _Atomic uint64_t changes;
} shared;

typedef struct {
    shared *shared;
    uint64_t state;
} worker;

static uint64_t random_below(uint64_t *state, uint64_t bound) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % bound;
}

static void count_change(void *context, uint64_t parent, const char *name, size_t name_bytes) {
    require(parent > FF_ROOT_NODE && name_bytes == 3 && name[0] == 'f', "names that change are files'");
    atomic_fetch_add(&((shared *)context)->changes, 1);
}

static uint64_t count_lookups(const char *data, size_t length, ff_names *names) {
    uint64_t shown = 0;
    for (size_t at = 0; at < length;) {
        const struct fuse_direntplus *entry = (const struct fuse_direntplus *)(data + at);
        at += FUSE_DIRENTPLUS_SIZE(entry);
        if (entry->entry_out.nodeid != 0) {
            shown++;
            require(entry->entry_out.attr.ino == entry->dirent.ino, "an entry's two numbers are one");
            ff_names_forget(names, entry->entry_out.nodeid, 1);
        }
    }
    return shown;
}

static void use_file(shared *all, uint64_t node, uint64_t *state) {
    ff_names *names = all->names;
    struct fuse_attr_out attributes;
    char path[64];
    require(ff_names_attributes(names, node, &attributes) == 0, "a node that is known has attributes");
    require(ff_names_path(names, node, path, sizeof path) == 7 && path[0] == 'd' && path[4] == 'f', "and a path");
    require(ff_names_size(names, node) == (int64_t)attributes.attr.size, "and a size that does not change");
    ff_listing *listing;
    size_t index;
    require(ff_names_record(names, node, &listing, &index) == 0, "and a record");
    ff_record record = ff_listing_record(listing, index);
    require(record.size == (int64_t)attributes.attr.size && memcmp(record.name, path + 4, 3) == 0, "of its own");
    ff_names_drop_listing(names, listing);
    ff_content *content = random_below(state, 2) != 0 ? ff_content_small(all->contents, 1, FF_VERIFY_FIRST)
                                                      : ff_content_through(all->contents, 1);
    if (random_below(state, 3) == 0)
        require(ff_names_set_content(names, node, content) == 0, "a node that is known takes a content");
    ff_content_drop(content);
    if (ff_names_content(names, node, &content) == 0)
        ff_content_drop(content);
}

static void use_directory(shared *all, uint64_t directory, uint64_t *state) {
    ff_names *names = all->names;
    int64_t now_ns = atomic_load(&all->now_ns);
    _Alignas(8) char data[2048];
    packed *some = &all->listings[random_below(state, LISTINGS)];
    struct fuse_entry_out entry;
    ff_listing *listing;
    int64_t good_until_ns;
    bool unchanged;
    size_t index;
    char name[16];
    sprintf(name, "f%02u", (unsigned)random_below(state, FILES + 2));
    switch (random_below(state, 6)) {
    case 0:
        require(ff_names_learn(names, directory, some->listing, now_ns + 50, now_ns + 25, count_change, all) == 0,
                "a directory that is known learns");
        break;
    case 1:
        if (ff_names_open_directory(names, directory, now_ns, &listing, &good_until_ns, &unchanged) != 0)
            break;
        count_lookups(data, ff_names_read_directory(names, directory, listing, random_below(state, 5), true, now_ns,
                                                    good_until_ns, data, sizeof data),
                      names);
        ff_names_drop_listing(names, listing);
        break;
    case 2:
        ff_names_note_opened(names, directory, some->listing, &unchanged);
        count_lookups(data, ff_names_read_directory(names, directory, some->listing, 2, true, now_ns, now_ns, data,
                                                    sizeof data),
                      names);
        break;
    case 3:
        index = random_below(state, FILES);
        require(ff_names_found(names, directory, some->listing, index, now_ns, now_ns, &entry) == 0,
                "a directory that is known takes answers");
        use_file(all, entry.nodeid, state);
        ff_names_forget(names, entry.nodeid, 1);
        break;
    default:
        if (ff_names_lookup(names, directory, name, 3, now_ns, &entry) != 0 || entry.nodeid == 0)
            break;
        use_file(all, entry.nodeid, state);
        ff_names_forget(names, entry.nodeid, 1);
        break;
    }
}

static void *work(void *argument) {
    worker *self = argument;
    shared *all = self->shared;
    ff_names *names = all->names;
    uint64_t ids[8];
    for (uint64_t round = 0; round < all->rounds; round++) {
        char name[16];
        sprintf(name, "d%02u", (unsigned)random_below(&self->state, DIRECTORIES));
        uint64_t directory = look_up(names, FF_ROOT_NODE, name);
        use_directory(all, directory, &self->state);
        int64_t now_ns = atomic_fetch_add(&all->now_ns, 1);
        switch (random_below(&self->state, 40)) {
        case 0:
            ff_names_sweep(names, now_ns - 60);
            break;
        case 1:
            ff_names_expire(names, directory);
            break;
        case 2:
            ff_names_at(names, "d01/f03", 7);
            ff_names_known(names);
            ff_names_memory(names);
            break;
        case 3:
            if (ff_names_any_due(names))
                ff_names_take_due(names, ids, 8);
            break;
        case 4:
            ff_names_gone(names, ids, 8);
            break;
        default:
            break;
        }
        ff_names_forget(names, directory, 1);
    }
    return NULL;
}

static void *detach(void *argument) {
    shared *all = argument;
    for (uint64_t round = 0; round < all->rounds; round++)
        ff_names_detach_idle(all->names, 1, random_below(&all->seed, 4));
    return NULL;
}

static void check_threads(uint64_t rounds) {
    shared *all = calloc(1, sizeof *all);
    all->names = new_names();
    all->contents = ff_contents_new();
    all->rounds = rounds;
    all->seed = 88172645463325252u;
    ff_names_learn(all->names, FF_ROOT_NODE, pack(all->names, &all->root, 1, 0), FOREVER, FOREVER, NULL, NULL);
    for (unsigned i = 0; i < LISTINGS; i++)
        pack(all->names, &all->listings[i], 0, i / 2);
    pthread_t threads[THREADS + 1];
    worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (worker){.shared = all, .state = 88172645463325252u + (uint64_t)i};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    pthread_create(&threads[THREADS], NULL, detach, all);
    for (int i = 0; i <= THREADS; i++)
        pthread_join(threads[i], NULL);
    require(atomic_load(&all->changes) > 0, "names changed while they were known");
    require(ff_names_known(all->names) == 1, "all that was counted was given back");
    ff_names_detach_idle(all->names, FOREVER, 0);
    ff_names_sweep(all->names, FOREVER);
    require(contents_left(all->contents) == 0, "no content is left");
    require(ff_names_at(all->names, "d00", 3) == 0 && ff_names_at(all->names, "d02", 3) == 0, "no node is left");
    ff_names_drop_listing(all->names, all->root.listing);
    for (unsigned i = 0; i < LISTINGS; i++)
        ff_names_drop_listing(all->names, all->listings[i].listing);
    size_t told = 0;
    uint64_t ids[8];
    for (size_t n; (n = ff_names_gone(all->names, ids, 8)) != 0;)
        told += n;
    require(told == LISTINGS, "every listing but the root's is told to be gone, once");
    ff_names_free(all->names);
    ff_contents_free(all->contents);
    free(all);
}

int main(int argc, char **argv) {
    check_contents();
    check_threads(argc > 1 ? strtoull(argv[1], NULL, 10) : 10000);
    return 0;
}
