/*
 * What a statement has left behind when its reply has ended: on its connection, with its session, and for all of them (routines, accounts,
 * defaults that have to be read again).
 */
#include "proxy/session/turn.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/gate.h"
#include "proxy/session/named.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/tracking.h"
#include "proxy/session/worker.h"

static void note_role(struct turn *t)
{
	struct client *c = t->client;
	struct state *mine, *its;

	if (t->text_len > 200 || t->meaning->facts & (SQL_F_MULTI | SQL_F_READS_UVAR)) {
		t->own = *t->meaning;
		t->own.facts |= SQL_F_OPAQUE;
		client_note_statement(c, t->backend, &t->own, t->text, t->text_len);
		return;
	}
	mine = state_with_role(c->value, t->text, t->text_len);
	its = c->value == t->backend->value ? state_ref(mine) : state_with_role(t->backend->value, t->text, t->text_len);
	client_set_value(c, mine);
	backend_set_value(t->backend, its);
	state_unref(mine);
	state_unref(its);
}

/* Locks are counted by what the server answered, where that could be read; else one more is assumed and none fewer. */
static void note_locks(struct turn *t)
{
	bool takes = t->meaning->facts & SQL_F_GET_LOCK, gives = t->meaning->facts & SQL_F_RELEASE_LOCK;
	enum captured_answer answer;

	if (!takes && !gives)
		return;
	answer = takes && gives ? CAPTURED_UNCLEAR : captured_one(&t->backend->captured, t->statement != NULL);
	buf_fini(&t->backend->captured);
	client_note_lock(t->client, t->backend, (takes && answer != CAPTURED_OTHER) - (gives && answer == CAPTURED_ONE && !takes));
}

/* Until the routines have been read again nothing is believed of any. */
static void catalog_changed(struct shared *shared)
{
	uint64_t ticket = cluster_refresh_catalog(shared->cluster);
	uint64_t seen = atomic_load(&shared->catalog_ticket);

	while (seen < ticket && !atomic_compare_exchange_weak(&shared->catalog_ticket, &seen, ticket))
		;
}

/* A view that only reads tables changes nothing of what is known, unless it takes the place of one that is suspect. */
static bool is_plain_view(const struct turn *t)
{
	return (t->meaning->facts & (SQL_F_PLAIN_VIEW | SQL_F_MULTI)) == SQL_F_PLAIN_VIEW && !t->client->worker->snapshot->view_count;
}

/* Not every statement that changes LAST_INSERT_ID() says so in its OK: INSERT ... RETURNING does not, nor does one that failed half-way. */
static void note_last_id(struct turn *t)
{
	struct client *c = t->client;

	switch (t->meaning->verb) {
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_LOAD:
	case SQL_CALL:
	case SQL_CREATE:
	case SQL_EXECUTE:
	case SQL_EXECUTE_IMMEDIATE:
	case SQL_COMPOUND:
	case SQL_OTHER:
		c->has_last_id = t->backend->has_last_id = true;
		c->last_id_at = t->backend;
		c->last_id_lost = false;
		break;
	default:
		break;
	}
}

/* Functions leave their traces whether the statement succeeds or not. */
static void note_functions(struct turn *t)
{
	struct sql_meaning traces = { .verb = SQL_DO };

	if (t->backend->is_replica || !t->text)
		return;
	traces.facts = route_function_traces(t);
	if (traces.facts)
		client_note_statement(t->client, t->backend, &traces, t->text, t->text_len);
}

/* What no server understands has done nothing. A procedure may fail so after it has. */
static bool was_not_understood(const struct turn *t)
{
	return t->client->error_code == ER_PARSE_ERROR && t->meaning->verb == SQL_OTHER && !(t->meaning->facts & SQL_F_MULTI);
}

/* What failed may have done half of its work, and said nothing of it. */
static void note_failure(struct turn *t)
{
	struct client *c = t->client;

	if (was_not_understood(t))
		return;
	c->probe = t->backend;
	if (t->meaning->verb == SQL_PREPARE) {
		named_note_failure(c, t->backend, t->meaning, t->text);
		if (c->pins)
			c->pins->named = named_fixed(c);
	}
	if (t->command != COM_STMT_PREPARE)
		note_functions(t);
	if (t->command != COM_STMT_PREPARE && t->meaning->facts & (SQL_F_OPAQUE | SQL_F_MULTI | SQL_F_SETS_UVAR))
		client_note_statement(c, t->backend, t->meaning, t->text, t->text_len);
}

/* As most do: a plain SELECT of a session without pins. */
static bool leaves_nothing_behind(const struct turn *t)
{
	const uint64_t harmless = SQL_F_IDENTITY_READ | SQL_F_LOCKING_READ | SQL_F_CALC_FOUND_ROWS |
				  (t->backend->is_replica ? SQL_F_FUNCTIONS : 0);

	if (!t->backend->is_replica && t->client->worker->snapshot->view_count)
		return false;
	return t->meaning->verb == SQL_SELECT && !(t->meaning->facts & ~harmless) && !t->client->pins;
}

