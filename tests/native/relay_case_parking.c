/* Cases of the parking alone, which need no device. */
#include "relay_cases.h"

#include <errno.h>
#include <stdlib.h>

static ff_parked *park(ff_parking *parking, uint64_t unique) {
    ff_parked *request = ff_parked_new(unique, -1, FUSE_READ, 0);
    require(request != NULL && ff_parking_ask(parking, request, FF_ASK_READ), "not parked");
    return request;
}

static uint64_t drained(ff_parking *parking) {
    ff_ask ask = {.ticket = 0};
    return ff_parking_drain(parking, &ask, 1) == 1 ? ask.ticket : 0;
}

/* What a worker has done, that found nothing. */
static void work_in_vain(ff_parking *parking) {
    ff_parked *request = ff_parking_next_work(parking);
    require(request != NULL && ff_parking_ask_again(parking, request), "nothing to do");
    ff_parked_drop(parking, request);
}

/* Python may say "try again" of a request that it is to be asked about again, and has not heard of yet. */
void case_retried_while_asked(rig_world *world) {
    ff_handles handles;
    ff_parking parking;
    bool want_worker;
    (void)world;
    ff_ownership ownership = {.uid = 0};
    ff_names *names = ff_names_new(&ownership);
    require(ff_handles_init(&handles, names) == 0 && ff_parking_init(&parking, &handles) == 0, "no memory");
    park(&parking, 2);
    uint64_t first = drained(&parking);
    for (int times = 0; times < 3; times++) {
        require(ff_parking_retry(&parking, first, &want_worker), "it waits no more");
        work_in_vain(&parking);
        park(&parking, 4 + 2 * (uint64_t)times);
    }
    require(drained(&parking) == first, "the one that was tried again is not asked about");
    for (int times = 0; times < 3; times++)
        require(drained(&parking) == first + 1 + (uint64_t)times, "the others are lost");
    require(drained(&parking) == 0, "something is asked about twice");
    ff_parked *request;
    for (uint64_t ticket = first; ticket < first + 4; ticket++) {
        require((request = ff_parking_take(&parking, ticket)) != NULL, "not there");
        ff_parked_drop(&parking, request);
    }
    ff_parking_close(&parking);
    ff_parking_free(&parking);
    ff_backing backing = {.context = NULL};
    ff_handles_free(&handles, &backing);
    ff_names_free(names);
}
