#include "proxy/session/placement.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/log.h"
#include "proxy/session/freeze.h"
#include "proxy/session/gate.h"
#include "proxy/session/move.h"
#include "proxy/session/replay.h"
#include "proxy/session/whereabouts.h"
#include "proxy/session/worker.h"

enum {
	MEASURE_MS = 200,
	ACTIVE_MS = 1000,	/* who has run something for so long counts */
	GATHER_WINDOWS = 5,	/* measurements in a row that say so */
	NEW_PERMILLE = 20,	/* what a new session is taken for until it is measured */
	STARVED_PERMILLE = 200, /* a worker that does less is idle, whatever else it seems */
};

/* ---- What is best ---- */

static unsigned expected(const struct placement_load *l)
{
	return l->permille + l->given * NEW_PERMILLE;
}

unsigned placement_of_new(const struct placement_load *loads, unsigned count, unsigned limit)
{
	unsigned fewest = 0;

	for (unsigned i = 0; i < count; i++)
		if (!loads[i].full && expected(&loads[i]) < limit)
			return i;
	for (unsigned i = 1; i < count; i++)
		if (loads[i].clients < loads[fewest].clients)
			fewest = i;
	return fewest;
}

static unsigned least_busy(const struct placement_load *loads, unsigned count, unsigned self)
{
	unsigned best = self;

	for (unsigned i = 0; i < count; i++)
		if (i != self && (best == self || expected(&loads[i]) < expected(&loads[best])))
			best = i;
	return best;
}

struct placement_plan placement_plan(const struct placement_load *loads, unsigned count, unsigned self, unsigned active, unsigned limit)
{
	struct placement_plan plan = { .to = self };
	unsigned mine = loads[self].permille, theirs;

	if (!limit || !active)
		return plan;
	if (loads[self].full) {
		plan.to = least_busy(loads, count, self);
		theirs = expected(&loads[plan.to]);
		plan.at_once = true;
		if (plan.to != self && active > 1 && theirs <= mine / 2)
			plan.leave = (active * (mine - theirs) + mine) / (2 * mine); /* rounded, so one of two goes */
		if (plan.leave == active)
			plan.leave--;
		return plan;
	}
	for (unsigned i = 0; i < self; i++)
		if (!loads[i].full && expected(&loads[i]) + mine <= limit / 5 * 3)
			return (struct placement_plan){ .to = i, .leave = active };
	return plan;
}

static void look_around(struct shared *shared, struct placement_load *loads)
{
	for (unsigned i = 0; i < shared->worker_count; i++) {
		struct worker *w = &shared->workers[i];

		loads[i] = (struct placement_load){
			.permille = atomic_load_explicit(&w->placement.permille, memory_order_relaxed),
			.full = atomic_load_explicit(&w->placement.full, memory_order_relaxed),
			.clients = atomic_load_explicit(&w->client_count, memory_order_relaxed),
			.given = atomic_load_explicit(&w->placement.given, memory_order_relaxed),
		};
	}
}

static unsigned limit_of(const struct shared *shared)
{
	return atomic_load_explicit(&shared->worker_load, memory_order_relaxed) * 10;
}

struct worker *placement_worker(struct shared *shared)
{
	struct placement_load loads[PLACEMENT_MAX_WORKERS];
	struct worker *w;

	look_around(shared, loads);
	w = &shared->workers[placement_of_new(loads, shared->worker_count, limit_of(shared))];
	atomic_fetch_add_explicit(&w->placement.given, 1, memory_order_relaxed);
	return w;
}

/* ---- Leaving ---- */

/* client->leaving. PAUSED: nothing more of it is read until its values are known. */
enum { STAYS, LEAVES, LEAVES_PAUSED };

static void stay(struct worker *w, struct client *c)
{
	bool was_paused = c->leaving == LEAVES_PAUSED;

	TAILQ_REMOVE(&w->leavers, c, leave_link);
	c->leaving = STAYS;
	if (was_paused)
		client_resume(c);
}

void placement_forget(struct client *client)
{
	if (client->leaving)
		stay(client->worker, client);
}

