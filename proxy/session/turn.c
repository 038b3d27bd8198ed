#include "proxy/session/turn.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "proxy/session/charset.h"
#include "proxy/session/execute.h"
#include "proxy/session/freeze.h"
#include "proxy/session/gate.h"
#include "proxy/session/move.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/tracking.h"
#include "proxy/session/upload.h"
#include "proxy/session/worker.h"

/* A pooled turn keeps a packet memory of up to this size. */
enum { KEEP_BYTES = 16 * 1024, MAX_TRIES = 8 };

/* ---- Life ---- */

bool turn_grow(struct turn *turn, size_t size)
{
	uint8_t *grown;

	if (turn->packet && size <= turn->packet_size)
		return true;
	size = size < 512 ? 512 : size + size / 4;
	grown = realloc(turn->packet, size);
	if (!grown)
		return false;
	turn->packet = grown;
	turn->packet_size = size;
	return true;
}

static struct turn *turn_new(struct client *c, enum turn_task task)
{
	struct worker *w = c->worker;
	struct turn *t = TAILQ_FIRST(&w->free_turns);
	uint8_t *packet = NULL;
	size_t size = 0;

	if (t) {
		TAILQ_REMOVE(&w->free_turns, t, link);
		packet = t->packet;
		size = t->packet_size;
	} else {
		t = malloc(sizeof(*t));
		if (!t)
			return NULL;
	}
	memset(t, 0, offsetof(struct turn, own));
	memset((char *)t + offsetof(struct turn, meaning), 0, sizeof(*t) - offsetof(struct turn, meaning));
	t->packet = packet;
	t->packet_size = size;
	t->client = c;
	t->task = task;
	t->slot = PREPARED_NONE;
	c->turn = t;
	return t;
}

void turn_free(struct turn *turn)
{
	free(turn->fit_message);
	free(turn->restore);
	turn->fit_message = turn->restore = NULL;
	if (turn->packet_size > KEEP_BYTES) {
		free(turn->packet);
		turn->packet = NULL;
		turn->packet_size = 0;
	}
	TAILQ_INSERT_HEAD(&turn->client->worker->free_turns, turn, link);
}

void turn_start(struct client *client, const uint8_t *packet, size_t len)
{
	struct turn *t = turn_new(client, TASK_COMMAND);

	client_set_state(client, CLIENT_BUSY);
	if (!t || !turn_grow(t, len)) {
		client_close(client, "out of memory");
		return;
	}
	memcpy(t->packet, packet, len);
	t->packet_len = len;
	t->is_long = client->upload.active;
	if (turn_understand(t))
		turn_advance(t);
}

void turn_start_replay(struct client *client, const uint8_t *packet, size_t len, struct statement *statement)
{
	struct turn *t = turn_new(client, TASK_REPLAY);

	if (!t || !turn_grow(t, len)) {
		client_close(client, "out of memory");
		return;
	}
	memcpy(t->packet, packet, len);
	t->packet_len = len;
	t->statement = statement;
	t->on_primary = true;
	if (turn_understand(t))
		turn_advance(t);
}

void turn_start_verify(struct client *client, const char *schema)
{
	static const struct sql_meaning meaning = { .verb = SQL_USE, .target = SQL_TO_REPLICA, .digest = 1 };
	struct turn *t = turn_new(client, TASK_VERIFY);
	size_t len = schema ? strlen(schema) : 0;

	if (!t || !turn_grow(t, len + 5)) {
		client_close(client, "out of memory");
		return;
	}
	wire_put_header(t->packet, (uint32_t)len + 1, 0);
	t->packet[4] = schema ? COM_INIT_DB : COM_PING;
	memcpy(t->packet + 5, schema ? schema : "", len);
	t->packet_len = len + 5;
	t->command = t->packet[4];
	t->reply = REPLY_ONE;
	t->meaning = &meaning;
	t->is_read = true;
	turn_advance(t);
}

/* ---- Ends ---- */

void turn_unpark(struct turn *turn)
{
	struct worker *w = turn->client->worker;

	if (turn->wait == WAIT_POSITION)
		TAILQ_REMOVE(&w->parked, turn, link);
	else if (turn->wait == WAIT_PRIMARY)
		TAILQ_REMOVE(&w->for_primary, turn, link);
	else if (turn->wait == WAIT_CONNECTION)
		pool_leave_queue(turn);
	turn->wait = WAIT_NOTHING;
	if (turn->held)
		gate_release(turn);
}

