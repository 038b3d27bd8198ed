#include "proxy/session/tracking.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proxy/session/worker.h"

/* ---- Tokens ---- */

static struct gtid_board *shared_board(const struct client *c)
{
	switch (worker_settings(c->worker)->read_your_writes) {
	case RYW_ACCOUNT:
		return &c->credentials->token->board;
	case RYW_GLOBAL:
		return &account_token_global()->board;
	default:
		return NULL;
	}
}

static void raise_seen(struct client *c, const struct gtid_set *set)
{
	if (!c->seen)
		c->seen = calloc(1, sizeof(*c->seen));
	if (c->seen)
		gtid_merge(c->seen, set);
}

static void raise_token(struct client *c, struct backend *b, struct wire_bytes gtid)
{
	struct gtid_board *board = shared_board(c);
	struct gtid_set set;

	if (!gtid.len)
		return;
	if (!gtid_parse((const char *)gtid.data, gtid.len, &set))
		set = (struct gtid_set){ .lost = true };
	/* What a failover must not lose: the client is about to be told that it is stored. */
	if (!set.lost)
		gtid_board_raise(&b->server->acknowledged, &set);
	if (worker_settings(c->worker)->read_your_writes == RYW_OFF)
		return;
	if (board)
		gtid_board_raise(board, &set);
	else
		raise_seen(c, &set);
	c->read_at = NULL;
	c->token_unknown = false; /* a commit comes after everything that its session has seen */
}

bool token_satisfied(const struct client *client, const struct server *server)
{
	struct gtid_board *board = shared_board(client);
	struct gtid_set want;

	if (client->seen && !gtid_board_covers(&server->applied, client->seen))
		return false;
	if (!board || !atomic_load_explicit(&board->generation, memory_order_acquire))
		return true;
	gtid_board_read(board, &want);
	return gtid_board_covers(&server->applied, &want);
}

void token_wanted(const struct client *client, struct gtid_set *out)
{
	struct gtid_board *board = shared_board(client);

	memset(out, 0, sizeof(*out));
	if (board)
		gtid_board_read(board, out);
	if (client->seen)
		gtid_merge(out, client->seen);
}

void token_note_read(struct client *client, const struct backend *backend)
{
	client->token_unknown |= !backend->is_replica;
	client->read_at = backend->is_replica ? backend->server : NULL;
}

void token_learned(struct client *client, const struct gtid_set *position)
{
	raise_seen(client, position);
	client->read_at = NULL;
	client->token_unknown = false;
}

/* ---- Adopting ---- */

/* In line the lengths of the names that it is asked about are constants. */
static inline __attribute__((always_inline)) bool is_named(struct wire_bytes name, const char *text)
{
	return name.len == strlen(text) && !memcmp(name.data, text, name.len);
}

static void set_values(struct client *c, struct backend *b, struct state *value)
{
	client_set_value(c, value);
	backend_set_value(b, value);
	state_unref(value);
}

/* What a turn has been told needs not be asked for: see settle.c. */
static void note_reported(struct client *c, const struct wire_track_entry *e)
{
	struct turn *t = c->turn;
	const struct tracked_variable *v;

	if (!t || t->reported_count == TURN_REPORTED_MAX)
		return;
	v = snapshot_variable(c->worker->snapshot, (const char *)e->name.data, e->name.len);
	if (v)
		t->reported[t->reported_count++] = tracking_name_hash(v->stands_for ? v->stands_for : v->name);
}

uint64_t tracking_name_hash(const char *name)
{
	return XXH3_64bits(name, strlen(name));
}

