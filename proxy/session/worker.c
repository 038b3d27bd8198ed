#include "proxy/session/worker.h"

#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/session/gate.h"
#include "proxy/session/lost.h"
#include "proxy/session/move.h"
#include "proxy/session/replay.h"
#include "sql/recall.h"

enum { TICK_MS = 50, RETRY_MS = 20 };

const struct proxy_settings *worker_settings(const struct worker *worker)
{
	return &worker->snapshot->settings->proxy;
}

/* ---- The dead ---- */

static void reap(void *arg, unsigned what)
{
	struct worker *w = arg;
	struct client *c;
	struct backend *b;

	(void)what;
	while ((c = TAILQ_FIRST(&w->dead_clients))) {
		TAILQ_REMOVE(&w->dead_clients, c, link);
		client_free(c);
	}
	while ((b = TAILQ_FIRST(&w->dead_backends))) {
		TAILQ_REMOVE(&w->dead_backends, b, link);
		backend_free(b);
	}
}

void worker_bury_client(struct worker *worker, struct client *client)
{
	TAILQ_INSERT_TAIL(&worker->dead_clients, client, link);
	watch_wake(&worker->reaper, WATCH_READ);
}

void worker_bury_backend(struct worker *worker, struct backend *backend)
{
	TAILQ_INSERT_TAIL(&worker->dead_backends, backend, link);
	watch_wake(&worker->reaper, WATCH_READ);
}

/* ---- Timers ---- */

/* False: heard of twice. */
static bool timer_passed(const struct watch *timer)
{
	uint64_t passed;

	return read(timer->fd, &passed, sizeof(passed)) == sizeof(passed);
}

static bool timer_init(struct watch *timer, struct worker *w, void (*passed)(void *arg, unsigned what))
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0)
		return false;
	if (watch_init(timer, &w->loop.poller, fd, passed, w) && watch_want(timer, WATCH_READ))
		return true;
	watch_stop(timer);
	close(fd);
	return false;
}

static void timer_fini(struct watch *timer)
{
	int fd = timer->poller ? timer->fd : -1;

	watch_stop(timer);
	if (fd >= 0)
		close(fd);
}

/* ---- Parked turns ---- */

static void arm_park_timer(struct worker *w)
{
	struct turn *t = TAILQ_FIRST(&w->parked);
	uint64_t now = clock_ms(), wait;
	struct itimerspec once = { 0 };

	if (!t || w->park_timer_runs)
		return;
	wait = t->deadline_ms > now ? t->deadline_ms - now : 0;
	once.it_value = (struct timespec){ (time_t)(wait / 1000), (long)(wait % 1000 * 1000000 + 500000) };
	w->park_timer_runs = timerfd_settime(w->park_timer.fd, 0, &once, NULL) == 0;
}

static bool primary_is_up(const struct worker *w)
{
	const struct snapshot *s = w->snapshot;

	return s->primary >= 0 && s->servers[s->primary].health == HEALTH_UP;
}

/* A read's time in the park is over: the primary answers it, if there is one; else it stays until a replica has caught up. */
static void on_park_timer(void *arg, unsigned what)
{
	struct worker *w = arg;
	struct turn *t;
	uint64_t now = clock_ms();

	(void)what;
	if (!timer_passed(&w->park_timer))
		return;
	w->park_timer_runs = false;
	while ((t = TAILQ_FIRST(&w->parked)) && t->deadline_ms <= now) {
		if (!primary_is_up(w) && now < t->give_up_ms) {
			TAILQ_REMOVE(&w->parked, t, link);
			t->deadline_ms = now + 100;
			TAILQ_INSERT_TAIL(&w->parked, t, link);
			continue;
		}
		t->waited_for_position = true;
		turn_advance(t);
	}
	arm_park_timer(w);
}

void worker_park(struct worker *worker, struct turn *turn, uint64_t wait_ms)
{
	uint64_t now = clock_ms();

	if (!turn->give_up_ms) {
		turn->deadline_ms = now + wait_ms;
		turn->give_up_ms = now + worker_settings(worker)->primary_wait_ms;
	}
	turn->wait = WAIT_POSITION;
	TAILQ_INSERT_TAIL(&worker->parked, turn, link);
	arm_park_timer(worker);
}