/* The client is READY again, or at the end of its draining. */
static void turn_end(struct turn *t)
{
	struct client *c = t->client;
	struct backend *b = t->backend;

	turn_unpark(t);
	if (b && b->shows_timeout && b->state == BACKEND_READY)
		fit_hide_timeout(b);
	c->turn = NULL;
	if (t->task == TASK_REPLAY) {
		turn_free(t);
		if (c->state == CLIENT_BUSY)
			replay_stepped(c);
		return;
	}
	turn_free(t);
	if (c->state != CLIENT_BUSY)
		return;
	client_set_state(c, CLIENT_READY);
	if (c->worker->gate_closed)
		gate_recount(c, false);
	if (c->upload.active)
		upload_skip(c);
	if (b && b->state == BACKEND_READY && (b->broken || b->retire)) {
		client_detach(c, b);
		backend_leave(b, "of no more use");
	} else if (b) {
		pool_spare(b);
	}
	if (c->draining && !c->trx) {
		client_close(c, "draining");
		return;
	}
	client_pump(c);
}

void turn_answered(struct turn *turn)
{
	turn_end(turn);
}

static void end_verify(struct turn *t, uint16_t code, const char *sqlstate, const char *message)
{
	struct client *c = t->client;

	turn_unpark(t);
	c->turn = NULL;
	turn_free(t);
	login_verified(c, code, sqlstate, message);
}

void turn_fail(struct turn *turn, uint16_t code, const char *sqlstate, const char *format, ...)
{
	struct client *c = turn->client;
	char message[512];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (turn->task == TASK_VERIFY) {
		end_verify(turn, code, sqlstate, message);
		return;
	}
	if (turn->task == TASK_REPLAY) {
		replay_failed(turn, code, message);
		return;
	}
	if (turn->passed) { /* the client is in the middle of a result: there is no honest way to go on */
		client_close(c, message);
		return;
	}
	if (!turn->no_reply)
		client_send_error(c, code, sqlstate, message, turn->is_long ? (uint8_t)(c->upload.last_seq + 1) : 1);
	turn_end(turn);
}

void turn_ok(struct turn *turn)
{
	struct client *c = turn->client;
	uint8_t memory[32];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	const uint16_t lasting = SERVER_STATUS_IN_TRANS | SERVER_STATUS_AUTOCOMMIT | SERVER_STATUS_NO_BACKSLASH_ESCAPES |
				 SERVER_STATUS_IN_TRANS_READONLY | SERVER_STATUS_ANSI_QUOTES;
	struct wire_ok ok = { .status = c->status & lasting };

	if (turn->command == COM_SET_OPTION && !(c->capabilities & CLIENT_DEPRECATE_EOF))
		wire_put_eof(&w, 0, ok.status, 1);
	else
		wire_put_ok(&w, &ok, c->capabilities, 1);
	if (!turn->no_reply)
		io_send(&c->io, w.data, w.len);
	turn_end(turn);
}

/* ---- Asking a connection about the session's own state ---- */

bool turn_ask(struct turn *turn, struct backend *backend, enum capture_what what, const char *query)
{
	buf_fini(&backend->captured);
	/* The query is a SELECT, and FOUND_ROWS() then its. */
	if (turn->client->found_at == backend && turn->client->found_rows_there && !freeze_begin(backend))
		return false;
	turn->wait = WAIT_CAPTURE;
	turn->capture = (uint8_t)what;
	turn->captured_from = backend;
	client_forget_diagnostics(turn->client, backend);
	return backend_command(backend, EXPECT_CAPTURE, COM_QUERY, query, strlen(query));
}

static void ask_position(struct turn *t, struct backend *b)
{
	const struct snapshot *s = t->client->worker->snapshot;
	bool mysql = s->servers[b->pool->index].flavour == SQL_MYSQL;

	if (!turn_ask(t, b, CAPTURE_ASK, mysql ? "SELECT @@global.gtid_executed" : "SELECT @@global.gtid_current_pos"))
		backend_lost(b, "cannot send", 0, NULL, NULL);
}

static bool learn_collation(struct turn *t);

