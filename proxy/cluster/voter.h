/*
 * One voter: a server or witness at which this Tandem holds, wants, or watches the locks that are votes. A thread with a line of its own, so
 * that one that is silent delays nobody.
 */
#ifndef TANDEM_CLUSTER_VOTER_H
#define TANDEM_CLUSTER_VOTER_H

#include <pthread.h>

#include "proxy/cluster/lease.h"
#include "proxy/cluster/line.h"
#include "proxy/cluster/snapshot.h"

enum { VOTER_NAME = 72, VOTER_TROUBLE = 200 };

/* What all voters are to do now. */
struct voter_order {
	bool active;	  /* be connected at all */
	bool want;	  /* have the vote, if nobody else has it */
	uint32_t word;	  /* server id of the primary to be told with it; 0 none */
	uint64_t round;	  /* grows with each change */
	uint32_t lease_ms;
	bool is_alone;	   /* no peers are known: others that vote are strangers */
	const char *cluster; /* its name; lives as long as the voters */
	uint32_t server_ids[CLUSTER_MAX_SERVERS]; /* whose names may be heard */
	size_t server_count;
};

struct voter {
	pthread_mutex_t *lock; /* guards `order`, `paper`, `served`, `trouble` and `stop` */
	const struct voter_order *order;
	void (*voted)(void *owner); /* the paper is new; any thread, not under the lock */
	void *owner;
	pthread_t thread;
	int wake_fd;
	struct line line;
	/* Shallow: the strings live as long as the voter. */
	char name[VOTER_NAME];
	struct server_settings server;
	struct monitor_settings account;
	/* The thread's own: */
	bool holds;
	uint32_t held_word;
	bool is_second; /* holds the lock of those who have no vote here */
	/* Under the lock: */
	bool stop;
	struct lease_paper paper;
	uint64_t served; /* the last round that was done, or could not be */
	uint64_t stranger_ms; /* since when another Tandem is seen here that is no peer: clock_ms(); 0 none is */
	char stranger[64];    /* where it connects from */
	char trouble[VOTER_TROUBLE];
};

/* Fills name, address and account of the voter `index`: the servers in their order, then the witnesses. Borrows from the settings. */
void voter_name(struct voter *voter, const struct settings *settings, size_t index);
/* Whether both settings make the same voters. */
bool voters_are_same(const struct settings *a, const struct settings *b);

/* `voter` has everything but what its thread makes. False: no thread. */
bool voter_start(struct voter *voter) __attribute__((warn_unused_result));
void voter_wake(struct voter *voter);
/* The first asks, so that all end at the same time; the second joins. */
void voter_tell_to_stop(struct voter *voter);
void voter_join(struct voter *voter);

#endif
