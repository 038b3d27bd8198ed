/*
 * What promotion, failover and re-join share: the servers that take part with a line to each, and steps that are run in order, told to
 * the report, and undone in reverse. Everything here belongs to the one thread that runs the operation.
 */
#ifndef TANDEM_CLUSTER_CONDUCT_H
#define TANDEM_CLUSTER_CONDUCT_H

#include "proxy/cluster/journal.h"
#include "proxy/cluster/member.h"
#include "proxy/cluster/operation.h"
#include "proxy/cluster/replication.h"

enum { CONDUCT_NOTE = 400 };

/* A configured server as the operation found it. */
struct actor {
	struct subject subject;
	struct line line;
	struct member *member; /* stays: settings are not adopted meanwhile */
	const struct server_settings *settings;
	enum server_role role;
	enum server_health health;
	int source; /* index of the server it replicates from, -1 none */
	uint32_t server_id;
	uint64_t lag_ms;
	bool is_open; /* the line was opened; it may have failed since */
};

/* Variables of a server that a step changed, for its undoing. */
struct semi_sync_change {
	struct actor *actor;
	char name[64];
	char before[64];
};

enum { SEMI_SYNC_CHANGES = 8 };

struct operation {
	struct cluster *cluster;
	const struct operation_request *request;
	struct report *report;
	struct settings *settings;
	struct actor actors[CLUSTER_MAX_SERVERS];
	size_t count;
	struct actor *from; /* the primary that hands over; NULL when there is none */
	struct actor *to;   /* the one that takes over */
	struct line lock_line; /* a second one to `from`, for the lock */
	struct subject locker;
	uint64_t deadline_ms; /* clock_ms(): the drain is over by then */
	struct journal_entry entry;
	/* What the step under way has to say; the engine puts it into the report. */
	char note[CONDUCT_NOTE];
	const char *note_server;

	bool has_claim; /* conduct_claim() */
	void *own; /* of a failover or re-join: what it knows besides */
	bool has_accord; /* accord.h */

	/* Of a promotion: */
	bool is_recovery;  /* of one that another process began */
	bool has_row;	   /* the cluster row can be written */
	char scheduler[16]; /* event_scheduler of `from`; "" not known */
	struct semi_sync_change changes[SEMI_SYNC_CHANGES];
	size_t change_count;
	bool semi_sync; /* `from` waits for acknowledgements */
	bool link_tls;	/* the link of `to` used TLS */
	char fork[POSITION_BYTES]; /* what `from` had written at the fence */
	uint64_t hold_us, drained_us, fence_us, writable_us, released_us; /* clock_us(); 0 not reached */
};

struct step {
	const char *name;
	/* False: it failed and op->note says why. */
	bool (*run)(struct operation *op);
	/* NULL: nothing to undo. Also called for a step that failed half-way. */
	void (*undo)(struct operation *op);
};

/* Fills the actors from the cluster; `from` is the primary in force. Ends with conduct_fini(). False: out of memory. */
bool conduct_init(struct operation *op, struct cluster *cluster, const struct operation_request *request, struct report *report)
	__attribute__((warn_unused_result));
/* Closes the lines and wipes what they needed. */
void conduct_fini(struct operation *op);
struct actor *conduct_actor(struct operation *op, const char *name);
/* Before anything is touched: whatever another Tandem still had under way on these servers is ended, and from here on each line is marked as this
 * operation's, also one that is opened later, and is not opened any more once this Tandem has lost the lead. False with op->note. */
bool conduct_claim(struct operation *op) __attribute__((warn_unused_result));
/* Opens the line to a server. False: actor->line has the error. A line that is open already is kept. */
bool conduct_open(struct operation *op, struct actor *actor) __attribute__((warn_unused_result));
/* A line that was lost is opened again; false when the server cannot be reached. */
bool conduct_reopen(struct operation *op, struct actor *actor) __attribute__((warn_unused_result));
/* Opens the lines to all servers that are up; those that fail stay closed. */
void conduct_open_all(struct operation *op);

/* The steps in order, each to the report with its time. At the first failure those done are undone, last first, and false is given. */
bool conduct_run(struct operation *op, const struct step *steps, size_t count) __attribute__((warn_unused_result));
/* The steps in order, whatever becomes of one; gives how many failed. */
unsigned conduct_run_all(struct operation *op, const struct step *steps, size_t count);

/* Texts for op->note. The failure gives false, so that a step can end with it. */
bool conduct_note(struct operation *op, const struct actor *about, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool conduct_fail(struct operation *op, const struct actor *about, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What the actor's line says was wrong. */
bool conduct_fail_line(struct operation *op, const struct actor *actor, const char *doing);

/* Asks for one value as text; false on failure, and when there is no row. SQL NULL is "". */
bool conduct_ask(struct actor *actor, const char *question, char *out, size_t size) __attribute__((warn_unused_result));

/* The link by which others replicate from `actor`. */
void conduct_source(const struct operation *op, const struct actor *actor, struct replication_source *out, char host[256]);

#endif
