/*
 * A worker: one thread, one loop, its clients and its share of the connections. Nothing on the road takes a lock; news from other
 * threads comes through the inbox.
 */
#ifndef TANDEM_SESSION_WORKER_H
#define TANDEM_SESSION_WORKER_H

#include <pthread.h>

#include "base/inbox.h"
#include "proxy/cluster/cluster.h"
#include "proxy/session/output.h"
#include "proxy/session/placement.h"
#include "proxy/session/pool.h"
#include "proxy/session/whereabouts.h"

TAILQ_HEAD(client_list, client);

enum { SCHEMA_SLOTS = 64 };

/* What all workers share; owned by proxy.c. */
struct shared {
	struct cluster *cluster;
	struct worker *workers;
	unsigned worker_count;
	SSL_CTX *client_tls; /* NULL: no TLS to clients */
	uint8_t fingerprint[32];
	bool self_signed;
	_Atomic(uint32_t) next_id;
	_Atomic unsigned clients;
	_Atomic bool draining;
	_Atomic unsigned worker_load; /* percent of a core; placement.h */
	_Atomic uint32_t schemas[SCHEMA_SLOTS]; /* by hash of the name: counts CREATE and ALTER DATABASE; see shared_schema() */
	_Atomic uint32_t grants; /* counts statements that change accounts: servers look at privileges when a connection logs in */
	_Atomic uint64_t catalog_ticket; /* a routine changed: only a catalog read after this was given knows */
};

/* What its clients have in the way of a promotion, while the gate is not open; gate.c's. */
struct gate_tally {
	_Atomic unsigned open_writes;
	_Atomic unsigned held;
	_Atomic unsigned pinned;
};

/* A connection keeps the collation of the schema that it has chosen, even when that is dropped and made anew: it has to choose it again. */
static inline _Atomic uint32_t *shared_schema(struct shared *shared, const char *name, size_t len)
{
	uint32_t hash = 0;

	for (size_t i = 0; i < len; i++)
		hash = hash * 31 + ((unsigned char)name[i] | 0x20u);
	return &shared->schemas[hash % SCHEMA_SLOTS];
}

struct worker {
	struct shared *shared;
	unsigned number;
	pthread_t thread;
	struct io_loop loop;
	struct inbox inbox;
	struct snapshot *snapshot; /* the one adopted */
	bool gate_closed; /* the snapshot's gate is not open */
	struct gate_tally tally;
	_Atomic uint64_t adopted;  /* its number; for any thread */
	struct server_pool *pools[CLUSTER_MAX_SERVERS]; /* by index in the snapshot */
	struct server_pool *old_pools[CLUSTER_MAX_SERVERS]; /* of servers gone from the settings, until empty */
	struct client_list clients;
	_Atomic unsigned client_count;
	struct client_list leavers; /* of the clients: those that are to move to another worker */
	struct placement placement;
	struct whereabouts whereabouts;
	struct turn_list parked;	 /* WAIT_POSITION, in order of deadline */
	struct turn_list for_primary;	 /* WAIT_PRIMARY */
	struct turn_list free_turns;
	struct client_list dead_clients;
	struct backend_list dead_backends;
	struct watch reaper;	 /* woken: frees the dead at the end of the loop turn */
	struct watch leaver;	 /* woken: lets leave who can */
	struct watch ticker;	 /* a timerfd, every 50 ms: deadlines, idle time */
	struct watch park_timer; /* a timerfd, for the deadline of the first that is parked */
	bool park_timer_runs;
	struct sql_recall *recall; /* statements judged lately */
	struct state *states[64]; /* seen lately: equal ones are kept once */
	struct output out;	/* the reply being passed on */
	uint64_t now_ms;	/* refreshed each tick; coarse */
	SSL_CTX *server_tls[CLUSTER_MAX_SERVERS];
	unsigned ticks;
	unsigned rotation; /* so that equal replicas take turns */
	struct replay *spare_replays; /* records for the next transactions; replay.c's */
	unsigned spare_replay_count;
	const struct server *primary; /* the last one; compared, never looked into */
	uint64_t fork_number; /* of the last promotion that its sessions know of */
	bool stopping;
};

/* The worker's thread. */
void *worker_run(void *worker);
bool worker_init(struct worker *worker, struct shared *shared, unsigned number, struct snapshot *first) __attribute__((warn_unused_result));
void worker_fini(struct worker *worker);

/* Any thread: */
void worker_post_client(struct worker *worker, int fd, const char *host, uint16_t port);
void worker_post_snapshot(struct worker *worker, struct snapshot *snapshot);
void worker_post_moved(struct worker *worker, struct server *server);
void worker_post_drain(struct worker *worker);
void worker_post_stop(struct worker *worker);
/* Gives a detached connection to a worker that waits for one. */
void worker_post_backend(struct worker *worker, struct backend *backend);
/* Tells a worker that turns wait for this server: `wake` is for its own turns (a place is free), else it should spare one. */
void worker_post_wanted(struct worker *worker, struct server *server, bool wake);

/* The worker's own thread: */
void worker_bury_client(struct worker *worker, struct client *client);
void worker_bury_backend(struct worker *worker, struct backend *backend);
/* A reference to the state, or to an equal one that others use already. */
struct state *worker_share_state(struct worker *worker, struct state *state);
struct client *worker_find_client(struct worker *worker, uint32_t id);
struct server_pool *worker_pool(struct worker *worker, const struct server *server);
void worker_park(struct worker *worker, struct turn *turn, uint64_t wait_ms);
void worker_wait_primary(struct worker *worker, struct turn *turn);
/* Its connection failed: it is routed again from the loop, a little later, when the cluster may know more. */
void worker_retry_later(struct worker *worker, struct turn *turn);
/* Advances all parked turns again. */
void worker_unpark_all(struct worker *worker);
/* rebase.c: the defaults that states are told against are others than in the snapshot before. */
void worker_rebase(struct worker *worker, const struct snapshot *before);
/* The same for one client that comes from a worker with another snapshot. */
void worker_rebase_client(struct worker *worker, const struct snapshot *before, struct client *client);
const struct proxy_settings *worker_settings(const struct worker *worker);

#endif
