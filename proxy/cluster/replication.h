/*
 * One replication action on one server: the statements of each flavour and version (MariaDB from 10.5, MySQL 9). No decisions here; the
 * traps that decided the form of a statement are named beside it in replication.c. Blocking calls on a line the caller owns; each
 * returns false with the line's error set (line->error, line->error_text).
 */
#ifndef TANDEM_CLUSTER_REPLICATION_H
#define TANDEM_CLUSTER_REPLICATION_H

#include "proxy/cluster/flavour.h"

/* A server under operation: its line and what it is. */
struct subject {
	struct line *line;
	const char *name;
	enum sql_flavour flavour;
	uint32_t version; /* 101108 */
};

/* Where a replica is to get its transactions from. */
struct replication_source {
	const char *host;
	unsigned port;
	const char *user;
	const char *password;
	uint32_t heartbeat_ms; /* a fifth of failover_patience */
	bool tls;
};

/* A GTID position as text, exactly as the server writes it ("0-1-100,1-2-7"; MySQL "uuid:1-5"). */
enum { POSITION_BYTES = 2048 };

#define CHECKED __attribute__((warn_unused_result))

/* read_only (MySQL: super_read_only). The first does not wait longer than a second for running statements. */
bool replication_set_read_only(struct subject *s) CHECKED;
bool replication_set_writable(struct subject *s) CHECKED;
/*
 * The lock that stops every commit, also of those whom read_only does not (READ ONLY ADMIN): on a line of its own, since it may do little
 * else meanwhile. The first call does beforehand, without stopping anybody, what would take long; waits a second at most. The lock ends
 * with the line.
 */
bool replication_prepare_lock(struct subject *s) CHECKED;
bool replication_lock(struct subject *s) CHECKED;
bool replication_unlock(struct subject *s) CHECKED;
/* What the server has written or replicated (binlog), what it has applied, what it has received. */
bool replication_binlog_position(struct subject *s, char out[POSITION_BYTES]) CHECKED;
bool replication_applied_position(struct subject *s, char out[POSITION_BYTES]) CHECKED;
bool replication_received_position(struct subject *s, char out[POSITION_BYTES]) CHECKED;
/* Every transaction in the binlog's state, per server: shows extra transactions that a position hides (gtid_binlog_state). */
bool replication_history(struct subject *s, char out[POSITION_BYTES]) CHECKED;
/* Waits until a replica has applied `position`. False with error 0 when the time was over. */
bool replication_wait_applied(struct subject *s, const char *position, uint32_t timeout_ms) CHECKED;
/* The link's threads. */
bool replication_start(struct subject *s) CHECKED;
bool replication_stop(struct subject *s) CHECKED;
bool replication_start_applier(struct subject *s) CHECKED;
bool replication_stop_receiver(struct subject *s) CHECKED;
/* Forgets the link; the server is nobody's replica. */
bool replication_forget(struct subject *s) CHECKED;
/* Makes a server that was the primary until now a replica (MASTER_DEMOTE_TO_SLAVE where it exists), or points a replica elsewhere, and starts
 * it. */
bool replication_demote_to(struct subject *s, const struct replication_source *source) CHECKED;
bool replication_follow(struct subject *s, const struct replication_source *source) CHECKED;
/*
 * Ends the Binlog Dump threads of the account `user`. The thread of a replica that went away stays until its next heartbeat fails, and
 * when a server with the same id comes back before, its new thread sleeps for 100 ms. A server does not tell which thread serves whom, so
 * this is for a server that nobody follows any more; somebody else's link of that account connects again by itself.
 */
bool replication_end_dumps(struct subject *s, const char *user) CHECKED;

#endif