static bool is_at_rest(const struct client *c)
{
	return c->state == CLIENT_READY && !c->turn && !c->trx && !c->moving && !c->draining && !c->pumping && !c->parts && !c->login &&
	       !c->upload.active && !c->probe && !buf_len(&c->in) && io_can_detach(&c->io);
}

static bool can_leave_all(const struct client *c)
{
	for (const struct backend *b = c->attached; b; b = b->next_attached)
		if (!pool_can_steal(b))
			return false;
	return true;
}

static struct backend *with_values(const struct client *c)
{
	for (struct backend *b = c->attached; b; b = b->next_attached)
		if (freeze_needed(c, b))
			return b;
	return NULL;
}

static bool is_asked(const struct client *c)
{
	for (const struct backend *b = c->attached; b; b = b->next_attached)
		if (b->freezing)
			return true;
	return false;
}

/* What only the connection knows is asked for, while nothing more of the client is read. */
static void ask_values(struct client *c, struct backend *b)
{
	if (!c->paused) {
		client_pause(c);
		c->leaving = LEAVES_PAUSED;
	}
	if (!freeze_begin(b))
		backend_lost(b, "cannot send", 0, NULL, NULL);
}

struct moving {
	struct inbox_message message;
	struct client *client;
	struct snapshot *from;
};

static void deliver_session(struct inbox_message *message, void *owner)
{
	struct moving *m = (struct moving *)message;
	struct worker *w = owner;
	struct client *c = m->client;

	atomic_fetch_sub(&w->client_count, 1); /* counted at hand-over */
	client_arrive(c, w);
	whereabouts_came(w, c->id);
	if (m->from->defaults != w->snapshot->defaults)
		worker_rebase_client(w, m->from, c);
	if (m->from->fork_number != w->fork_number)
		move_arrived(c);
	client_settle_in(c);
	snapshot_unref(m->from);
	free(m);
}

static void leave(struct worker *w, struct client *c)
{
	struct worker *to = w->placement.to;
	struct moving *m = malloc(sizeof(*m));
	struct backend *b;

	if (!m || !whereabouts_goes(w, c->id, to)) {
		free(m);
		stay(w, c);
		return;
	}
	TAILQ_REMOVE(&w->leavers, c, leave_link);
	c->leaving = STAYS;
	replay_drop(c);
	while ((b = c->attached)) {
		client_detach(c, b);
		pool_spare(b);
	}
	client_depart(c);
	*m = (struct moving){ { .deliver = deliver_session }, c, snapshot_ref(w->snapshot) };
	atomic_fetch_add(&to->client_count, 1);
	atomic_fetch_sub(&w->client_count, 1);
	inbox_post(&to->inbox, &m->message);
}

/* Its values are told against the defaults of a snapshot: they can be told against those of a later one. */
static bool knows_as_much(struct worker *to, const struct worker *from)
{
	return atomic_load(&to->adopted) >= from->snapshot->number;
}

static void try_to_leave(struct worker *w, struct client *c)
{
	struct backend *b;

	if (w->out.to == &c->io)
		output_flush(&w->out);
	if (is_asked(c) || !knows_as_much(w->placement.to, w))
		return;
	if (!is_at_rest(c) || !can_leave_all(c)) {
		if (c->leaving == LEAVES_PAUSED) /* its values cannot be told */
			stay(w, c);
		return;
	}
	b = with_values(c);
	if (b)
		ask_values(c, b);
	else
		leave(w, c);
}

static void let_leave(struct worker *w)
{
	struct client *c, *next;

	if (w->gate_closed || w->stopping)
		return;
	for (c = TAILQ_FIRST(&w->leavers); c; c = next) {
		next = TAILQ_NEXT(c, leave_link);
		try_to_leave(w, c);
	}
}

void placement_on_leave(void *arg, unsigned what)
{
	(void)what;
	let_leave(arg);
}

void placement_leave_soon(struct worker *worker)
{
	watch_wake(&worker->leaver, WATCH_READ);
}

/* ---- Measuring ---- */

