/* What the parts of parking.h share, and nobody else. All of it wants the parking's lock to be held. */
#ifndef FLUIDFS_PARKING_PARTS_H
#define FLUIDFS_PARKING_PARTS_H

#include "parking.h"

/* parking.c: the table of all that wait. */

/* Gives a request its ticket and its place, which takes over the caller's reference. */
void ff_parked_enter(ff_parking *self, ff_parked *request);
/* Takes the place away; the table's reference becomes the caller's, who is the one to answer. */
void ff_parked_leave(ff_parking *self, ff_parked *request);
ff_parked *ff_parked_find(ff_parking *self, uint64_t ticket);
/* Gives a reference back; content and handle go with the last one. */
void ff_parked_unref(ff_parking *self, ff_parked *request);

/* parking_queues.c: asks and work. */

/* Asks Python about a request; once, however often it is called before Python has heard of it. */
void ff_parked_queue_ask(ff_parking *self, ff_parked *request);
/* Gives a request to the workers; true: none of them is free to take it. */
bool ff_parked_queue_work(ff_parking *self, ff_parked *request);
/* Empties the queues. */
void ff_parking_free_queues(ff_parking *self);

#endif
