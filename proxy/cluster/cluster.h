/*
 * The cluster watch: one monitor thread per server, one watcher thread per replica, and the coordinator that turns what they see
 * into snapshots. Blocking Connector/C calls with time-outs; workers never wait for any of it.
 */
#ifndef TANDEM_CLUSTER_CLUSTER_H
#define TANDEM_CLUSTER_CLUSTER_H

#include "proxy/cluster/history.h"
#include "proxy/cluster/snapshot.h"

struct cluster;

/* Sums over the workers at one moment. */
struct gate_count {
	bool adopted; /* all workers have adopted the snapshot asked for; otherwise nothing below counts */
	unsigned open_writes; /* statements in flight on the primary that may write, and open transactions that have written or locked */
	unsigned held;	 /* statements that wait for the gate */
	unsigned pinned; /* sessions bound to the primary by temporary tables, locks, prepared XA: they will lose them */
};

/*
 * Called on a cluster thread for each new snapshot; the callee takes its own reference. `moved` is called when a replica's
 * applied position grew while somebody had asked for it with cluster_want(): parked reads may go.
 */
struct cluster_listener {
	void (*publish)(void *owner, struct snapshot *snapshot);
	void (*moved)(void *owner, struct server *server);
	/* What the workers have in the way of a promotion, when all of them have adopted the snapshot `number`; see struct gate_count. NULL:
	 * nothing ever is. */
	void (*count)(void *owner, uint64_t number, struct gate_count *out);
};

/* Starts the threads. The first snapshot is published at once (all unknown), the next as soon as servers answered. NULL: no threads,
 * with a logged reason. */
struct cluster *cluster_start(struct settings *settings, const struct cluster_listener *listener, void *owner);
/* Stops and joins all threads; no call to the listener afterwards. */
void cluster_stop(struct cluster *cluster);
/* SIGHUP: servers that stay keep their threads and state; new ones start, gone ones stop. */
void cluster_reload(struct cluster *cluster, struct settings *settings);

/* What has happened so far; lives as long as the cluster. */
struct history *cluster_history(struct cluster *cluster);

/* Any thread, none of them waits: */
/* Somebody is parked until `server` has applied `want`. The watcher waits for the smallest one wanted; several calls merge. */
void cluster_want(struct cluster *cluster, struct server *server, const struct gtid_set *want);
/* Traffic to `server` failed hard (refused, reset) just now: look at once instead of at the next interval. */
void cluster_suspect(struct cluster *cluster, struct server *server);
/* An unknown user or wrong password was seen, or a statement changed accounts: read the account tables again (rate-limited to one
 * per 200 ms, never lost). Returns a ticket: a snapshot whose accounts_ticket is at least that has been read after this call (or there was
 * no server to read from). */
uint64_t cluster_refresh_accounts(struct cluster *cluster);
/* A routine, view or trigger was created, changed or dropped. Returns a ticket, to be compared with a snapshot's catalog_ticket. */
uint64_t cluster_refresh_catalog(struct cluster *cluster);
/* SET GLOBAL went through: what new sessions start with may have changed. Returns a ticket, to be compared with a snapshot's
 * variables_ticket. */
uint64_t cluster_refresh_variables(struct cluster *cluster);
/* A worker adopted a snapshot or its count of open writes fell to zero while the gate was not open: whoever drains counts again. */
void cluster_gate_moved(struct cluster *cluster);

#endif
