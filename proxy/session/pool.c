#include "proxy/session/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/session/freeze.h"
#include "proxy/session/worker.h"

/* ---- The queue of a server at its limit, over all workers ---- */

struct ticket {
	TAILQ_ENTRY(ticket) link;
	struct worker *worker;
	struct turn *turn; /* looked at by its own worker only */
	bool served;	   /* taken off the queue by a giver: a connection is on its way */
};

struct queue {
	pthread_mutex_t lock;
	_Atomic unsigned count;
	TAILQ_HEAD(, ticket) tickets;
};

static void free_queue(void *waiting)
{
	struct queue *q = waiting;

	pthread_mutex_destroy(&q->lock);
	free(q);
}

static struct queue *queue_of(struct server *s, bool make)
{
	void *seen = atomic_load_explicit(&s->waiting, memory_order_acquire);
	struct queue *q = seen;

	if (q || !make)
		return q;
	q = calloc(1, sizeof(*q));
	if (!q)
		return NULL;
	pthread_mutex_init(&q->lock, NULL);
	TAILQ_INIT(&q->tickets);
	s->free_waiting = free_queue; /* always the same value */
	if (!atomic_compare_exchange_strong(&s->waiting, &seen, q)) {
		free_queue(q);
		q = seen;
	}
	return q;
}

static bool somebody_waits(struct server *s)
{
	struct queue *q = queue_of(s, false);

	return q && atomic_load_explicit(&q->count, memory_order_acquire) > 0;
}

static bool join_queue(struct server_pool *pool, struct turn *turn, bool first)
{
	struct queue *q = queue_of(pool->server, true);
	struct ticket *ticket = calloc(1, sizeof(*ticket));

	if (!q || !ticket) {
		free(ticket);
		return false;
	}
	ticket->worker = pool->worker;
	ticket->turn = turn;
	turn->ticket = ticket;
	turn->pool = pool;
	turn->wait = WAIT_CONNECTION;
	turn->deadline_ms = clock_ms() + worker_settings(pool->worker)->pool_wait_ms;
	TAILQ_INSERT_TAIL(&pool->waiting, turn, link);
	pthread_mutex_lock(&q->lock);
	if (first)
		TAILQ_INSERT_HEAD(&q->tickets, ticket, link);
	else
		TAILQ_INSERT_TAIL(&q->tickets, ticket, link);
	atomic_fetch_add(&q->count, 1);
	pthread_mutex_unlock(&q->lock);
	return true;
}

void pool_leave_queue(struct turn *turn)
{
	struct ticket *ticket = turn->ticket;
	struct queue *q;
	bool served;

	if (!ticket)
		return;
	q = queue_of(turn->pool->server, false);
	pthread_mutex_lock(&q->lock);
	served = ticket->served;
	if (!served) {
		TAILQ_REMOVE(&q->tickets, ticket, link);
		atomic_fetch_sub(&q->count, 1);
	}
	pthread_mutex_unlock(&q->lock);
	TAILQ_REMOVE(&turn->pool->waiting, turn, link);
	free(ticket);
	turn->ticket = NULL;
	turn->pool = NULL;
	turn->wait = WAIT_NOTHING;
}

/* Takes the first ticket for a giver. Returns its worker; *turn is its turn when that worker is the caller's own. */
static struct worker *take_ticket(struct queue *q, const struct worker *self, struct turn **turn)
{
	struct worker *whose = NULL;
	struct ticket *t;

	pthread_mutex_lock(&q->lock);
	t = TAILQ_FIRST(&q->tickets);
	if (t) {
		TAILQ_REMOVE(&q->tickets, t, link);
		atomic_fetch_sub(&q->count, 1);
		t->served = true;
		whose = t->worker;
		*turn = whose == self ? t->turn : NULL;
	}
	pthread_mutex_unlock(&q->lock);
	return whose;
}

static struct worker *first_waiter(struct server *s)
{
	struct queue *q = queue_of(s, false);
	struct worker *whose = NULL;

	if (!q || !atomic_load(&q->count))
		return NULL;
	pthread_mutex_lock(&q->lock);
	if (TAILQ_FIRST(&q->tickets))
		whose = TAILQ_FIRST(&q->tickets)->worker;
	pthread_mutex_unlock(&q->lock);
	return whose;
}

void pool_place_free(struct server_pool *pool)
{
	struct worker *w = first_waiter(pool->server);

	if (w)
		worker_post_wanted(w, pool->server, true);
}

/* ---- Places at the limit ---- */

static unsigned limit_of(const struct server_pool *pool)
{
	unsigned limit = pool->index >= 0 ? pool->worker->snapshot->servers[pool->index].connection_limit : 0;

	return limit ? limit : 10;
}

