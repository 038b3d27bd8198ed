/*
 * What the cluster watch knows at this moment, as a plain value for people and machines: who is what, what is wrong with whom. A copy; any
 * thread may ask, nobody waits for a server.
 */
#ifndef TANDEM_CLUSTER_STATUS_H
#define TANDEM_CLUSTER_STATUS_H

#include "proxy/cluster/cluster.h"
#include "proxy/cluster/peer.h"
#include "proxy/cluster/vote.h"

struct server_status {
	char name[65];
	char address[300];
	char version[64]; /* "" while never seen */
	enum server_role role;
	enum server_health health;
	bool drained;	  /* by a command: takes no reads but those that name it in a hint */
	bool takes_reads; /* as the workers are told */
	bool read_only;
	bool is_seen;	   /* it has answered at least once: version, position and read_only are known */
	char trouble[400]; /* what is wrong with it, in words; "" when nothing is */
	char advice[300];  /* what to do about it; "" */
	int64_t lag_ms;	   /* of a replica; -1: not known */
	char position[512]; /* applied: per domain the highest sequence number, the server's own number left out (0-0-100) */
	char source[300];   /* whom it replicates from: a server's name, or host:port when it is none of ours; "" */
	unsigned weight;
	unsigned connections; /* Tandem's own to it */
	unsigned connection_limit;
	uint64_t reads; /* statements sent there since the start */
	uint64_t writes;
	uint64_t errors; /* connections that failed */
};

struct cluster_status {
	size_t count;
	struct server_status servers[CLUSTER_MAX_SERVERS];
	int primary;   /* index, -1: none takes writes */
	char why[512]; /* when -1 */
	char operation[100]; /* under way: "promote db2"; "" none */
	enum gate gate;
	struct votes_status votes;
	struct peer_view peers[PEERS_MAX];
	size_t peer_count;
	char stranger[600]; /* another Tandem that is no [peer], and what to do; "" none was seen */
	uint64_t epoch; /* of the last change of the primary that is known; 0 none */
};

void cluster_status(struct cluster *cluster, struct cluster_status *out);

/* No reads for the replica `name` from now on: its resting connections are closed, those in use when their statement has ended. Or the
 * opposite. Holds until it is changed or the daemon ends. False with a sentence in `why` that says what to do; nothing was changed then. */
bool cluster_set_drained(struct cluster *cluster, const char *name, bool drained, char *why, size_t why_size);

const char *server_role_name(enum server_role role);
const char *server_health_name(enum server_health health);

#endif
