#include "proxy/session/client.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/session/freeze.h"
#include "proxy/session/gate.h"
#include "proxy/session/named.h"
#include "proxy/session/parts.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/turn.h"
#include "proxy/session/upload.h"
#include "proxy/session/worker.h"

/* Commands up to this size are collected and judged; longer ones are streamed to the primary behind their beginning. */
enum { COMMAND_COLLECT_MAX = 1 << 20, INPUT_MAX = COMMAND_COLLECT_MAX + 2 * IO_SCRATCH_BYTES };

static const char *const state_names[] = {
	[CLIENT_LOGIN] = "login",     [CLIENT_READY] = "ready",	  [CLIENT_BUSY] = "busy",
	[CLIENT_CLOSING] = "closing", [CLIENT_CLOSED] = "closed",
};

static const unsigned next_states[] = {
	[CLIENT_LOGIN] = 1u << CLIENT_READY | 1u << CLIENT_CLOSING | 1u << CLIENT_CLOSED,
	[CLIENT_READY] = 1u << CLIENT_BUSY | 1u << CLIENT_LOGIN | 1u << CLIENT_CLOSING | 1u << CLIENT_CLOSED,
	[CLIENT_BUSY] = 1u << CLIENT_READY | 1u << CLIENT_LOGIN | 1u << CLIENT_CLOSING | 1u << CLIENT_CLOSED,
	[CLIENT_CLOSING] = 1u << CLIENT_CLOSED,
	[CLIENT_CLOSED] = 0,
};

void client_set_state(struct client *client, enum client_state state)
{
	assert(next_states[client->state] & 1u << state);
	log_debug(&client->subject, "%s -> %s", state_names[client->state], state_names[state]);
	client->state = state;
}

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct client *c = (const struct client *)((const char *)subject - offsetof(struct client, subject));

	snprintf(out, size, "client %u %s@%s:%u", c->id, c->credentials ? c->credentials->user : "?", c->host ? c->host : "?", c->port);
}

void client_set_value(struct client *client, struct state *value)
{
	if (client->value == value)
		return;
	value = worker_share_state(client->worker, value);
	state_unref(client->value);
	client->value = value;
	client_digest_value(client);
}

static const char *either(const struct client *c, const char *mariadb, const char *mysql)
{
	const struct snapshot *s = c->worker->snapshot;

	return state_get(c->value, s, snapshot_variable(s, mariadb, strlen(mariadb)) ? mariadb : mysql);
}

/* "WHERE id IS NULL" finds the row just inserted. */
static bool finds_last(const struct state *value, const struct snapshot *snapshot)
{
	const char *auto_null = state_get(value, snapshot, "sql_auto_is_null");

	return !strcmp(auto_null, "ON") || !strcmp(auto_null, "1");
}

/* information_schema.OPTIMIZER_TRACE. */
static bool traces_last(const struct state *value, const struct snapshot *snapshot)
{
	return strstr(state_get(value, snapshot, "optimizer_trace"), "enabled=on");
}

/* Each server's own tables by their bare names. */
static bool schema_is_the_servers(const struct state *value)
{
	return value->schema && sql_is_server_schema(value->schema, strlen(value->schema));
}

void client_digest_value(struct client *client)
{
	const char *read_only = either(client, "tx_read_only", "transaction_read_only");

	client->sql = state_sql_context(client->value, client->worker->snapshot, client->multi_statements);
	client->is_read_only = !strcmp(read_only, "ON") || !strcmp(read_only, "1");
	client->is_serializable = !strcmp(either(client, "tx_isolation", "transaction_isolation"), "SERIALIZABLE");
	client->finds_last = finds_last(client->value, client->worker->snapshot);
	client->reads_stay = client->finds_last || traces_last(client->value, client->worker->snapshot) || schema_is_the_servers(client->value);
}

/* ---- Receiving ---- */

static void pause_if_full(struct client *c)
{
	if (buf_len(&c->in) >= INPUT_MAX)
		client_pause(c);
}

void client_pause(struct client *client)
{
	if (client->paused || client->state == CLIENT_CLOSED)
		return;
	client->paused = true;
	io_pause(&client->io);
}

void client_resume(struct client *client)
{
	if (!client->paused || client->state == CLIENT_CLOSED)
		return;
	client->paused = false;
	io_resume(&client->io);
}