static bool take_place(struct server_pool *pool)
{
	unsigned limit = limit_of(pool), n = atomic_load_explicit(&pool->server->connections, memory_order_relaxed);

	while (n < limit)
		if (atomic_compare_exchange_weak_explicit(&pool->server->connections, &n, n + 1, memory_order_acq_rel,
							  memory_order_relaxed))
			return true;
	return false;
}

enum { FORGOTTEN_MS = 250 };

static void give_place(struct backend *b)
{
	struct server_pool *pool = b->pool;

	atomic_fetch_sub_explicit(&b->server->connections, 1, memory_order_acq_rel);
	worker_bury_backend(b->worker, b);
	pool_place_free(pool);
}

void pool_bury(struct backend *backend, bool reached)
{
	backend->gone_ms = clock_ms();
	if (reached)
		TAILQ_INSERT_TAIL(&backend->pool->gone, backend, link);
	else
		give_place(backend);
}

void pool_forget_gone(struct server_pool *pool, uint64_t now_ms, bool all)
{
	struct backend *b;

	while ((b = TAILQ_FIRST(&pool->gone)) && (all || now_ms >= b->gone_ms + FORGOTTEN_MS)) {
		TAILQ_REMOVE(&pool->gone, b, link);
		give_place(b);
	}
}

/* ---- Finding one ---- */

/* The victim's values are asked for; whoever waits gets the connection when they have come. */
static bool begin_freeze(struct backend *b)
{
	if (freeze_begin(b))
		return true;
	backend_lost(b, "its session's values could not be asked for", 0, NULL, NULL);
	return false;
}

/* It may stay with its session, but no other should have it. */
static bool is_stale(const struct backend *b)
{
	if (b->grants != atomic_load_explicit(&b->worker->shared->grants, memory_order_relaxed))
		return true; /* a new session has the privileges of now */
	return b->retire || b->broken || b->pool->index < 0 || b->epoch < b->worker->snapshot->servers[b->pool->index].epoch;
}

/* Before another session has it, the role goes: see clean_role(). */
static bool role_suits(const struct backend *b, const struct client *c)
{
	return !b->value || !b->value->role || (c->value && c->value->role);
}

static bool suits(const struct backend *b, const struct turn *t)
{
	return role_suits(b, t->client) && b->kind == backend_kind(t->client->capabilities) && credentials_same(b->credentials, t->client->credentials);
}

static struct backend *find_free(struct server_pool *pool, const struct turn *t)
{
	struct backend *b, *next, *best = NULL;

	for (b = TAILQ_FIRST(&pool->free); b; b = next) {
		next = TAILQ_NEXT(b, link);
		if (is_stale(b)) {
			backend_leave(b, "stale");
			continue;
		}
		if (!suits(b, t))
			continue;
		if (!best || state_equal(b->value, t->client->value))
			best = b; /* the last used is at the end of the list, and the warmest */
	}
	return best;
}

bool pool_can_steal(const struct backend *backend)
{
	const struct client *c = backend->client;
	const struct turn *t = c ? c->turn : NULL;

	if (!c || backend->state != BACKEND_READY || backend->freezing || c->trx == backend || c->cursor_at == backend)
		return false;
	if ((c->pinned == backend && client_is_pinned(c)) || (c->uvars_fixed && freeze_needed(c, backend)))
		return false;
	if (c->asks_binary && c->last == backend)
		return false;
	if (c->finds_last && c->has_last_id && c->last_id_at == backend) /* only this one knows whether it was found */
		return false;
	return !t || (t->backend != backend && t->wait != WAIT_CAPTURE);
}

/* Least recently used first; of other users only when asked. */
static struct backend *find_resting(struct server_pool *pool, const struct turn *t, bool same_user)
{
	struct backend *b, *frozen_later = NULL;

	TAILQ_FOREACH(b, &pool->held, link) {
		if (!pool_can_steal(b) || suits(b, t) != same_user)
			continue;
		if (!freeze_needed(b->client, b))
			return b;
		if (!frozen_later)
			frozen_later = b;
	}
	return frozen_later;
}

static void attach(struct backend *b, struct turn *t)
{
	client_attach(t->client, b);
	t->backend = b;
}

static enum pool_answer open_new(struct server_pool *pool, struct turn *t)
{
	const char *why;
	struct client *c = t->client;
	struct backend *b = backend_open(pool, c->credentials, backend_kind(c->capabilities), c->charset, c->multi_statements, &why);

	if (!b)
		return POOL_FAILED;
	attach(b, t);
	t->wait = WAIT_CONNECT;
	return POOL_CONNECTING;
}

