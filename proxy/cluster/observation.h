/*
 * What one look at one server showed. A plain value: the monitor fills it, roles and lag are judged from it.
 */
#ifndef TANDEM_CLUSTER_OBSERVATION_H
#define TANDEM_CLUSTER_OBSERVATION_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/cluster/gtid.h"
#include "sql/sql.h"

enum { OBSERVED_LINKS = 4, OBSERVED_HOST = 256 };

enum thread_state { THREAD_STOPPED, THREAD_CONNECTING, THREAD_RUNNING };

/* One replication link: a row of SHOW ALL SLAVES STATUS. */
struct link_view {
	char host[OBSERVED_HOST];
	unsigned port;
	uint32_t master_server_id; /* 0: never connected since the server started */
	enum thread_state io;
	enum thread_state sql;
	unsigned
		io_errno; /* last error, 0 when none; an IO thread that is merely connecting has one too */
	unsigned sql_errno;
	uint64_t behind_ms; /* the server's own estimate, UINT64_MAX when it gives none */
	struct gtid_set io_position;
	bool uses_gtid;
	bool uses_tls;
	uint64_t heartbeats;   /* received so far; its change says that the source was heard */
	uint32_t heartbeat_ms; /* period the link asked for; 0: none, or not told */
	uint32_t retry_ms;     /* between two attempts to connect; 0: not told */
};

/* As a primary: whether commits wait for a replica. */
enum semi_sync_state {
	SEMI_SYNC_OFF,
	SEMI_SYNC_ON,
	SEMI_SYNC_DEGRADED, /* asked for, but the server has stopped waiting */
};

/* How it waits; of a primary that was asked to. */
struct semi_sync_terms {
	uint64_t timeout_ms; /* after which it goes on without an acknowledgement */
	bool after_sync;     /* it waits before others see the transaction */
	bool waits_alone;    /* also when no replica is connected */
	unsigned clients;    /* replicas that acknowledge */
	unsigned waiting;    /* commits that waited at this moment */
};

struct observation {
	enum sql_flavour flavour;
	uint32_t version;
	char version_text[64];
	uint64_t capabilities;
	uint8_t collation; /* of the greeting */
	uint32_t server_id;
	bool read_only;
	bool skip_name_resolve;
	unsigned max_connections;
	enum semi_sync_state semi_sync;
	struct semi_sync_terms terms; /* unless SEMI_SYNC_OFF */
	struct gtid_set position; /* applied: replicated or written here */
	unsigned link_count;
	struct link_view links[OBSERVED_LINKS];
	char own_name
		[OBSERVED_HOST]; /* Tandem's host name as this server sees it, empty when it resolves none */
	char own_ip[64];	/* Tandem's address, empty for a Unix socket */
	uint64_t row_epoch;	/* of the operation written down in tandem.cluster there; 0: none, or it replicates */
	uint64_t greeting;	/* grows by one with each connection the monitor makes */
	uint64_t connection_id; /* of the monitor's connection */
	uint16_t incarnation;	/* what this start of the server was given at random */
	int64_t booted_ms;	/* clock_ms() at which the server started, to about a second */
};

#endif
