/*
 * What a person (or the failover judge) has the cluster do: promote, fail over, re-join, drain, resume. One at a time; each call blocks
 * its thread until the operation is over and may be made from any thread that is not a worker, a monitor or the coordinator.
 *
 * The order of the steps and what is undone when one fails are DESIGN.md section 6 put into promote.c, failover.c and rejoin.c; how a
 * step is said to a server of each flavour and version is replication.c.
 */
#ifndef TANDEM_CLUSTER_OPERATION_H
#define TANDEM_CLUSTER_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/cluster/cluster.h"

enum operation_kind {
	OPERATION_PROMOTE,  /* planned: the primary lives and hands over to `server` */
	OPERATION_FAILOVER, /* the primary is gone: the best replica, or `server`, takes over */
	OPERATION_REJOIN,   /* a server that is neither: brought back as a replica, if its history allows */
	OPERATION_DRAIN,    /* no new work for `server`: reads go elsewhere, resting connections are closed */
	OPERATION_RESUME,   /* the opposite of drain */
};

enum operation_result {
	OPERATION_DONE,	    /* or, for a dry run: it would be started */
	OPERATION_REFUSED,  /* preflight found what makes it unsafe; nothing was touched */
	OPERATION_UNDONE,   /* a step failed before the point of no return; all is as it was */
	OPERATION_UNFINISHED, /* a step failed after it: the cluster has its new primary, the report says what is left to do */
};

struct operation_request {
	enum operation_kind kind;
	const char *server; /* NULL where the operation chooses */
	bool dry_run;	    /* preflight and the plan only */
	bool force;	    /* promote: skip the lag bound; failover: accept a loss beyond max_loss */
	bool automatic;	    /* rejoin: nobody asked for it, so nothing is dropped or cloned */
	bool accept;	    /* rejoin: drop extra transactions that hold no row events */
	uint32_t timeout_ms; /* bounds the drain; 0: the default, 10 s */
};

enum remark_level { REMARK_OK, REMARK_WARNING, REMARK_REFUSAL, REMARK_FAILURE };

/* One line of a report: a finding of preflight, a step done, or what would be done. */
struct remark {
	enum remark_level level;
	char step[32];	 /* "preflight", "hold", "drain", "row", "fence", "catch-up", "reopen", "release", "demote", "events", ... */
	char server[64]; /* the server it speaks of, or "" */
	char text[400];	 /* what was found or done, and for a refusal what to do */
	double ms;	 /* how long the step took; negative: not a step */
};

/* Starts zeroed; report_free() empties it. */
struct report {
	enum operation_result result;
	char summary[400]; /* one sentence for people */
	struct remark *remarks;
	size_t count;
	size_t room;
	/* Called for each line as it is added, on the thread that runs the operation; NULL: nobody looks on. Set before cluster_operate(). */
	void (*added)(void *owner, const struct remark *remark);
	void *added_owner;
	size_t told;	/* lines it was called for */
	bool is_held_back; /* see report_hold_back() */
	/* Of a promotion or failover that was done; negative when not measured. */
	double sql_ms;	   /* fence to candidate writable */
	double drain_ms;   /* hold to no open write */
	double stall_ms;   /* hold to release: the longest any write waited for the gate */
};

/* Appends; text is printf-like. Running out of memory drops the line. */
void report_add(struct report *report, enum remark_level level, const char *step, const char *server, double ms, const char *format, ...)
	__attribute__((format(printf, 6, 7)));
/* While writes are held nobody is waited for who reads slowly: lines are kept until this is called with false. */
void report_hold_back(struct report *report, bool hold);
bool report_has(const struct report *report, enum remark_level level);
/* The text of the last failure, "" when there was none. */
const char *report_failure(const struct report *report);
void report_free(struct report *report);

/* What keeps durability calls itself while it has the servers for a moment: who comes meanwhile waits. */
#define DURABILITY_GRIP "durability"

/* Runs it and fills the report, which the caller frees. The result is also in report->result. */
enum operation_result cluster_operate(struct cluster *cluster, const struct operation_request *request, struct report *report);

/* At start, once all servers have been asked: ends what an earlier run left open. False: it cannot be judged while a server it needs does
 * not answer; to be called again. */
bool operation_recover(struct cluster *cluster);

const char *operation_name(enum operation_kind kind);
const char *operation_result_name(enum operation_result result);

#endif