/* How many bytes at `bytes` are one command to start with; 0: more must come. A long one is cut at what has been received. */
static size_t command_length(struct client *c, const uint8_t *bytes, size_t len)
{
	size_t payload;

	if (len < WIRE_HEADER_BYTES)
		return 0;
	payload = wire_header_len(bytes);
	if (payload + WIRE_HEADER_BYTES <= len && payload < WIRE_MAX_PAYLOAD)
		return payload + WIRE_HEADER_BYTES;
	if (len < COMMAND_COLLECT_MAX)
		return 0;
	upload_begin_long(c, bytes, len);
	return len;
}

/* Starts the commands that have come whole, one after the other. Returns how many bytes were taken. */
static size_t take_commands(struct client *c, const uint8_t *bytes, size_t len)
{
	size_t taken = 0;

	while (c->state == CLIENT_READY && taken < len) {
		size_t n = command_length(c, bytes + taken, len - taken);

		if (!n)
			break;
		if (bytes[taken + 3] != 0) {
			client_fatal(c, ER_NET_PACKETS_OUT_OF_ORDER, "08S01", "Got packets out of order");
			return len;
		}
		taken += n;
		turn_start(c, bytes + taken - n, n);
	}
	return taken;
}

void client_pump(struct client *client)
{
	if (client->pumping)
		return;
	client->pumping = true;
	while (client->state == CLIENT_READY && buf_len(&client->in) && !client->upload.active) {
		size_t had = buf_len(&client->in);
		/* The buffer must not move or grow under the command: take it out while it is looked at. */
		struct buf held = client->in;
		size_t taken;

		memset(&client->in, 0, sizeof(client->in));
		taken = take_commands(client, buf_head(&held), had);
		if (client->state == CLIENT_CLOSED) {
			buf_fini(&held);
			break;
		}
		buf_consume(&held, taken);
		if (buf_len(&client->in) && !buf_move(&held, &client->in)) {
			buf_fini(&held);
			client_close(client, "out of memory");
			break;
		}
		client->in = held;
		if (!taken)
			break;
	}
	client->pumping = false;
	if (client->state != CLIENT_CLOSED && buf_len(&client->in) < INPUT_MAX / 2 && !client->upload.active)
		client_resume(client);
}

static void take_ready(struct client *c, const uint8_t *bytes, size_t len)
{
	size_t taken;

	c->pumping = true;
	taken = take_commands(c, bytes, len);
	c->pumping = false;
	if (c->state == CLIENT_CLOSED || c->state == CLIENT_CLOSING)
		return;
	if (taken < len && !buf_append(&c->in, bytes + taken, len - taken)) {
		client_close(c, "out of memory");
		return;
	}
	if (c->state == CLIENT_READY && taken)
		client_pump(c);
	pause_if_full(c);
}

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct client *c = owner;

	c->active_ms = c->worker->now_ms;
	if (c->state == CLIENT_CLOSING || c->state == CLIENT_CLOSED)
		return;
	if (c->upload.active && !buf_len(&c->in) && upload_can_flow(c)) {
		size_t used = upload_bytes(c, bytes, len);

		if (!c->upload.active && c->turn && c->turn->no_reply)
			turn_sent(c->turn);
		bytes += used;
		len -= used;
		if (!len || c->state == CLIENT_CLOSED)
			return;
	}
	if (c->state == CLIENT_READY && !buf_len(&c->in) && !c->upload.active) {
		take_ready(c, bytes, len);
		return;
	}
	if (!buf_append(&c->in, bytes, len)) {
		client_close(c, "out of memory");
		return;
	}
	if (c->state == CLIENT_LOGIN)
		login_bytes(c);
	else
		client_pump(c);
	if (c->state != CLIENT_CLOSED)
		pause_if_full(c);
}

static void on_drained(void *owner)
{
	struct client *c = owner;

	if (c->state == CLIENT_CLOSING) {
		client_close(c, "closed after its last packet");
		return;
	}
	for (struct backend *b = c->attached; b; b = b->next_attached)
		io_resume(&b->io);
}

static void on_ready(void *owner)
{
	login_tls_ready(owner);
}

static void on_ended(void *owner, enum io_end why)
{
	struct client *c = owner;

	client_close(c, io_error_text(&c->io, why));
}

static const struct io_handler handler = {
	.bytes = on_bytes,
	.drained = on_drained,
	.ready = on_ready,
	.ended = on_ended,
};

/* ---- Life ---- */

/* Session ids have the top bit set, so that KILL can tell them from the servers' own; the remainder by the number of workers says
 * whose client it is. */
