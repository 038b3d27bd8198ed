/*
 * Bringing a connection to a session's state, and the reverse: turning what lives only on a connection into values, so that it can be
 * taken away.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/session/named.h"
#include "proxy/session/pool.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* ---- One change each; all return false when it could not be sent ---- */

static bool change(struct turn *t, uint8_t command, const void *text, size_t len)
{
	t->pending++;
	return backend_command(t->backend, EXPECT_FIT, command, text, len);
}

static bool is_strange(const struct turn *t)
{
	return t->backend->session != t->client->id;
}

/* Something of another session is on it that only a reset removes. */
static bool needs_reset(const struct turn *t)
{
	const struct backend *b = t->backend;

	return b->guard_lost || (is_strange(t) && (b->tainted || b->has_uvars));
}

/* There is no statement that leaves a schema. */
static bool needs_login(const struct turn *t)
{
	return t->backend->value->schema && !t->aim->schema;
}

static bool fit_reset(struct turn *t)
{
	struct backend *b = t->backend;

	b->tainted = b->guard_lost = false;
	t->pending += 2; /* the reset and the set-up query */
	return backend_reset(b, EXPECT_FIT);
}

static bool fit_schema(struct turn *t)
{
	const char *want = t->aim->schema, *have = t->backend->value->schema;

	if (!want || (have && !strcmp(want, have)))
		return true;
	return change(t, COM_INIT_DB, want, strlen(want));
}

static bool fit_multi(struct turn *t)
{
	uint8_t option[2] = { t->client->multi_statements ? 0 : 1, 0 };

	if (t->client->multi_statements == t->backend->multi_statements)
		return true;
	t->backend->multi_statements = t->client->multi_statements;
	return change(t, COM_SET_OPTION, option, sizeof(option));
}

/* LAST_INSERT_ID() is 0 on a fresh connection; another session's value must not be seen. */
static bool wants_last_id(const struct turn *t, uint64_t *value)
{
	const struct client *c = t->client;
	const struct backend *b = t->backend;

	*value = c->last_id_at ? 0 : c->last_id;
	return (is_strange(t) && b->has_last_id) || (*value && !b->is_replica);
}

/* Warnings of another session's statement, or of an older one than those that the question is about. */
static bool lists_others(const struct turn *t)
{
	const struct client *c = t->client;
	const struct backend *b = t->backend;

	if (!b->has_diagnostics || is_strange(t))
		return b->has_diagnostics;
	return t->meaning->facts & SQL_F_READS_LAST && c->diag_at != b && !(c->found_rows_there && c->found_at == b);
}

static bool fit_variables(struct turn *t)
{
	struct backend *b = t->backend;
	struct client *c = t->client;
	uint8_t text[8192];
	struct wire_writer w = wire_writer(text, sizeof(text));
	unsigned n = 0;
	uint64_t last_id;
	char number[64];

	if (b->value != t->aim)
		n = state_put_set(&w, t->aim, b->value, c->worker->snapshot, b->pool->index, b->is_replica);
	if (wants_last_id(t, &last_id)) {
		int len = snprintf(number, sizeof(number), "%slast_insert_id=%llu", n ? "," : "SET ", (unsigned long long)last_id);

		wire_put_bytes(&w, number, (size_t)len);
		b->has_last_id = last_id != 0;
		if (last_id) {
			c->last_id_at = b;
			c->last_id = 0;
		}
		n++;
	}
	if (lists_others(t)) { /* only what reads a table empties the list */
		static const char nothing[] = "session_track_schema=NOT EXISTS(SELECT 1 FROM information_schema.engines LIMIT 0)";

		wire_put_bytes(&w, n ? "," : "SET ", n ? 1 : 4);
		n++;
		wire_put_bytes(&w, nothing, sizeof(nothing) - 1);
	}
	if (!n)
		return true;
	if (lists_others(t))
		b->has_diagnostics = false;
	return !w.full && change(t, COM_QUERY, w.data, w.len);
}

static uint32_t believed_timeout(const struct client *c)
{
	const struct snapshot *s = c->worker->snapshot;
	const char *name = c->capabilities & CLIENT_INTERACTIVE ? "interactive_timeout" : "wait_timeout";
	const struct tracked_variable *v = snapshot_variable(s, name, strlen(name));

	if (c->wait_timeout_s)
		return c->wait_timeout_s;
	return v && v->primary_value ? (uint32_t)strtoul(v->primary_value, NULL, 10) : 28800;
}

