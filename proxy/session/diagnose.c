/*
 * What may be asked about the last statement belongs to a connection, and connections change hands and run statements of Tandem's own.
 * ROW_COUNT() and FOUND_ROWS() went by in the reply and are written into the question. The list of warnings and errors is asked where it
 * is; when that connection has been taken away, or the question needs another one, the list was or is frozen (freeze.c): then its counts
 * are written into the question, a list of one is made again by a SIGNAL, and SHOW WARNINGS of a longer one is answered here.
 */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/freeze.h"
#include "proxy/session/named.h"
#include "proxy/session/pool.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* ---- Words ---- */

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.';
}

static bool has_word(const char *text, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; text && i + n <= len; i++)
		if ((text[i] | 0x20) == word[0] && !strncasecmp(text + i, word, n) && (!i || !is_word(text[i - 1])) &&
		    (i + n == len || !is_word(text[i + n])))
			return true;
	return false;
}

bool turn_has_word(const struct turn *turn, const char *word)
{
	return has_word(turn->text, turn->text_len, word);
}

/* "from" as a word: near enough to "reads a table". */
static bool reads_table(const char *text, size_t len)
{
	return has_word(text, len, "from") && !has_word(text, len, "dual");
}

static bool has_from(const struct turn *t)
{
	return reads_table(t->text, t->text_len);
}

/* The text of a statement that is prepared or run by name, quotes and all. */
static bool uses_table(const char *text, size_t len)
{
	static const char *const words[] = { "insert", "update", "delete", "replace", "create", "drop", "alter", "truncate", "rename",
					     "table", "nextval", "lastval" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (has_word(text, len, words[i]))
			return true;
	return reads_table(text, len);
}

/* ---- What is asked ---- */

enum question { ASKS_NOTHING, ASKS_ROW_COUNT, ASKS_FOUND_ROWS, ASKS_WARNINGS, ASKS_ERRORS };

static const struct {
	const char *word;
	enum question asks;
	bool is_function;
} words[] = {
	{ "row_count", ASKS_ROW_COUNT, true },
	{ "found_rows", ASKS_FOUND_ROWS, true },
	{ "@@warning_count", ASKS_WARNINGS, false },
	{ "@@session.warning_count", ASKS_WARNINGS, false },
	{ "@@local.warning_count", ASKS_WARNINGS, false },
	{ "@@error_count", ASKS_ERRORS, false },
	{ "@@session.error_count", ASKS_ERRORS, false },
	{ "@@local.error_count", ASKS_ERRORS, false },
};

static const char *skip_spaces(const char *at, const char *end)
{
	while (at < end && isspace((unsigned char)*at))
		at++;
	return at;
}

/* Past a quoted run that begins at `at`. */
static const char *skip_quoted(const char *at, const char *end)
{
	char quote = *at++;

	while (at < end && *at != quote)
		at += *at == '\\' && quote != '`' ? 2 : 1;
	return at < end ? at + 1 : end;
}

/* The question that stands at `at`, and its length. */
static enum question question_at(const char *text, const char *at, const char *end, size_t *len)
{
	if (at > text && (is_word(at[-1]) || at[-1] == '@'))
		return ASKS_NOTHING;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i].word);
		const char *p = at + n;

		if ((size_t)(end - at) < n || strncasecmp(at, words[i].word, n) || (p < end && is_word(*p)))
			continue;
		if (words[i].is_function) {
			p = skip_spaces(p, end);
			p = p < end && *p == '(' ? skip_spaces(p + 1, end) : end;
			if (p == end || *p++ != ')')
				continue;
		}
		*len = (size_t)(p - at);
		return words[i].asks;
	}
	return ASKS_NOTHING;
}

/* Bits by enum question. Statements behind a semicolon ask about the one in front of them. */
static unsigned questions_in(const struct turn *t)
{
	const char *at = t->text, *end = at + t->text_len;
	unsigned found = 0;
	size_t len;

	while (at < end && *at != ';') {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
			continue;
		}
		found |= 1u << question_at(t->text, at, end, &len);
		at++;
	}
	return found;
}