static uint32_t new_id(struct worker *w)
{
	uint32_t n = atomic_fetch_add_explicit(&w->shared->next_id, 1, memory_order_relaxed);
	uint32_t room = (UINT32_C(0x7fffffff) / w->shared->worker_count) - 1;

	return UINT32_C(0x80000000) | (n % room * w->shared->worker_count + w->number);
}

struct client *client_new(struct worker *worker, int fd, const char *host, uint16_t port)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c || !io_init(&c->io, &worker->loop, fd, &handler, c)) {
		free(c);
		return NULL;
	}
	c->subject.describe = describe;
	c->worker = worker;
	c->state = CLIENT_LOGIN;
	c->host = strdup(host);
	c->port = port;
	c->id = new_id(worker);
	c->status = SERVER_STATUS_AUTOCOMMIT;
	c->active_ms = worker->now_ms;
	c->wait_timeout_ms = worker_settings(worker)->wait_timeout_ms;
	TAILQ_INSERT_TAIL(&worker->clients, c, link);
	atomic_fetch_add(&worker->client_count, 1);
	atomic_fetch_add(&worker->shared->clients, 1);
	if (!c->host || !login_start(c))
		client_close(c, "out of memory");
	return c;
}

/* A turn in flight dies with its client; a connection that still owes it something cannot be used again, nor one that has got half a packet,
 * to which there may not even be a reply (SEND_LONG_DATA). */
static void abandon_turn(struct client *c)
{
	struct turn *t = c->turn;
	struct backend *b;
	bool half_sent;

	if (!t)
		return;
	b = t->backend;
	half_sent = t->wait == WAIT_REPLY && c->upload.active && !c->upload.skip;
	turn_unpark(t);
	c->turn = NULL;
	turn_free(t);
	if (b && b->state != BACKEND_DEAD && (b->state != BACKEND_READY || half_sent))
		backend_leave(b, "its client left in mid-statement"); /* the server counts it until the statement has ended */
}

void client_release_all(struct client *client)
{
	while (client->attached) {
		struct backend *b = client->attached;
		bool dirty = client_needs_backend(client, b) || b->has_uvars || b->has_last_id;

		b->tainted |= dirty;
		client_detach(client, b);
		pool_give(b);
	}
}

void client_close(struct client *client, const char *why)
{
	struct worker *w = client->worker;

	if (client->state == CLIENT_CLOSED)
		return;
	log_debug(&client->subject, "closed: %s", why);
	client_set_state(client, CLIENT_CLOSED);
	if (w->out.to == &client->io)
		output_flush(&w->out);
	abandon_turn(client);
	replay_drop(client);
	client_release_all(client);
	if (w->gate_closed)
		gate_recount(client, true);
	io_close(&client->io);
	placement_forget(client);
	whereabouts_ends(w, client->id);
	TAILQ_REMOVE(&w->clients, client, link);
	atomic_fetch_sub(&w->client_count, 1);
	atomic_fetch_sub(&w->shared->clients, 1);
	worker_bury_client(w, client);
}

void client_depart(struct client *client)
{
	assert(!client->attached && !client->turn && !client->gate_share);
	io_detach(&client->io);
	TAILQ_REMOVE(&client->worker->clients, client, link);
	client->worker = NULL;
}

void client_arrive(struct client *client, struct worker *worker)
{
	client->worker = worker;
	TAILQ_INSERT_TAIL(&worker->clients, client, link);
	atomic_fetch_add(&worker->client_count, 1);
}

void client_settle_in(struct client *client)
{
	struct worker *w = client->worker;
	struct state *own = client->value;

	client->value = worker_share_state(w, own);
	state_unref(own);
	client_digest_value(client);
	client->paused = false;
	client->draining = atomic_load(&w->shared->draining);
	if (w->stopping || client->draining || !io_attach(&client->io, &w->loop, &handler, client)) {
		client_close(client, "stopping");
		return;
	}
	if (w->gate_closed)
		gate_recount(client, false);
}

void client_free(struct client *c)
{
	login_free(c);
	buf_fini(&c->in);
	statement_table_fini(&c->statements);
	named_clear(c);
	client_pins_clear(c);
	free(c->pins);
	free(c->uvars);
	parts_free(c);
	freeze_forget_list(c);
	free(c->seen);
	free(c->host);
	server_unref(c->answered);
	state_unref(c->value);
	credentials_unref(c->credentials);
	free(c);
}

void client_send_error(struct client *client, uint16_t code, const char *sqlstate, const char *message, uint8_t seq)
{
	uint8_t memory[1024];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	if (client->worker->out.to == &client->io)
		output_flush(&client->worker->out);
	wire_put_err(&w, code, sqlstate, message, seq);
	io_send(&client->io, w.data, w.len);
}

