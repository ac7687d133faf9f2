/* Python, which drains what is asked and answers it: mostly rightly, sometimes late, twice, never, or to another question.
 * What it never does is to give other bytes than those of the file: those are its own to be right. */
#include "fuzz_parts.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define ROUND_MS 20
#define PUT_OFF 32u

typedef struct {
    fuzz_session *session;
    rig_random random;
    ff_ask put_off[PUT_OFF]; /* to be answered some time */
    size_t put_off_count;
    uint64_t last_ticket;
} python;

/* ---- what it knows */

unsigned fuzz_file_of(fuzz_session *self, rig_random *random, unsigned number) {
    return self->sane ? number : (unsigned)rig_below(random, RIG_FILES);
}

static void mangle(void *context, char *records, size_t records_bytes, void *ends, size_t ends_bytes) {
    rig_random *random = context;
    for (uint64_t changes = 1 + rig_below(random, 4); changes > 0; changes--) {
        bool of_ends = rig_one_in(random, 3);
        size_t bytes = of_ends ? ends_bytes : records_bytes;
        if (bytes > 0)
            ((char *)(of_ends ? ends : records))[rig_below(random, bytes)] ^= (char)(1 << rig_below(random, 8));
    }
}

rig_listing *fuzz_list(fuzz_session *self, rig_random *random) {
    rig_entry entries[FUZZ_DIRECTORIES + RIG_FILES + 1];
    size_t count = 0;
    for (unsigned number = 0; number < FUZZ_DIRECTORIES + RIG_FILES; number++) {
        if (!self->sane && rig_one_in(random, 4))
            continue;
        rig_entry *entry = &entries[count++];
        bool directory = number < FUZZ_DIRECTORIES;
        entry->file = directory ? RIG_NO_FILE : fuzz_file_of(self, random, number - FUZZ_DIRECTORIES);
        if (!self->sane && rig_one_in(random, 20)) /* what was a directory is a file now, or the other way round */
            entry->file = directory ? (unsigned)rig_below(random, RIG_FILES) : RIG_NO_FILE;
        snprintf(entry->name, sizeof entry->name, directory ? "d%u" : "f%02u", directory ? number : number - FUZZ_DIRECTORIES);
    }
    if (!self->sane && rig_one_in(random, 3)) {
        rig_entry *longest = &entries[count++];
        longest->file = RIG_NO_FILE;
        memset(longest->name, 'n', FF_NAME_BYTES_MAX);
        longest->name[FF_NAME_BYTES_MAX] = 0;
    }
    bool mangled = !self->sane && rig_one_in(random, 15);
    return rig_list(&self->mount, entries, count, rig_one_in(random, 2), mangled ? mangle : NULL, random);
}

static int64_t any_time_ns(python *self) {
    static const int64_t times[] = {0, 1000000, 20000000, 10 * RIG_SECOND_NS};
    return self->session->sane && rig_one_in(&self->random, 2) ? 10 * RIG_SECOND_NS : times[rig_below(&self->random, 4)];
}

/* The kernel is told by the relay, as it is by Python's. */
static void forget_name(void *context, uint64_t parent, const char *name, size_t name_bytes) {
    ff_relay_forget_name(context, parent, name, name_bytes);
}

static void learn(python *self, uint64_t node, const rig_listing *listing, int64_t good_for_ns) {
    int64_t now_ns = ff_monotonic_ns();
    ff_names_learn(self->session->mount.names, node, listing->listing, now_ns + good_for_ns, now_ns + good_for_ns / 2,
                   forget_name, self->session->mount.relay);
}

/* The file that a node stands for; RIG_NO_FILE: none, or one that nobody knows. */
static unsigned file_of(python *self, uint64_t node) {
    ff_listing *listing;
    size_t index;
    rig_mount *mount = &self->session->mount;
    if (ff_names_record(mount->names, node, &listing, &index) != 0)
        return RIG_NO_FILE;
    ff_record record = ff_listing_record(listing, index);
    unsigned file = RIG_NO_FILE;
    if (record.mtime_ns > 0)
        file = rig_file_of((uint64_t)record.mtime_ns / 1000000000, (uint32_t)(record.mtime_ns % 1000000000));
    if (file != RIG_NO_FILE && mount->world->files[file].size != (uint64_t)record.size)
        file = RIG_NO_FILE;
    ff_names_drop_listing(mount->names, listing);
    return file;
}

/* ---- right answers */

static void answer_names(python *self, const ff_ask *ask) {
    ff_relay *relay = self->session->mount.relay;
    int64_t good_for_ns = any_time_ns(self);
    rig_listing *listing = fuzz_list(self->session, &self->random);
    if (listing == NULL)
        return ff_relay_fail(relay, ask->ticket, EIO);
    if (!rig_one_in(&self->random, 4))
        learn(self, ask->node, listing, good_for_ns);
    int64_t index = ff_listing_find(listing->listing, ask->name, ask->name_bytes);
    if (ask->kind == FF_ASK_DIRECTORY)
        ff_relay_directory(relay, ask->ticket, listing->listing, good_for_ns);
    else if (ask->kind == FF_ASK_LOOKUP && index >= 0)
        ff_relay_found(relay, ask->ticket, listing->listing, (size_t)index, good_for_ns);
    else if (ask->kind == FF_ASK_LOOKUP)
        ff_relay_missing(relay, ask->ticket, good_for_ns);
    rig_drop_listing(&self->session->mount, listing);
}

