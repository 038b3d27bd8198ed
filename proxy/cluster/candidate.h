/*
 * Which replica takes over from a dead primary, and what would be lost. Pure.
 *
 * The one that has received most is chosen, whatever the settings prefer: any other would make the rest of the replicas hold
 * transactions that the new primary has not. Preference decides among equals.
 */
#ifndef TANDEM_CLUSTER_CANDIDATE_H
#define TANDEM_CLUSTER_CANDIDATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/cluster/gtid.h"
#include "proxy/settings.h"

struct candidate {
	const char *name;
	const char *unfit; /* why it cannot be promoted at all (down, no GTIDs, ...); NULL: it can */
	enum promote_preference promote;
	struct gtid_set received;	 /* what it has now, applied or in its relay log */
	struct gtid_set received_before; /* the most it was ever seen to have: a replica that restarts throws its relay log away */
};

/* What a choice may cost and how it is limited. */
struct candidate_terms {
	struct gtid_set acknowledged; /* the highest position that a client was told of */
	unsigned max_loss;
	bool degraded; /* the primary had stopped waiting for its replicas when it was last seen */
	bool unseen;   /* this Tandem never saw the primary alive: what clients were told of is not known */
	bool force;    /* a person accepts any loss */
	const char *wanted; /* the server a person named; NULL: the best */
};

struct candidate_choice {
	int index;     /* -1: nobody, see why */
	uint64_t loss; /* acknowledged transactions that it has not */
	char why[400]; /* why it and not another, or why nobody, and what to do */
};

/* Transactions of `want` that `have` lacks, summed over the domains. UINT64_MAX when either is not known. */
uint64_t candidate_loss(const struct gtid_set *want, const struct gtid_set *have);
void candidate_choose(const struct candidate *list, size_t count, const struct candidate_terms *terms, struct candidate_choice *out);

#endif