/* ---- Writing values into a question ---- */

static void put_value(char *out, size_t size, const struct client *c, enum question asks)
{
	/* LEAST and the sum make it of the type and length that the function's or variable's own result has */
	switch (asks) {
	case ASKS_ROW_COUNT:
		snprintf(out, size, "(0+LEAST(%lld,9223372036854775807))", (long long)c->row_count);
		break;
	case ASKS_FOUND_ROWS:
		snprintf(out, size, "(0+LEAST(%llu,9223372036854775807))", (unsigned long long)c->found_rows);
		break;
	default:
		snprintf(out, size, "LEAST(CAST(%llu AS UNSIGNED),18446744073709551615)",
			 !c->list ? 0 : (unsigned long long)(asks == ASKS_WARNINGS ? c->list->warnings : c->list->errors));
	}
}

/* An expression of the select list is named by its text. */
struct item {
	const char *from; /* where it begins in the question; NULL: not in a select list */
	bool changed;
};

struct rewrite {
	const struct turn *turn;
	const char *at, *end;
	char out[8192];
	size_t len;
	bool any, full;
	int depth; /* of brackets */
	bool in_list; /* the select list */
	struct item item;
};

static void put(struct rewrite *r, const char *text, size_t len)
{
	if (r->len + len > sizeof(r->out)) {
		r->full = true;
		return;
	}
	memcpy(r->out + r->len, text, len);
	r->len += len;
}

static bool word_here(const struct rewrite *r, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(r->end - r->at) >= n && !strncasecmp(r->at, word, n) && (r->at == r->turn->text || !is_word(r->at[-1])) &&
	       (r->at + n == r->end || !is_word(r->at[n]));
}

static bool ends_select_list(const struct rewrite *r)
{
	static const char *const after[] = { "from", "into", "where", "limit", "order", "group", "having", "union", "for", "procedure", "as",
					     "except", "intersect" };

	if (*r->at == ';')
		return true;
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++)
		if (word_here(r, after[i]))
			return true;
	return false;
}

/* "a+1 b": the last word stands behind a space and no operator. */
static bool has_bare_alias(const char *from, const char *to)
{
	const char *word = to;

	while (word > from && (is_word(word[-1]) || word[-1] == '`' || word[-1] == '"' || word[-1] == '\''))
		word--;
	if (word == to || word == from || !isspace((unsigned char)word[-1]))
		return false;
	while (word > from && isspace((unsigned char)word[-1]))
		word--;
	return word > from && (is_word(word[-1]) || word[-1] == ')' || word[-1] == '`');
}

/* A changed expression without a name of its own gets the name that it would have had. */
static void end_item(struct rewrite *r, bool named)
{
	const char *from = r->item.from, *to = r->at;

	if (from && r->item.changed && !named) {
		from = skip_spaces(from, to);
		while (to > from && isspace((unsigned char)to[-1]))
			to--;
		if (!has_bare_alias(from, to) && !memchr(from, '`', (size_t)(to - from))) {
			while (r->len && isspace((unsigned char)r->out[r->len - 1]))
				r->len--;
			put(r, " AS `", 5);
			put(r, from, (size_t)(to - from));
			put(r, "` ", to < r->at ? 2 : 1);
		}
	}
	r->item = (struct item){ 0 };
}

static void look_for_item(struct rewrite *r)
{
	if (*r->at == ',') {
		end_item(r, false);
		r->item.from = r->at + 1;
	} else if (word_here(r, "as")) {
		end_item(r, true);
	} else if (ends_select_list(r)) {
		end_item(r, false);
		r->in_list = false;
	}
}

static void copy_quoted(struct rewrite *r)
{
	const char *past = skip_quoted(r->at, r->end);

	put(r, r->at, (size_t)(past - r->at));
	r->at = past;
}

