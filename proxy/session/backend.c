#include "proxy/session/backend.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/session/freeze.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/worker.h"

/* So much of a result that its client no longer wants is read to its end, so that the place is given back when the server is done. */
enum { UNWANTED_MAX = 8 << 20 };

static const char *const state_names[] = {
	[BACKEND_CONNECTING] = "connecting", [BACKEND_LOGIN] = "login", [BACKEND_SETUP] = "setup",
	[BACKEND_READY] = "ready",	     [BACKEND_BUSY] = "busy",	[BACKEND_LEAVING] = "leaving",
	[BACKEND_DEAD] = "dead",
};

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct backend *b = (const struct backend *)((const char *)subject - offsetof(struct backend, subject));

	snprintf(out, size, "backend %s#%u %s", b->server_name, b->connection_id, b->credentials ? b->credentials->user : "");
}

/* ---- States and lists ---- */

/* The list that a state belongs on. A session's connection stays where it is while a statement runs: each move touches its neighbours. */
static struct backend_list *list_for(struct backend *b, enum backend_state state)
{
	switch (state) {
	case BACKEND_READY:
		return b->client ? &b->pool->held : &b->pool->free;
	case BACKEND_BUSY:
		return b->client ? &b->pool->held : &b->pool->busy;
	case BACKEND_DEAD:
		return NULL;
	default:
		return &b->pool->busy;
	}
}

static void count_use(struct backend *b)
{
	bool in_use = b->state != BACKEND_READY && b->state != BACKEND_DEAD;

	b->pool->in_use += (unsigned)in_use - (unsigned)b->in_use;
	b->in_use = in_use;
}

/* READY again, it goes behind all others: the head of the list is the least recently used. */
static bool stays(const struct backend *b, const struct backend_list *to)
{
	return b->list == to && (b->state != BACKEND_READY || !TAILQ_NEXT(b, link));
}

void backend_relist(struct backend *b)
{
	struct backend_list *to = list_for(b, b->state);

	count_use(b);
	if (b->state == BACKEND_READY)
		b->since_ms = b->worker->now_ms;
	if (stays(b, to))
		return;
	if (b->list)
		TAILQ_REMOVE(b->list, b, link);
	b->list = to;
	if (to)
		TAILQ_INSERT_TAIL(to, b, link);
}

void backend_set_state(struct backend *backend, enum backend_state state)
{
	assert(backend->state != BACKEND_DEAD);
	log_debug(&backend->subject, "%s -> %s", state_names[backend->state], state_names[state]);
	backend->state = state;
	backend_relist(backend);
}

void backend_set_value(struct backend *backend, struct state *value)
{
	if (backend->value == value)
		return;
	value = worker_share_state(backend->worker, value);
	state_unref(backend->value);
	backend->value = value;
}

/* ---- Events of the socket ---- */

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct backend *b = owner;

	if (b->state == BACKEND_READY || b->state == BACKEND_BUSY || b->state == BACKEND_SETUP)
		backend_reply_bytes(b, bytes, len);
	else if (b->state == BACKEND_LOGIN)
		backend_login_bytes(b, bytes, len);
	else if (b->state == BACKEND_LEAVING && (b->unwanted += len) > UNWANTED_MAX)
		backend_close(b, "too much left of a result that nobody wants"); /* the server stops at its next write */
}

static void on_ready(void *owner)
{
	struct backend *b = owner;

	if (b->state == BACKEND_CONNECTING) {
		backend_set_state(b, BACKEND_LOGIN);
		if (!backend_login_start(b))
			backend_lost(b, "out of memory", ER_OUT_OF_RESOURCES, "HY000", NULL);
	} else if (b->state == BACKEND_LOGIN) {
		backend_login_tls_ready(b);
	}
}

static void on_drained(void *owner)
{
	struct backend *b = owner;

	if (b->client)
		client_resume(b->client);
}

static void on_ended(void *owner, enum io_end why)
{
	struct backend *b = owner;
	bool unreached = b->state == BACKEND_CONNECTING || why == IO_END_REFUSED;

	if (unreached || b->state == BACKEND_BUSY) {
		atomic_fetch_add_explicit(&b->server->errors, 1, memory_order_relaxed);
		cluster_suspect(b->worker->shared->cluster, b->server);
	}
	backend_lost(b, io_error_text(&b->io, why), 0, NULL, NULL);
}

static const struct io_handler handler = {
	.bytes = on_bytes,
	.drained = on_drained,
	.ready = on_ready,
	.ended = on_ended,
};

/* ---- Life ---- */

#define KIND_BITS                                                                                                        \
	(CLIENT_FOUND_ROWS | CLIENT_NO_SCHEMA | CLIENT_LOCAL_FILES | CLIENT_IGNORE_SPACE | CLIENT_MULTI_RESULTS |            \
	 CLIENT_PS_MULTI_RESULTS | MARIADB_CLIENT_EXTENDED_METADATA)

