/*
 * What votes mean. Pure: the same papers give the same count. Voters are the servers and the witnesses; a Tandem's vote at one of them is
 * a lock it holds there (vote.c).
 *
 * More than half of the votes make a leader, and only a leader may change the primary. Half of them (rounded up) are enough to go on
 * sending writes to the primary in force: as long as they stand, nobody else has more than half.
 */
#ifndef TANDEM_CLUSTER_LEASE_H
#define TANDEM_CLUSTER_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LEASE_MAX_VOTERS = 48 };

/* What one voter last said. */
struct lease_paper {
	uint64_t asked_ms; /* clock_ms() just before the question that was last answered; 0: never answered */
	bool mine;	   /* this Tandem has the vote */
	bool taken;	   /* another one has it */
	uint32_t primary_id; /* the server id of the primary, as whoever has the vote says; 0: he says none */
};

struct lease_terms {
	uint64_t now_ms;
	uint32_t lease_ms;
	uint32_t primary_id; /* of the primary this Tandem would send writes to; 0: none */
	bool is_changing;    /* this Tandem is changing the primary itself, and has withdrawn what its votes said */
};

struct lease_count {
	unsigned voters;
	unsigned majority; /* more than half */
	unsigned half;	   /* rounded up: while they are held nobody else has a majority */
	unsigned answered; /* within the lease */
	unsigned mine, taken, open;
	uint32_t primary_id; /* what most of those who answered say, at least half; 0: nothing */
	uint64_t writes_until_ms; /* clock_ms(): until then writes may be sent to the primary of the terms; 0: not even now */
};

/* After this part of a lease a Tandem stops, so that what it has sent by then arrives before the lease is over elsewhere. */
#define LEASE_OWN_MS(lease_ms) ((lease_ms) / 4 * 3)

void lease_take_count(const struct lease_paper *papers, size_t count, const struct lease_terms *terms, struct lease_count *out);

/*
 * How many votes a change of the primary needs. `dead`: it is proven that the primary's server is gone, and nobody's lock is there any more.
 * That counts only where there are two voters, since otherwise no single death could ever be answered there. `force`: a person says that
 * those who do not answer are gone. Never 0.
 */
unsigned lease_needed(const struct lease_count *count, bool dead, bool force);

#endif
