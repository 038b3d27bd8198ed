#include "proxy/session/gate.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/session/replay.h"
#include "proxy/session/worker.h"

/* What a client has in the way of a promotion: bits of client->gate_share. */
#define SHARE_WRITE  1u /* a statement in flight that may write, or an open transaction that has written */
#define SHARE_PINNED 2u
#define SHARE_HELD   4u

/* ---- Judging ---- */

static bool select_may_write(const struct turn *t)
{
	return t->meaning->facts & (SQL_F_LOCKING_READ | SQL_F_INTO | SQL_F_SEQUENCE) || !route_only_reads(t);
}

static bool text_may_write(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;

	if (m->facts & SQL_F_MULTI)
		return !t->is_read || !route_only_reads(t);
	switch (m->verb) {
	case SQL_SELECT:
	case SQL_DO:
		return select_may_write(t);
	case SQL_SET:
		return (m->facts & SQL_F_SET_SUBQUERY && m->target == SQL_TO_PRIMARY) || select_may_write(t);
	case SQL_EXPLAIN: /* ANALYZE runs what it explains */
		return m->target == SQL_TO_PRIMARY;
	case SQL_EMPTY:
	case SQL_SHOW:
	case SQL_USE:
	case SQL_BEGIN:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
	case SQL_SAVEPOINT:
	case SQL_UNLOCK_TABLES:
	case SQL_HANDLER:
	case SQL_PREPARE:
	case SQL_DEALLOCATE:
	case SQL_KILL:
	case SQL_DIAGNOSTICS:
	case SQL_SIGNAL:
	case SQL_HELP:
		return false;
	default:
		return true;
	}
}

bool gate_may_write(const struct turn *turn)
{
	switch (turn->command) {
	case COM_QUERY:
	case COM_STMT_EXECUTE:
	case COM_STMT_BULK_EXECUTE:
		return turn->is_long || text_may_write(turn);
	case COM_REFRESH: /* a FLUSH: it is written to the binary log */
		return true;
	default:
		return false;
	}
}

void gate_note_sent(struct turn *turn)
{
	struct client *c = turn->client;

	c->wrote = (c->wrote && c->trx) || gate_may_write(turn);
	if (c->worker->gate_closed)
		gate_recount(c, false);
}

void gate_note_opened(struct turn *turn)
{
	if (turn->meaning->facts & SQL_F_MULTI)
		return;
	turn->client->wrote = false;
}

static bool opens_transaction(const struct turn *t)
{
	const struct client *c = t->client;
	uint64_t facts = t->meaning->facts;

	if (facts & SQL_F_OPENS_TRX)
		return !(facts & SQL_F_TRX_READ_ONLY) &&
		       !(t->meaning->verb == SQL_BEGIN && c->is_read_only && !(facts & SQL_F_TRX_READ_WRITE));
	if (c->status & SERVER_STATUS_AUTOCOMMIT || c->is_read_only || t->command == COM_STMT_PREPARE)
		return false;
	return t->meaning->verb == SQL_SELECT || t->meaning->verb == SQL_DO || t->meaning->verb == SQL_HANDLER;
}

/* What would bind the session to a server that is about to lose its role. */
static bool would_pin(const struct turn *t)
{
	return t->command != COM_STMT_PREPARE && t->meaning->facts & (SQL_F_GET_LOCK | SQL_F_HANDLER_OPEN);
}

/* A transaction that has written goes on to its end even when the gate is sealed: its end is what the promotion waits for. */
static bool must_wait(const struct turn *t)
{
	const struct client *c = t->client;
	enum gate gate = c->worker->snapshot->gate;

	if (gate == GATE_OPEN || t->task == TASK_VERIFY)
		return false;
	if (gate >= GATE_TAKEOVER && c->trx && !c->trx->is_replica && c->wrote)
		return t->is_long || t->meaning->verb != SQL_ROLLBACK;
	if (c->trx)
		return gate >= GATE_SEALED && !c->trx->is_replica && !c->wrote && gate_may_write(t);
	return gate_may_write(t) || opens_transaction(t) || would_pin(t);
}

/* ---- Believing ---- */

/* Another server was made the primary without it, or this one has lost its place while nobody else is known. */
static bool is_deposed(const struct snapshot *s, const struct backend *b)
{
	int index = b->pool->index;

	if (index < 0)
		return false;
	return s->primary >= 0 ? s->primary != index : s->servers[index].role == ROLE_STRAY;
}

/* By the clock: a process that stood still finds answers before it hears that the lease is over. */
static bool is_lease_over(const struct snapshot *s)
{
	return s->writes_until_ms && clock_ms() >= atomic_load(s->writes_until_ms);
}

