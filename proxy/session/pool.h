/*
 * A worker's connections to one server, and the server's limit across workers.
 *
 * Lists: `free` (no session), `held` (READY or BUSY, with a session, least recently used first: what is READY may be
 * stolen), `busy` (the rest).
 * The limit is one atomic count in struct server; only at the limit a queue with a lock is touched: each waiting turn has a ticket in it,
 * in order of arrival over all workers, and whoever has a connection to spare gives it to the first.
 */
#ifndef TANDEM_SESSION_POOL_H
#define TANDEM_SESSION_POOL_H

#include "proxy/session/backend.h"
#include "proxy/session/turn.h"

TAILQ_HEAD(turn_list, turn);

struct server_pool {
	struct worker *worker;
	struct server *server; /* holds a reference */
	int index;	       /* in the worker's snapshot; -1: no longer configured */
	struct backend_list free;
	struct backend_list held;
	struct backend_list busy;
	struct backend_list gone; /* closed; the server may count them for a moment yet */
	struct turn_list waiting; /* this worker's turns that hold tickets */
	/* Statements sent since the last tick. The server's own counts are every worker's: a line that all of them write to is in none's
	 * cache. */
	unsigned reads, writes;
	unsigned in_use;	  /* not READY: for choosing between replicas */
	uint32_t prepare_limit;	  /* statements kept per connection at the most since the server refused one; 0: it has not */
	uint32_t prepare_share;	  /* what each connection could keep when a statement was prepared last */
	unsigned sessions;	  /* connections that have a session */
};

struct server_pool *pool_new(struct worker *worker, struct server *server);
/* All its connections must be gone. */
void pool_free(struct server_pool *pool);

/* Adds what has been sent to the server's counts. */
void pool_tell_sent(struct server_pool *pool);

enum pool_answer { POOL_GOT, POOL_CONNECTING, POOL_WAIT, POOL_FAILED };
/* Finds a connection for the turn and attaches it to the turn's client: turn->backend is set for GOT (READY or BUSY with a clean-up),
 * CONNECTING (the turn is advanced when it is READY). WAIT: the turn is in the queue. FAILED: no memory or no socket. */
enum pool_answer pool_take(struct server_pool *pool, struct turn *turn);
/* The turn stands in the server's queue, if anybody does. */
bool pool_queue(struct server_pool *pool, struct turn *turn);
/* The session no longer wants it: cleaned if it must be, then free, or given to a waiting turn. */
void pool_give(struct backend *backend);
/* A connection has become free, or stealable: serve whoever waits. Called by the reply side at the end of each turn, cheap when nobody
 * waits. */
void pool_spare(struct backend *backend);
/* A place at the limit became free: wake the first in the queue. */
void pool_place_free(struct server_pool *pool);
/* The turn no longer waits. */
void pool_leave_queue(struct turn *turn);
/* May this resting connection be taken from its session now? */
bool pool_can_steal(const struct backend *backend);
/* Closes free connections that are stale or have been idle too long. */
void pool_sweep(struct server_pool *pool, uint64_t now_ms);
/* Another worker's turns wait for this server: spare one if possible. */
void pool_wanted(struct server_pool *pool);
/* The other side of worker_post_backend(). */
void pool_receive(struct server_pool *pool, struct backend *backend);
/* A place at the limit may be free: the first of this worker's waiting turns tries again. */
void pool_wake(struct server_pool *pool);
/* A connection was closed. Its place at the limit is given back at once if it had not reached the server; else when the server has had time to
 * forget it: its thread is listed and counted for a while after the socket is closed (60 ms were seen on a loaded machine). */
void pool_bury(struct backend *backend, bool reached);
/* Gives back the places of those that were closed long enough ago; all of them when the worker ends. */
void pool_forget_gone(struct server_pool *pool, uint64_t now_ms, bool all);
/* Ends connections whose login takes too long. */
void pool_check_connecting(struct server_pool *pool, uint64_t now_ms);

#endif