static bool first_value(struct backend *b, struct wire_bytes *value)
{
	struct wire_reader at;
	struct captured_row row;
	unsigned columns;

	if (!captured_first(&b->captured, &at, &columns) || !columns || !captured_next(&at, columns, &row))
		return false;
	*value = row.columns[0];
	return true;
}

static void position_came(struct turn *t, struct backend *b)
{
	struct wire_bytes v;
	struct gtid_set position;

	if (first_value(b, &v) && gtid_parse((const char *)v.data, v.len, &position))
		token_learned(t->client, &position);
	else
		t->on_primary = true;
	buf_fini(&b->captured);
	turn_advance(t);
}

/* Takes the references over. */
static void set_both(struct client *c, struct backend *b, struct state *mine, struct state *its)
{
	client_set_value(c, mine);
	backend_set_value(b, its);
	state_unref(mine);
	state_unref(its);
}

static void set_names(struct client *c, struct backend *b, struct wire_bytes value)
{
	struct state *mine = state_with_names(c->value, c->worker->snapshot, value);
	struct state *its = c->value == b->value ? state_ref(mine) : state_with_names(b->value, c->worker->snapshot, value);

	set_both(c, b, mine, its);
}

static void set_collation(struct client *c, struct backend *b, struct wire_bytes value)
{
	static const struct wire_bytes name = { (const uint8_t *)"collation_connection", 20 };
	struct state *mine = state_with_variable(c->value, c->worker->snapshot, name, value);
	struct state *its = c->value == b->value ? state_ref(mine) : state_with_variable(b->value, c->worker->snapshot, name, value);

	set_both(c, b, mine, its);
	c->collation_unknown = false;
	if (c->turn && turn_has_word(c->turn, "names"))
		set_names(c, b, value);
}

void turn_captured(struct turn *turn, struct backend *backend, bool failed)
{
	struct wire_bytes v;

	if (failed) {
		turn->on_primary = true;
		if (turn->capture == CAPTURE_SETTLE)
			settle_give_up(turn, backend);
		if (turn->capture == CAPTURE_END)
			turn_fail(turn, ER_UNKNOWN_ERROR, "HY000", "tandem: the READ ONLY transaction on %s could not be ended", backend->server_name);
		else if (turn->capture == CAPTURE_ASK)
			turn_advance(turn);
		else
			turn_end(turn);
		return;
	}
	if (turn->capture == CAPTURE_ASK) {
		position_came(turn, backend);
		return;
	}
	if (turn->capture == CAPTURE_END) {
		turn_advance(turn);
		return;
	}
	if (turn->capture == CAPTURE_COLLATION && first_value(backend, &v))
		set_collation(turn->client, backend, v);
	if (turn->capture == CAPTURE_SETTLE)
		settle_came(turn, backend);
	buf_fini(&backend->captured);
	if (turn->capture == CAPTURE_SETTLE && learn_collation(turn))
		return;
	turn_end(turn);
}

/* ---- The driver ---- */

static void want_position(struct turn *t)
{
	struct client *c = t->client;
	const struct snapshot *s = c->worker->snapshot;
	struct gtid_set want;

	token_wanted(c, &want);
	for (size_t i = 0; i < s->server_count; i++)
		if (s->servers[i].role == ROLE_REPLICA && s->servers[i].takes_reads)
			cluster_want(c->worker->shared->cluster, s->servers[i].server, &want);
}

/* A connection that the session holds, but of a server that has restarted or changed its role, is only kept for what is bound to it. */
static __attribute__((cold)) bool still_needed(struct client *c, struct backend *b)
{
	if (client_needs_backend(c, b))
		return true;
	if (c->last_id_at == b)
		c->last_id_lost = c->has_last_id;
	client_detach(c, b);
	backend_leave(b, "stale");
	return false;
}

static bool still_good(struct client *c, struct backend *b)
{
	const struct server_view *v = &c->worker->snapshot->servers[b->pool->index];

	if (b->state == BACKEND_DEAD)
		return false;
	return (!b->retire && !b->broken && b->epoch >= v->epoch) || still_needed(c, b);
}

enum step { STEP_ON, STEP_WAIT };