void worker_wait_primary(struct worker *worker, struct turn *turn)
{
	if (!turn->give_up_ms)
		turn->give_up_ms = clock_ms() + worker_settings(worker)->primary_wait_ms;
	turn->wait = WAIT_PRIMARY;
	turn->deadline_ms = turn->give_up_ms;
	TAILQ_INSERT_TAIL(&worker->for_primary, turn, link);
}

/* As waiting for a primary, but tried again at each tick. */
void worker_retry_later(struct worker *worker, struct turn *turn)
{
	if (turn->tries < UINT8_MAX)
		turn->tries++;
	turn->pending = 0;
	turn->failed = turn->retry = false;
	turn->slot = PREPARED_NONE;
	turn->again_ms = clock_ms() + (turn->tries > 1 ? RETRY_MS * (turn->tries < 5 ? turn->tries : 5) : 0);
	worker_wait_primary(worker, turn);
}

/* Only those that were there at the start: a turn that parks again comes to the end of the list. */
static void advance_some(struct turn_list *list, size_t count)
{
	for (; count && TAILQ_FIRST(list); count--)
		turn_advance(TAILQ_FIRST(list));
}

static size_t length(const struct turn_list *list)
{
	const struct turn *t;
	size_t n = 0;

	TAILQ_FOREACH(t, list, link)
		n++;
	return n;
}

void worker_unpark_all(struct worker *worker)
{
	advance_some(&worker->parked, length(&worker->parked));
}

/* Without a primary it is the same to wait for one and for leave to write there; but a transaction that is open may go on. */
static bool waits_for_gate(const struct turn *t, const struct snapshot *s)
{
	return t->held && (s->gate != GATE_SHUT || s->primary >= 0 || t->client->trx);
}

static void check_one_for_primary(struct worker *w, struct turn *t, uint64_t now)
{
	const struct snapshot *s = w->snapshot;

	if (now >= t->deadline_ms && replay_is_lost(t->client)) {
		replay_give_up(t);
	} else if (now >= t->deadline_ms && waits_for_gate(t, s)) {
		gate_give_up(t);
	} else if (now >= t->deadline_ms) {
		turn_fail(t, ER_CONNECTION_KILLED, "70100", "tandem: no primary: %s; waited %u ms (primary_wait)",
			  s->primary_why ? s->primary_why : "it does not answer", s->settings->proxy.primary_wait_ms);
	} else if (t->again_ms && now >= t->again_ms) {
		t->again_ms = 0;
		turn_advance(t);
	} else {
		TAILQ_REMOVE(&w->for_primary, t, link);
		TAILQ_INSERT_TAIL(&w->for_primary, t, link);
	}
}

/* Each of those that are there now is looked at once, which leaves them in their order. */
static void check_waiting_for_primary(struct worker *w, uint64_t now)
{
	for (size_t n = length(&w->for_primary); n && TAILQ_FIRST(&w->for_primary); n--)
		check_one_for_primary(w, TAILQ_FIRST(&w->for_primary), now);
}

/* ---- The tick: deadlines and idle time ---- */

static void tick_client(struct client *c, uint64_t now)
{
	if (c->state == CLIENT_LOGIN) {
		login_tick(c, now);
		return;
	}
	if (c->state == CLIENT_READY && c->wait_timeout_ms && now > c->active_ms + c->wait_timeout_ms) {
		log_info(&c->subject, "idle for longer than wait_timeout");
		client_close(c, "wait_timeout");
	} else if (c->state == CLIENT_READY && c->draining && !c->trx) {
		client_close(c, "draining");
	}
}

static void tick_clients(struct worker *w, uint64_t now)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		tick_client(c, now);
	}
}

static void drop_empty_pools(struct worker *w)
{
	for (int i = 0; i < CLUSTER_MAX_SERVERS; i++) {
		struct server_pool *p = w->old_pools[i];

		if (!p || TAILQ_FIRST(&p->free) || TAILQ_FIRST(&p->held) || TAILQ_FIRST(&p->busy) || TAILQ_FIRST(&p->waiting))
			continue;
		pool_forget_gone(p, clock_ms(), false);
		if (TAILQ_FIRST(&p->gone))
			continue;
		if (TAILQ_FIRST(&w->dead_backends))
			continue;
		pool_free(p);
		w->old_pools[i] = NULL;
	}
}