static void rewrite_step(struct rewrite *r, unsigned replace)
{
	size_t len = 0;
	enum question asks = question_at(r->turn->text, r->at, r->end, &len);
	char value[96];

	if (1u << asks & replace) {
		put_value(value, sizeof(value), r->turn->client, asks);
		put(r, value, strlen(value));
		r->at += len;
		r->any = r->item.changed = true;
		return;
	}
	if (!r->depth && r->in_list)
		look_for_item(r);
	r->depth += (*r->at == '(') - (*r->at == ')');
	if (!r->depth && word_here(r, "select")) {
		put(r, r->at, 6);
		r->at += 6;
		r->item = (struct item){ .from = r->at };
		r->in_list = true;
		return;
	}
	put(r, r->at++, 1);
}

static bool rewrite(struct turn *turn, unsigned replace)
{
	struct rewrite r = { .turn = turn, .at = turn->text, .end = turn->text + turn->text_len };

	while (r.at < r.end && *r.at != ';' && !r.full) {
		if (*r.at == '\'' || *r.at == '"' || *r.at == '`')
			copy_quoted(&r);
		else
			rewrite_step(&r, replace);
	}
	if (!r.depth)
		end_item(&r, false);
	put(&r, r.at, (size_t)(r.end - r.at));
	return r.any && !r.full && turn_set_text(turn, r.out, r.len);
}

/* Elsewhere the words may stand for something that is kept, such as a default value or a routine's body. */
static bool may_rewrite(const struct turn *t)
{
	switch (t->meaning->verb) {
	case SQL_SELECT:
	case SQL_DO:
	case SQL_SET:
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_CALL:
		return true;
	default:
		return false;
	}
}

/* ---- Before a question is routed ---- */

static bool is_live(const struct client *c)
{
	return c->diag_open && c->diag_at;
}

static bool asks_list(const struct turn *t, unsigned questions)
{
	enum sql_verb verb = t->meaning->verb;

	return verb == SQL_DIAGNOSTICS || verb == SQL_SHOW || questions & (1u << ASKS_WARNINGS | 1u << ASKS_ERRORS) ||
	       t->meaning->facts & SQL_F_MULTI;
}

bool diagnose_asks_list(const struct turn *turn)
{
	return asks_list(turn, questions_in(turn));
}

/* Can the question be asked on this connection, which knows the answer? */
static bool may_ask_at(const struct turn *t, const struct backend *home)
{
	const struct client *c = t->client;
	uint64_t facts = t->meaning->facts;

	if (c->trx)
		return c->trx == home;
	if (client_pins_all(c))
		return c->pinned == home;
	if (facts & SQL_F_READS_LAST_ID && c->last_id_at)
		return c->last_id_at == home;
	if (facts & SQL_F_READS_LAST_ID && c->last_id)
		return !home->is_replica; /* it is set again on the primary's */
	if (facts & (SQL_F_READS_UVAR | SQL_F_SETS_UVAR) && c->uvars_at && t->meaning->verb != SQL_DIAGNOSTICS)
		return c->uvars_at == home;
	return t->meaning->target != SQL_TO_PRIMARY || !home->is_replica;
}

/* The connection whose answer has to be known by value first; NULL: none. */
static struct backend *to_freeze(const struct turn *t, unsigned questions)
{
	const struct client *c = t->client;
	bool list = asks_list(t, questions) && is_live(c), found = questions & 1u << ASKS_FOUND_ROWS && c->found_rows_there && c->found_at;

	if (t->meaning->verb == SQL_DIAGNOSTICS && list && !turn_text_has(t, "condition"))
		return c->diag_at; /* it may ask for ROW_COUNT, too */
	if (list && (!may_ask_at(t, c->diag_at) || (found && c->found_at != c->diag_at)))
		return c->diag_at;
	if (found && !may_ask_at(t, c->found_at))
		return c->found_at;
	return NULL;
}

/* Has nothing run on it since the session's last statement, and will nothing have to run in front of the next? */
static bool is_untouched(const struct client *c, const struct backend *b)
{
	return b && !c->last_gone && b->state == BACKEND_READY && b->value == c->value && !fit_is_anew(b) && b->session == c->id &&
	       b->multi_statements == c->multi_statements && !b->guard_lost && !b->shows_timeout && !c->probe &&
	       (b->is_replica || ((!c->last_id || c->last_id_at) && (!c->uvars || c->uvars_at)));
}