static __attribute__((noinline)) enum step take_from_pool(struct turn *t, struct server_pool *pool)
{
	switch (pool_take(pool, t)) {
	case POOL_GOT:
		return STEP_ON;
	case POOL_FAILED:
		turn_fail(t, ER_OUT_OF_RESOURCES, "HY000", "tandem: no memory or no socket for a connection to %s", pool->server->name);
		return STEP_WAIT;
	default:
		return STEP_WAIT;
	}
}

static enum step take_connection(struct turn *t, int server)
{
	struct client *c = t->client;
	struct server_pool *pool = c->worker->pools[server];
	struct backend *b = client_backend_at(c, pool);

	if (!b || !still_good(c, b))
		return take_from_pool(t, pool);
	/* Somebody is about to get it: who has just used it stands at the end of the queue. */
	if (b->freezing && pool_queue(pool, t))
		return STEP_WAIT;
	if (t->ticket)
		pool_leave_queue(t);
	t->backend = b;
	return STEP_ON;
}

static __attribute__((noinline)) enum step choose_other(struct turn *t, struct route_answer r)
{
	switch (r.route) {
	case ROUTE_PARK:
		want_position(t);
		worker_park(t->client->worker, t, worker_settings(t->client->worker)->causal_wait_ms);
		return STEP_WAIT;
	case ROUTE_ASK:
		ask_position(t, r.backend);
		return STEP_WAIT;
	case ROUTE_REFUSE:
		turn_fail(t, r.code, "HY000", "tandem: %s", r.why);
		return STEP_WAIT;
	default:
		worker_wait_primary(t->client->worker, t);
		return STEP_WAIT;
	}
}

static enum step choose(struct turn *t)
{
	struct route_answer r = route_turn(t);

	if (t->ticket && (r.route != ROUTE_SERVER || t->pool != t->client->worker->pools[r.server]))
		pool_leave_queue(t);
	switch (r.route) {
	case ROUTE_CONNECTION:
		t->backend = r.backend;
		return STEP_ON;
	case ROUTE_SERVER:
		return take_connection(t, r.server);
	default:
		return choose_other(t, r);
	}
}

/* A probe in front of the next statement brings flags and tracking that an ERR withheld. Nothing may come between a statement and a
 * question about it. It sets a variable that is tracked: behind an OK without news of its own the server goes on holding back, also
 * last_gtid. */
bool client_send_probe(struct client *client)
{
	static const char text[] = "SET SESSION sql_notes=@@session.sql_notes";
	struct backend *b = client->probe;

	client->probe = NULL;
	return backend_command(b, EXPECT_PROBE, COM_QUERY, text, sizeof(text) - 1);
}

static bool send_probe(struct turn *t)
{
	struct client *c = t->client;

	return c->probe != t->backend || t->meaning->facts & SQL_F_READS_LAST || client_send_probe(c);
}

static uint32_t kept_slot(struct turn *t)
{
	return prepared_find(&t->backend->statements, t->statement);
}

static __attribute__((noinline)) bool prepare_packet(struct turn *t)
{
	if (t->statement->opened) {
		t->slot = kept_slot(t);
		if (t->slot == PREPARED_NONE)
			return false;
	}
	return execute_rewrite(t);
}

static void note_long_data(struct turn *t)
{
	struct statement *s = t->statement;

	assert(s);
	s->opened = t->client->cursor_at = t->backend;
	s->long_data = true;
	t->backend->statements.slots[t->slot].holder = s;
}

static void send_statement(struct turn *t)
{
	struct backend *b = t->backend;
	struct client *c = t->client;
	bool ok = send_probe(t) && (!t->statement || prepare_packet(t));

	backend_trace(b, "sends for client %u: command %u %.*s", c->id, t->command, t->text ? (int)t->text_len : 0, t->text ? t->text : "");
	t->wait = WAIT_REPLY;
	t->began_ms = c->worker->now_ms;
	b->session = c->id;
	if (!b->is_replica) {
		gate_note_sent(t);
		replay_note_sent(t);
	}
	if (ok && !t->no_reply)
		backend_expect(b, EXPECT_FORWARD, t->reply, PREPARED_NONE);
	if (ok)
		ok = io_send(&b->io, t->packet, t->packet_len);
	if (b->is_replica)
		b->pool->reads++;
	else
		b->pool->writes++;
	if (!ok) {
		backend_lost(b, "cannot send", 0, NULL, NULL);
		return;
	}
	if (c->upload.active)
		upload_flow(c);
	if (t->no_reply && !c->upload.active)
		turn_sent(t);
}

