/*
 * Which worker a session lives on. Few workers that have much to do are cheaper than many that have little: one look at the descriptors then
 * finds the news of several sessions, there are fewer wake-ups, and what all statements need is in one cache.
 * So new sessions go to the first worker that is not full; part of a full worker's sessions move to the one that has most room; and when
 * two have less to do than one could, the sessions of the one move to the other.
 *
 * A worker is full when its thread uses [proxy] worker_load percent of a core, or when it hardly ever finds nothing to do (the machine gives it
 * no more). Only sessions that lose nothing by it move, between two statements: what they have on connections is known by value.
 */
#ifndef TANDEM_SESSION_PLACEMENT_H
#define TANDEM_SESSION_PLACEMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PLACEMENT_MAX_WORKERS = 1024 };

struct client;
struct shared;
struct worker;

/* One worker as the others see it. */
struct placement_load {
	unsigned permille; /* of a core */
	bool full;
	unsigned clients;
	unsigned given; /* new ones since the load was measured */
};

/* Pure: the worker for a new session, of `count`; `limit` in permille, 0: sessions are spread by their number. */
unsigned placement_of_new(const struct placement_load *loads, unsigned count, unsigned limit);

struct placement_plan {
	unsigned to;	 /* the worker that they go to */
	unsigned leave;	 /* how many of `active` sessions; 0: all stay */
	bool at_once;	 /* else when it was so for a second */
};
/* Pure: what worker `self` does with the `active` sessions that have run something lately. */
struct placement_plan placement_plan(const struct placement_load *loads, unsigned count, unsigned self, unsigned active, unsigned limit);

/* Of one worker. Its own thread writes, others read what is atomic. */
struct placement {
	_Atomic unsigned permille;
	_Atomic bool full;
	_Atomic unsigned given;
	uint64_t measured_ms;
	uint64_t cpu_us;
	long sleeps;
	unsigned long looks;
	unsigned windows;    /* for how many measurements in a row it has been worth gathering */
	struct worker *to;   /* where those that are leaving go; NULL: nobody is */
};

/* The worker for a new session. The accepting thread. */
struct worker *placement_worker(struct shared *shared);
/* Each tick: measures, and lets sessions leave. */
void placement_tick(struct worker *worker, uint64_t now_ms);
/* The session is between two statements and its `leaving` is set. */
void placement_leave_soon(struct worker *worker) __attribute__((cold));
/* What that wakes; `arg` is the worker. */
void placement_on_leave(void *arg, unsigned what);
/* The session ends. */
void placement_forget(struct client *client);

#endif
