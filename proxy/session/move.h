/*
 * What a change of the primary means to sessions that had a connection to the old one. Values that only that connection knows are asked
 * for, then it is left; a transaction that has only read stays there to its end; one that needs to write is run again on the new primary
 * (replay.c); a session bound to the old primary by temporary tables, locks or the like is ended.
 *
 * A session that has any of this before it has client->moving set; nobody else pays for it.
 */
#ifndef TANDEM_SESSION_MOVE_H
#define TANDEM_SESSION_MOVE_H

#include "proxy/session/turn.h"

struct snapshot;
struct worker;

/* The worker has a new snapshot: sessions of an old primary begin to move, and tokens beyond the fork of a promotion are cut. */
void move_adopt(struct worker *worker) __attribute__((cold));
/* A client has come from a worker that does not know of the same promotions. */
void move_arrived(struct client *client) __attribute__((cold));
/* A moving client's statement is about to be routed or sent. True: not now, the turn waits or has been ended. */
bool move_stops(struct turn *turn) __attribute__((cold));
/* The values that were asked for on a connection of a moving client have come, or have not. True when that was for the move. */
bool move_frozen(struct client *client, struct backend *backend, bool failed) __attribute__((cold));

#endif