/* The connection that can answer for itself. */
static struct backend *knows_itself(const struct turn *t)
{
	const struct client *c = t->client;
	unsigned questions;

	if (t->meaning->facts & SQL_F_MULTI || !is_untouched(c, c->last) || !may_ask_at(t, c->last))
		return NULL;
	questions = questions_in(t);
	if (!(questions & (1u << ASKS_ROW_COUNT | 1u << ASKS_FOUND_ROWS)) || asks_list(t, questions))
		return NULL;
	return !(questions & 1u << ASKS_FOUND_ROWS) || c->found_at == c->last ? c->last : NULL;
}

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

static void pass_end(struct shown *s)
{
	struct client *c = s->client;
	const uint16_t not_lasting = SERVER_SESSION_STATE_CHANGED | SERVER_MORE_RESULTS_EXISTS | SERVER_STATUS_CURSOR_EXISTS |
				     SERVER_STATUS_LAST_ROW_SENT | SERVER_STATUS_NO_INDEX_USED |
				     SERVER_STATUS_NO_GOOD_INDEX_USED;
	struct wire_ok ok = { .header = 0xfe, .status = c->status & (uint16_t)~not_lasting };
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
	struct shown s = { .client = c, .seq = 1 };
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
			pass_end(&s);
	}
	pass_end(&s);
	output_flush(&c->worker->out);
	c->row_count = -1;
	turn_answered(t);
}

/* "SHOW COUNT(*) WARNINGS" */
static bool count_by_value(struct turn *t)
{
	char out[160], value[96];
	bool errors = turn_text_has(t, "errors");

	put_value(value, sizeof(value), t->client, errors ? ASKS_ERRORS : ASKS_WARNINGS);
	snprintf(out, sizeof(out), "SELECT %s AS `@@session.%s_count`", value, errors ? "error" : "warning");
	return turn_set_text(t, out, strlen(out));
}

/* ---- Several statements in a packet ---- */

/* The end of the statement that begins at `at`: its semicolon or the end of all. */
static const char *part_end(const char *at, const char *end)
{
	while (at < end && *at != ';') {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
		} else if (end - at > 1 && at[0] == '/' && at[1] == '*') {
			const char *closed = memmem(at + 2, (size_t)(end - at - 2), "*/", 2);

			at = closed ? closed + 2 : end;
		} else if (*at == '#' || (end - at > 2 && at[0] == '-' && at[1] == '-' && isspace((unsigned char)at[2]))) {
			const char *line = memchr(at, '\n', (size_t)(end - at));

			at = line ? line : end;
		} else {
			at++;
		}
	}
	return at;
}

static void put_text(struct rewrite *r, const char *text)
{
	put(r, text, strlen(text));
}

static void put_hex(struct rewrite *r, struct wire_bytes v)
{
	char two[4];

	for (size_t i = 0; i < v.len; i++) {
		snprintf(two, sizeof(two), "%02x", v.data[i]);
		put(r, two, 2);
	}
}

/* An error that was not asked for, since the server has listed another: see freeze_error(). */
static bool put_told(struct rewrite *r, const struct frozen_list *list, const char *limit)
{
	char start[96];

	snprintf(start, sizeof(start), "SELECT _utf8'Error' AS Level,CAST(%u AS UNSIGNED) AS Code,_utf8 x'", list->code);
	put_text(r, start);
	put_hex(r, (struct wire_bytes){ (const uint8_t *)list->message, list->message ? strlen(list->message) : 0 });
	put_text(r, "' AS Message");
	put_text(r, limit);
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
		put_text(r, any ? " UNION ALL SELECT _utf8'" : "SELECT _utf8'");
		put(r, (const char *)row.columns[0].data, row.columns[0].len);
		snprintf(code, sizeof(code), "'%s,CAST(%.*s AS UNSIGNED)%s,", any ? "" : " AS Level", (int)row.columns[1].len,
			 (const char *)row.columns[1].data, any ? "" : " AS Code");
		put_text(r, code);
		put_text(r, "_");
		put_text(r, c->list->charset);
		put_text(r, " x'");
		put_hex(r, row.columns[2]);
		put_text(r, any ? "'" : "' AS Message");
		any = true;
	}
	put_text(r, any ? limit : "SELECT _utf8'' AS Level,CAST(9999 AS UNSIGNED) AS Code,_utf8'' AS Message LIMIT 0");
	return !r->full;
}