uint64_t backend_kind(uint64_t client_capabilities)
{
	return client_capabilities & KIND_BITS;
}

struct backend *backend_open(struct server_pool *pool, struct credentials *credentials, uint64_t kind, uint8_t charset, bool multi,
			     const char **why)
{
	struct backend *b = calloc(1, sizeof(*b));

	*why = "out of memory";
	if (!b)
		return NULL;
	b->subject.describe = describe;
	b->worker = pool->worker;
	b->pool = pool;
	b->server = server_ref(pool->server);
	b->server_name = b->server->name;
	b->credentials = credentials_ref(credentials);
	b->kind = kind;
	b->charset = charset;
	b->multi_statements = multi;
	b->io.fd = -1;
	b->epoch = pool->worker->snapshot->servers[pool->index].epoch;
	b->grants = atomic_load_explicit(&pool->worker->shared->grants, memory_order_relaxed);
	b->since_ms = clock_ms();
	b->state = BACKEND_CONNECTING;
	backend_relist(b);
	if (!io_connect(&b->io, &b->worker->loop, (struct sockaddr *)&b->server->address, b->server->address_len, &handler, b)) {
		*why = "no socket";
		backend_close(b, *why);
		return NULL;
	}
	return b;
}

void backend_close(struct backend *backend, const char *why)
{
	bool reached;

	if (backend->state == BACKEND_DEAD)
		return;
	log_debug(&backend->subject, "closed: %s", why);
	if (backend->client)
		client_detach(backend->client, backend);
	reached = backend->state != BACKEND_CONNECTING;
	backend_set_state(backend, BACKEND_DEAD);
	io_close(&backend->io);
	pool_bury(backend, reached);
}

void backend_leave(struct backend *backend, const char *why)
{
	static const uint8_t quit[] = { 1, 0, 0, 0, COM_QUIT };

	if (backend->state != BACKEND_READY && backend->state != BACKEND_BUSY) {
		backend_close(backend, why);
		return;
	}
	log_debug(&backend->subject, "leaving: %s", why);
	if (backend->client)
		client_detach(backend->client, backend);
	backend_set_state(backend, BACKEND_LEAVING);
	backend->queue_count = 0;
	io_resume(&backend->io);
	if (!io_send(&backend->io, quit, sizeof(quit)))
		backend_close(backend, why);
}

void backend_free(struct backend *b)
{
	backend_login_free(b);
	freeze_end(b);
	wire_walk_fini(&b->walker);
	buf_fini(&b->in);
	buf_fini(&b->captured);
	prepared_fini(&b->statements);
	free(b->queue);
	free(b->errand);
	state_unref(b->value);
	credentials_unref(b->credentials);
	server_unref(b->server);
	free(b);
}

/* The connection failed. A turn that it works for decides what becomes of its statement; a session that had merely rested on it may lose
 * state that cannot be restored. `code` 0: no packet said why. */
void backend_lost(struct backend *b, const char *why, uint16_t code, const char *sqlstate, const char *message)
{
	struct client *c = b->client;
	struct turn *turn = c && c->turn && c->turn->backend == b ? c->turn : NULL;
	bool outlived;
	char reason[256];

	if (b->state == BACKEND_DEAD)
		return;
	snprintf(reason, sizeof(reason), "%s", why);
	if (c)
		log_info(&b->subject, "lost: %s", reason);
	else
		log_debug(&b->subject, "lost: %s", reason);
	outlived = c && replay_outlives(c, b);
	if (turn) {
		bool held = !outlived && client_dies_with(c, b);

		backend_close(b, reason);
		turn_lost_backend(turn, reason, code, sqlstate, message, held);
	} else if (c) {
		bool ended = !outlived && client_lost_backend(c, b, reason);

		backend_close(b, reason);
		if (!ended && c->turn && c->turn->wait == WAIT_CAPTURE)
			turn_reroute(c->turn);
	} else {
		backend_close(b, reason);
	}
}

/* ---- What it owes ---- */

static bool grow_queue(struct backend *b)
{
	uint16_t size = b->queue_size ? (uint16_t)(b->queue_size * 2) : 4;
	struct expect *queue = malloc(size * sizeof(*queue));

	if (!queue)
		return false;
	for (uint16_t i = 0; i < b->queue_count; i++)
		queue[i] = b->queue[(b->queue_head + i) & (b->queue_size - 1)];
	free(b->queue);
	b->queue = queue;
	b->queue_head = 0;
	b->queue_size = size;
	return true;
}

void backend_expect(struct backend *backend, enum expect_what what, enum reply_kind reply, uint32_t slot)
{
	uint16_t at;

	if (backend->queue_count == backend->queue_size && !grow_queue(backend)) {
		backend->broken = true; /* replies can no longer be told apart: its io is ended by the caller's failed send */
		io_close(&backend->io);
		return;
	}
	at = (backend->queue_head + backend->queue_count++) & (backend->queue_size - 1);
	backend->queue[at] = (struct expect){ .what = (uint8_t)what, .reply = (uint8_t)reply, .slot = slot };
	if (backend->state == BACKEND_READY)
		backend_set_state(backend, BACKEND_BUSY);
}