/* COM_CHANGE_USER gives the account its default role if it has one, and else leaves the role as it is: NONE, then, is as after a login. */
static void clean_role(struct backend *b)
{
	static const char none[] = "SET ROLE NONE";

	if (!backend_command(b, EXPECT_CLEAN, COM_QUERY, none, sizeof(none) - 1))
		backend_close(b, "could not be cleaned");
}

/* A connection of another user becomes the turn's user's by COM_CHANGE_USER. */
static enum pool_answer make_other(struct backend *b, struct turn *t)
{
	struct client *c = t->client;

	if (b->value->role && !is_stale(b)) {
		if (b->client)
			client_detach(b->client, b);
		clean_role(b);
		return POOL_WAIT;
	}
	if (b->kind != backend_kind(c->capabilities) || is_stale(b)) {
		backend_leave(b, "its place is wanted for another user");
		return POOL_WAIT;
	}
	if (b->client)
		client_detach(b->client, b);
	credentials_unref(b->credentials);
	b->credentials = credentials_ref(c->credentials);
	b->charset = c->charset;
	attach(b, t);
	t->wait = WAIT_CONNECT;
	if (backend_login_again(b))
		return POOL_CONNECTING;
	backend_close(b, "cannot change its user");
	return POOL_FAILED;
}

static enum pool_answer steal(struct server_pool *pool, struct turn *t)
{
	struct backend *b = find_resting(pool, t, true);

	if (b && !freeze_needed(b->client, b)) {
		client_detach(b->client, b);
		attach(b, t);
		return POOL_GOT;
	}
	if (b)
		return begin_freeze(b) ? POOL_WAIT : POOL_FAILED;
	b = TAILQ_FIRST(&pool->free);
	if (!b)
		b = find_resting(pool, t, false);
	if (!b)
		return POOL_WAIT;
	if (b->client && freeze_needed(b->client, b))
		return begin_freeze(b) ? POOL_WAIT : POOL_FAILED;
	return make_other(b, t);
}

static void tell_others(struct server_pool *pool)
{
	struct shared *s = pool->worker->shared;

	for (unsigned i = 0; i < s->worker_count; i++)
		if (&s->workers[i] != pool->worker)
			worker_post_wanted(&s->workers[i], pool->server, false);
}

enum pool_answer pool_take(struct server_pool *pool, struct turn *turn)
{
	bool queued = turn->ticket != NULL;
	struct backend *b;
	enum pool_answer answer;

	if (!queued && somebody_waits(pool->server)) {
		if (!join_queue(pool, turn, false))
			return POOL_FAILED;
		tell_others(pool);
		return POOL_WAIT;
	}
	b = find_free(pool, turn);
	if (b) {
		pool_leave_queue(turn);
		attach(b, turn);
		return POOL_GOT;
	}
	if (take_place(pool)) {
		pool_leave_queue(turn);
		return open_new(pool, turn);
	}
	answer = steal(pool, turn);
	if (answer != POOL_WAIT) {
		if (answer != POOL_FAILED) {
			enum turn_wait wait = turn->wait;

			pool_leave_queue(turn);
			turn->wait = answer == POOL_CONNECTING ? WAIT_CONNECT : wait == WAIT_CONNECTION ? WAIT_NOTHING : wait;
		}
		return answer;
	}
	if (!queued) {
		if (!join_queue(pool, turn, false))
			return POOL_FAILED;
		tell_others(pool);
	}
	return POOL_WAIT;
}

bool pool_queue(struct server_pool *pool, struct turn *turn)
{
	return turn->ticket || (somebody_waits(pool->server) && join_queue(pool, turn, false));
}

/* ---- Giving ---- */

static void serve(struct backend *b, struct turn *t)
{
	struct server_pool *pool = b->pool;
	struct backend *own = client_backend_at(t->client, pool);

	pool_leave_queue(t);
	if (own) { /* being frozen for another; that other can have this one */
		t->backend = own;
		turn_advance(t);
		if (b->state == BACKEND_READY && !b->client)
			pool_spare(b);
		return;
	}
	if (!suits(b, t)) {
		enum pool_answer answer = make_other(b, t);

		if (answer == POOL_FAILED || (answer == POOL_WAIT && !join_queue(pool, t, true)))
			turn_fail(t, ER_OUT_OF_RESOURCES, "HY000", "tandem: out of memory");
		return;
	}
	client_attach(t->client, b);
	t->backend = b;
	turn_advance(t);
}

void pool_spare(struct backend *backend)
{
	struct queue *q = queue_of(backend->server, false);
	struct worker *whose, *self = backend->worker;
	struct turn *t = NULL;

	if (!q || !atomic_load_explicit(&q->count, memory_order_acquire) || backend->state != BACKEND_READY)
		return;
	if (backend->client) {
		if (!pool_can_steal(backend))
			return;
		if (freeze_needed(backend->client, backend)) {
			begin_freeze(backend);
			return;
		}
		client_detach(backend->client, backend);
	}
	if (is_stale(backend)) {
		backend_leave(backend, "stale");
		return;
	}
	whose = take_ticket(q, self, &t);
	if (!whose)
		return; /* nobody any more: it stays free */
	if (whose == self) {
		serve(backend, t);
		return;
	}
	backend_detach(backend);
	worker_post_backend(whose, backend);
}