void turn_sent(struct turn *turn)
{
	note_long_data(turn);
	turn_end(turn);
}

static enum step fit(struct turn *t)
{
	switch (fit_backend(t)) {
	case FIT_READY:
		return STEP_ON;
	case FIT_WAITING:
		if (t->wait == WAIT_NOTHING)
			t->wait = WAIT_FIT;
		return STEP_WAIT;
	default:
		t->backend->broken = true;
		backend_lost(t->backend, "its state could not be changed", 0, NULL, NULL);
		return STEP_WAIT;
	}
}

/* What begins another transaction, or locks tables, commits the one that is open. A READ ONLY block on a replica ends there, and the statement
 * goes its own way. */
static bool ends_block(const struct turn *t)
{
	const struct client *c = t->client;

	return c->trx && c->trx->is_replica && t->command == COM_QUERY && !(t->meaning->facts & SQL_F_MULTI) &&
	       (t->meaning->verb == SQL_BEGIN || t->meaning->verb == SQL_LOCK_TABLES) && c->trx->state == BACKEND_READY;
}

static void end_block(struct turn *t)
{
	struct backend *b = t->client->trx;

	if (!turn_ask(t, b, CAPTURE_END, "COMMIT AND NO CHAIN NO RELEASE"))
		backend_lost(b, "cannot send", 0, NULL, NULL);
}

void turn_advance(struct turn *turn)
{
	if (turn->wait != WAIT_CONNECTION)
		turn_unpark(turn);
	if (turn->client->moving && move_stops(turn))
		return;
	if (turn->client->worker->gate_closed && gate_holds(turn))
		return;
	if (!turn->backend && turn->client->trx && ends_block(turn)) {
		end_block(turn);
		return;
	}
	if (!turn->backend && turn->meaning->facts & SQL_F_READS_LAST && diagnose_begin(turn))
		return;
	if (!turn->backend && choose(turn) == STEP_WAIT)
		return;
	if (turn->backend->state < BACKEND_READY) {
		turn->wait = WAIT_CONNECT;
		return;
	}
	if (turn->backend->freezing) { /* afterwards it may be somebody else's */
		struct backend *b = turn->backend;

		turn->backend = NULL;
		freeze_wait(turn, b);
		return;
	}
	if (freeze_bring(turn))
		return;
	if (fit(turn) == STEP_WAIT)
		return;
	send_statement(turn);
}

void turn_reroute(struct turn *turn)
{
	turn_unpark(turn);
	turn->backend = NULL;
	turn->pending = 0;
	turn->retry = turn->failed = false;
	turn->slot = PREPARED_NONE;
	free(turn->fit_message);
	turn->fit_message = NULL;
	turn->fit_code = 0;
	if (++turn->tries > MAX_TRIES && !turn->deadline_ms)
		turn_fail(turn, ER_CONNECTION_KILLED, "70100", "tandem: given up after %u attempts on failing connections", turn->tries - 1u);
	else
		turn_advance(turn);
}

/* ---- What its connection tells ---- */

void turn_keep_error(struct turn *turn, const struct wire_err *err)
{
	if (turn->fit_code)
		return;
	turn->fit_code = err->code;
	memcpy(turn->fit_state, err->sqlstate[0] ? err->sqlstate : "HY000", sizeof(turn->fit_state));
	turn->fit_message = strndup((const char *)err->message.data, err->message.len);
}

void turn_swallowed_error(struct turn *turn, struct backend *backend, const struct expect *expect, const struct wire_err *err)
{
	struct expect *last;

	if (turn->backend != backend)
		return;
	turn_keep_error(turn, err);
	if (err->code == ER_MAX_PREPARED_STMT_COUNT_REACHED)
		fit_too_many_prepared(backend);
	if (expect->what == EXPECT_FIT)
		backend->broken = true;
	last = backend_last_expect(backend);
	if (turn->wait == WAIT_REPLY && last && last->what == EXPECT_FORWARD) {
		last->what = EXPECT_DROP; /* it ran in the wrong state, or did not run: whatever it says is not for the client */
		turn->retry = true;
	}
}