struct expect *backend_last_expect(struct backend *backend)
{
	if (!backend->queue_count)
		return NULL;
	return &backend->queue[(backend->queue_head + backend->queue_count - 1) & (backend->queue_size - 1)];
}

static enum reply_kind reply_to(uint8_t command)
{
	switch (command) {
	case COM_QUERY:
		return REPLY_RESULT;
	case COM_STMT_PREPARE:
		return REPLY_PREPARE;
	default:
		return REPLY_ONE;
	}
}

bool backend_command(struct backend *backend, enum expect_what what, uint8_t command, const void *text, size_t len)
{
	uint8_t header[WIRE_HEADER_BYTES + 1];
	struct iovec pieces[2] = { { header, sizeof(header) }, { (void *)text, len } };

	wire_put_header(header, (uint32_t)len + 1, 0);
	header[WIRE_HEADER_BYTES] = command;
	backend_trace(backend, "sends of our own (%d): command %u %.*s", what, command, command == COM_QUERY ? (int)len : 0, (const char *)text);
	backend_expect(backend, what, reply_to(command), PREPARED_NONE);
	return io_sendv(&backend->io, pieces, len ? 2 : 1);
}

/* Longest idle time a server accepts: idle time towards clients is Tandem's own matter. */
#define FOREVER "31536000"

size_t backend_setup_text(const struct backend *backend, char *out, size_t size)
{
	const struct snapshot *snapshot = backend->worker->snapshot;
	int index = backend->pool->index;
	const char *track = index >= 0 ? snapshot->track_list[index] : NULL;
	bool mysql = index >= 0 && snapshot->servers[index].flavour == SQL_MYSQL;
	int len = snprintf(out, size,
			   "SET session_track_schema=1,session_track_state_change=0,session_track_transaction_info='OFF'%s%s%s%s"
			   ",wait_timeout=" FOREVER "%s",
			   mysql ? ",session_track_gtids='OWN_GTID'" : "", track ? ",session_track_system_variables='" : "",
			   track ? track : "", track ? "'" : "",
			   !backend->is_replica ? "" : mysql ? ",transaction_read_only=1" : ",tx_read_only=1");

	return len < 0 || (size_t)len >= size ? 0 : (size_t)len;
}

bool backend_set_up(struct backend *b, enum expect_what what)
{
	char text[20000];
	size_t len = backend_setup_text(b, text, sizeof(text));

	return len && backend_command(b, what, COM_QUERY, text, len);
}

/* The state right after login or reset: the server's defaults and the login's character set, the schema untouched. */
struct state *backend_fresh_value(const struct backend *b, const char *schema)
{
	return state_new(b->worker->snapshot, b->pool->index, b->charset, schema);
}

/* Takes the reference over. */
static struct state *reset_state(struct state *fresh, bool mysql)
{
	struct state *s = mysql ? state_ref(fresh) : state_with_forgotten(fresh);

	state_unref(fresh);
	return s;
}

/* MariaDB's COM_RESET_CONNECTION goes back to the character set of the login, MySQL's to the server's own. */
static struct state *reset_value(const struct backend *b)
{
	const struct snapshot *snapshot = b->worker->snapshot;
	int index = b->pool->index;
	bool mysql = index >= 0 && snapshot->servers[index].flavour == SQL_MYSQL;

	return reset_state(state_new(snapshot, index, mysql ? 0 : b->charset, b->value->schema), mysql);
}

bool backend_reset(struct backend *backend, enum expect_what what)
{
	struct state *fresh = reset_value(backend);
	struct state *with_role = state_with_role(fresh, backend->value->role, backend->value->role ? strlen(backend->value->role) : 0);

	backend_set_value(backend, with_role);
	backend->awaits = with_role->awaits;
	state_unref(with_role);
	state_unref(fresh);
	prepared_clear(&backend->statements);
	backend->has_uvars = backend->has_last_id = backend->used = false;
	return backend_command(backend, what, COM_RESET_CONNECTION, NULL, 0) && backend_set_up(backend, what);
}

/* ---- Moving between workers ---- */

void backend_detach(struct backend *backend)
{
	assert(backend->state == BACKEND_READY && !backend->client);
	TAILQ_REMOVE(backend->list, backend, link);
	backend->list = NULL;
	io_detach(&backend->io);
	backend->worker = NULL;
	backend->pool = NULL;
}

bool backend_adopt(struct backend *backend, struct server_pool *pool)
{
	backend->worker = pool->worker;
	backend->pool = pool;
	backend_relist(backend);
	return io_attach(&backend->io, &pool->worker->loop, &handler, backend);
}