void pool_receive(struct server_pool *pool, struct backend *backend)
{
	struct turn *t;

	if (!backend_adopt(backend, pool)) {
		backend_close(backend, "could not be moved");
		return;
	}
	TAILQ_FOREACH(t, &pool->waiting, link)
		if (((struct ticket *)t->ticket)->served) {
			serve(backend, t);
			return;
		}
	pool_spare(backend); /* its turn gave up meanwhile */
}

void pool_wanted(struct server_pool *pool)
{
	struct backend *b = TAILQ_LAST(&pool->free, backend_list);

	if (!b)
		TAILQ_FOREACH(b, &pool->held, link)
			if (pool_can_steal(b))
				break;
	if (b)
		pool_spare(b);
}

void pool_wake(struct server_pool *pool)
{
	struct turn *t = TAILQ_FIRST(&pool->waiting);

	if (t && !((struct ticket *)t->ticket)->served)
		turn_advance(t);
}

void pool_give(struct backend *backend)
{
	struct backend *b = backend;

	if (b->state == BACKEND_DEAD)
		return;
	if (is_stale(b) || b->state == BACKEND_CONNECTING || b->state == BACKEND_LOGIN) {
		backend_leave(b, "no longer wanted");
		return;
	}
	if (b->state == BACKEND_SETUP)
		return; /* comes here again when it is READY */
	if (b->value->role) {
		clean_role(b);
		return;
	}
	if (b->status & SERVER_STATUS_IN_TRANS || b->tainted || b->has_uvars) {
		b->tainted = b->guard_lost = false;
		if (!backend_reset(b, EXPECT_CLEAN))
			backend_close(b, "could not be cleaned");
		return;
	}
	if (b->state == BACKEND_READY) {
		backend_relist(b);
		pool_spare(b);
	}
}

/* ---- Upkeep ---- */

struct server_pool *pool_new(struct worker *worker, struct server *server)
{
	struct server_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pool->worker = worker;
	pool->server = server_ref(server);
	TAILQ_INIT(&pool->free);
	TAILQ_INIT(&pool->held);
	TAILQ_INIT(&pool->busy);
	TAILQ_INIT(&pool->gone);
	TAILQ_INIT(&pool->waiting);
	return pool;
}

void pool_free(struct server_pool *pool)
{
	server_unref(pool->server);
	free(pool);
}

static void sweep_waiting(struct server_pool *pool, uint64_t now_ms)
{
	struct turn *t;

	while ((t = TAILQ_FIRST(&pool->waiting)) && now_ms >= t->deadline_ms)
		turn_fail(t, ER_CON_COUNT_ERROR, "08004",
			  "tandem: no connection to %s became free in time; all %u are in use (max_connections, pool_wait)",
			  pool->server->name, limit_of(pool));
	pool_wake(pool);
}

void pool_tell_sent(struct server_pool *pool)
{
	if (pool->reads)
		atomic_fetch_add_explicit(&pool->server->reads, pool->reads, memory_order_relaxed);
	if (pool->writes)
		atomic_fetch_add_explicit(&pool->server->writes, pool->writes, memory_order_relaxed);
	pool->reads = pool->writes = 0;
}

void pool_sweep(struct server_pool *pool, uint64_t now_ms)
{
	uint64_t idle_ms = worker_settings(pool->worker)->backend_idle_ms;
	struct backend *b, *next;

	for (b = TAILQ_FIRST(&pool->free); b; b = next) {
		next = TAILQ_NEXT(b, link);
		if (is_stale(b) || now_ms > b->since_ms + idle_ms)
			backend_leave(b, "idle");
	}
	sweep_waiting(pool, now_ms);
}

static struct backend *find_late(struct server_pool *pool, uint64_t now_ms)
{
	uint64_t limit = worker_settings(pool->worker)->connect_timeout_ms;
	struct backend *b;

	TAILQ_FOREACH(b, &pool->busy, link)
		if (b->state <= BACKEND_SETUP && now_ms >= b->since_ms + limit)
			return b;
	return NULL;
}

void pool_check_connecting(struct server_pool *pool, uint64_t now_ms)
{
	struct backend *b;

	while ((b = find_late(pool, now_ms))) {
		cluster_suspect(pool->worker->shared->cluster, pool->server);
		backend_lost(b, "connecting took too long", 0, NULL, NULL);
	}
}