/* A change was refused: elsewhere it may work; on the primary the refusal is the truth. */
static void fit_refused(struct turn *t)
{
	struct backend *b = t->backend;
	struct client *c = t->client;
	bool elsewhere = b->is_replica && t->is_read && !client_needs_backend(c, b);
	bool again = t->fit_code == ER_MAX_PREPARED_STMT_COUNT_REACHED && t->tries < MAX_TRIES; /* room was made for it */
	char message[512];

	snprintf(message, sizeof(message), "%s", t->fit_message ? t->fit_message : "");
	if (b->broken) {
		bool held = client_needs_backend(c, b);

		client_detach(c, b);
		backend_leave(b, "a state change was refused");
		if (held) {
			client_fatal(c, t->fit_code, t->fit_state, message);
			return;
		}
	}
	if (elsewhere || again) {
		t->on_primary |= !again;
		turn_reroute(t);
	} else {
		turn_fail(t, t->fit_code, t->fit_state, "%s", message);
	}
}

void turn_swallowed(struct turn *turn, struct backend *backend, const struct expect *expect)
{
	if (turn->backend != backend || (expect->what != EXPECT_FIT && expect->what != EXPECT_PREPARE &&
					 expect->what != EXPECT_RESTORE))
		return;
	if (turn->pending)
		turn->pending--;
	if (turn->pending || turn->wait != WAIT_FIT)
		return;
	if (turn->fit_code)
		fit_refused(turn);
	else
		turn_advance(turn);
}

void turn_dropped(struct backend *backend)
{
	struct client *c = backend->client;
	struct turn *t = c ? c->turn : NULL;

	if (!t || t->backend != backend) {
		if (!c)
			pool_give(backend);
		return;
	}
	if (!t->retry)
		return;
	if (t->demoted) {
		t->demoted = false;
		t->backend = NULL;
		worker_retry_later(c->worker, t);
		return;
	}
	if (t->fit_code) {
		fit_refused(t);
		return;
	}
	turn_reroute(t);
}

static bool may_be_lag(uint16_t code)
{
	switch (code) {
	case ER_NO_SUCH_TABLE:
	case ER_BAD_DB_ERROR:
	case ER_BAD_FIELD_ERROR:
	case ER_SP_DOES_NOT_EXIST:
	case ER_VIEW_INVALID:
	case ER_TRG_DOES_NOT_EXIST:
	case ER_DBACCESS_DENIED_ERROR:
	case ER_TABLEACCESS_DENIED_ERROR:
	case ER_COLUMNACCESS_DENIED_ERROR:
	case ER_PROCACCESS_DENIED_ERROR:
		return true;
	default:
		return false;
	}
}

/* As a first answer these say that the statement did not run. */
static bool did_not_run(uint16_t code)
{
	return code == ER_CLIENT_INTERACTION_TIMEOUT || code == ER_CONNECTION_KILLED || code == ER_SERVER_SHUTDOWN;
}

static bool is_read_only_refusal(const struct wire_err *err)
{
	static const char needle[] = "read-only";

	return err->code == ER_READ_ONLY_MODE ||
	       (err->code == ER_OPTION_PREVENTS_STATEMENT &&
		memmem(err->message.data, err->message.len, needle, sizeof(needle) - 1));
}

static bool replica_refused(const struct turn *t, const struct wire_err *err)
{
	if (err->code == ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION) {
		route_learn_write(t->meaning->digest);
		return true;
	}
	return may_be_lag(err->code) || is_read_only_refusal(err);
}

/* A primary refused to write that is moving: the statement can wait for the next one, with what can be asked for. */
static bool may_follow_primary(const struct client *c, const struct backend *b)
{
	return !client_needs_backend(c, b) || !(c->trx == b || c->cursor_at == b || c->uvars_fixed || (c->pinned == b && client_is_pinned(c)));
}

