#include "proxy/session/told.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/freeze.h"
#include "proxy/session/parts.h"
#include "proxy/session/question.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* ---- GET DIAGNOSTICS by value ---- */

/* The packets of the frozen list's row `number`, from 1. */
static bool list_row(const struct client *c, unsigned long number, struct captured_row *row)
{
	struct wire_reader at;
	unsigned columns;

	if (!c->list || !buf_len(&c->list->shown) || !captured_first(&c->list->shown, &at, &columns))
		return false;
	while (captured_next(&at, columns, row))
		if (!--number)
			return true;
	return false;
}

static bool put_condition_item(char *out, size_t size, const struct client *c, unsigned long number, const char *item)
{
	struct captured_row row;
	bool only = c->list && c->list->rows == 1 && c->list->state[0];

	if (!strcasecmp(item, "RETURNED_SQLSTATE") && only)
		snprintf(out, size, "_utf8'%s' COLLATE utf8_general_ci", c->list->state);
	else if (!list_row(c, number, &row))
		return false;
	else if (!strcasecmp(item, "MYSQL_ERRNO"))
		snprintf(out, size, "CAST(%.*s AS UNSIGNED)", (int)row.columns[1].len, (const char *)row.columns[1].data);
	else
		return false;
	return true;
}

static bool put_statement_item(char *out, size_t size, const struct client *c, const char *item)
{
	if (!strcasecmp(item, "NUMBER"))
		snprintf(out, size, "CAST(%u AS UNSIGNED)", c->list ? c->list->rows : 0);
	else if (!strcasecmp(item, "ROW_COUNT"))
		snprintf(out, size, "%lld", (long long)c->row_count);
	else
		return false;
	return true;
}

