/*
 * Semi-synchronous replication carried over at a promotion: the candidate waits for acknowledgements as the primary did, and the old
 * primary gives them. What a replica applies waits for acknowledgements as well when rpl_semi_sync_master_enabled is on there, and it has
 * nobody to give them: so that one is turned on when the candidate's link is stopped, and off before the old primary's link starts.
 */
#ifndef TANDEM_CLUSTER_SEMISYNC_H
#define TANDEM_CLUSTER_SEMISYNC_H

#include "proxy/cluster/conduct.h"

/* No time-out: the longest that both flavours take, 49 days. */
#define SEMI_SYNC_FOREVER_MS 4294967295ull

/* Everything but that: how the candidate will wait, and that the old primary will acknowledge. Sets op->semi_sync. */
bool semisync_prepare(struct operation *op) __attribute__((warn_unused_result));
void semisync_restore(struct operation *op);
/* The switch itself, on whichever server; does nothing where the primary did not use it. False with the line's error. */
bool semisync_switch(struct operation *op, struct actor *actor, bool on) __attribute__((warn_unused_result));
/*
 * Makes `actor`, a primary, wait for an acknowledgement before anybody sees a transaction, for as long as it takes, also when no replica is
 * connected. One that had stopped waiting waits again from then on. False: op->note says what it refuses.
 */
bool semisync_enforce(struct operation *op, struct actor *actor) __attribute__((warn_unused_result));
/* Makes `actor`, a primary that waits, go on after `ms`. `release`: commits that wait now go on at once, with success: for when nobody is
 * there to acknowledge them. */
bool semisync_limit(struct operation *op, struct actor *actor, uint32_t ms, bool release) __attribute__((warn_unused_result));
/*
 * At a failover: op->to waits as durability wants it, or as the former primary did. `followers` will replicate from it: with none, and
 * durability = available, commits wait for nobody until one does. A server that knows no semi-sync goes on without. False: op->note.
 */
bool semisync_take_over(struct operation *op, unsigned followers) __attribute__((warn_unused_result));
/* Does it wait for acknowledgements, or did before it gave up? As its monitor saw it last; takes the cluster's lock. */
bool semisync_is_on(struct operation *op, const struct actor *actor);
/* Makes a replica acknowledge what it receives. Its receiver is started anew for that, if nothing it has received can be lost by it. */
bool semisync_acknowledge(struct operation *op, struct actor *actor) __attribute__((warn_unused_result));

/* After a kill -9: one of the two has it on, if it was used. */
void semisync_recall(struct operation *op);

#endif
