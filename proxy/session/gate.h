/*
 * The hold of a promotion as sessions see it: while the snapshot's gate is not open, what may write or would open a transaction waits in
 * its worker, in order; reads go on. Counts of what is still open are kept only meanwhile, so an open gate costs a statement one test.
 *
 * What becomes of sessions when the primary has changed is move.c; running lost transactions again is replay.c.
 */
#ifndef TANDEM_SESSION_GATE_H
#define TANDEM_SESSION_GATE_H

#include "proxy/session/turn.h"

struct gate_count;
struct shared;
struct worker;

/* May this statement, sent to the primary, change data or lock rows? When in doubt, yes. */
bool gate_may_write(const struct turn *turn);

/* Its statement goes out on turn->backend: whether the session's transaction has written is known from here. */
void gate_note_sent(struct turn *turn);
/* Its statement, which opens a transaction and may have ended one before, was answered with OK. */
void gate_note_opened(struct turn *turn);

/* Its statement is under way, may have written, and its server is no longer the primary: whatever is answered is not to be believed. */
bool gate_is_lost_write(const struct turn *turn) __attribute__((cold));
/* The same of an OK for a session that `wrote`: what it says is stored may not be where the next primary has it, since a failover is under way or may be.
 * (A planned promotion lets writes end before it begins.) */
bool gate_doubts(const struct turn *turn, const struct wire_ok *ok);

/* Must this turn wait for the gate? Then it does, until the snapshot in which the gate is open again, or until it gives up. */
bool gate_holds(struct turn *turn) __attribute__((cold));
/* A held turn no longer waits. */
void gate_release(struct turn *turn) __attribute__((cold));
/* It has waited for primary_wait: ends it with error 1205. */
void gate_give_up(struct turn *turn) __attribute__((cold));

/* The worker has a new snapshot: counts begin or end. Comes before its number is stored in worker->adopted. */
void gate_adopt(struct worker *worker) __attribute__((cold));
/* While the gate is not open, called whenever something about the client may have changed: its turn was sent or ended, its transaction
 * ended, it closes (`gone`). */
void gate_recount(struct client *client, bool gone) __attribute__((cold));

/* Any thread: the sums over all workers; see struct gate_count. */
void gate_sum(const struct shared *shared, uint64_t number, struct gate_count *out);

#endif
