/*
 * Bringing a connection to a session's state, and the reverse: turning what lives only on a connection into values, so that it can be
 * taken away.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/session/freeze.h"
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

/* A reset would take from the session what it has on this connection alone. True: it is being frozen first. */
static bool must_save_values(struct turn *t)
{
	struct client *c = t->client;
	struct backend *b = t->backend;

	if (is_strange(t))
		return false;
	if (freeze_needed(c, b) && !c->uvars_fixed)
		return freeze_wait(t, b);
	if (c->uvars_at == b && c->uvars)
		c->uvars_at = NULL;
	return false;
}

static bool fit_reset(struct turn *t)
{
	struct backend *b = t->backend;

	b->tainted = b->guard_lost = false;
	named_forget_backend(t->client, b);
	t->pending += 2; /* the reset and the set-up query */
	return backend_reset(b, EXPECT_FIT);
}

bool fit_is_anew(const struct backend *backend)
{
	return backend->schema_slot && atomic_load_explicit(backend->schema_slot, memory_order_relaxed) != backend->schema_seen;
}

static void note_schema(struct backend *b, const char *name)
{
	b->schema_slot = shared_schema(b->worker->shared, name, strlen(name));
	b->schema_seen = atomic_load_explicit(b->schema_slot, memory_order_relaxed);
}

/* A server that is told to select the schema that is selected does not look at it again. */
static bool leave_schema(struct turn *t)
{
	static const char other[] = "information_schema";

	return change(t, COM_INIT_DB, other, sizeof(other) - 1);
}

static bool fit_schema(struct turn *t)
{
	static const char forget[] = "SET collation_database=@@global.collation_database";
	const struct state *aim = t->aim, *is = t->backend->value;
	const char *want = aim->schema;
	bool anew = fit_is_anew(t->backend);
	bool same = want && is->schema && !strcmp(want, is->schema) && !anew;

	if (!want || (same && aim->forgot == is->forgot))
		return true;
	if (!same || is->forgot) {
		note_schema(t->backend, want);
		if (anew && is->schema && !leave_schema(t))
			return false;
		if (!change(t, COM_INIT_DB, want, strlen(want)))
			return false;
	}
	return !aim->forgot || change(t, COM_QUERY, forget, sizeof(forget) - 1);
}

static bool fit_multi(struct turn *t)
{
	uint8_t option[2] = { t->client->multi_statements ? 0 : 1, 0 };

	if (t->client->multi_statements == t->backend->multi_statements)
		return true;
	t->backend->multi_statements = t->client->multi_statements;
	return change(t, COM_SET_OPTION, option, sizeof(option));
}

/* The primary's connections get what the session has; a replica's when the statement may ask for it. */
static bool wants_values(const struct turn *t)
{
	return !t->backend->is_replica || t->wants_values;
}

/* LAST_INSERT_ID() is 0 on a fresh connection; another session's value must not be seen. */
static bool wants_last_id(const struct turn *t, uint64_t *value)
{
	const struct client *c = t->client;
	const struct backend *b = t->backend;

	*value = c->last_id_at ? 0 : c->last_id;
	return (is_strange(t) && b->has_last_id) || (*value && wants_values(t));
}

/* A question about warnings and errors comes to a connection whose list is not its session's, or may become that of the changes in front of
 * it. */
static bool lists_others(const struct turn *t)
{
	const struct client *c = t->client;
	const struct backend *b = t->backend;

	if (c->diag_at == b ? c->diag_open || !(b->has_diagnostics || t->pending) : t->list_saved && !b->has_diagnostics)
		return false;
	return t->meaning->facts & SQL_F_READS_LAST && !t->restore && !(c->found_rows_there && c->found_at == b) && diagnose_asks_list(t);
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
	if (!n)
		return true;
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

	if (!c->uvars || c->uvars_at || !wants_values(t))
		return true;
	c->uvars_at = b;
	b->has_uvars = true;
	return change(t, COM_QUERY, c->uvars, strlen(c->uvars));
}

static bool fit_oneshot(struct turn *t)
{
	struct client *c = t->client;

	if (!client_awaits_oneshot(c))
		return true;
	c->pinned = t->backend;
	t->backend->tainted = true;
	for (int i = 0; i < ONESHOT_TEXTS && c->pins->oneshot.texts[i]; i++)
		if (!change(t, COM_QUERY, c->pins->oneshot.texts[i], strlen(c->pins->oneshot.texts[i])))
			return false;
	return true;
}