static bool fit_timeout(struct turn *t)
{
	char text[64];
	int len = snprintf(text, sizeof(text), "SET wait_timeout=%u", believed_timeout(t->client));

	t->backend->shows_timeout = true;
	return change(t, COM_QUERY, text, (size_t)len);
}

void fit_hide_timeout(struct backend *backend)
{
	static const char text[] = "SET wait_timeout=31536000";

	backend->shows_timeout = false;
	client_forget_diagnostics(backend->client, backend);
	backend_command(backend, EXPECT_CLEAN, COM_QUERY, text, sizeof(text) - 1);
}

static bool fit_role(struct turn *t)
{
	const char *want = t->aim->role, *have = t->backend->value->role;

	if (!want || (have && !strcmp(want, have)))
		return true;
	return change(t, COM_QUERY, want, strlen(want));
}

static bool fit_uvars(struct turn *t)
{
	struct client *c = t->client;
	struct backend *b = t->backend;

	if (!c->uvars || c->uvars_at || b->is_replica)
		return true;
	c->uvars_at = b;
	b->has_uvars = true;
	return change(t, COM_QUERY, c->uvars, strlen(c->uvars));
}

/* A text PREPARE lives on the pinned connection; elsewhere it is repeated. */
static bool fit_named(struct turn *t)
{
	struct named *n = t->named;
	struct backend *b = t->backend;

	if (!n || b == t->client->pinned || b == n->also_at)
		return true;
	n->also_at = b;
	b->tainted = true;
	return change(t, COM_QUERY, n->prepare, strlen(n->prepare));
}

/* ---- Prepared statements ---- */

uint32_t fit_prepare_budget(const struct backend *backend)
{
	const struct server_pool *pool = backend->pool;
	unsigned limit = pool->index >= 0 ? pool->worker->snapshot->servers[pool->index].connection_limit : 0;
	uint32_t budget = 13000 / (limit ? limit : 150); /* 0.8 of the default max_prepared_stmt_count, which is the whole server's */

	if (pool->prepare_budget)
		return pool->prepare_budget;
	return budget < 16 ? 16 : budget > 500 ? 500 : budget;
}

void fit_close_prepared(struct backend *b, uint32_t id)
{
	uint8_t packet[9];
	struct wire_writer w = wire_writer(packet, sizeof(packet));

	wire_begin(&w);
	wire_put_u8(&w, COM_STMT_CLOSE);
	wire_put_u32(&w, id);
	wire_end(&w, 0);
	io_send(&b->io, w.data, w.len);
}

static void keep_only(struct backend *b, uint32_t budget)
{
	while (b->statements.count > budget) {
		uint32_t slot = prepared_oldest(&b->statements);

		if (slot == PREPARED_NONE)
			return;
		fit_close_prepared(b, b->statements.slots[slot].id);
		prepared_drop(&b->statements, slot);
	}
}

void fit_too_many_prepared(struct backend *backend)
{
	struct server_pool *pool = backend->pool;
	uint32_t budget = fit_prepare_budget(backend);
	struct backend *b;

	if (backend->statements.count < budget)
		budget = backend->statements.count;
	pool->prepare_budget = budget > 2 ? budget / 2 : 1;
	keep_only(backend, pool->prepare_budget);
	TAILQ_FOREACH(b, &pool->free, link)
		keep_only(b, pool->prepare_budget);
	TAILQ_FOREACH(b, &pool->held, link)
		if (b->state == BACKEND_READY)
			keep_only(b, pool->prepare_budget);
}

static bool fit_prepare(struct turn *t)
{
	struct backend *b = t->backend;
	struct statement *s = t->statement;
	uint32_t evicted;

	t->slot = prepared_add(&b->statements, s->key, fit_prepare_budget(b), &evicted);
	if (t->slot == PREPARED_NONE)
		return false;
	if (evicted)
		fit_close_prepared(b, evicted);
	t->pending++;
	if (!backend_command(b, EXPECT_PREPARE, COM_STMT_PREPARE, s->text, s->len))
		return false;
	backend_last_expect(b)->slot = t->slot;
	return true;
}

