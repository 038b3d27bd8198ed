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
#include "proxy/session/parts.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/tracking.h"
#include "proxy/session/upload.h"
#include "proxy/session/worker.h"

/* A pooled turn keeps a packet memory of up to this size. */
enum { KEEP_BYTES = 16 * 1024 };

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
	if (turn->fit_message || turn->restore) { /* rarely, and a call of free() is not for nothing */
		free(turn->fit_message);
		free(turn->restore);
		turn->fit_message = turn->restore = NULL;
	}
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
void turn_answered(struct turn *turn)
{
	struct client *c = turn->client;
	struct backend *b = turn->backend;
	bool more = turn->more_parts && !turn->failed;

	turn_unpark(turn);
	if (b && b->shows_timeout && b->state == BACKEND_READY)
		fit_hide_timeout(b);
	c->turn = NULL;
	if (turn->task == TASK_REPLAY) {
		turn_free(turn);
		if (c->state == CLIENT_BUSY)
			replay_stepped(c);
		return;
	}
	turn_free(turn);
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
	if (more) {
		parts_next(c);
		return;
	}
	if (c->parts)
		parts_end(c);
	if (c->draining && !c->trx) {
		client_close(c, "draining");
		return;
	}
	if (c->leaving)
		placement_leave_soon(c->worker);
	client_pump(c);
}

void turn_end_verify(struct turn *turn, uint16_t code, const char *sqlstate, const char *message)
{
	struct client *c = turn->client;

	turn_unpark(turn);
	c->turn = NULL;
	turn_free(turn);
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
		turn_end_verify(turn, code, sqlstate, message);
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
		client_send_error(c, code, sqlstate, message,
				  turn->is_long ? (uint8_t)(c->upload.last_seq + 1) : (uint8_t)(turn->seq_before + 1));
	turn->failed = true;
	turn_answered(turn);
}

void turn_ok(struct turn *turn)
{
	struct client *c = turn->client;
	uint8_t memory[32];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	const uint16_t lasting = SERVER_STATUS_IN_TRANS | SERVER_STATUS_AUTOCOMMIT | SERVER_STATUS_NO_BACKSLASH_ESCAPES |
				 SERVER_STATUS_IN_TRANS_READONLY | SERVER_STATUS_ANSI_QUOTES;
	struct wire_ok ok = { .status = c->status & lasting };
	uint8_t seq = (uint8_t)(turn->seq_before + 1);

	ok.status |= turn->more_parts ? SERVER_MORE_RESULTS_EXISTS : 0;
	if (turn->command == COM_SET_OPTION && !(c->capabilities & CLIENT_DEPRECATE_EOF))
		wire_put_eof(&w, 0, ok.status, seq);
	else
		wire_put_ok(&w, &ok, c->capabilities, seq);
	if (!turn->no_reply)
		io_send(&c->io, w.data, w.len);
	parts_note_end(c, seq);
	turn_answered(turn);
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
	if (client_dies_with(c, b))
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
		turn_ask_position(t, r.backend);
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
	turn_answered(turn);
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
	if (++turn->tries > TURN_MAX_TRIES && !turn->deadline_ms)
		turn_fail(turn, ER_CONNECTION_KILLED, "70100", "tandem: given up after %u attempts on failing connections", turn->tries - 1u);
	else
		turn_advance(turn);
}

/* ---- Its statement ---- */

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
	if (t->tries >= TURN_MAX_TRIES) {
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
	if (turn->is_read && !c->upload.active && turn->tries < TURN_MAX_TRIES) {
		worker_retry_later(c->worker, turn);
		return;
	}
	turn_fail(turn, ER_CONNECTION_KILLED, "70100",
		  "tandem: connection lost while the statement ran (%s); whether it took effect is not known", why);
}