/* CREATE [OR REPLACE] DATABASE [IF NOT EXISTS] name, ALTER DATABASE name */
static void note_schema_made(struct turn *t)
{
	const char *at = t->text, *end = at + t->text_len, *name;

	while (at < end && strncasecmp(at, "database", 8) && strncasecmp(at, "schema", 6))
		at++;
	while (at < end && !isspace((unsigned char)*at))
		at++;
	for (name = at; name < end && (isspace((unsigned char)*name) || *name == '`' || !strncasecmp(name, "if not exists", 13));)
		name += strncasecmp(name, "if not exists", 13) ? 1 : 13;
	for (at = name; at < end && (isalnum((unsigned char)*at) || strchr("_$-", *at) || (unsigned char)*at > 0x7f);)
		at++;
	atomic_fetch_add_explicit(shared_schema(t->client->worker->shared, name, (size_t)(at - name)), 1, memory_order_relaxed);
}

static void note_traces(struct turn *t)
{
	struct client *c = t->client;
	struct backend *b = t->backend;
	uint64_t facts = t->meaning->facts;

	note_locks(t);
	client_note_statement(c, b, t->meaning, t->text, t->text_len);
	note_functions(t);
	if (facts & SQL_F_SETS_ROLE)
		note_role(t);
	if (facts & SQL_F_CATALOG && !is_plain_view(t))
		catalog_changed(c->worker->shared);
	if (facts & SQL_F_ACCOUNTS) {
		atomic_fetch_add_explicit(&c->worker->shared->grants, 1, memory_order_relaxed);
		cluster_refresh_accounts(c->worker->shared->cluster);
	}
	if ((t->meaning->verb == SQL_CREATE || t->meaning->verb == SQL_ALTER) && (turn_has_word(t, "database") || turn_has_word(t, "schema")))
		note_schema_made(t);
	if (facts & SQL_F_SETS_GLOBAL)
		state_expect_defaults(cluster_refresh_variables(c->worker->shared->cluster));
	if (t->meaning->verb == SQL_SET && turn_text_has(t, "session_track"))
		backend_set_up(b, EXPECT_CLEAN); /* its tracking is Tandem's: set it back */
}

static void note_success(struct turn *t)
{
	if (t->command == COM_STMT_PREPARE)
		return;
	if (!leaves_nothing_behind(t))
		note_traces(t);
	if (t->meaning->facts & SQL_F_OPENS_TRX)
		gate_note_opened(t);
	if (t->saw_rows && t->meaning->target != SQL_TO_ROLE)
		token_note_read(t->client, t->backend);
}

/* A read that has failed half-way has changed nothing, but with autocommit=0 it may have begun a transaction. */
static bool leaves_all_known(const struct turn *t)
{
	const struct client *c = t->client;

	return t->is_read && t->meaning->target == SQL_TO_REPLICA && (c->status & SERVER_STATUS_AUTOCOMMIT || c->trx);
}

/* What may be asked about it later, and is known by value. */
static void note_last(struct turn *t)
{
	struct client *c = t->client;

	c->last = t->backend;
	c->last_gone = false;
}

static __attribute__((cold)) void verified(struct turn *t)
{
	char message[512];

	snprintf(message, sizeof(message), "%s", t->fit_message ? t->fit_message : "");
	turn_end_verify(t, t->failed ? t->fit_code : 0, t->fit_state, message);
}

/* Most statements: a SELECT that went well, of which nothing but the session's last statement can be asked. */
static bool is_plain_end(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;
	const struct client *c = t->client;

	return (t->command == COM_QUERY || (t->command == COM_STMT_EXECUTE && !t->cursor_open && !t->statement->opened)) &&
	       m->verb == SQL_SELECT && !m->facts && !t->failed && !t->warnings && !t->reported_count && !c->pins && !c->trx &&
	       !t->recorded && !c->collation_unknown && t->task == TASK_COMMAND && (t->backend->is_replica || !c->worker->snapshot->view_count);
}

static void end_plain(struct turn *t)
{
	note_last(t);
	diagnose_note(t);
	if (t->saw_rows && t->meaning->target != SQL_TO_ROLE)
		token_note_read(t->client, t->backend);
	turn_answered(t);
}

static __attribute__((noinline)) void end_other(struct turn *turn)
{
	const struct client *c = turn->client;
	struct backend *b = turn->backend;

	if (turn->recorded || (c->trx && !c->replay))
		replay_note_done(turn);
	b->has_diagnostics |= turn->failed || turn->warnings;
	if (turn->statement || turn->text || turn->command == COM_INIT_DB) {
		if (!(turn->meaning->facts & SQL_F_READS_LAST))
			note_last(turn);
		diagnose_note(turn);
	}
	turn_note_cursor(turn);
	if (turn->command != COM_STMT_PREPARE && (turn->text || turn->is_long))
		note_last_id(turn);
	if (!turn->failed)
		note_success(turn);
	else if (!leaves_all_known(turn) && b->state != BACKEND_DEAD)
		note_failure(turn);
	if (turn->reply == REPLY_STREAM)
		b->retire = true;
	if (settle_turn(turn) || (!turn->failed && turn_learn_collation(turn)))
		return;
	turn_answered(turn);
}

void turn_done(struct turn *turn)
{
	if (turn->task == TASK_VERIFY)
		verified(turn);
	else if (is_plain_end(turn))
		end_plain(turn);
	else
		end_other(turn);
}