static void answer_open(python *self, const ff_ask *ask) {
    rig_mount *mount = &self->session->mount;
    unsigned file = file_of(self, ask->node);
    if (file == RIG_NO_FILE)
        return ff_relay_fail(mount->relay, ask->ticket, ESTALE);
    ff_content *content = rig_content(mount, file, (ff_verify)rig_below(&self->random, 3));
    if (content == NULL)
        return ff_relay_fail(mount->relay, ask->ticket, ENOMEM);
    if (rig_one_in(&self->random, 2) && mount->world->files[file].kind == RIG_SMALL)
        rig_place(mount, file, content);
    ff_relay_opened(mount->relay, ask->ticket, content);
    ff_content_drop(content);
}

static void give(python *self, const ff_ask *ask, unsigned number) {
    const rig_file *file = &self->session->mount.world->files[number];
    uint64_t left = ask->offset < file->size ? file->size - ask->offset : 0;
    /* All that is left is more than was asked for. */
    size_t length = !rig_one_in(&self->random, 3) && ask->length < left ? ask->length : left;
    ff_relay_give(self->session->mount.relay, ask->ticket, file->bytes + ask->offset, length);
}

static void answer_read(python *self, const ff_ask *ask) {
    rig_mount *mount = &self->session->mount;
    rig_random *random = &self->random;
    unsigned number = file_of(self, ask->node);
    if (number == RIG_NO_FILE) /* forgotten, though it is open: it was never the kernel that did so */
        return ff_relay_fail(mount->relay, ask->ticket, ESTALE);
    rig_kind kind = mount->world->files[number].kind;
    if (kind == RIG_THROUGH || ask->tries > 3 || rig_one_in(random, 12))
        return give(self, ask, number);
    if (kind == RIG_OBJECT && !(rig_one_in(random, 10) && !self->session->sane)) {
        rig_fill(mount, number, ask->offset & ~UINT64_C(0xffff), ask->offset + ask->length + 65536);
        rig_fill(mount, number, ask->ahead_from, ask->ahead_to);
    } else if (kind == RIG_SMALL) {
        ff_content *content = ff_contents_find(mount->contents, ask->content_id);
        if (content != NULL)
            rig_place(mount, number, content);
        ff_content_drop(content);
    }
    ff_relay_retry(mount->relay, ask->ticket);
    if (rig_one_in(random, 4)) /* it landed once more */
        ff_relay_retry(mount->relay, ask->ticket);
    if (rig_one_in(random, 4)) /* and there it is besides */
        give(self, ask, number);
}

static void answer(python *self, const ff_ask *ask) {
    unsigned file;
    switch (ask->kind) {
    case FF_ASK_LOOKUP:
    case FF_ASK_DIRECTORY:
    case FF_ASK_DUE:
        return answer_names(self, ask);
    case FF_ASK_OPEN:
        return answer_open(self, ask);
    case FF_ASK_READ:
        return answer_read(self, ask);
    case FF_ASK_AHEAD:
        file = file_of(self, ask->node);
        require(ask->ahead_from < ask->ahead_to, "nothing is to be fetched ahead");
        if (file != RIG_NO_FILE && self->session->mount.world->files[file].kind == RIG_OBJECT)
            rig_fill(&self->session->mount, file, ask->ahead_from, ask->ahead_to);
        return;
    default:
        require(false, "ask %d", (int)ask->kind);
    }
}

/* ---- other answers */

static void answer_another_question(python *self, const ff_ask *ask) {
    static const ff_ask_kind kinds[] = {FF_ASK_LOOKUP, FF_ASK_DIRECTORY, FF_ASK_OPEN, FF_ASK_READ};
    ff_relay *relay = self->session->mount.relay;
    ff_ask_kind kind = kinds[rig_below(&self->random, 4)];
    if (kind == ask->kind)
        return ff_relay_fail(relay, ask->ticket, (int)rig_next(&self->random) >> rig_below(&self->random, 31));
    if (kind == FF_ASK_READ)
        return rig_one_in(&self->random, 2) ? ff_relay_give(relay, ask->ticket, "x", 1) : ff_relay_retry(relay, ask->ticket);
    if (kind == FF_ASK_OPEN) {
        ff_content *content = rig_content(&self->session->mount, (unsigned)rig_below(&self->random, RIG_FILES), FF_VERIFY_FIRST);
        if (content != NULL)
            ff_relay_opened(relay, ask->ticket, content);
        return ff_content_drop(content);
    }
    rig_listing *listing = fuzz_list(self->session, &self->random);
    if (listing == NULL)
        return;
    if (kind == FF_ASK_DIRECTORY)
        ff_relay_directory(relay, ask->ticket, listing->listing, 0);
    else
        ff_relay_found(relay, ask->ticket, listing->listing, rig_below(&self->random, listing->count + 2), 0);
    rig_drop_listing(&self->session->mount, listing);
}

