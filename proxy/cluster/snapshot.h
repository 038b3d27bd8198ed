/*
 * What the workers know of the cluster: an immutable value, published whole. The cluster side makes a new one whenever something
 * changed that a worker must act on (role, up or down, accounts, catalog, settings); what changes all the time (GTID position, lag,
 * connection count) lives in the servers' atomics.
 */
#ifndef TANDEM_CLUSTER_SNAPSHOT_H
#define TANDEM_CLUSTER_SNAPSHOT_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "proxy/cluster/gtid.h"
#include "proxy/settings.h"
#include "sql/sql.h"

enum { CLUSTER_MAX_SERVERS = 32 };

enum server_role {
	ROLE_UNKNOWN, /* not seen yet, ambiguous */
	ROLE_PRIMARY,
	ROLE_REPLICA,
	ROLE_STRAY, /* up, but neither the primary nor a replica of it: gets nothing */
};

enum server_health {
	HEALTH_UNKNOWN, /* not asked yet */
	HEALTH_UP,
	HEALTH_DOWN,
};

/*
 * The hold of a promotion. HOLD: no new transaction and no autocommit write is sent; transactions already open go on, so that those
 * that have written can end. SEALED: no write at all is sent, not even in an open transaction. TAKEOVER: a failover is under way, so nothing
 * of an open transaction is sent either, nor its COMMIT, and what the old primary still answers to a write is not believed: it may come too
 * late to be in what the new one has. SHUT: nothing is sent either, because this Tandem does not know whether another one has made another
 * server the primary meanwhile (vote.h), or is about to: the primary that it knew is none any more. Reads pass always.
 */
enum gate {
	GATE_OPEN,
	GATE_HOLD,
	GATE_SEALED,
	GATE_TAKEOVER,
	GATE_SHUT,
};

struct server_waiter; /* proxy/session: a worker waiting for a connection at the limit */

/*
 * One configured server, for as long as it stays configured under the same name and address. Shared by all threads; held alive by the
 * snapshots that name it and by the connections made to it.
 */
struct server {
	_Atomic unsigned refs;
	char *name;
	char *address_text;
	struct sockaddr_storage address; /* resolved by the monitor thread before the first snapshot that says up */
	socklen_t address_len;
	/* Connections of all workers together, made or being made, against the snapshot's connection_limit. */
	_Atomic unsigned connections;
	/* Position that this server has applied, per domain: written by monitor and watcher, read by workers. */
	struct gtid_board applied;
	/* The newest writes made here that a client was told of, per domain: what a failover must not lose. Raised by workers. */
	struct gtid_board acknowledged;
	/* When this server was last known to be level with the primary: clock_ms(). */
	_Atomic uint64_t lag_ms; /* UINT64_MAX when unknown or replication is broken */
	/* Counters. */
	_Atomic uint64_t reads;
	_Atomic uint64_t writes;
	_Atomic uint64_t errors; /* failed connections as seen by traffic: evidence for the monitor */
	/* The queue of workers that wait for a connection to this server; proxy/session/pool.c owns it. */
	void *_Atomic waiting;
	void (*_Atomic free_waiting)(void *waiting); /* set by whoever sets `waiting` */
	/* The watcher: the smallest position wanted. See cluster_want(). */
	struct watcher *watcher;
};
struct server *server_ref(struct server *server);
void server_unref(struct server *server);

/* A server's face in one snapshot. */
struct server_view {
	struct server *server;
	const struct server_settings *settings;
	enum server_role role;
	enum server_health health;
	bool takes_reads;	   /* up, a replica (or the primary itself), replication sound, lag below max_lag */
	unsigned connection_limit; /* 0: none known yet, treat as 10 */
	enum sql_flavour flavour;
	uint32_t version; /* 101108 */
	char version_text[64]; /* as in its greeting */
	uint64_t capabilities; /* of its greeting */
	uint64_t epoch;	       /* grows whenever the server was found restarted or changed role: older pooled connections are stale */
};