/* "GET DIAGNOSTICS [CONDITION n] @a = ITEM, ..." as "SET @a = value, ..." */
static bool get_by_value(struct turn *t)
{
	char text[2048], out[2048], value[128], *save = NULL, *at, *item;
	size_t len = 0;
	unsigned long number = 0;

	if (t->text_len >= sizeof(text))
		return false;
	memcpy(text, t->text, t->text_len);
	text[t->text_len] = '\0';
	at = strcasestr(text, "diagnostics");
	if (!at)
		return false;
	at += strlen("diagnostics");
	at += strspn(at, " \t\r\n");
	if (!strncasecmp(at, "condition", 9))
		number = strtoul(at + 9, &at, 10);
	for (item = strtok_r(at, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
		char *name = strchr(item, '='), *end;
		bool known;

		if (!name)
			return false;
		*name++ = '\0';
		name += strspn(name, " \t\r\n");
		for (end = name + strlen(name); end > name && (isspace((unsigned char)end[-1]) || end[-1] == ';');)
			*--end = '\0';
		known = number ? put_condition_item(value, sizeof(value), t->client, number, name) :
				 put_statement_item(value, sizeof(value), t->client, name);
		if (!known)
			return false;
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%s=%s", len ? "," : "SET ", item, value);
		if (len >= sizeof(out))
			return false;
	}
	if (!len || !turn_set_text(t, out, len))
		return false;
	t->own.facts &= ~SQL_F_READS_LAST;
	t->own.target = SQL_TO_PRIMARY;
	return true;
}

/* ---- SHOW WARNINGS by value ---- */

struct shown {
	struct client *client;
	uint8_t seq;
};

static void pass(struct shown *s, struct wire_bytes payload)
{
	struct wire_writer w = output_packet(&s->client->worker->out, payload.len + WIRE_HEADER_BYTES);

	wire_begin(&w);
	wire_put_bytes(&w, payload.data, payload.len);
	wire_end(&w, s->seq++);
	output_packet_end(&s->client->worker->out, &w);
}

static void pass_end(struct shown *s, uint16_t more)
{
	struct client *c = s->client;
	const uint16_t not_lasting = SERVER_SESSION_STATE_CHANGED | SERVER_MORE_RESULTS_EXISTS | SERVER_STATUS_CURSOR_EXISTS |
				     SERVER_STATUS_LAST_ROW_SENT | SERVER_STATUS_NO_INDEX_USED |
				     SERVER_STATUS_NO_GOOD_INDEX_USED;
	struct wire_ok ok = { .header = 0xfe, .status = (c->status & (uint16_t)~not_lasting) | more };
	struct wire_writer w = output_packet(&c->worker->out, 32);

	if (c->capabilities & CLIENT_DEPRECATE_EOF)
		wire_put_ok(&w, &ok, c->capabilities, s->seq);
	else
		wire_put_eof(&w, 0, ok.status, s->seq);
	s->seq++;
	output_packet_end(&c->worker->out, &w);
}

/* LIMIT [offset,] count and LIMIT count OFFSET offset. */
static void limits_of(const struct turn *t, unsigned long *offset, unsigned long *count)
{
	char text[256], *at, *rest;

	*offset = 0;
	*count = ULONG_MAX;
	snprintf(text, sizeof(text), "%.*s", (int)t->text_len, t->text);
	at = strcasestr(text, "limit");
	if (!at)
		return;
	*count = strtoul(at + 5, &rest, 10);
	rest += strspn(rest, " \t\r\n");
	if (*rest == ',') {
		*offset = *count;
		*count = strtoul(rest + 1, NULL, 10);
	} else if (!strncasecmp(rest, "offset", 6)) {
		*offset = strtoul(rest + 6, NULL, 10);
	}
}

static void show_list(struct turn *t)
{
	struct client *c = t->client;
	struct wire_reader at = wire_reader(buf_head(&c->list->shown), buf_len(&c->list->shown));
	struct shown s = { .client = c, .seq = (uint8_t)(t->seq_before + 1) };
	struct wire_bytes payload;
	unsigned long offset, count;
	bool errors = turn_text_has(t, "errors");

	limits_of(t, &offset, &count);
	output_begin(&c->worker->out, &c->io);
	for (unsigned n = 0; captured_packet(&at, &payload); n++) {
		struct wire_reader r = wire_reader(payload.data, payload.len);
		struct wire_bytes level = n > 3 ? wire_get_lenenc_bytes(&r) : (struct wire_bytes){ NULL, 0 };
		bool left_out = errors && !(level.len == 5 && !memcmp(level.data, "Error", 5));

		if (n > 3 && (left_out || (offset && offset--) || !count))
			continue;
		pass(&s, payload);
		count -= n > 3;
		if (n == 3 && !(c->capabilities & CLIENT_DEPRECATE_EOF))
			pass_end(&s, 0);
	}
	pass_end(&s, t->more_parts ? SERVER_MORE_RESULTS_EXISTS : 0);
	parts_note_end(c, (uint8_t)(s.seq - 1));
	output_flush(&c->worker->out);
	c->row_count = -1;
	turn_answered(t);
}

/* "SHOW COUNT(*) WARNINGS" */
static bool count_by_value(struct turn *t)
{
	char out[160], value[96];
	bool errors = turn_text_has(t, "errors");

	question_put_value(value, sizeof(value), t->client, errors ? ASKS_ERRORS : ASKS_WARNINGS);
	snprintf(out, sizeof(out), "SELECT %s AS `@@session.%s_count`", value, errors ? "error" : "warning");
	return turn_set_text(t, out, strlen(out));
}

/* ---- Several statements in a packet ---- */

static void put_hex(struct rewrite *r, struct wire_bytes v)
{
	char two[4];

	for (size_t i = 0; i < v.len; i++) {
		snprintf(two, sizeof(two), "%02x", v.data[i]);
		rewrite_put(r, two, 2);
	}
}

/* An error that was not asked for, since the server has listed another: see freeze_error(). */
static bool put_told(struct rewrite *r, const struct frozen_list *list, const char *limit)
{
	char start[96];

	snprintf(start, sizeof(start), "SELECT _utf8'Error' AS Level,CAST(%u AS UNSIGNED) AS Code,_utf8 x'", list->code);
	rewrite_put_text(r, start);
	put_hex(r, (struct wire_bytes){ (const uint8_t *)list->message, list->message ? strlen(list->message) : 0 });
	rewrite_put_text(r, "' AS Message");
	rewrite_put_text(r, limit);
	return !r->full;
}

/* A SELECT with the columns of SHOW WARNINGS and the rows of the frozen list. Its own limit stands in front of sql_select_limit, which SHOW
 * does not know. */
static bool put_list(struct rewrite *r, const struct client *c, bool errors, const char *limit)
{
	struct captured_row row;
	char code[64];
	bool any = false;

	if (!buf_len(&c->list->shown))
		return put_told(r, c->list, limit);
	for (unsigned long n = 1; list_row(c, n, &row); n++) {
		if (errors && !(row.columns[0].len == 5 && !memcmp(row.columns[0].data, "Error", 5)))
			continue;
		rewrite_put_text(r, any ? " UNION ALL SELECT _utf8'" : "SELECT _utf8'");
		rewrite_put(r, (const char *)row.columns[0].data, row.columns[0].len);
		snprintf(code, sizeof(code), "'%s,CAST(%.*s AS UNSIGNED)%s,", any ? "" : " AS Level", (int)row.columns[1].len,
			 (const char *)row.columns[1].data, any ? "" : " AS Code");
		rewrite_put_text(r, code);
		rewrite_put_text(r, "_");
		rewrite_put_text(r, c->list->charset);
		rewrite_put_text(r, " x'");
		put_hex(r, row.columns[2]);
		rewrite_put_text(r, any ? "'" : "' AS Message");
		any = true;
	}
	rewrite_put_text(r, any ? limit : "SELECT _utf8'' AS Level,CAST(9999 AS UNSIGNED) AS Code,_utf8'' AS Message LIMIT 0");
	return !r->full;
}

/* The character set of the results has changed since: a server converts the list. */
static bool is_in_other_charset(const struct client *c)
{
	char results[sizeof(c->list->results)];

	freeze_results(c->value, c->worker->snapshot, results, sizeof(results));
	return strcmp(c->list->results, results) != 0;
}

static bool select_list(struct turn *t)
{
	struct rewrite r = { .turn = t };
	unsigned long offset, count;
	char limit[64];

	limits_of(t, &offset, &count);
	snprintf(limit, sizeof(limit), " LIMIT %lu,%lu", offset, count);
	if (!put_list(&r, t->client, turn_text_has(t, "errors"), limit) || !turn_set_text(t, r.out, r.len))
		return false;
	turn_judge_again(t);
	t->stands_for_show = true;
	return true;
}

/* The list is frozen, and a connection cannot be given it. True when the turn has ended. */
static bool answer_by_value(struct turn *t)
{
	struct client *c = t->client;

	if (t->meaning->verb != SQL_SHOW || !buf_len(&c->list->shown))
		return false;
	if (is_in_other_charset(c) && !c->found_rows_there && select_list(t))
		return false;
	show_list(t);
	return true;
}

static bool refuse(struct turn *t)
{
	turn_fail(t, ER_UNKNOWN_ERROR, "HY000", "tandem: what is asked about the last statement was lost with its connection");
	return true;
}

/* With the list known by value, or empty. True when the turn has ended. */
bool told_answer(struct turn *turn)
{
	struct turn *t = turn;
	const struct client *c = t->client;
	enum sql_verb verb = t->meaning->verb;

	if (verb == SQL_SHOW && turn_text_has(t, "count(")) {
		if (count_by_value(t))
			turn_judge_again(t);
		return false;
	}
	if (verb == SQL_DIAGNOSTICS && get_by_value(t))
		return false;
	if (!c->list)
		return false;
	t->restore = freeze_signal(c);
	if (t->restore)
		return false;
	if (answer_by_value(t))
		return true;
	return verb == SQL_DIAGNOSTICS && refuse(t);
}

/* Does the list outlive this statement for sure? */
static bool leaves_list(const struct sql_meaning *m)
{
	const uint64_t loud = SQL_F_FUNCTIONS | SQL_F_MANY_FUNCTIONS | SQL_F_SEQUENCE | SQL_F_SET_SUBQUERY | SQL_F_OPAQUE;

	switch (m->verb) {
	case SQL_SELECT:
	case SQL_DO:
	case SQL_SET:
	case SQL_USE:
	case SQL_BEGIN:
	case SQL_COMMIT:
	case SQL_ROLLBACK:
	case SQL_SAVEPOINT:
	case SQL_EMPTY:
		return !(m->facts & loud);
	default:
		return false;
	}
}

/* A statement's questions about a frozen list become what they would be answered with. False: those behind it ask about itself. */
static bool rewrite_part(struct rewrite *r, const struct client *c, const char *from, const char *to)
{
	struct sql_meaning m;
	struct turn part = { .client = (struct client *)c, .meaning = &m, .text = from, .text_len = (size_t)(to - from) };
	char value[160];
	bool errors;

	sql_classify(&c->sql, from, (size_t)(to - from), &m);
	if (m.verb == SQL_SHOW && m.facts & SQL_F_READS_LAST) {
		errors = turn_text_has(&part, "errors");
		r->any = true;
		if (!turn_text_has(&part, "count("))
			return put_list(r, c, errors, " LIMIT 1000000");
		snprintf(value, sizeof(value), "SELECT LEAST(CAST(%llu AS UNSIGNED),18446744073709551615) AS `@@session.%s_count`",
			 (unsigned long long)(errors ? c->list->errors : c->list->warnings), errors ? "error" : "warning");
		rewrite_put_text(r, value);
		return true;
	}
	rewrite_put(r, from, (size_t)(to - from));
	return leaves_list(&m) && !question_reads_table(from, (size_t)(to - from));
}

void told_in_packet(struct turn *turn)
{
	struct turn *t = turn;
	struct rewrite r = { .turn = t, .at = t->text, .end = t->text + t->text_len };
	bool more = true;

	while (more && r.at < r.end && !r.full) {
		const char *from = r.at;

		r.at = question_part_end(from, r.end);
		more = rewrite_part(&r, t->client, from, r.at);
		if (r.at < r.end)
			rewrite_put(&r, r.at++, 1);
	}
	rewrite_put(&r, r.at, (size_t)(r.end - r.at));
	if (r.any && !r.full && !turn_set_text(t, r.out, r.len))
		log_debug(&t->client->subject, "out of memory for a question about the last statement");
}