/* Client and connection usually share a value; where they differ (another server's defaults) each gets its own change. */
static void adopt_variable(struct client *c, struct backend *b, const struct wire_track_entry *e)
{
	bool shared = c->value == b->value;

	if (b->is_replica && (is_named(e->name, "tx_read_only") || is_named(e->name, "transaction_read_only")))
		b->guard_lost = true; /* a SET undid the guard: the connection is set up again before it is used for anything else */
	if (is_named(e->name, "character_set_connection"))
		c->collation_unknown = true;
	if (is_named(e->name, "collation_connection"))
		c->collation_unknown = false;
	if (is_named(e->name, "wait_timeout")) {
		c->wait_timeout_s = 0;
		for (size_t i = 0; i < e->value.len; i++) /* what stands behind it may be a digit, too */
			c->wait_timeout_s = c->wait_timeout_s * 10 + (uint32_t)(e->value.data[i] - '0');
		c->wait_timeout_ms = c->wait_timeout_s * UINT64_C(1000);
		b->shows_timeout = true;
	}
	if (shared) {
		set_values(c, b, state_with_variable(c->value, c->worker->snapshot, e->name, e->value));
	} else {
		struct state *mine = state_with_variable(c->value, c->worker->snapshot, e->name, e->value);
		struct state *its = state_with_variable(b->value, c->worker->snapshot, e->name, e->value);

		client_set_value(c, mine);
		backend_set_value(b, its);
		state_unref(mine);
		state_unref(its);
	}
}

/* A collation says what its character set is, of which no tracker speaks when only the collation was set. */
static void adopt_charset_of(struct client *c, struct backend *b, struct wire_bytes collation)
{
	const uint8_t *end = memchr(collation.data, '_', collation.len);
	struct wire_track_entry e = { .type = SESSION_TRACK_SYSTEM_VARIABLES,
				      .name = { (const uint8_t *)"character_set_connection", 24 },
				      .value = { collation.data, end ? (size_t)(end - collation.data) : collation.len } };

	adopt_variable(c, b, &e);
	c->collation_unknown = false;
}

/* A limit on joins forbids big selects and its absence allows them; the tracker is silent about that. */
static void adopt_big_selects(struct client *c, struct backend *b, struct wire_bytes size)
{
	struct wire_track_entry e = { .type = SESSION_TRACK_SYSTEM_VARIABLES, .name = { (const uint8_t *)"sql_big_selects", 15 } };

	if (is_named(size, "18446744073709551615"))
		e.value = (struct wire_bytes){ (const uint8_t *)"ON", 2 };
	else
		e.value = (struct wire_bytes){ (const uint8_t *)"OFF", 3 };
	adopt_variable(c, b, &e);
}

static void adopt_schema(struct client *c, struct backend *b, struct wire_bytes schema)
{
	const char *name = schema.len ? (const char *)schema.data : NULL;
	struct state *mine = state_with_schema(c->value, name, schema.len);
	struct state *its = c->value == b->value ? state_ref(mine) : state_with_schema(b->value, name, schema.len);

	client_set_value(c, mine);
	backend_set_value(b, its);
	b->schema_slot = name ? shared_schema(c->worker->shared, name, schema.len) : NULL;
	b->schema_seen = name ? atomic_load_explicit(b->schema_slot, memory_order_relaxed) : 0;
	state_unref(mine);
	state_unref(its);
}

/* SET STATEMENT a=1 FOR SELECT reports a=1, and that it is back to what it was only with a later OK: neither is news. What it is FOR may
 * be a SET; that one's variables are asked for. */
static bool is_for_one_statement(const struct client *c)
{
	const struct sql_meaning *m = c->turn ? c->turn->meaning : NULL;

	return m && (m->facts & (SQL_F_SET_STATEMENT | SQL_F_MULTI)) == SQL_F_SET_STATEMENT && m->verb != SQL_CALL;
}

static void adopt_one(struct client *c, struct backend *b, const struct wire_track_entry *e)
{
	adopt_variable(c, b, e);
	if (is_named(e->name, "collation_connection"))
		adopt_charset_of(c, b, e->value);
	if (is_named(e->name, "max_join_size"))
		adopt_big_selects(c, b, e->value);
}

void tracking_adopt_value(struct client *client, struct backend *backend, const char *name, struct wire_bytes value)
{
	struct wire_track_entry e = { .type = SESSION_TRACK_SYSTEM_VARIABLES,
				      .name = { (const uint8_t *)name, strlen(name) },
				      .value = value };

	adopt_one(client, backend, &e);
}