void client_fatal_seq(struct client *client, uint16_t code, const char *sqlstate, const char *message, uint8_t seq)
{
	if (client->state == CLIENT_CLOSED || client->state == CLIENT_CLOSING)
		return;
	log_info(&client->subject, "ended: %u %s", code, message);
	client_send_error(client, code, sqlstate, message, seq);
	if (!io_unsent(&client->io)) {
		client_close(client, message);
		return;
	}
	client_set_state(client, CLIENT_CLOSING);
	abandon_turn(client);
	replay_drop(client);
	client_release_all(client);
}

void client_fatal(struct client *client, uint16_t code, const char *sqlstate, const char *message)
{
	client_fatal_seq(client, code, sqlstate, message, client->turn ? (uint8_t)(client->turn->seq_before + 1) : 0);
}

/* ---- Connections ---- */

struct backend *client_backend_at(const struct client *client, const struct server_pool *pool)
{
	for (struct backend *b = client->attached; b; b = b->next_attached)
		if (b->pool == pool)
			return b;
	return NULL;
}

void client_attach(struct client *client, struct backend *backend)
{
	backend->client = client;
	backend->pool->sessions++;
	backend->next_attached = client->attached;
	client->attached = backend;
	if (backend->state != BACKEND_DEAD)
		backend_relist(backend);
}

static void forget(struct backend **place, struct backend *b)
{
	if (*place == b)
		*place = NULL;
}

void client_forget_diagnostics(struct client *client, const struct backend *backend)
{
	client->last_gone |= client->last == backend;
	if (client->found_at == backend && !client->found_rows_there)
		client->found_at = NULL; /* known by value, and no longer there */
	if (client->found_at == backend && !client->found_rows_there)
		client->found_at = NULL;
}

void client_detach(struct client *client, struct backend *backend)
{
	for (struct backend **at = &client->attached; *at; at = &(*at)->next_attached)
		if (*at == backend) {
			*at = backend->next_attached;
			break;
		}
	backend->next_attached = NULL;
	backend->client = NULL;
	backend->session = 0; /* what the session does elsewhere from now on is not known here, should it come back */
	backend->pool->sessions--;
	forget(&client->trx, backend);
	client_forget_diagnostics(client, backend);
	if (client->last == backend) {
		server_unref(client->answered);
		client->answered = server_ref(backend->server);
		client->last = NULL;
	}
	if (client->found_at == backend)
		client->found_rows_there = false;
	if (client->diag_at == backend)
		client->diag_open = false;
	freeze_end(backend);
	forget(&client->found_at, backend);
	forget(&client->diag_at, backend);
	forget(&client->probe, backend);
	forget(&client->uvars_at, backend);
	forget(&client->last_id_at, backend);
	forget(&client->cursor_at, backend);
	forget(&client->pinned, backend);
	named_forget_backend(client, backend);
	for (uint32_t i = 0; i < client->statements.count; i++)
		forget(&client->statements.slots[i]->opened, backend);
	if (client->turn && client->turn->backend == backend)
		client->turn->backend = NULL;
	if (backend->state != BACKEND_DEAD)
		backend_relist(backend);
	if (client->worker->gate_closed)
		gate_recount(client, false);
}

static bool has_there(const struct client *client, const struct backend *backend)
{
	return client->trx == backend || client->cursor_at == backend || (client->uvars_at == backend && !client->uvars) ||
	       client->probe == backend;
}

bool client_needs_backend(const struct client *client, const struct backend *backend)
{
	return has_there(client, backend) || (client->pinned == backend && client_is_pinned(client));
}

bool client_dies_with(const struct client *client, const struct backend *backend)
{
	return has_there(client, backend) || (client->pinned == backend && client_is_stuck(client));
}

bool client_lost_backend(struct client *client, struct backend *backend, const char *why)
{
	char message[320];

	if (!client_dies_with(client, backend) || client->state == CLIENT_CLOSED) {
		if (client->last_id_at == backend)
			client->last_id_lost = true;
		return false;
	}
	if (client->probe == backend && client->trx != backend && (client->uvars_at != backend || client->uvars) &&
	    client->cursor_at != backend && !(client->pinned == backend && client_is_stuck(client)))
		return false; /* only its flags were in doubt, and they died with it */
	snprintf(message, sizeof(message), "tandem: connection to %s lost with session state that cannot be restored: %s",
		 backend->server_name, why);
	client_fatal(client, ER_CONNECTION_KILLED, "70100", message);
	return true;
}