bool gate_is_lost_write(const struct turn *turn)
{
	const struct backend *b = turn->backend;

	return turn->wait == WAIT_REPLY && b && !b->is_replica && turn->client->wrote && is_deposed(turn->client->worker->snapshot, b);
}

bool gate_doubts(const struct turn *turn, const struct wire_ok *ok)
{
	const struct snapshot *s = turn->client->worker->snapshot;
	const struct backend *b = turn->backend;

	if (b->is_replica)
		return false;
	/* An open transaction is run again, or fails, at its end. */
	if (ok->status & SERVER_STATUS_IN_TRANS && !replay_may_have_ended(turn))
		return false;
	return s->gate == GATE_TAKEOVER || is_lease_over(s) || is_deposed(s, b);
}

/* ---- Waiting ---- */

bool gate_holds(struct turn *turn)
{
	if (!must_wait(turn))
		return false;
	turn_unpark(turn);
	turn->backend = NULL; /* it rests with its session; the statement may go elsewhere when the gate opens */
	turn->held = true;
	worker_wait_primary(turn->client->worker, turn);
	gate_recount(turn->client, false);
	return true;
}

void gate_release(struct turn *turn)
{
	turn->held = false;
	if (turn->client->worker->gate_closed)
		gate_recount(turn->client, false);
}

void gate_give_up(struct turn *turn)
{
	const struct snapshot *s = turn->client->worker->snapshot;
	const char *why = s->gate != GATE_SHUT ? "the primary is changing and takes no writes"
			  : s->primary >= 0    ? "this Tandem reaches too few votes to know where writes may go"
			  : s->primary_why     ? s->primary_why
					       : "there is no primary";

	turn_fail(turn, ER_LOCK_WAIT_TIMEOUT, "HY000",
		  "tandem: %s; waited %u ms (primary_wait); try again", why,
		  worker_settings(turn->client->worker)->primary_wait_ms);
}

/* ---- Counting ---- */

static bool has_open_write(const struct client *c)
{
	const struct turn *t = c->turn;

	if (!c->wrote)
		return false;
	if (c->trx)
		return !c->trx->is_replica;
	return t && t->wait == WAIT_REPLY && t->backend && !t->backend->is_replica;
}

static unsigned share_of(const struct client *c)
{
	return (has_open_write(c) ? SHARE_WRITE : 0) | (client_pins_all(c) && client_is_stuck(c) && !c->pinned->is_replica ? SHARE_PINNED : 0) |
	       (c->turn && c->turn->held ? SHARE_HELD : 0);
}

static void adjust(_Atomic unsigned *sum, unsigned before, unsigned after, unsigned bit)
{
	if (after & bit & ~before)
		atomic_fetch_add_explicit(sum, 1, memory_order_relaxed);
	else if (before & bit & ~after)
		atomic_fetch_sub_explicit(sum, 1, memory_order_release);
}

/* An ERR told nothing of its transaction, which may be over. */
static void ask_idle(struct client *c)
{
	if (c->probe && c->probe == c->trx && c->wrote && c->state == CLIENT_READY && c->probe->state == BACKEND_READY)
		client_send_probe(c);
}

void gate_recount(struct client *client, bool gone)
{
	struct gate_tally *tally = &client->worker->tally;
	unsigned before = client->gate_share, after = gone ? 0 : share_of(client);

	if (!gone)
		ask_idle(client);
	if (before == after)
		return;
	client->gate_share = (uint8_t)after;
	adjust(&tally->open_writes, before, after, SHARE_WRITE);
	adjust(&tally->pinned, before, after, SHARE_PINNED);
	adjust(&tally->held, before, after, SHARE_HELD);
	if (before & SHARE_WRITE && !atomic_load_explicit(&tally->open_writes, memory_order_relaxed))
		cluster_gate_moved(client->worker->shared->cluster);
}

void gate_adopt(struct worker *worker)
{
	struct client *c;

	worker->gate_closed = worker->snapshot->gate != GATE_OPEN;
	TAILQ_FOREACH(c, &worker->clients, link)
		gate_recount(c, !worker->gate_closed);
}

void gate_sum(const struct shared *shared, uint64_t number, struct gate_count *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned i = 0; i < shared->worker_count; i++) {
		const struct worker *w = &shared->workers[i];

		if (atomic_load_explicit(&w->adopted, memory_order_acquire) < number)
			return;
		out->open_writes += atomic_load_explicit(&w->tally.open_writes, memory_order_acquire);
		out->held += atomic_load_explicit(&w->tally.held, memory_order_relaxed);
		out->pinned += atomic_load_explicit(&w->tally.pinned, memory_order_relaxed);
	}
	out->adopted = true;
}