/* Whether the connection has changed by it. */
static bool is_news(const struct client *c, const struct backend *b, const struct wire_track_entry *e)
{
	struct state *its;
	bool changed;

	its = state_with_variable(b->value, c->worker->snapshot, e->name, e->value);
	changed = !state_equal(its, b->value);
	state_unref(its);
	return changed;
}

/* `own`: of a question of ours. A probe sets a variable to itself, and the session may have another value for it by now. */
static void adopt_entries(struct client *c, struct backend *b, struct wire_bytes track, bool own)
{
	struct wire_track_iter it = wire_track_iter(track);
	struct wire_track_entry e;

	while (wire_track_next(&it, &e)) {
		if (e.type == SESSION_TRACK_SYSTEM_VARIABLES && is_named(e.name, "last_gtid")) { /* with every write */
			raise_token(c, b, e.value);
		} else if (e.type == SESSION_TRACK_SYSTEM_VARIABLES) {
			if (is_for_one_statement(c) || (own && !is_news(c, b, &e)))
				continue;
			note_reported(c, &e);
			adopt_one(c, b, &e);
		}
		if (e.type == SESSION_TRACK_SCHEMA)
			adopt_schema(c, b, e.value);
		else if (e.type == SESSION_TRACK_GTIDS)
			raise_token(c, b, e.value);
	}
}

static void adopt(struct client *c, struct backend *b, const struct wire_ok *ok, bool own)
{
	b->status = ok->status;
	c->status = ok->status;
	c->trx = ok->status & SERVER_STATUS_IN_TRANS ? b : NULL;
	if (ok->track.len)
		adopt_entries(c, b, ok->track, own);
}

void tracking_adopt(struct client *client, struct backend *backend, const struct wire_ok *ok)
{
	adopt(client, backend, ok, false);
}

void tracking_adopt_probe(struct client *client, struct backend *backend, const struct wire_ok *ok)
{
	adopt(client, backend, ok, true);
}

/* ---- What the client hears ---- */

static const char *const default_tracked[] = {
	"autocommit", "character_set_client", "character_set_connection", "character_set_results", "time_zone",
};

static bool is_default_tracked(struct wire_bytes name)
{
	for (size_t i = 0; i < sizeof(default_tracked) / sizeof(default_tracked[0]); i++)
		if (is_named(name, default_tracked[i]))
			return true;
	return false;
}

static void put_entry(struct wire_writer *w, const struct wire_track_entry *e)
{
	uint8_t memory[1024];
	struct wire_writer inner = wire_writer(memory, sizeof(memory));

	if (e->type == SESSION_TRACK_SYSTEM_VARIABLES)
		wire_put_lenenc_bytes(&inner, e->name.data, e->name.len);
	wire_put_lenenc_bytes(&inner, e->value.data, e->value.len);
	if (inner.full)
		return;
	wire_put_u8(w, (uint8_t)e->type);
	wire_put_lenenc_bytes(w, inner.data, inner.len);
}

void tracking_filter(const struct client *client, struct wire_ok *ok, uint8_t *memory, size_t size)
{
	struct wire_track_iter it;
	struct wire_track_entry e;
	struct wire_writer w = wire_writer(memory, size);

	if (!ok->track.len)
		return;
	if (client->capabilities & CLIENT_SESSION_TRACK) {
		it = wire_track_iter(ok->track);
		while (wire_track_next(&it, &e))
			if (e.type == SESSION_TRACK_SCHEMA ||
			    (e.type == SESSION_TRACK_SYSTEM_VARIABLES && is_default_tracked(e.name)))
				put_entry(&w, &e);
	}
	ok->track = (struct wire_bytes){ memory, w.full ? 0 : w.len };
	if (!ok->track.len)
		ok->status &= (uint16_t)~SERVER_SESSION_STATE_CHANGED;
}