static void on_tick(void *arg, unsigned what)
{
	struct worker *w = arg;
	uint64_t now = clock_ms();

	(void)what;
	if (!timer_passed(&w->ticker))
		return;
	w->now_ms = now;
	placement_tick(w, now);
	check_waiting_for_primary(w, now);
	for (size_t i = 0; i < w->snapshot->server_count; i++) {
		pool_tell_sent(w->pools[i]);
		pool_check_connecting(w->pools[i], now);
		pool_forget_gone(w->pools[i], now, false);
		if (TAILQ_FIRST(&w->pools[i]->waiting) || w->ticks % 20 == 0)
			pool_sweep(w->pools[i], now);
	}
	if (w->ticks % 10 == 0)
		tick_clients(w, now);
	if (w->ticks++ % 20 == 0)
		drop_empty_pools(w);
}

/* ---- Snapshots ---- */

struct server_pool *worker_pool(struct worker *worker, const struct server *server)
{
	for (size_t i = 0; i < worker->snapshot->server_count; i++)
		if (worker->pools[i]->server == server)
			return worker->pools[i];
	for (int i = 0; i < CLUSTER_MAX_SERVERS; i++)
		if (worker->old_pools[i] && worker->old_pools[i]->server == server)
			return worker->old_pools[i];
	return NULL;
}

static void retire_pool(struct worker *w, struct server_pool *pool)
{
	struct backend *b;

	pool->index = -1;
	while ((b = TAILQ_FIRST(&pool->free)))
		backend_close(b, "its server was taken out of the settings");
	TAILQ_FOREACH(b, &pool->held, link)
		b->retire = true;
	TAILQ_FOREACH(b, &pool->busy, link)
		b->retire = true;
	for (int i = 0; i < CLUSTER_MAX_SERVERS; i++)
		if (!w->old_pools[i]) {
			w->old_pools[i] = pool;
			return;
		}
}

static bool adopt_pools(struct worker *w, const struct snapshot *s)
{
	struct server_pool *pools[CLUSTER_MAX_SERVERS] = { 0 };
	size_t old = w->snapshot ? w->snapshot->server_count : 0;

	for (size_t i = 0; i < s->server_count; i++) {
		for (size_t j = 0; j < old; j++)
			if (w->pools[j] && w->pools[j]->server == s->servers[i].server) {
				pools[i] = w->pools[j];
				w->pools[j] = NULL;
			}
		if (!pools[i])
			pools[i] = pool_new(w, s->servers[i].server);
		if (!pools[i])
			return false;
		pools[i]->index = (int)i;
	}
	for (size_t j = 0; j < old; j++)
		if (w->pools[j])
			retire_pool(w, w->pools[j]);
	memcpy(w->pools, pools, sizeof(w->pools));
	for (int i = 0; i < CLUSTER_MAX_SERVERS; i++) {
		SSL_CTX_free(w->server_tls[i]);
		w->server_tls[i] = NULL;
	}
	return true;
}

static void refresh_contexts(struct worker *w)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->value)
			client_digest_value(c);
		if (c->state == CLIENT_LOGIN)
			login_recheck(c);
	}
}

static void adopt(struct worker *w, struct snapshot *snapshot)
{
	struct snapshot *before = w->snapshot;

	if (!adopt_pools(w, snapshot)) {
		log_error(NULL, "worker %u: out of memory for a new view of the cluster", w->number);
		snapshot_unref(snapshot);
		return;
	}
	w->snapshot = snapshot;
	if (before) {
		if (before->defaults != snapshot->defaults)
			worker_rebase(w, before);
		lost_adopt(w, before);
		snapshot_unref(before);
	}
	gate_adopt(w);
	move_adopt(w);
	refresh_contexts(w);
	advance_some(&w->for_primary, length(&w->for_primary));
	worker_unpark_all(w);
	atomic_store(&w->adopted, snapshot->number);
	if (w->gate_closed)
		cluster_gate_moved(w->shared->cluster);
}

/* ---- Messages ---- */

struct message {
	struct inbox_message base;
	struct snapshot *snapshot;
	struct server *server;
	struct backend *backend;
	char *host;
	uint16_t port;
	int fd;
	bool wake;
};