/* The character set of the results has changed since: a server converts the list. */
static bool is_in_other_charset(const struct client *c)
{
	return strcmp(c->list->charset, freeze_charset(c->value, c->worker->snapshot)) != 0;
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
static bool ask_by_value(struct turn *t)
{
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
		put_text(r, value);
		return true;
	}
	put(r, from, (size_t)(to - from));
	return leaves_list(&m) && !reads_table(from, (size_t)(to - from));
}

static void rewrite_parts(struct turn *t)
{
	struct rewrite r = { .turn = t, .at = t->text, .end = t->text + t->text_len };
	bool more = true;

	while (more && r.at < r.end && !r.full) {
		const char *from = r.at;

		r.at = part_end(from, r.end);
		more = rewrite_part(&r, t->client, from, r.at);
		if (r.at < r.end)
			put(&r, r.at++, 1);
	}
	put(&r, r.at, (size_t)(r.end - r.at));
	if (r.any && !r.full && !turn_set_text(t, r.out, r.len))
		log_debug(&t->client->subject, "out of memory for a question about the last statement");
}

static struct backend *being_frozen(const struct client *c)
{
	if (c->diag_at && c->diag_at->freezing)
		return c->diag_at;
	return c->found_rows_there && c->found_at && c->found_at->freezing ? c->found_at : NULL;
}

bool diagnose_begin(struct turn *turn)
{
	struct client *c = turn->client;
	enum { MOST = 2 };
	bool multi = turn->meaning->facts & SQL_F_MULTI;
	unsigned questions, replace = 1u << ASKS_ROW_COUNT;
	struct backend *b;

	if (turn->diagnosed > MOST || turn->command != COM_QUERY || !turn->text || turn->is_long)
		return false;
	questions = questions_in(turn);
	b = being_frozen(c);
	if (b)
		return freeze_wait(turn, b);
	if (knows_itself(turn))
		return false;
	b = turn->diagnosed < MOST ? to_freeze(turn, questions) : NULL;
	turn->diagnosed++;
	if (b)
		return freeze_wait(turn, b);
	turn->diagnosed = MOST + 1;
	if (!c->found_rows_there)
		replace |= 1u << ASKS_FOUND_ROWS;
	if (!is_live(c))
		replace |= 1u << ASKS_WARNINGS | 1u << ASKS_ERRORS;
	if (questions & replace && may_rewrite(turn) && rewrite(turn, replace) && !multi)
		turn_judge_again(turn);
	if (!(turn->meaning->facts & SQL_F_READS_LAST) || is_live(c))
		return false;
	if (multi) {
		if (c->list)
			rewrite_parts(turn);
		return false;
	}
	return asks_list(turn, questions & ~replace) && ask_by_value(turn);
}

/* ---- After a reply ---- */

static bool starts_with(const struct turn *t, const char *word)
{
	const char *at = t->text, *end = at + t->text_len;

	while (at < end && isspace((unsigned char)*at))
		at++;
	return (size_t)(end - at) >= strlen(word) && (*at | 0x20) == *word && !strncasecmp(at, word, strlen(word));
}

static void found_here(struct turn *t)
{
	t->client->found_at = t->backend;
	t->client->found_rows_there = true;
}

static void found_is(struct turn *t, uint64_t rows)
{
	t->client->found_rows = rows;
	t->client->found_rows_there = false;
	t->client->found_at = t->backend;
}

/* SHOW CREATE, GRANTS, WARNINGS and ERRORS are answered without a SELECT inside. */
static bool show_counts(const struct turn *t)
{
	return turn_text_has(t, "count(") ||
	       !(turn_text_has(t, "create") || turn_text_has(t, "grants") || turn_text_has(t, "warnings") || turn_text_has(t, "errors"));
}