/* A variable that the session trackers report and that can be restored. */
struct tracked_variable {
	char *name;	     /* lower case */
	char *primary_value; /* the primary's default (its global value) as the tracker would report it: '' when SQL NULL */
	bool is_number;	     /* written bare in SET, not quoted */
	bool empty_is_null;  /* the tracker reports SQL NULL as ''; '' itself cannot be set: restore with NULL */
	bool default_is_bare; /* the value DEFAULT is written as the keyword (system_versioning_asof) */
	/* An alias: the variable of this name (also in the list) has the value, though the tracker reports each under the name that was
	 * set. Keep the value under this name. NULL for ordinary ones. */
	const char *stands_for;
	bool keeps_own; /* privileged, or of no meaning to what a read returns: servers are not made alike in it */
	bool is_part; /* it has only a part of that value: the other has to be asked for when this one is set */
	bool exists[CLUSTER_MAX_SERVERS];    /* server i knows it */
	bool same_default[CLUSTER_MAX_SERVERS]; /* server i's global value equals the primary's */
	char *server_value[CLUSTER_MAX_SERVERS]; /* server i's global value; NULL when it does not know it or it is NULL */
};

/* An account of the primary (mysql.global_priv on MariaDB, mysql.user on MySQL). */
struct account {
	char *user;
	char *host;   /* pattern with % and _, or address/netmask, as stored */
	char *plugin; /* "mysql_native_password" when empty there */
	char *auth;   /* authentication_string */
	bool locked;
	bool requires_tls;
	bool is_super; /* may KILL others' sessions */
	bool is_role;
	bool fits_backends; /* the same user@host matches this Tandem's own address on every server */
};

/* A stored routine, view or trigger that matters for routing. */
struct routine {
	char *name; /* lower case, without schema */
	bool harmless; /* a function: lexed, recursively, and proven to only read and change no state */
	bool writes;
	uint64_t facts; /* union of SQL_F_* of its body */
};

struct snapshot {
	_Atomic unsigned refs;
	uint64_t number; /* grows by one with each */
	struct settings *settings;
	size_t server_count;
	struct server_view servers[CLUSTER_MAX_SERVERS];
	int primary; /* index, -1 when there is none */
	char *primary_why; /* when -1: the reason, for logs and error messages */
	enum gate gate;
	/* The longest that a lease was ever good, as clock_ms(): nobody else makes another server the primary before. What is answered to a write
	 * after it is not believed. NULL: writes need no lease. */
	const _Atomic uint64_t *writes_until_ms;
	/* The last failover: tokens of sessions and accounts above `fork` are clamped to it, once per fork_number. 0: none yet. A planned
	 * promotion loses nothing and does not touch it: that is seen by another primary. */
	uint64_t fork_number;
	struct gtid_set fork;

	struct tracked_variable *variables; /* sorted by name */
	size_t variable_count;
	uint64_t variables_ticket; /* see cluster_refresh_variables() */
	uint64_t defaults; /* changes with the primary's values of them, which every session's state is told against */
	char *track_list[CLUSTER_MAX_SERVERS]; /* value for session_track_system_variables on server i */
	char *default_charset;	 /* the primary's character_set_server and collation_server */
	char *default_collation;
	uint8_t default_collation_id;

	struct account *accounts; /* sorted as the server does: most specific host first within a user; NULL until learned */
	size_t account_count;
	bool accounts_known;
	uint64_t accounts_ticket; /* see cluster_refresh_accounts() */
	bool skip_name_resolve; /* of the primary: otherwise 127.0.0.1 and ::1 are "localhost" */

	struct routine *routines; /* sorted by name; stored functions, loadable functions, procedures */
	size_t routine_count;
	struct routine *views; /* sorted by name; only those that are not proven harmless, or read user variables */
	size_t view_count;
	bool catalog_known;
	uint64_t catalog_ticket; /* see cluster_refresh_catalog() */
};

struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot);

/* Lookups. NULL when there is none. */
const struct tracked_variable *snapshot_variable(const struct snapshot *snapshot, const char *name, size_t len);
/* Several overloads of one name in different schemas are folded into one entry: the worst of all. Case-insensitive. */
const struct routine *snapshot_routine(const struct snapshot *snapshot, const char *name, size_t len);
/* The suspect view of that name in any schema, or NULL. Case-insensitive. */
const struct routine *snapshot_view(const struct snapshot *snapshot, const char *name, size_t len);
/* The account that the server would choose for this user from this address ("10.0.0.7", or "localhost" for Unix sockets), roles left out. */
const struct account *snapshot_account(const struct snapshot *snapshot, const char *user, size_t user_len, const char *host,
				       bool is_loopback);

#endif
