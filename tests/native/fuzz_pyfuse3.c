/* pyfuse3, on its end of the pair: it answers, and now and then as no program should. */
#include "fuzz_parts.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fuse_wire.h"

#define ROUND_MS 20

static void say(fuzz_session *self, const struct fuse_out_header *header, size_t length) {
    char message[sizeof *header + KERNEL_ANSWER_MAX];
    memcpy(message, header, sizeof *header);
    for (size_t i = 0; i < KERNEL_ANSWER_MAX; i++)
        message[sizeof *header + i] = kernel_byte_of(header->unique, i);
    send(self->pair, message, length, MSG_NOSIGNAL);
    self->executions++;
}

static void notify(fuzz_session *self, rig_random *random) {
    struct {
        struct fuse_out_header header;
        struct fuse_notify_inval_entry_out entry;
        char name[4];
    } notice = {.header = {.len = sizeof notice, .error = (int32_t)rig_below(random, 8)},
                .entry = {.parent = FF_ROOT_NODE, .namelen = 3},
                .name = "f00"};
    send(self->pair, &notice, sizeof notice, MSG_NOSIGNAL);
    self->executions++;
}

static void answer(fuzz_session *self, rig_random *random, uint64_t unique) {
    size_t body_bytes = rig_below(random, KERNEL_ANSWER_MAX + 1);
    struct fuse_out_header header = {.len = (uint32_t)(sizeof header + body_bytes), .unique = unique};
    if (rig_one_in(random, 3)) {
        header.error = -ENOSYS;
        header.len = sizeof header;
    }
    if (self->sane || !rig_one_in(random, 4))
        return say(self, &header, header.len);
    switch (rig_below(random, 9)) {
    case 0: /* twice */
        say(self, &header, header.len);
        return say(self, &header, header.len);
    case 1: /* of another length than it says */
        return say(self, &header, rig_below(random, sizeof header + KERNEL_ANSWER_MAX));
    case 2: /* to nobody, or to somebody else */
        header.unique ^= UINT64_C(2) << rig_below(random, 4);
        return say(self, &header, header.len);
    case 3: {
        static const int32_t errors[] = {INT_MIN, INT_MAX, -512, -511, 1, -1};
        header.error = errors[rig_below(random, sizeof errors / sizeof *errors)];
        return say(self, &header, header.len);
    }
    case 4: /* cut short */
        return say(self, &header, 1 + rig_below(random, sizeof header));
    case 5:
        return notify(self, random);
    case 6: /* never */
        return;
    default: /* an error with a body */
        header.error = -EIO;
        header.len = (uint32_t)(sizeof header + body_bytes);
        return say(self, &header, header.len);
    }
}

static void check_request(const char *message, size_t length, const struct fuse_in_header *header) {
    require(header->len == length, "%zu bytes for pyfuse3 say %u", length, header->len);
    require(header->opcode != FUSE_READ && header->opcode != FUSE_FORGET, "opcode %u is not pyfuse3's", header->opcode);
    if (header->opcode != FUSE_INIT)
        return;
    struct fuse_init_in offer = {0};
    require(length == sizeof *header + offsetof(struct fuse_init_in, flags2), "INIT of %zu bytes", length);
    memcpy(&offer, message + sizeof *header, length - sizeof *header);
    require(offer.major == FUSE_KERNEL_VERSION && (offer.flags & FF_INIT_EXT) == 0, "INIT offers %x", offer.flags);
}

void *fuzz_pyfuse3(void *context) {
    fuzz_session *self = context;
    size_t room = (1u << 20) + 4096;
    faults_spare(true);
    rig_random random = self->seed + 3;
    char *buffer = malloc(room);
    require(buffer != NULL, "no memory");
    while (!self->ends) {
        struct pollfd ready = {.fd = self->pair, .events = POLLIN};
        if (poll(&ready, 1, ROUND_MS) <= 0)
            continue;
        ssize_t n = recv(self->pair, buffer, room, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        struct fuse_in_header header;
        require(n >= (ssize_t)sizeof header, "%zd bytes for pyfuse3", n);
        memcpy(&header, buffer, sizeof header);
        check_request(buffer, (size_t)n, &header);
        answer(self, &random, header.unique);
        if (!self->sane && rig_one_in(&random, 400)) {
            if (rig_one_in(&random, 2))
                shutdown(self->pair, SHUT_RDWR);
            else
                send(self->pair, "", 0, MSG_NOSIGNAL);
        }
    }
    free(buffer);
    return NULL;
}