/* A prepare that is still under way is named by -1, which only MariaDB understands. */
static bool must_know_id(const struct turn *t)
{
	const struct backend *b = t->backend;

	return t->statement && !b->statements.slots[t->slot].id &&
	       (t->careful || b->worker->snapshot->servers[b->pool->index].flavour == SQL_MYSQL);
}

/* ---- All of it ---- */

static bool is_fit(const struct turn *t)
{
	const struct backend *b = t->backend;
	const struct client *c = t->client;

	return b->value == c->value && b->session == c->id && b->multi_statements == c->multi_statements && !b->guard_lost &&
	       (!c->last_id || c->last_id_at || b->is_replica) && !(b->has_diagnostics && lists_others(t)) &&
	       (!c->uvars || c->uvars_at || b->is_replica);
}

static enum fit log_in_again(struct turn *t)
{
	t->wait = WAIT_CONNECT;
	return backend_login_again(t->backend) ? FIT_WAITING : FIT_FAILED;
}

static bool send_changes(struct turn *t, struct state *aim)
{
	struct backend *b = t->backend;

	t->aim = aim;
	if (!fit_schema(t) || !fit_multi(t) || !fit_variables(t) || !fit_role(t) || !fit_uvars(t))
		return false;
	backend_set_value(b, aim);
	b->session = t->client->id;
	return true;
}

static bool must_prepare(struct turn *t)
{
	if (!t->statement || t->statement->opened)
		return false;
	t->slot = prepared_find(&t->backend->statements, t->statement);
	return t->slot == PREPARED_NONE;
}

/* Takes it to `aim`. FIT_READY: sent, or nothing to send. */
static enum fit go_to(struct turn *t, struct state *aim)
{
	t->aim = aim;
	if (needs_login(t))
		return t->backend->queue_count ? FIT_FAILED : log_in_again(t);
	return send_changes(t, aim) ? FIT_READY : FIT_FAILED;
}

/* The connection's state, but with the parts of `then` that decide what a text means. The rest must not be touched: to set autocommit
 * as it was when the statement was prepared would commit the transaction that is open now. */
static struct state *state_for_prepare(struct turn *t, const struct state *then)
{
	static const char *const names[] = { "sql_mode", "character_set_client", "character_set_connection", "collation_connection" };
	const struct snapshot *snapshot = t->client->worker->snapshot;
	/* Prepared without a schema, it names its own, and any selected will do. */
	struct state *s = then->schema ? state_with_schema(t->backend->value, then->schema, strlen(then->schema)) :
					 state_ref(t->backend->value);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = state_get(then, snapshot, names[i]);
		struct state *next = state_with_variable(s, snapshot, (struct wire_bytes){ (const uint8_t *)names[i], strlen(names[i]) },
							 (struct wire_bytes){ (const uint8_t *)value, strlen(value) });

		state_unref(s);
		s = next;
	}
	return s;
}

/* A statement means what it meant when its client prepared it: in that moment's schema and sql_mode. */
static enum fit prepare(struct turn *t)
{
	struct state *aim;
	enum fit there;

	if (t->backend->value != t->statement->value) {
		aim = state_for_prepare(t, t->statement->value);
		there = state_equal(aim, t->backend->value) ? FIT_READY : go_to(t, aim);
		t->aim = NULL;
		state_unref(aim);
		if (there != FIT_READY)
			return there;
	}
	return fit_prepare(t) ? FIT_READY : FIT_FAILED;
}

static __attribute__((noinline)) enum fit make_fit(struct turn *turn)
{
	enum fit step = FIT_READY;

	turn->careful = !turn->is_read;
	if (needs_reset(turn) && !fit_reset(turn))
		return FIT_FAILED;
	if (must_prepare(turn))
		step = prepare(turn);
	if (step == FIT_READY && !is_fit(turn))
		step = go_to(turn, turn->client->value);
	if (step != FIT_READY)
		return step;
	if (!fit_named(turn) || (turn->shows_timeout && !turn->backend->shows_timeout && !fit_timeout(turn)))
		return FIT_FAILED;
	if (turn->pending && turn->careful)
		return FIT_WAITING;
	return turn->pending && must_know_id(turn) ? FIT_WAITING : FIT_READY;
}

/* Mostly there is nothing to do. */
enum fit fit_backend(struct turn *turn)
{
	if (turn->statement || turn->named || turn->shows_timeout || turn->pending || !is_fit(turn))
		return make_fit(turn);
	turn->careful = !turn->is_read;
	return FIT_READY;
}

