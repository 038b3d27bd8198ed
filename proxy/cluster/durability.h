/*
 * The promise of [monitor] durability, kept on whichever server is the primary. `strict`: every commit waits for a replica's
 * acknowledgement, however long that takes; set on the primary where it is not so, and verified at each look. `available`: who waits
 * at all is left as it was found, but nobody waits longer than degrade_after. A primary that has stopped waiting, or that waits for
 * replicas that are not there, is told of at once, and the former is written down where other Tandems find it.
 */
#ifndef TANDEM_CLUSTER_DURABILITY_H
#define TANDEM_CLUSTER_DURABILITY_H

#include "proxy/cluster/member.h"

/* A primary as it is. */
struct durability_view {
	enum semi_sync_state state;
	struct semi_sync_terms terms;
	unsigned receivers; /* replicas whose links run */
};

enum durability_step {
	DURABILITY_KEEP,    /* as it should be */
	DURABILITY_ENFORCE, /* strict: it does not wait for everything, for ever, or for anybody of those that are there */
	DURABILITY_LIMIT,   /* available: it would wait for longer than degrade_after */
	DURABILITY_NUDGE,   /* commits wait for an acknowledgement that only a later one can stand for (not from durability_judge()) */
	DURABILITY_RELEASE, /* and commits wait for replicas that are not there */
};

/* Pure. */
enum durability_step durability_judge(const struct durability_view *view, enum durability wanted, uint32_t degrade_after_ms);

/* What was said and done last; starts zeroed, one per cluster. The sentry's thread. */
struct durability_watch {
	char primary[64];
	enum semi_sync_state state;
	bool is_alone;	   /* strict, and nobody acknowledges */
	bool has_recorded; /* that it has stopped waiting */
	char told[200];	   /* the last failure */
	uint64_t retry_ms; /* clock_ms(): no attempt before */
	struct gtid_set position; /* of the primary, */
	uint64_t moved_ms;	  /* when it last moved, or nobody waited */
};

/* Does what is to be done about the primary in force, if there is one and no operation is under way. Blocks. */
void durability_keep(struct cluster *cluster, struct durability_watch *watch);

#endif
