/*
 * A packet of several statements whose statements do not belong on one connection: inside of a READ ONLY block on a replica, what stands behind
 * the end of the block may write. Each is a turn of its own then; to the client their replies are one, with one row of sequence numbers, and
 * the first error is the last reply.
 */
#ifndef TANDEM_SESSION_PARTS_H
#define TANDEM_SESSION_PARTS_H

#include "proxy/session/client.h"

struct turn;

enum parts_cut {
	PARTS_KEPT, /* they can run as they are */
	PARTS_CUT,  /* the turn is about the first one alone (turn->more_parts), and to be judged again */
	PARTS_LOST, /* memory ran out, and the client was closed */
};
/* A COM_QUERY has been judged: it is several statements, or what parts_next() has started. */
enum parts_cut parts_judge(struct turn *turn);
/* The reply of one ends with packet number `seq`. */
void parts_note_end(struct client *client, uint8_t seq);
/* Starts the turn of the next one, or of all that are left when they need not be apart any more. The client is READY. */
void parts_next(struct client *client);
/* The packet is over: the last one has been answered, or one has failed. */
void parts_end(struct client *client);
void parts_free(struct client *client);

#endif
