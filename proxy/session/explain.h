/*
 * Where a statement would go, and why, without running it: a session that does not exist is put in front of the router itself, on a worker
 * between two events, so that what is said is what would have been done at that moment.
 */
#ifndef TANDEM_SESSION_EXPLAIN_H
#define TANDEM_SESSION_EXPLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shared;

struct explain_request {
	const char *text;
	size_t len;
	const char *user;   /* whose last write counts; NULL: nobody's */
	const char *schema; /* NULL: none */
	bool in_transaction;
};

enum { EXPLAIN_WHY = 12, EXPLAIN_SENTENCE = 300 };

struct explanation {
	char class[64];	 /* what kind of statement: "select", "insert" */
	char facts[400]; /* what else was seen in it, with commas; "" */
	char target[64]; /* by its meaning alone: "replica", "primary", ... */
	char server[65]; /* where it would go now; "" nowhere */
	bool waits;	 /* for a replica to get far enough, or for a primary; `why` says which */
	bool refused;
	char wants[300]; /* the position that a replica needs for it; "" any */
	uint64_t digest;
	char normalised[1000];
	unsigned parts; /* statements in it */
	unsigned why_count;
	char why[EXPLAIN_WHY][EXPLAIN_SENTENCE]; /* the rule that decided first, then what it went by */
};

/* False when no worker answered within `timeout_ms`, or memory ran out. Not to be called on a worker. */
bool explain_route(struct shared *shared, const struct explain_request *request, unsigned timeout_ms, struct explanation *out);

#endif