/* Unlike a change of state it may be refused: then the connection is as it was. */
static bool fit_named(struct turn *t)
{
	struct backend *b = t->backend;
	char nothing[NAMED_STATEMENT_BYTES];
	const char *text = t->named->prepare;

	/* To be deallocated it only has to be there. */
	if (t->meaning->verb == SQL_DEALLOCATE &&
	    snprintf(nothing, sizeof(nothing), "PREPARE `%s` FROM 'DO 0'", t->named->name) < (int)sizeof(nothing))
		text = nothing;
	named_add_place(t->named, b);
	b->tainted = true;
	t->pending++;
	if (!backend_command(b, EXPECT_PREPARE, COM_QUERY, text, strlen(text)))
		return false;
	backend_last_expect(b)->slot = PREPARED_NONE;
	return true;
}

/* Only what reads a table empties the list. */
static bool empty_list(struct turn *t)
{
	static const char nothing[] = "SET session_track_schema=NOT EXISTS(SELECT 1 FROM information_schema.engines LIMIT 0)";

	t->backend->has_diagnostics = false;
	t->list_saved = true; /* emptied once, whatever was believed of it */
	client_forget_diagnostics(t->client, t->backend);
	return change(t, COM_QUERY, nothing, sizeof(nothing) - 1);
}

/* The list that the statement asks about is made again; no other's is to be seen. */
static bool fit_list(struct turn *t)
{
	struct client *c = t->client;
	struct backend *b = t->backend;
	bool sent;

	if (!t->restore)
		return !lists_others(t) || empty_list(t);
	t->pending++;
	sent = backend_command(b, EXPECT_RESTORE, COM_QUERY, t->restore, strlen(t->restore));
	free(t->restore);
	t->restore = NULL;
	freeze_forget_list(c);
	c->diag_at = b;
	b->has_diagnostics = true;
	return sent;
}

/* ---- Prepared statements ---- */

/* The server's limit, max_prepared_stmt_count, is for all its connections: those that there are share most of its default, 16,382. */
enum { PREPARED_IN_ALL = 13000, PREPARED_AT_LEAST = 16, PREPARED_AT_MOST = 500 };