bool turn_refused(struct turn *turn, struct backend *backend, const struct wire_err *err)
{
	struct client *c = turn->client;
	bool refuses = !backend->is_replica && is_read_only_refusal(err);
	bool bound = refuses ? !may_follow_primary(c, backend) : client_needs_backend(c, backend);

	if (bound && refuses && !turn->retry && !c->upload.active && replay_refused(turn))
		return turn->retry = true;
	if (turn->passed || bound || turn->retry || c->upload.active)
		return turn->retry;
	if (err->code == ER_MAX_PREPARED_STMT_COUNT_REACHED && turn->tries < MAX_TRIES) {
		fit_too_many_prepared(backend);
		turn->retry = true;
	} else if (backend->is_replica && replica_refused(turn, err)) {
		turn->on_primary = true;
		turn->retry = true;
	} else if (did_not_run(err->code)) {
		backend->retire = true;
		turn->retry = true;
	} else if (refuses && !turn->is_read) {
		/* Single statement outside a transaction: it changed nothing. The primary may be moving. */
		cluster_suspect(c->worker->shared->cluster, backend->server);
		turn->demoted = turn->retry = !turn->give_up_ms || clock_ms() < turn->give_up_ms;
	}
	return turn->retry;
}

bool turn_in_read_only_block(const struct turn *turn, const struct backend *backend, const struct wire_err *err)
{
	return backend->is_replica && is_read_only_refusal(err) && client_needs_backend(turn->client, backend);
}

struct statement *turn_prepared(struct turn *turn, struct backend *backend, const struct wire_prepared *prepared)
{
	struct client *c = turn->client;
	struct statement *s = statement_add(&c->statements, turn->text, turn->text_len, turn->meaning, c->value,
					    c->worker->snapshot);
	uint32_t slot, evicted;

	if (!s) {
		client_close(c, "out of memory");
		return NULL;
	}
	c->asks_binary |= (turn->meaning->facts & SQL_F_READS_LAST) != 0;
	s->params = prepared->params;
	s->columns = prepared->columns;
	slot = prepared_add(&backend->statements, s->key, fit_prepare_budget(backend), &evicted);
	if (slot != PREPARED_NONE)
		backend->statements.slots[slot].id = prepared->id;
	if (evicted)
		fit_close_prepared(backend, evicted);
	turn->passed = true;
	return s;
}

void turn_saw_ok(struct turn *turn, const struct wire_ok *ok, bool ends_rows, uint64_t rows)
{
	struct client *c = turn->client;

	turn->row_count = ends_rows ? -1 : (int64_t)ok->affected_rows;
	turn->found_rows = ends_rows ? rows : turn->found_rows;

	turn->saw_rows |= ends_rows;
	turn->warnings = (uint16_t)(turn->warnings | ok->warnings); /* of several results any */
	if (ok->insert_id) {
		c->has_last_id = turn->backend->has_last_id = true;
		c->last_id_at = turn->backend;
		c->last_id_lost = false;
	}
	if (turn->statement) {
		turn->cursor_open = (ok->status & SERVER_STATUS_CURSOR_EXISTS) && !(ok->status & SERVER_STATUS_LAST_ROW_SENT);
	}
}

/* ---- After the reply ---- */

static void recount_cursors(struct client *c)
{
	c->cursor_at = NULL;
	for (uint32_t i = 0; i < c->statements.count; i++)
		if (c->statements.slots[i]->opened)
			c->cursor_at = c->statements.slots[i]->opened;
}

void turn_note_cursor(struct turn *turn)
{
	struct statement *s = turn->statement;
	bool open = turn->cursor_open && turn->command != COM_STMT_RESET;

	if (!s || turn->command == COM_STMT_SEND_LONG_DATA || (!open && !s->opened))
		return;
	if (turn->slot != PREPARED_NONE)
		turn->backend->statements.slots[turn->slot].holder = open ? s : NULL;
	s->opened = open ? turn->backend : NULL;
	s->cursor = open;
	s->long_data = false;
	recount_cursors(turn->client);
}

void statement_abandon(struct client *client, struct statement *statement)
{
	struct backend *b = statement->opened;
	uint32_t slot = prepared_find(&b->statements, statement);

	if (slot != PREPARED_NONE) {
		fit_close_prepared(b, b->statements.slots[slot].id);
		prepared_drop(&b->statements, slot);
	}
	statement->opened = NULL;
	recount_cursors(client);
}

bool turn_text_has(const struct turn *t, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; t->text && i + n <= t->text_len; i++)
		if ((t->text[i] | 0x20) == (*word | 0x20) && !strncasecmp(t->text + i, word, n))
			return true;
	return false;
}

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

