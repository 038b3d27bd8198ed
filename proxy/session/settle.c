/*
 * What a SET did to the session, where no tracker says it. MariaDB 11 knows its session variables by their place: of those that share one
 * it reports the one that was named first in session_track_system_variables (SET foreign_key_checks=0 says "autocommit"), and variables
 * of plugins have no place at all; 10.5 is silent about these, and every version about "SET @@name = value". So the names are taken from
 * the text, and those that the tracker did not speak of are asked for. The query reads no table, so it leaves the warnings alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/named.h"
#include "proxy/session/tracking.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

enum { NAMES_MAX = 48 };

/* Variables whose values are to be asked for, none of them twice. */
struct wanted {
	const struct tracked_variable *variables[NAMES_MAX];
	unsigned count;
	bool too_many;
};

static const struct tracked_variable *find(const struct turn *t, const char *name, size_t len)
{
	const struct snapshot *s = t->client->worker->snapshot;
	const struct tracked_variable *v = snapshot_variable(s, name, len);

	return v && v->stands_for ? snapshot_variable(s, v->stands_for, strlen(v->stands_for)) : v;
}

static bool is_reported(const struct turn *t, const char *name)
{
	uint64_t hash = tracking_name_hash(name);

	for (unsigned i = 0; i < t->reported_count; i++)
		if (t->reported[i] == hash)
			return true;
	return false;
}

static void want(struct wanted *w, const struct tracked_variable *v)
{
	for (unsigned i = 0; i < w->count; i++)
		if (w->variables[i] == v)
			return;
	if (w->count < NAMES_MAX)
		w->variables[w->count++] = v;
	else
		w->too_many = true;
}

/* Set twice, it may have been reported only once. */
static bool is_named_before(const char *text, const struct sql_span *names, unsigned at)
{
	for (unsigned i = 0; i < at; i++)
		if (names[i].len == names[at].len && !strncasecmp(text + names[i].at, text + names[at].at, names[at].len))
			return true;
	return false;
}

static void want_named(const struct turn *t, const char *text, size_t len, struct wanted *w)
{
	struct sql_span names[NAMES_MAX];
	unsigned count = sql_set_names(&t->client->sql, text, len, names, NAMES_MAX);

	w->too_many = count > NAMES_MAX;
	for (unsigned i = 0; i < count && !w->too_many; i++) {
		const struct tracked_variable *v = find(t, text + names[i].at, names[i].len);

		if (v && (!is_reported(t, v->name) || is_named_before(text, names, i)))
			want(w, v);
	}
}

/* EXECUTE of a text that is not known may have been a SET when it answered nothing. */
static void want_executed(const struct turn *t, struct wanted *w)
{
	const struct named *n = named_find(t->client, t->text + t->meaning->name.at, t->meaning->name.len);

	if (n && n->text)
		want_named(t, n->text, n->len, w);
	else
		w->too_many = !t->saw_rows && !t->row_count;
}

/* Those that share their place with autocommit. It was reported and is not what the statement says: a function or trigger set one. */
static void want_sharers(const struct turn *t, struct wanted *w)
{
	static const char *const sharers[] = {
		"check_constraint_checks", "explicit_defaults_for_timestamp", "foreign_key_checks", "sql_auto_is_null", "sql_big_selects",
		"sql_buffer_result", "sql_if_exists", "sql_notes", "sql_quote_show_create", "sql_safe_updates", "sql_warnings",
		"system_versioning_insert_history", "unique_checks",
	};

	if (t->client->sql.flavour != SQL_MARIADB || t->client->sql.version < 110000 || !is_reported(t, "autocommit") ||
	    t->meaning->facts & SQL_F_SETS_AUTOCOMMIT)
		return;
	for (unsigned i = 0; i < sizeof(sharers) / sizeof(sharers[0]); i++) {
		const struct tracked_variable *v = find(t, sharers[i], strlen(sharers[i]));

		if (v)
			want(w, v);
	}
}

/* One column of bytes: "name=value" or, for NULL, "name", with a zero byte between them. Whatever the session's character sets and
 * sql_mode (in some '' is NULL) are, and its sql_select_limit. */