static uint32_t prepare_budget(const struct server_pool *pool)
{
	unsigned connections = atomic_load_explicit(&pool->server->connections, memory_order_relaxed);
	uint32_t share = PREPARED_IN_ALL / (connections ? connections : 1);
	uint32_t budget = share < PREPARED_AT_LEAST ? PREPARED_AT_LEAST : share > PREPARED_AT_MOST ? PREPARED_AT_MOST : share;

	return pool->prepare_limit && budget > pool->prepare_limit ? pool->prepare_limit : budget;
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

static void all_keep_only(struct server_pool *pool, uint32_t budget)
{
	struct backend *b;

	TAILQ_FOREACH(b, &pool->free, link)
		keep_only(b, budget);
	TAILQ_FOREACH(b, &pool->held, link)
		if (b->state == BACKEND_READY)
			keep_only(b, budget);
}

void fit_too_many_prepared(struct backend *backend)
{
	struct server_pool *pool = backend->pool;
	uint32_t budget = prepare_budget(pool);

	if (backend->statements.count < budget)
		budget = backend->statements.count;
	pool->prepare_limit = budget > 2 ? budget / 2 : 1;
	keep_only(backend, pool->prepare_limit);
	all_keep_only(pool, pool->prepare_limit);
}

uint32_t fit_prepare_slot(struct backend *backend, const uint64_t key[2])
{
	struct server_pool *pool = backend->pool;
	uint32_t budget = prepare_budget(pool), evicted, slot;

	if (budget < pool->prepare_share) /* more connections now: the others give back what is no longer theirs */
		all_keep_only(pool, budget);
	pool->prepare_share = budget;
	slot = prepared_add(&backend->statements, key, budget, &evicted);
	if (evicted)
		fit_close_prepared(backend, evicted);
	return slot;
}

/* "DATABASE()" where it stands; its length, or 0. */
static size_t database_call(const char *text, const char *at)
{
	size_t n = !strncasecmp(at, "database", 8) ? 8 : !strncasecmp(at, "schema", 6) ? 6 : 0;
	const char *p = at + n;

	if (!n || (at > text && (isalnum((unsigned char)at[-1]) || strchr("_$.`", at[-1]))))
		return 0;
	p += strspn(p, " \t\r\n");
	if (*p++ != '(')
		return 0;
	p += strspn(p, " \t\r\n");
	return *p == ')' ? (size_t)(p + 1 - at) : 0;
}

/* A statement prepared without a schema has none for DATABASE() either, on whatever connection it is prepared again. NULL: as it is. */
static char *without_schema(const struct statement *s)
{
	static const char null[] = "CONCAT(CAST(NULL AS CHAR(64)))";
	char *out = NULL, *put = NULL;

	for (const char *at = s->text; *at; at++) {
		size_t n = database_call(s->text, at);

		if (n && !out) {
			out = malloc(s->len * (sizeof(null) + 16) + 1);
			if (!out)
				return NULL;
			put = mempcpy(out, s->text, (size_t)(at - s->text));
		}
		if (n) {
			const char *next = at + n + strspn(at + n, " \t\r\n");
			bool column = !*next || *next == ',' || !strncasecmp(next, "from", 4);

			put += sprintf(put, column ? "%s AS `%.*s`" : "%s", null, (int)n, at);
			at += n - 1;
		} else if (out) {
			*put++ = *at;
		}
	}
	if (out)
		*put = '\0';
	return out;
}

static bool send_prepare(struct backend *b, const struct statement *s)
{
	char *changed = !s->value->schema && b->value->schema ? without_schema(s) : NULL;
	bool sent = backend_command(b, EXPECT_PREPARE, COM_STMT_PREPARE, changed ? changed : s->text, changed ? strlen(changed) : s->len);

	free(changed);
	return sent;
}

static bool fit_prepare(struct turn *t)
{
	struct backend *b = t->backend;
	struct statement *s = t->statement;

	t->slot = fit_prepare_slot(b, s->key);
	if (t->slot == PREPARED_NONE)
		return false;
	t->pending++;
	if (!send_prepare(b, s))
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

	return b->value == c->value && !fit_is_anew(b) && b->session == c->id && b->multi_statements == c->multi_statements && !b->guard_lost &&
	       !client_awaits_oneshot(c) &&
	       (((!c->last_id || c->last_id_at) && (!c->uvars || c->uvars_at)) || !wants_values(t));
}

/* COM_CHANGE_USER is sent when nothing else is under way. */
static enum fit wait_for_answers(struct turn *t)
{
	return t->pending || change(t, COM_PING, NULL, 0) ? FIT_WAITING : FIT_FAILED;
}

static enum fit log_in_again(struct turn *t)
{
	if (must_save_values(t))
		return FIT_WAITING;
	t->wait = WAIT_CONNECT;
	named_forget_backend(t->client, t->backend);
	return backend_login_again(t->backend) ? FIT_WAITING : FIT_FAILED;
}

static bool send_changes(struct turn *t, struct state *aim)
{
	struct backend *b = t->backend;

	t->aim = aim;
	if (!fit_schema(t) || !fit_multi(t) || !fit_variables(t) || !fit_role(t) || !fit_uvars(t) || !fit_oneshot(t))
		return false;
	backend_set_value(b, aim);
	b->session = t->client->id;
	return true;
}

static bool must_prepare(struct turn *t)
{
	if (t->named)
		return !named_is_at(t->named, t->backend);
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
		return t->backend->queue_count ? wait_for_answers(t) : log_in_again(t);
	return send_changes(t, aim) ? FIT_READY : FIT_FAILED;
}

/* The session has no schema, and the only way back to none would lose what it needs here: what is prepared, which runs in the schema of its
 * prepare anyway, or its transaction. */
static bool must_keep_schema(const struct turn *t)
{
	const struct client *c = t->client;

	return t->backend->value->schema && !c->value->schema &&
	       ((t->statement && t->statement->value->schema) || (t->named && t->named->value->schema) || c->trx == t->backend);
}

/* To the session's own state. */
static enum fit go_home(struct turn *t)
{
	const char *schema = t->backend->value->schema;
	struct state *aim = must_keep_schema(t) ? state_with_schema(t->client->value, schema, strlen(schema)) : state_ref(t->client->value);
	enum fit there = go_to(t, aim);

	t->aim = NULL;
	state_unref(aim);
	return there;
}

/* The session's state of now, but with the parts of `then` that decide what a text means. Not the rest of `then`: to set autocommit as it
 * was when the statement was prepared would commit the transaction that is open now. Nor what the connection's last session had: in a READ
 * ONLY session a server refuses to prepare what writes. */
static struct state *state_for_prepare(struct turn *t, const struct state *then)
{
	static const char *const names[] = { "sql_mode", "character_set_client", "character_set_connection", "collation_connection" };
	const struct snapshot *snapshot = t->client->worker->snapshot;
	/* Prepared without a schema, it names its own, and any selected will do. */
	struct state *s = then->schema ? state_with_schema(t->client->value, then->schema, strlen(then->schema)) :
					 state_ref(t->client->value);

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
	const struct state *then = t->statement ? t->statement->value : t->named->value;
	struct state *aim;
	enum fit there;

	if (t->backend->value != then) {
		aim = state_for_prepare(t, then);
		there = state_equal(aim, t->backend->value) ? FIT_READY : go_to(t, aim);
		t->aim = NULL;
		state_unref(aim);
		if (there != FIT_READY)
			return there;
	}
	return (t->statement ? fit_prepare(t) : fit_named(t)) ? FIT_READY : FIT_FAILED;
}

/* What is sent in front of the statement may warn of something, or use a table: the list of warnings that the session can still ask about
 * would be gone. It is frozen first, and then a question about it is asked otherwise. */
static bool must_save_list(struct turn *t)
{
	const struct client *c = t->client;
	struct backend *b = t->backend;

	if (!c->diag_open || c->diag_at != b || c->uvars_fixed || t->pending || t->list_saved || (is_fit(t) && !must_prepare(t)))
		return false;
	t->backend = NULL;
	t->diagnosed = 0;
	t->list_saved = true;
	return freeze_wait(t, b);
}

static __attribute__((noinline)) enum fit make_fit(struct turn *turn)
{
	enum fit step = FIT_READY;

	turn->careful = !turn->is_read;
	if (must_save_list(turn))
		return FIT_WAITING;
	if (needs_reset(turn)) {
		if (must_save_values(turn))
			return FIT_WAITING;
		if (!fit_reset(turn))
			return FIT_FAILED;
	}
	if (must_prepare(turn))
		step = prepare(turn);
	if (step == FIT_READY && !is_fit(turn))
		step = go_home(turn);
	if (step != FIT_READY)
		return step;
	if ((turn->shows_timeout && !turn->backend->shows_timeout && !fit_timeout(turn)) || !fit_list(turn))
		return FIT_FAILED;
	if (turn->pending && turn->careful)
		return FIT_WAITING;
	return turn->pending && must_know_id(turn) ? FIT_WAITING : FIT_READY;
}

/* The connection keeps the statement ready under a number that is known. */
static bool is_prepared(struct turn *t)
{
	return !must_prepare(t) && !t->statement->opened && t->backend->statements.slots[t->slot].id;
}

/* Mostly there is nothing to do. */
enum fit fit_backend(struct turn *turn)
{
	if ((turn->statement && !is_prepared(turn)) || turn->named || turn->shows_timeout || turn->pending ||
	    turn->meaning->facts & SQL_F_READS_LAST || !is_fit(turn))
		return make_fit(turn);
	turn->careful = !turn->is_read;
	return FIT_READY;
}

/* ---- Captured rows ---- */

/* Captured bytes are whole packets of a DEPRECATE_EOF result without its final OK: count, definitions, rows. */
bool captured_packet(struct wire_reader *at, struct wire_bytes *payload)
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
	if (!captured_packet(at, &payload))
		return false;
	r = wire_reader(payload.data, payload.len);
	*columns = (unsigned)wire_get_lenenc(&r);
	for (unsigned i = 0; i < *columns; i++)
		if (!captured_packet(at, &payload))
			return false;
	return *columns <= 4;
}

bool captured_next(struct wire_reader *at, unsigned columns, struct captured_row *row)
{
	struct wire_bytes payload;
	struct wire_reader r;

	if (!captured_packet(at, &payload))
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

	if (!captured_first(captured, &at, &columns) || columns != 1 || !captured_packet(&at, &row) || wire_left(&at))
		return CAPTURED_UNCLEAR;
	if (binary)
		return row.len > 2 && row.data[1] == 0 && row.data[2] == 1 ? CAPTURED_ONE : CAPTURED_OTHER;
	return row.len == 2 && row.data[0] == 1 && row.data[1] == '1' ? CAPTURED_ONE : CAPTURED_OTHER;
}
