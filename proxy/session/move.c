#include "proxy/session/move.h"

#include <stdio.h>

#include "base/log.h"
#include "proxy/session/freeze.h"
#include "proxy/session/gate.h"
#include "proxy/session/replay.h"
#include "proxy/session/tracking.h"
#include "proxy/session/worker.h"

/* Made to the primary of its time, which this server no longer is. */
static bool is_left(const struct client *c, const struct backend *b)
{
	const struct snapshot *s = c->worker->snapshot;

	return b && !b->is_replica && b->state != BACKEND_DEAD && s->primary >= 0 && b->pool->index >= 0 && b->pool->index != s->primary;
}

static struct backend *find_left(const struct client *c)
{
	for (struct backend *b = c->attached; b; b = b->next_attached)
		if (is_left(c, b))
			return b;
	return NULL;
}

static bool is_bound(const struct client *c, const struct backend *b)
{
	return (c->pinned == b && client_is_stuck(c)) || (c->uvars_at == b && c->uvars_fixed);
}

static bool is_wanted(const struct client *c, const struct backend *b)
{
	return c->trx == b || c->cursor_at == b || is_bound(c, b);
}

static void leave(struct client *c, struct backend *b)
{
	if (c->last_id_at == b)
		c->last_id_lost = c->has_last_id;
	client_detach(c, b);
	backend_leave(b, "its server is no longer the primary");
}

/* A resting session goes as far as it can by itself, so that the old primary can be stopped. */
static void move_idle(struct client *c)
{
	struct backend *b = find_left(c);

	if (!b || is_wanted(c, b) || b->state != BACKEND_READY)
		return;
	if (!freeze_needed(c, b))
		leave(c, b);
	else if (!freeze_begin(b))
		backend_lost(b, "cannot send", 0, NULL, NULL);
}

/* Tokens above the fork are of writes that the new primary never had. */
static void cut_token(struct client *c, unsigned *cut)
{
	*cut += c->seen && gtid_clamp(c->seen, &c->worker->snapshot->fork);
}

static void cut_tokens(struct worker *w)
{
	const struct snapshot *s = w->snapshot;
	struct client *c;
	unsigned cut = 0;

	if (s->fork_number == w->fork_number)
		return;
	w->fork_number = s->fork_number;
	TAILQ_FOREACH(c, &w->clients, link)
		cut_token(c, &cut);
	if (cut)
		log_warning(NULL, "promotion %llu: %u sessions had seen writes that the new primary does not have: they are lost",
			    (unsigned long long)s->fork_number, cut);
}

void move_arrived(struct client *client)
{
	unsigned cut = 0;

	cut_token(client, &cut);
	if (cut)
		log_warning(&client->subject, "it had seen writes that the new primary does not have: they are lost");
}

/* What a server that was deposed says of a write is no use, and it may say nothing for long. */
static void lose_writes(struct worker *w)
{
	struct client *c, *next;

	for (c = TAILQ_FIRST(&w->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->turn && gate_is_lost_write(c->turn))
			backend_lost(c->turn->backend, "another server has become the primary meanwhile", 0, NULL, NULL);
	}
}

void move_adopt(struct worker *worker)
{
	const struct snapshot *s = worker->snapshot;
	struct client *c, *next;

	cut_tokens(worker);
	if (s->primary < 0 || s->servers[s->primary].server != worker->primary)
		lose_writes(worker);
	if (s->primary < 0 || s->servers[s->primary].server == worker->primary)
		return;
	worker->primary = s->servers[s->primary].server;
	for (c = TAILQ_FIRST(&worker->clients); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!find_left(c))
			continue;
		c->moving = true;
		if (c->state == CLIENT_READY)
			move_idle(c);
	}
}

/* They cannot be told by value. User variables bind the session; the rest can be done without until it is asked for. */
static void give_up_values(struct client *c, const struct backend *b)
{
	c->uvars_fixed = true;
	if (c->diag_at == b)
		c->diag_open = false;
	if (c->probe == b)
		c->probe = NULL;
	if (c->last_id_at == b) {
		c->last_id_at = NULL;
		c->last_id_lost = c->has_last_id;
	}
	if (c->found_at == b) {
		c->found_at = NULL;
		c->found_rows_there = false;
	}
}

bool move_frozen(struct client *client, struct backend *backend, bool failed)
{
	struct turn *t = client->turn;

	if (!is_left(client, backend))
		return false;
	if (failed)
		give_up_values(client, backend);
	if (t && t->wait == WAIT_CAPTURE && t->captured_from == backend)
		turn_advance(t);
	else if (!t)
		move_idle(client);
	return true;
}

static void end_session(struct client *c, const struct backend *b)
{
	char message[256];

	snprintf(message, sizeof(message),
		 "tandem: the primary has changed, and temporary tables, locks or the like of this session are on %s; connect again",
		 b->server_name);
	client_fatal(c, ER_CONNECTION_KILLED, "70100", message);
}

/* The turn goes on when they are there. */
static bool ask_values(struct turn *t, struct backend *b)
{
	turn_unpark(t);
	t->backend = NULL;
	return freeze_wait(t, b);
}

/* In a transaction that is open on an old primary. True: not to be sent now. */
static bool transaction_stops(struct turn *t)
{
	struct client *c = t->client;
	bool writes = c->wrote || gate_may_write(t);

	if (!writes || t->meaning->verb == SQL_ROLLBACK) {
		t->backend = c->trx;
		return false;
	}
	if (!c->uvars_fixed && freeze_needed(c, c->trx))
		return ask_values(t, c->trx);
	replay_move(t);
	return replay_stops(t);
}

bool move_stops(struct turn *turn)
{
	struct client *c = turn->client;
	struct backend *b = find_left(c);

	if (turn->task == TASK_REPLAY) {
		if (!is_left(c, c->trx))
			return false;
		replay_interrupted(turn);
		return true;
	}
	if (replay_is_lost(c))
		return replay_stops(turn);
	if (!b) {
		c->moving = false;
		return false;
	}
	if (turn->backend == b)
		turn->backend = NULL;
	if (c->trx == b)
		return transaction_stops(turn);
	if (is_bound(c, b)) {
		end_session(c, b);
		return true;
	}
	if (c->cursor_at == b)
		return false;
	if (freeze_needed(c, b))
		return ask_values(turn, b);
	leave(c, b);
	c->moving = find_left(c) != NULL;
	return false;
}