/* ---- Captured rows ---- */

/* Captured bytes are whole packets of a DEPRECATE_EOF result without its final OK: count, definitions, rows. */
static bool next_packet(struct wire_reader *at, struct wire_bytes *payload)
{
	size_t len;

	if (wire_left(at) < WIRE_HEADER_BYTES)
		return false;
	len = wire_header_len(at->at);
	wire_get_bytes(at, WIRE_HEADER_BYTES);
	*payload = wire_get_bytes(at, len);
	return !at->bad;
}

bool captured_first(struct buf *captured, struct wire_reader *at, unsigned *columns)
{
	struct wire_bytes payload;
	struct wire_reader r;

	*at = wire_reader(buf_head(captured), buf_len(captured));
	if (!next_packet(at, &payload))
		return false;
	r = wire_reader(payload.data, payload.len);
	*columns = (unsigned)wire_get_lenenc(&r);
	for (unsigned i = 0; i < *columns; i++)
		if (!next_packet(at, &payload))
			return false;
	return *columns <= 4;
}

bool captured_next(struct wire_reader *at, unsigned columns, struct captured_row *row)
{
	struct wire_bytes payload;
	struct wire_reader r;

	if (!next_packet(at, &payload))
		return false;
	r = wire_reader(payload.data, payload.len);
	row->count = columns;
	for (unsigned i = 0; i < columns; i++) {
		if (wire_left(&r) && *r.at == 0xfb) {
			wire_get_u8(&r);
			row->columns[i] = (struct wire_bytes){ NULL, 0 };
		} else {
			row->columns[i] = wire_get_lenenc_bytes(&r);
		}
	}
	return !r.bad;
}

/* Whether the one value of a one-row result is 1, in text or binary form: what GET_LOCK and RELEASE_LOCK answer when they did something. */
enum captured_answer captured_one(struct buf *captured, bool binary)
{
	struct wire_reader at;
	struct wire_bytes row;
	unsigned columns;

	if (!captured_first(captured, &at, &columns) || columns != 1 || !next_packet(&at, &row) || wire_left(&at))
		return CAPTURED_UNCLEAR;
	if (binary)
		return row.len > 2 && row.data[1] == 0 && row.data[2] == 1 ? CAPTURED_ONE : CAPTURED_OTHER;
	return row.len == 2 && row.data[0] == 1 && row.data[1] == '1' ? CAPTURED_ONE : CAPTURED_OTHER;
}

/* ---- Freezing ---- */

bool fit_needs_freeze(const struct client *client, const struct backend *backend)
{
	return (client->uvars_at == backend && client->has_uvars && !client->uvars) ||
	       (client->last_id_at == backend && client->has_last_id) || (client->found_at == backend && client->found_rows_there);
}

#define FREEZE_LAST "SELECT '', LAST_INSERT_ID(), 'ID', FOUND_ROWS()"

/* MySQL shows nobody his user variables: a session that has some cannot be frozen there, any other can. */
bool fit_freeze(struct backend *backend)
{
	static const char all[] = FREEZE_LAST " UNION ALL SELECT VARIABLE_NAME, VARIABLE_VALUE, VARIABLE_TYPE, "
					      "CHARACTER_SET_NAME FROM information_schema.USER_VARIABLES";
	const struct client *c = backend->client;
	int index = backend->pool->index; /* below 0 when the server has left the settings */
	bool mysql = index >= 0 && backend->worker->snapshot->servers[index].flavour == SQL_MYSQL;
	bool last_only = mysql && !(c->uvars_at == backend && c->has_uvars);
	const char *text = last_only ? FREEZE_LAST : all;

	buf_fini(&backend->captured);
	backend->freezing = true;
	client_forget_diagnostics(backend->client, backend);
	return backend_command(backend, EXPECT_CAPTURE, COM_QUERY, text, strlen(text));
}

struct text {
	char *data;
	size_t len, size;
	bool failed;
};

static void add(struct text *t, const void *bytes, size_t len)
{
	if (!t->data || t->len + len + 1 > t->size) {
		size_t size = (t->len + len + 64) * 2;
		char *grown = realloc(t->data, size);

		if (!grown) {
			t->failed = true;
			return;
		}
		t->data = grown;
		t->size = size;
	}
	memcpy(t->data + t->len, bytes, len);
	t->len += len;
	t->data[t->len] = '\0';
}

