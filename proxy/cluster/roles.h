/*
 * Who is what, from what the servers say. Pure: the same views give the same roles. Ambiguous means no primary and a reason, never
 * a guess.
 */
#ifndef TANDEM_CLUSTER_ROLES_H
#define TANDEM_CLUSTER_ROLES_H

#include "proxy/cluster/observation.h"
#include "proxy/cluster/snapshot.h"

/* One server as the judge sees it. */
struct role_view {
	const char *name;
	const char *address;		 /* host:port where others may reach it */
	const char *replication_address; /* NULL: the same */
	enum server_health health;
	const struct observation *seen; /* the last look; NULL when it never answered */
	enum server_role was;		/* role in force until now */
	const char *trouble;		/* why it is down, NULL */
	/* Of the last operation that this server has written down (tandem.cluster), or that is known to have made it the primary; 0: none. A
	 * writable server whose epoch is not the newest was away when another became the primary. */
	uint64_t epoch;
	/* It was found at start, or has restarted, and was not the primary since: a crash may have cost it what its replicas have. */
	bool is_unproven;
	uint64_t unproven_ms; /* clock_ms(): when the look began that found it so */
	uint64_t asked_ms; /* when the last look began, also one that brought nothing */
	uint64_t looked_ms, heard_ms; /* clock_ms(): when the look began that brought `seen`, and when it ended */
};

struct role_verdict {
	enum server_role roles[CLUSTER_MAX_SERVERS];
	int source[CLUSTER_MAX_SERVERS]; /* whom it replicates from, -1 none */
	int primary;			 /* index, -1: none that takes writes */
	int root; /* the primary, or the one that holds the role while it is down or read-only; -1 none */
	char why[512]; /* when primary is -1 */
	bool pending;  /* only because not all servers have been asked yet, or not late enough */
	int again;     /* a server to be looked at once more, so that it can be compared; -1 none */
};

void roles_judge(const struct role_view *views, size_t count, struct role_verdict *out);

/* Replication of this server, as far as its threads tell: false when it stands still with an error. */
bool roles_link_is_sound(const struct link_view *link);

#endif