static void post(struct worker *w, struct message content, void (*deliver)(struct inbox_message *, void *))
{
	struct message *m = malloc(sizeof(*m));

	if (!m) {
		log_error(NULL, "out of memory for a message to worker %u", w->number);
		abort();
	}
	*m = content;
	m->base.deliver = deliver;
	inbox_post(&w->inbox, &m->base);
}

static void deliver_client(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;
	struct worker *w = owner;

	atomic_fetch_sub(&w->client_count, 1); /* counted at hand-over, so that the accepting thread spreads evenly */
	if (w->stopping || !client_new(w, m->fd, m->host, m->port))
		close(m->fd);
	free(m->host);
	free(m);
}

static void deliver_snapshot(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;

	adopt(owner, m->snapshot);
	free(m);
}

static void deliver_moved(struct inbox_message *message, void *owner)
{
	worker_unpark_all(owner);
	free(message);
}

static void deliver_backend(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;
	struct server_pool *pool = worker_pool(owner, m->backend->server);

	assert(pool);
	if (m->backend->value && m->backend->value->base != pool->worker->snapshot->defaults)
		m->backend->guard_lost = true; /* it was on its way when the others' states were told anew: a reset makes it known */
	pool_receive(pool, m->backend);
	free(m);
}

static void deliver_wanted(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;
	struct server_pool *pool = worker_pool(owner, m->server);

	if (pool && m->wake)
		pool_wake(pool);
	else if (pool)
		pool_wanted(pool);
	server_unref(m->server);
	free(m);
}

static void deliver_drain(struct inbox_message *message, void *owner)
{
	struct worker *w = owner;
	struct client *c, *next;

	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		c->draining = true;
		if (c->state == CLIENT_READY && !c->trx)
			client_close(c, "draining");
	}
	free(message);
}

static void close_everything(struct worker *w)
{
	struct client *c;
	struct backend *b;

	while ((c = TAILQ_FIRST(&w->clients)))
		client_close(c, "stopping");
	for (size_t i = 0; i < CLUSTER_MAX_SERVERS * 2; i++) {
		struct server_pool *p = i < CLUSTER_MAX_SERVERS ? w->pools[i] : w->old_pools[i - CLUSTER_MAX_SERVERS];

		if (!p)
			continue;
		while ((b = TAILQ_FIRST(&p->free)) || (b = TAILQ_FIRST(&p->held)) || (b = TAILQ_FIRST(&p->busy)))
			backend_close(b, "stopping");
		pool_forget_gone(p, clock_ms(), true);
	}
}

static void deliver_stop(struct inbox_message *message, void *owner)
{
	struct worker *w = owner;

	w->stopping = true;
	close_everything(w);
	poller_stop(&w->loop.poller);
	free(message);
}

void worker_post_client(struct worker *worker, int fd, const char *host, uint16_t port)
{
	atomic_fetch_add(&worker->client_count, 1);
	post(worker, (struct message){ .fd = fd, .host = strdup(host), .port = port }, deliver_client);
}

void worker_post_snapshot(struct worker *worker, struct snapshot *snapshot)
{
	post(worker, (struct message){ .snapshot = snapshot_ref(snapshot) }, deliver_snapshot);
}

void worker_post_moved(struct worker *worker, struct server *server)
{
	(void)server;
	post(worker, (struct message){ 0 }, deliver_moved);
}

void worker_post_drain(struct worker *worker)
{
	post(worker, (struct message){ 0 }, deliver_drain);
}

void worker_post_stop(struct worker *worker)
{
	post(worker, (struct message){ 0 }, deliver_stop);
}

void worker_post_backend(struct worker *worker, struct backend *backend)
{
	post(worker, (struct message){ .backend = backend }, deliver_backend);
}

void worker_post_wanted(struct worker *worker, struct server *server, bool wake)
{
	post(worker, (struct message){ .server = server_ref(server), .wake = wake }, deliver_wanted);
}

struct client *worker_find_client(struct worker *worker, uint32_t id)
{
	struct client *c;

	TAILQ_FOREACH(c, &worker->clients, link)
		if (c->id == id)
			return c;
	return NULL;
}

