/*
 * Votes: of several Tandems one leads, and only it changes the primary. A vote is a lock (GET_LOCK) held at a server or witness by a
 * connection of its own, whose wait_timeout is the lease: a Tandem that is gone, or cut off, loses it by that. Beside it whoever leads
 * holds a second lock, named after the server id of the primary. By this word everybody who reaches half of the voters knows where writes
 * may go, also when he sees another server writable, and learns that it was withdrawn.
 *
 * With [peer] or [witness] sections votes are held all the time, and writes wait while the lease is not confirmed. Without, they are
 * taken for the time of an operation only, and writes never wait for them. What the numbers mean is lease.c.
 */
#ifndef TANDEM_CLUSTER_VOTE_H
#define TANDEM_CLUSTER_VOTE_H

#include "proxy/cluster/lease.h"
#include "proxy/cluster/cluster.h"

struct votes_status {
	bool is_held; /* all the time */
	bool is_leader;
	bool other_leads;
	unsigned mine, voters, majority;
	bool writes_wait;   /* the lease is over */
	int64_t lease_left_ms; /* -1: does not matter here */
	char text[400];	    /* who has voted how */
};

/* False: no thread. cluster->votes is set. */
bool votes_start(struct cluster *cluster) __attribute__((warn_unused_result));
void votes_stop(struct cluster *cluster);

/* Before an operation that changes the primary: true when this Tandem has the votes it needs (lease_needed()), which it then keeps until
 * votes_give(). Otherwise false with a sentence that says who has them. Blocks for some seconds at the most. Not under cluster.lock. */
bool votes_take(struct cluster *cluster, bool dead, bool force, char *why, size_t size) __attribute__((warn_unused_result));
void votes_give(struct cluster *cluster);

/* May this Tandem do by itself what only one may: fail over, bring servers back, degrade? Cheap; true where votes are not held all the time. */
bool votes_is_leader(struct cluster *cluster);
/* The same from a fresh count: also right in a process that has just stood still, where what was known has run out. For a step of an operation
 * that must not be done by whoever has lost the lead. */
bool votes_stand(struct cluster *cluster);
/* The voters that answer this Tandem are more than half, and have voted for it. False where votes are not held all the time. Cheap. */
bool votes_has_majority(struct cluster *cluster);
/* Something was judged: the primary may be another one. Any thread. */
void votes_wake(struct cluster *cluster);
/* Counts up whenever this Tandem becomes the leader: what a former one left open is to be looked at. */
unsigned votes_terms(struct cluster *cluster);

/* Between votes_take() and votes_give(): nobody is told any more where writes go. Gives, as clock_ms(), when that is known to all that are
 * still allowed to write: one lease from now, and the voters have answered. */
uint64_t votes_withdraw_word(struct cluster *cluster);
/* The word is given again for the primary in force; returns when the voters have taken it, within some hundred milliseconds. */
void votes_give_word(struct cluster *cluster);

/* Another Tandem votes in this cluster, seen for longer than a lease, while this one knows no peers: at which voter, and from where as that one
 * tells ("": not told). */
bool votes_stranger(struct cluster *cluster, char voter[72], char host[64]);

void votes_status(struct cluster *cluster, struct votes_status *out);

#endif
