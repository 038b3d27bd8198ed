/*
 * The list of sessions, collected from the workers: each is asked through its inbox and copies what it knows between two events, so that
 * nothing is locked and what is said of a session is true of one moment. One that is on its way between two workers may be missing. Values
 * of statements never appear, only their normalised text.
 */
#ifndef TANDEM_SESSION_SESSIONS_H
#define TANDEM_SESSION_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shared;

struct session_view {
	uint32_t id;	     /* as CONNECTION_ID() would be if there were no servers: KILL takes it */
	unsigned worker;
	char user[81];	     /* "" until it has logged in */
	char client[80];     /* address and port, or "localhost" */
	char schema[65];     /* "" none */
	const char *state;   /* static words: "idle", "runs", "waits for ..." */
	uint64_t state_ms;   /* for how long */
	char servers[200];   /* of the connections it has, the one in use first, with commas */
	char transaction[80]; /* server where one is open, and "read only"; "" none */
	char pins[200];	     /* what keeps it on its connection, with commas; "" nothing */
	char statement[400]; /* normalised, cut; "" when it runs none */
	bool is_busy;	     /* a statement is in flight or waits, or a transaction is open */
};

/* All sessions, by id. The caller frees the array. NULL with *count 0: there is none; with *count SIZE_MAX: memory ran out, or a worker
 * did not answer within `timeout_ms`. Not to be called on a worker. */
struct session_view *sessions_collect(struct shared *shared, unsigned timeout_ms, size_t *count);

#endif