struct state *worker_share_state(struct worker *worker, struct state *state)
{
	struct state **slot = &worker->states[state->hash % (sizeof(worker->states) / sizeof(worker->states[0]))];

	if (*slot == state || (*slot && state_equal(*slot, state)))
		return state_ref(*slot);
	state_unref(*slot);
	*slot = state_ref(state);
	return state_ref(state);
}

/* ---- Life ---- */

static bool init_watches(struct worker *w)
{
	const struct timespec tick = { 0, TICK_MS * 1000000 };
	const struct itimerspec periodic = { tick, tick };

	return watch_init(&w->reaper, &w->loop.poller, -1, reap, w) && watch_init(&w->leaver, &w->loop.poller, -1, placement_on_leave, w) &&
	       timer_init(&w->park_timer, w, on_park_timer) && timer_init(&w->ticker, w, on_tick) && timerfd_settime(w->ticker.fd, 0, &periodic, NULL) == 0;
}

bool worker_init(struct worker *worker, struct shared *shared, unsigned number, struct snapshot *first)
{
	struct worker *w = worker;

	w->shared = shared;
	w->number = number;
	w->now_ms = clock_ms();
	TAILQ_INIT(&w->clients);
	TAILQ_INIT(&w->leavers);
	TAILQ_INIT(&w->parked);
	TAILQ_INIT(&w->for_primary);
	TAILQ_INIT(&w->free_turns);
	TAILQ_INIT(&w->dead_clients);
	TAILQ_INIT(&w->dead_backends);
	if (!io_loop_init(&w->loop, NULL) || !inbox_init(&w->inbox, &w->loop.poller, w))
		return false;
	w->recall = sql_recall_new();
	if (!w->recall || !init_watches(w))
		return false;
	if (!adopt_pools(w, first))
		return false;
	w->snapshot = snapshot_ref(first);
	w->fork_number = first->fork_number;
	w->primary = first->primary >= 0 ? first->servers[first->primary].server : NULL;
	atomic_store(&w->adopted, first->number);
	return true;
}

/* A woken worker does not push others off their core. They are mostly about to send something to this worker or to wait for it, and what has
 * come by the time that it has a core is done in one go: 10 to 15 % less processor time per statement on a machine whose cores are all
 * busy, and no later answers (sched(7): SCHED_BATCH; it makes no difference where a core is idle). Whoever has chosen a policy for the daemon
 * keeps it. */
static void let_others_finish(void)
{
	struct sched_param none = { 0 };
	int policy;

	if (!pthread_getschedparam(pthread_self(), &policy, &none) && policy == SCHED_OTHER &&
	    pthread_setschedparam(pthread_self(), SCHED_BATCH, &none))
		log_debug(NULL, "a worker cannot be given SCHED_BATCH");
}

void *worker_run(void *worker)
{
	struct worker *w = worker;

	let_others_finish();
	poller_run(&w->loop.poller);
	return NULL;
}

static void free_pools(struct worker *w)
{
	for (int i = 0; i < CLUSTER_MAX_SERVERS; i++) {
		if (w->pools[i])
			pool_free(w->pools[i]);
		if (w->old_pools[i])
			pool_free(w->old_pools[i]);
		SSL_CTX_free(w->server_tls[i]);
	}
}

void worker_fini(struct worker *worker)
{
	struct worker *w = worker;
	struct turn *t;

	if (!w->loop.scratch)
		return;
	w->stopping = true;
	inbox_fini(&w->inbox);
	close_everything(w);
	reap(w, 0);
	free_pools(w);
	while ((t = TAILQ_FIRST(&w->free_turns))) {
		TAILQ_REMOVE(&w->free_turns, t, link);
		free(t->packet);
		free(t);
	}
	replay_free_spares(w);
	for (size_t i = 0; i < sizeof(w->states) / sizeof(w->states[0]); i++)
		state_unref(w->states[i]);
	watch_stop(&w->reaper);
	watch_stop(&w->leaver);
	whereabouts_fini(&w->whereabouts);
	timer_fini(&w->ticker);
	timer_fini(&w->park_timer);
	sql_recall_free(w->recall);
	io_loop_fini(&w->loop);
	if (w->snapshot)
		snapshot_unref(w->snapshot);
}