static void note_found_select(struct turn *t)
{
	unsigned found = t->meaning->found;

	if (found == SQL_FOUND_UNTOLD)
		found = sql_found_after(t->meaning, t->text, t->text_len);
	if (found == SQL_FOUND_OTHER || t->cursor_open || !t->saw_rows)
		found_here(t);
	else if (found == SQL_FOUND_SENT)
		found_is(t, t->found_rows);
}

/* A word outside of quotes. */
static bool has_plain_word(const struct turn *t, const char *word)
{
	const char *at = t->text, *end = at + t->text_len;
	size_t n = strlen(word);

	while (at < end) {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
			continue;
		}
		if ((size_t)(end - at) >= n && !strncasecmp(at, word, n) && (at == t->text || !is_word(at[-1])) &&
		    (at + n == end || !is_word(at[n])))
			return true;
		at++;
	}
	return false;
}

/* CREATE and ALTER of what is only kept: a SELECT in it does not run. */
static bool keeps_text(const struct turn *t)
{
	static const char *const kept[] = { "view", "procedure", "function", "trigger", "event", "package" };

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (has_plain_word(t, kept[i]))
			return true;
	return false;
}

/* FOUND_ROWS() changes with each SELECT that runs, also inside other statements. */
static __attribute__((noinline)) void note_found(struct turn *t)
{
	if (t->command == COM_STMT_PREPARE || t->command == COM_STMT_FETCH)
		return;
	switch (t->meaning->verb) {
	case SQL_SELECT:
		note_found_select(t);
		break;
	case SQL_SHOW:
		if (t->saw_rows && show_counts(t))
			found_is(t, t->found_rows);
		break;
	case SQL_EXPLAIN:
		if (!turn_text_has(t, "select"))
			found_is(t, t->found_rows);
		else if (starts_with(t, "analyze"))
			found_here(t);
		else if (!has_from(t))
			found_is(t, 0);
		break;
	case SQL_EXECUTE:
		if (t->saw_rows)
			found_is(t, t->found_rows);
		break;
	case SQL_DIAGNOSTICS:
	case SQL_PREPARE:
		break;
	case SQL_EXECUTE_IMMEDIATE:
		if (turn_text_has(t, "select"))
			found_here(t);
		break;
	case SQL_CREATE:
	case SQL_ALTER:
		if (!keeps_text(t) && has_plain_word(t, "select"))
			found_here(t);
		break;
	default:
		if (has_plain_word(t, "select") || (t->saw_rows && t->meaning->facts & (SQL_F_OPAQUE | SQL_F_MULTI)))
			found_here(t);
	}
}

/* Errors of values come when a SELECT is under way already, others before it has begun. */
static __attribute__((noinline)) void note_found_failed(struct turn *t)
{
	if (t->command != COM_STMT_PREPARE && t->failed_with_data && turn_text_has(t, "select"))
		found_here(t);
}

enum effect { KEEPS, CLEARS, UNCLEAR };

static enum effect clears_if(bool clears)
{
	return clears ? CLEARS : KEEPS;
}

/* These are answered without a SELECT inside. */
static enum effect effect_of_show(const struct turn *t)
{
	static const char *const keep[] = { "warnings", "errors", "processlist", "master status", "slave status", "replica status",
					    "engine",	"grants", "binary logs", "binlog events" };

	for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++)
		if (has_word(t->text, t->text_len, keep[i]))
			return KEEPS;
	return clears_if(!turn_text_has(t, "create") || turn_text_has(t, "table") || turn_text_has(t, "view"));
}