static bool is_plain(struct wire_bytes v)
{
	for (size_t i = 0; i < v.len; i++)
		if (v.data[i] < 0x20 || v.data[i] > 0x7e)
			return false;
	return v.len < 2000; /* the table cuts at 2,048 characters */
}

static void add_quoted(struct text *t, struct wire_bytes v, char quote)
{
	add(t, &quote, 1);
	for (size_t i = 0; i < v.len; i++) {
		if (v.data[i] == (uint8_t)quote)
			add(t, &quote, 1);
		add(t, &v.data[i], 1);
	}
	add(t, &quote, 1);
}

static bool type_is(const struct captured_row *r, const char *name)
{
	return r->columns[2].len == strlen(name) && !memcmp(r->columns[2].data, name, r->columns[2].len);
}

/* A variable that is NULL keeps the type that it had. */
static const char *null_of(const struct captured_row *r)
{
	if (type_is(r, "INT"))
		return "CAST(NULL AS SIGNED)";
	if (type_is(r, "INT UNSIGNED"))
		return "CAST(NULL AS UNSIGNED)";
	if (type_is(r, "DOUBLE"))
		return "CAST(NULL AS DOUBLE)";
	return type_is(r, "DECIMAL") ? "CAST(NULL AS DECIMAL)" : "NULL";
}

/* "@`name`=value". Text that is not plain ASCII, or that has a backslash, cannot be written safely in every sql_mode. */
static void add_variable(struct text *t, const struct captured_row *r)
{
	struct wire_bytes value = r->columns[1];
	bool is_text = !type_is(r, "INT") && !type_is(r, "DECIMAL") && !type_is(r, "DOUBLE") && !type_is(r, "INT UNSIGNED");

	add(t, t->len ? ",@" : "SET @", t->len ? 2 : 5);
	add_quoted(t, r->columns[0], '`');
	add(t, "=", 1);
	if (!value.data && is_text && r->columns[3].len && memcmp(r->columns[3].data, "bina", 4)) {
		add(t, "CAST(NULL AS CHAR CHARACTER SET ", 32);
		add(t, r->columns[3].data, r->columns[3].len);
		add(t, ")", 1);
	} else if (!value.data) {
		const char *null = null_of(r);

		add(t, null, strlen(null));
	} else if (!is_plain(value) || (is_text && memchr(value.data, '\\', value.len))) {
		t->failed = true;
	} else if (is_text) {
		if (r->columns[3].len) {
			add(t, "_", 1);
			add(t, r->columns[3].data, r->columns[3].len);
		}
		add_quoted(t, value, '\'');
	} else if (type_is(r, "INT UNSIGNED")) {
		add(t, "CAST(", 5);
		add(t, value.data, value.len);
		add(t, " AS UNSIGNED)", 13);
	} else {
		add(t, value.data, value.len);
		if (type_is(r, "DOUBLE") && !memchr(value.data, 'e', value.len))
			add(t, "e0", 2);
	}
}

static uint64_t number_of(struct wire_bytes digits)
{
	uint64_t n = 0;

	for (size_t i = 0; i < digits.len; i++)
		n = n * 10 + (uint64_t)(digits.data[i] - '0');
	return n;
}

bool fit_frozen(struct client *client, struct backend *backend)
{
	struct wire_reader at;
	struct captured_row row;
	struct text text = { 0 };
	unsigned columns;
	uint64_t last_id = 0, found = 0;

	if (!captured_first(&backend->captured, &at, &columns) || columns != 4)
		return false;
	while (captured_next(&at, columns, &row)) {
		if (type_is(&row, "ID")) {
			last_id = number_of(row.columns[1]);
			found = number_of(row.columns[3]);
		} else {
			add_variable(&text, &row);
		}
	}
	buf_fini(&backend->captured);
	if (text.failed) {
		free(text.data);
		return false;
	}
	if (client->uvars_at == backend) {
		free(client->uvars);
		client->uvars = text.data;
		client->uvars_at = NULL;
		client->has_uvars = text.data != NULL;
	} else {
		free(text.data);
	}
	if (client->found_at == backend && client->found_rows_there) {
		client->found_rows = found;
		client->found_rows_there = false;
	}
	if (client->last_id_at == backend) {
		client->last_id = last_id;
		client->last_id_at = NULL;
	}
	return true;
}