static void take_on(python *self, const ff_ask *ask) {
    rig_random *random = &self->random;
    self->session->executions++;
    self->last_ticket = ask->ticket > self->last_ticket ? ask->ticket : self->last_ticket;
    if (self->session->sane || ask->ticket == 0 || !rig_one_in(random, 4))
        return answer(self, ask);
    switch (rig_below(random, 6)) {
    case 0:
        return answer_another_question(self, ask);
    case 1: /* twice */
        answer(self, ask);
        return answer(self, ask);
    case 2: /* never */
        if (rig_one_in(random, 4))
            return;
        return answer(self, ask);
    case 3:
        return ff_relay_fail(self->session->mount.relay, ask->ticket, ENOENT);
    case 4: /* to no ticket, or to one that nobody knows of yet */
        ff_relay_fail(self->session->mount.relay, self->last_ticket + rig_below(random, 50), EIO);
        ff_relay_retry(self->session->mount.relay, rig_next(random));
        return answer(self, ask);
    default:
        if (self->put_off_count == PUT_OFF)
            return answer(self, ask);
        self->put_off[self->put_off_count++] = *ask;
    }
}

void *fuzz_python(void *context) {
    python self = {.session = context};
    self.random = self.session->seed + 1;
    ff_relay *relay = self.session->mount.relay;
    while (!self.session->ends) {
        ff_ask asks[16];
        struct pollfd ready = {.fd = ff_relay_event_fd(relay), .events = POLLIN};
        size_t count = 0;
        /* It sleeps until it is woken, or has something to do. */
        if (poll(&ready, 1, self.put_off_count > 0 ? 1 : ROUND_MS) == 1)
            count = ff_relay_drain(relay, asks, 1 + rig_below(&self.random, 16));
        else
            ff_relay_beat(relay);
        for (size_t i = 0; i < count; i++)
            take_on(&self, &asks[i]);
        if (self.put_off_count > 0 && rig_one_in(&self.random, 3))
            answer(&self, &self.put_off[--self.put_off_count]);
        if (!self.session->sane && rig_one_in(&self.random, 2000))
            usleep(300000); /* silent */
    }
    return NULL;
}

static void look_around(python *self, uint64_t node) {
    char path[2048];
    rig_mount *mount = &self->session->mount;
    int64_t length = ff_names_path(mount->names, node, path, rig_one_in(&self->random, 4) ? 5 : sizeof path);
    require(length == -ESTALE || length == -ENAMETOOLONG || path[length] == 0, "a path of %lld", (long long)length);
    if (length >= 0)
        ff_names_at(mount->names, path, (size_t)length);
    require(ff_names_memory(mount->names) < 1u << 30, "names take a gigabyte");
}

void *fuzz_upkeep(void *context) {
    python self = {.session = context};
    self.random = self.session->seed + 2;
    rig_mount *mount = &self.session->mount;
    while (!self.session->ends) {
        uint64_t pause_us = rig_below(&self.random, 4000);
        uint64_t file = rig_below(&self.random, RIG_FILES), node = FF_ROOT_NODE;
        ff_relay_facts facts;
        kernel_node known;
        if (kernel_any_node(self.session->kernel, &self.random, &known) && rig_one_in(&self.random, 2))
            node = known.id;
        self.session->executions++;
        switch (rig_below(&self.random, 12)) {
        case 0:
            ff_relay_facts_of(mount->relay, &facts);
            break;
        case 1:
            ff_relay_detach_idle(mount->relay, (int64_t)rig_below(&self.random, 30000000), rig_below(&self.random, 4));
            break;
        case 2:
            ff_relay_forget_name(mount->relay, node, "f00", 3);
            break;
        case 3:
            ff_names_sweep(mount->names, ff_monotonic_ns() - (int64_t)rig_below(&self.random, 20000000));
            break;
        case 4:
            ff_names_expire(mount->names, node);
            break;
        case 5:
            rig_leave_slab(mount);
            break;
        case 6:
            if (mount->world->files[file].kind == RIG_OBJECT)
                rig_empty(mount, (unsigned)file, rig_below(&self.random, 2));
            break;
        case 8:
            look_around(&self, node);
            break;
        case 7:
            if (mount->world->files[file].kind == RIG_OBJECT)
                rig_seal(mount, (unsigned)file);
            break;
        default: {
            rig_listing *listing = fuzz_list(self.session, &self.random);
            if (listing != NULL) {
                learn(&self, node, listing, any_time_ns(&self));
                rig_drop_listing(mount, listing);
            }
        }
        }
        rig_collect(mount);
        usleep((unsigned)pause_us);
    }
    return NULL;
}