static uint64_t us_of(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

/* A thread that the machine gives too little hardly ever finds nothing to do, though it uses less than a core. */
static void measure(struct worker *w, uint64_t now_ms)
{
	struct placement *b = &w->placement;
	uint64_t wall_ms = now_ms - b->measured_ms, cpu_us;
	unsigned long looks = w->loop.poller.looks - b->looks;
	struct rusage u;
	unsigned permille;
	long sleeps;

	if (getrusage(RUSAGE_THREAD, &u))
		return;
	cpu_us = us_of(u.ru_utime) + us_of(u.ru_stime);
	permille = b->measured_ms ? (unsigned)((cpu_us - b->cpu_us) / wall_ms) : 0;
	sleeps = u.ru_nvcsw - b->sleeps;
	b->measured_ms = now_ms;
	b->cpu_us = cpu_us;
	b->looks += looks;
	b->sleeps = u.ru_nvcsw;
	atomic_store_explicit(&b->permille, permille, memory_order_relaxed);
	atomic_store_explicit(&b->given, 0, memory_order_relaxed);
	atomic_store_explicit(&b->full, permille >= limit_of(w->shared) ||
					       (permille >= STARVED_PERMILLE && (unsigned long)sleeps * 10 < looks), memory_order_relaxed);
}

/* ---- Choosing who leaves ---- */

static bool is_active(const struct client *c)
{
	return (c->state == CLIENT_READY || c->state == CLIENT_BUSY) && c->active_ms + ACTIVE_MS > c->worker->now_ms;
}

static unsigned count_active(const struct worker *w)
{
	const struct client *c;
	unsigned n = 0;

	TAILQ_FOREACH(c, &w->clients, link)
		n += is_active(c);
	return n;
}

/* Bound to a connection for as long as anybody can tell. */
static bool is_bound(const struct client *c)
{
	return client_is_pinned(c) || c->uvars_fixed || c->asks_binary || c->finds_last;
}

static void choose(struct worker *w, unsigned leave)
{
	struct client *c;

	TAILQ_FOREACH(c, &w->clients, link) {
		if (!leave)
			break;
		if (!is_active(c) || is_bound(c))
			continue;
		c->leaving = LEAVES;
		TAILQ_INSERT_TAIL(&w->leavers, c, leave_link);
		leave--;
	}
}

static void plan(struct worker *w)
{
	struct placement_load loads[PLACEMENT_MAX_WORKERS];
	struct placement *b = &w->placement;
	unsigned limit = limit_of(w->shared), active;
	struct placement_plan p;
	struct client *c;

	while ((c = TAILQ_FIRST(&w->leavers))) { /* who could not leave so far is the last to be chosen again */
		stay(w, c);
		TAILQ_REMOVE(&w->clients, c, link);
		TAILQ_INSERT_TAIL(&w->clients, c, link);
	}
	if (!limit || w->shared->worker_count < 2 || w->gate_closed || w->stopping)
		return;
	look_around(w->shared, loads);
	if (!loads[w->number].permille || (!loads[w->number].full && !w->number)) /* nothing to do, or nobody to gather with */
		return;
	active = count_active(w);
	if (!active)
		return;
	p = placement_plan(loads, w->shared->worker_count, w->number, active, limit);
	b->windows = p.leave && !p.at_once ? b->windows + 1 : 0;
	if (!p.leave || (!p.at_once && b->windows < GATHER_WINDOWS))
		return;
	b->windows = 0;
	b->to = &w->shared->workers[p.to];
	atomic_fetch_add_explicit(&b->to->placement.permille, loads[w->number].permille * p.leave / active, memory_order_relaxed);
	log_debug(NULL, "worker %u: %u of %u busy sessions move to worker %u (load %u and %u per mille)", w->number, p.leave, active, p.to,
		  loads[w->number].permille, loads[p.to].permille);
	choose(w, p.leave);
}

void placement_tick(struct worker *worker, uint64_t now_ms)
{
	struct worker *w = worker;

	if (now_ms >= w->placement.measured_ms + MEASURE_MS) {
		measure(w, now_ms);
		plan(w);
	}
	let_leave(w);
}