static char *question(const struct wanted *w)
{
	static const char each[] = ",IFNULL(CONCAT('%s=',CONVERT(@@session.%s USING utf8mb4)),'%s')";
	size_t size = 80, len;
	char *text;

	for (unsigned i = 0; i < w->count; i++)
		size += sizeof(each) + 3 * strlen(w->variables[i]->name);
	text = malloc(size);
	if (!text)
		return NULL;
	len = (size_t)snprintf(text, size, "SELECT CAST(CONCAT_WS(0x00");
	for (unsigned i = 0; i < w->count; i++) {
		const char *name = w->variables[i]->name;

		len += (size_t)snprintf(text + len, size - len, each, name, name, name);
	}
	snprintf(text + len, size - len, ") AS BINARY) LIMIT 1");
	return text;
}

void settle_give_up(struct turn *turn, struct backend *backend)
{
	static const struct sql_meaning opaque = { .verb = SQL_DO, .facts = SQL_F_OPAQUE };

	if (backend->state != BACKEND_DEAD)
		client_note_statement(turn->client, backend, &opaque, turn->text, turn->text_len);
}

static bool may_have_set(const struct turn *t)
{
	return t->text && t->command != COM_STMT_PREPARE &&
	       (t->meaning->facts & SQL_F_SETS_SESSION || t->reported_count || t->meaning->verb == SQL_EXECUTE);
}

static void find_wanted(const struct turn *t, struct wanted *w)
{
	if (t->meaning->verb == SQL_EXECUTE && !(t->meaning->facts & SQL_F_MULTI)) /* with others in a packet it is opaque */
		want_executed(t, w);
	else if (t->meaning->facts & SQL_F_SETS_SESSION)
		want_named(t, t->text, t->text_len, w);
	if (!w->count)
		want_sharers(t, w);
}

bool settle_turn(struct turn *turn)
{
	struct wanted w = { 0 };
	char *text;
	bool asked;

	if (!may_have_set(turn))
		return false;
	/* Parts of what failed may have been done. One SET is done whole or not at all. */
	if (turn->failed && !(turn->meaning->facts & SQL_F_MULTI))
		return false;
	find_wanted(turn, &w);
	if (!w.count && !w.too_many)
		return false;
	text = turn->failed || w.too_many ? NULL : question(&w);
	asked = text && turn_ask(turn, turn->backend, CAPTURE_SETTLE, text);
	free(text);
	if (!asked)
		settle_give_up(turn, turn->backend);
	return asked;
}

/* The tracker says ON where a SELECT says 1. */
static struct wire_bytes as_tracked(const struct turn *t, const char *name, struct wire_bytes value)
{
	const struct tracked_variable *v = snapshot_variable(t->client->worker->snapshot, name, strlen(name));
	bool is_switch = v && v->primary_value && (!strcmp(v->primary_value, "ON") || !strcmp(v->primary_value, "OFF"));

	if (!is_switch || value.len != 1)
		return value;
	return value.data[0] == '0' ? (struct wire_bytes){ (const uint8_t *)"OFF", 3 } : (struct wire_bytes){ (const uint8_t *)"ON", 2 };
}

static void adopt_pair(struct turn *t, struct backend *b, const uint8_t *pair, size_t len)
{
	const uint8_t *sign = memchr(pair, '=', len);
	struct wire_bytes value = { pair + len, 0 };
	char name[80];

	snprintf(name, sizeof(name), "%.*s", (int)(sign ? sign - pair : (ptrdiff_t)len), (const char *)pair);
	if (sign)
		value = (struct wire_bytes){ sign + 1, len - (size_t)(sign + 1 - pair) };
	tracking_adopt_value(t->client, b, name, as_tracked(t, name, value));
}

void settle_came(struct turn *turn, struct backend *backend)
{
	struct captured_row row;
	struct wire_reader at;
	struct wire_bytes all;
	unsigned columns;

	if (!captured_first(&backend->captured, &at, &columns) || columns != 1 || !captured_next(&at, columns, &row)) {
		settle_give_up(turn, backend);
		return;
	}
	all = row.columns[0];
	while (all.len) {
		const uint8_t *end = memchr(all.data, 0, all.len);
		size_t len = end ? (size_t)(end - all.data) : all.len;

		adopt_pair(turn, backend, all.data, len);
		all.data += len + (end != NULL);
		all.len -= len + (end != NULL);
	}
}