/* A statement that uses tables empties the list, whether it warns of something or not; one without leaves that of the one before. */
static enum effect effect_on_list(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;
	const struct named *named;

	if (m->facts & SQL_F_MULTI)
		return UNCLEAR;
	switch (m->verb) {
	case SQL_SELECT:
	case SQL_EXPLAIN:
		return clears_if(has_from(t) || m->facts & SQL_F_SEQUENCE || (m->verb == SQL_EXPLAIN && !turn_text_has(t, "select")));
	case SQL_SHOW:
		return effect_of_show(t);
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_LOAD:
	case SQL_HANDLER:
	case SQL_CREATE:
	case SQL_ALTER:
	case SQL_DROP:
	case SQL_TRUNCATE:
	case SQL_RENAME:
	case SQL_LOCK_TABLES:
		return CLEARS;
	case SQL_SET:
	case SQL_DO:
		return clears_if(has_from(t));
	case SQL_PREPARE:
		return m->text.len ? clears_if(uses_table(t->text + m->text.at, m->text.len)) : UNCLEAR;
	case SQL_EXECUTE_IMMEDIATE:
		return clears_if(uses_table(t->text, t->text_len));
	case SQL_EXECUTE:
		named = named_find(t->client, t->text + m->name.at, m->name.len);
		return named && named->text ? clears_if(uses_table(named->text, named->len)) : UNCLEAR;
	case SQL_CALL:
	case SQL_COMPOUND:
	case SQL_ADMIN:
	case SQL_OTHER:
		return UNCLEAR;
	default:
		return KEEPS;
	}
}

/* What cannot be told from the text: something was read or written, so probably a table was. */
static bool probably_clears(const struct turn *t)
{
	if (t->meaning->verb == SQL_EXECUTE || t->meaning->verb == SQL_CALL)
		return t->row_count > 0;
	return uses_table(t->text, t->text_len);
}

static __attribute__((noinline)) void note_list(struct turn *t)
{
	struct client *c = t->client;
	bool adds = t->failed || t->warnings;
	enum effect effect;

	if (!adds && t->command == COM_STMT_FETCH)
		return;
	effect = effect_on_list(t);
	if (effect == UNCLEAR && c->diag_at == t->backend) /* whatever it did, that connection knows */
		adds = c->diag_open || adds;
	else if (!adds && (effect == KEEPS || (effect == UNCLEAR && !probably_clears(t))))
		return;
	freeze_forget_list(c);
	c->diag_at = t->backend;
	c->diag_open = adds;
	t->backend->has_diagnostics = adds;
}

/* An empty list stays as it is, whether it is cleared or not: that is every statement but a few. */
static bool list_stays_empty(const struct turn *t)
{
	const struct client *c = t->client;

	return !t->failed && !t->warnings && c->diag_at == t->backend && !c->diag_open && !t->backend->has_diagnostics;
}

void diagnose_note(struct turn *turn)
{
	struct client *c = turn->client;

	if (turn->stands_for_show) { /* SHOW WARNINGS leaves all that but ROW_COUNT() as it is */
		client_forget_diagnostics(c, turn->backend);
		c->row_count = -1;
		return;
	}
	/* GET DIAGNOSTICS leaves ROW_COUNT() as it is, but not the SET that may stand for it. */
	if (c->last != turn->backend || turn->command == COM_STMT_PREPARE || turn->meaning->verb == SQL_DIAGNOSTICS)
		c->last_gone = true;
	if (turn->meaning->verb != SQL_DIAGNOSTICS || turn->failed)
		c->row_count = turn->failed ? -1 : turn->row_count;
	if (turn->failed)
		note_found_failed(turn);
	else if ((turn->command == COM_QUERY || turn->command == COM_STMT_EXECUTE) && turn->meaning->verb == SQL_SELECT)
		note_found_select(turn);
	else
		note_found(turn);
	if (!list_stays_empty(turn) && (turn->meaning->verb != SQL_SHOW || !(turn->meaning->facts & SQL_F_READS_LAST) || turn->failed))
		note_list(turn);
	if (turn->told_read_only)
		freeze_error(c, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, "25006", TURN_READ_ONLY_MESSAGE);
}

struct backend *diagnose_where(const struct turn *turn)
{
	const struct client *c = turn->client;
	struct backend *itself = knows_itself(turn);

	if (itself)
		return itself;
	if (c->found_rows_there && turn_text_has(turn, "found_rows"))
		return c->found_at;
	if (c->diag_at)
		return c->diag_at;
	for (struct backend *b = c->attached; b; b = b->next_attached)
		if (!b->has_diagnostics && b->state == BACKEND_READY)
			return b;
	return NULL;
}