/* What failed may have done half of its work, and said nothing of it. */
static void note_failure(struct turn *t)
{
	struct client *c = t->client;

	c->probe = t->backend;
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

static bool is_plain_read(const struct turn *t)
{
	return t->is_read && t->meaning->target == SQL_TO_REPLICA;
}

/* SET NAMES and its kind: the collation is known from the character set, or has to be asked for. */
static bool learn_collation(struct turn *t)
{
	struct client *c = t->client;
	const struct charset *cs;
	const char *name;

	if (!c->collation_unknown && t->meaning->verb != SQL_SET)
		return false;
	if (!c->collation_unknown) {
		name = state_get(c->value, c->worker->snapshot, "collation_connection");
		if (turn_has_word(t, "names"))
			set_names(c, t->backend, (struct wire_bytes){ (const uint8_t *)name, strlen(name) });
		return false;
	}
	if (t->warnings) {
		c->collation_unknown = false;
		return false;
	}
	name = state_get(c->value, c->worker->snapshot, "character_set_connection");
	cs = charset_default(!strcmp(name, "utf8") ? "utf8mb3" : name, strlen(!strcmp(name, "utf8") ? "utf8mb3" : name));
	if (cs && strcmp(name, "utf8") && t->meaning->verb == SQL_SET && turn_has_word(t, "names") && !turn_text_has(t, "collate") &&
	    c->sql.flavour == SQL_MARIADB && c->sql.version < 110200) {
		set_collation(c, t->backend, (struct wire_bytes){ (const uint8_t *)cs->collation, strlen(cs->collation) });
		return false;
	}
	return turn_ask(t, t->backend, CAPTURE_COLLATION, "SELECT @@collation_connection");
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
	end_verify(t, t->failed ? t->fit_code : 0, t->fit_state, message);
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
	turn_end(t);
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
	else if (!is_plain_read(turn) && b->state != BACKEND_DEAD)
		note_failure(turn);
	if (turn->reply == REPLY_STREAM)
		b->retire = true;
	if (settle_turn(turn) || (!turn->failed && learn_collation(turn)))
		return;
	turn_end(turn);
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

/* ---- A lost connection ---- */

static void lost_before_sending(struct turn *t, const char *why, uint16_t code, const char *sqlstate, const char *message)
{
	struct client *c = t->client;
	bool full = code == ER_CON_COUNT_ERROR || code == ER_TOO_MANY_USER_CONNECTIONS || code == ER_USER_LIMIT_REACHED;

	if (code && !full && code != ER_SERVER_SHUTDOWN && code != ER_CONNECTION_KILLED && code != ER_CLIENT_INTERACTION_TIMEOUT) {
		if (t->is_read && !t->on_primary) {
			t->on_primary = true;
			turn_reroute(t);
			return;
		}
		turn_fail(t, code, sqlstate, "%s", message);
		return;
	}
	if (t->tries >= MAX_TRIES) {
		turn_fail(t, full ? ER_CON_COUNT_ERROR : ER_CONNECTION_KILLED, full ? "08004" : "70100",
			  "tandem: no connection to be had: %s", why);
		return;
	}
	worker_retry_later(c->worker, t);
}

void turn_lost_backend(struct turn *turn, const char *why, uint16_t code, const char *sqlstate, const char *message, bool held)
{
	struct client *c = turn->client;
	bool sent = turn->wait == WAIT_REPLY;
	char text[400];

	turn->backend = NULL;
	if (replay_takes_over(turn, sent))
		return;
	if (turn->passed) {
		snprintf(text, sizeof(text), "connection to the server lost in the middle of a result: %s", why);
		client_close(c, text);
		return;
	}
	if (held) {
		snprintf(text, sizeof(text), "tandem: connection lost with session state that cannot be restored: %s", why);
		client_fatal(c, ER_CONNECTION_KILLED, "70100", text);
		return;
	}
	if (!sent) {
		lost_before_sending(turn, why, code, sqlstate, message);
		return;
	}
	if (turn->is_read && !c->upload.active && turn->tries < MAX_TRIES) {
		worker_retry_later(c->worker, turn);
		return;
	}
	turn_fail(turn, ER_CONNECTION_KILLED, "70100",
		  "tandem: connection lost while the statement ran (%s); whether it took effect is not known", why);
}
