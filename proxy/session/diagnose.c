/*
 * ROW_COUNT() and FOUND_ROWS() belong to a connection, and connections change hands and run statements of Tandem's own: both values went by
 * in the reply to the session's last statement. The connection that ran it is asked as long as nothing else has run there; later the
 * values are written into the question.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/turn.h"

struct asked {
	const char *name;
	size_t len;
};

static const struct asked row_count = { "row_count", 9 }, found_rows = { "found_rows", 10 };

/* The length of "name ( )" at `at`; 0 when it is something else. */
static size_t call_length(const char *at, const char *end, const struct asked *f)
{
	const char *p = at;

	if ((size_t)(end - at) < f->len + 2 || strncasecmp(at, f->name, f->len))
		return 0;
	p += f->len;
	while (p < end && isspace((unsigned char)*p))
		p++;
	if (p == end || *p++ != '(')
		return 0;
	while (p < end && isspace((unsigned char)*p))
		p++;
	return p < end && *p == ')' ? (size_t)(p + 1 - at) : 0;
}

/* Past a quoted run that begins at `at`. */
static const char *skip_quoted(const char *at, const char *end)
{
	char quote = *at++;

	while (at < end && *at != quote)
		at += *at == '\\' && quote != '`' ? 2 : 1;
	return at < end ? at + 1 : end;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.';
}

/* A call that is a column of its own keeps its name in the result. */
static bool is_whole_column(const char *text, const char *at, const char *after, const char *end)
{
	const char *before = at;

	while (before > text && isspace((unsigned char)before[-1]))
		before--;
	while (after < end && isspace((unsigned char)*after))
		after++;
	return ((before - text >= 6 && !strncasecmp(before - 6, "select", 6)) || (before > text && before[-1] == ',')) &&
	       (after == end || *after == ',' || *after == ';');
}

/* The next call of either function from `at` on, outside of quotes; NULL: none. */
static const char *next_call(const struct turn *t, const char *at, const struct asked *f)
{
	const char *end = t->text + t->text_len;

	while (at < end) {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
			continue;
		}
		if ((at == t->text || !is_word(at[-1])) && call_length(at, end, f))
			return at;
		at++;
	}
	return NULL;
}

/* Has nothing run on it since the session's last statement, and will nothing have to run in front of the next? */
static bool is_untouched(const struct client *c, const struct backend *b)
{
	return b && !c->last_gone && b->state == BACKEND_READY && b->value == c->value && b->session == c->id &&
	       b->multi_statements == c->multi_statements && !b->guard_lost && !b->shows_timeout && !c->probe &&
	       (b->is_replica || ((!c->last_id || c->last_id_at) && (!c->uvars || c->uvars_at)));
}

/* The connection that can answer for itself. */
static struct backend *knows_itself(const struct turn *t)
{
	struct client *c = t->client;
	bool rows, found;

	if (t->meaning->facts & SQL_F_MULTI || !is_untouched(c, c->last))
		return NULL;
	if (c->last->is_replica && t->meaning->target == SQL_TO_PRIMARY)
		return NULL;
	rows = next_call(t, t->text, &row_count);
	found = next_call(t, t->text, &found_rows);
	return (rows || found) && (!found || c->found_at == c->last) ? c->last : NULL;
}

/* In the definition of a column these functions are an error, and with a value in their place there would be none. */
static bool is_definition(const struct turn *t)
{
	return (t->meaning->verb == SQL_CREATE || t->meaning->verb == SQL_ALTER) && !turn_text_has(t, "select");
}

bool diagnose_rewrite(struct turn *turn)
{
	const struct client *c = turn->client;
	const char *at = turn->text, *end = at + turn->text_len;
	char out[4096];
	size_t len = 0;
	bool any = false, is_first = true; /* later parts of a packet ask about the part before them */

	if (knows_itself(turn) || is_definition(turn))
		return false;
	while (at < end && len + 96 < sizeof(out)) {
		bool starts = is_first && (at == turn->text || !is_word(at[-1]));
		size_t rows = starts ? call_length(at, end, &row_count) : 0;
		size_t found = starts && !rows && !c->found_rows_there ? call_length(at, end, &found_rows) : 0;

		if (rows || found) {
			size_t n = rows + found;
			/* LEAST and the sum make it of the type and length that the function's own result has */
			int put = snprintf(out + len, sizeof(out) - len, "(0+LEAST(%lld,9223372036854775807))",
					   rows ? (long long)c->row_count : (long long)c->found_rows);

			any = true;
			len += (size_t)put;
			if (is_whole_column(turn->text, at, at + n, end) && len + n + 8 < sizeof(out)) {
				len += (size_t)snprintf(out + len, sizeof(out) - len, " AS `%.*s`", (int)n, at);
			}
			at += n;
			continue;
		}
		if (*at == '\'' || *at == '"' || *at == '`') {
			const char *past = skip_quoted(at, end);

			if (len + (size_t)(past - at) >= sizeof(out))
				return false;
			memcpy(out + len, at, (size_t)(past - at));
			len += (size_t)(past - at);
			at = past;
			continue;
		}
		is_first &= *at != ';';
		out[len++] = *at++;
	}
	if (at < end || !any || !turn_grow(turn, len + 5))
		return false;
	wire_put_header(turn->packet, (uint32_t)len + 1, 0);
	memcpy(turn->packet + 5, out, len);
	turn->packet_len = len + 5;
	turn->text = (const char *)turn->packet + 5;
	turn->text_len = len;
	return true;
}

/* ---- After a reply ---- */

static bool starts_with(const struct turn *t, const char *word)
{
	const char *at = t->text, *end = at + t->text_len;

	while (at < end && isspace((unsigned char)*at))
		at++;
	return (size_t)(end - at) >= strlen(word) && !strncasecmp(at, word, strlen(word));
}

/* "from" as a word: near enough to "reads a table". */
static bool has_from(const struct turn *t)
{
	const char *at = t->text, *end = at + t->text_len;

	for (; at && at + 4 < end; at++)
		if ((*at | 0x20) == 'f' && !strncasecmp(at, "from", 4) && at > t->text && !is_word(at[-1]) && !is_word(at[4]))
			return true;
	return false;
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

/* LIMIT 2,1 or LIMIT 1 OFFSET 2: what was skipped may have been found, too. */
static bool has_offset(const struct turn *t)
{
	const char *at = t->text, *end = at + t->text_len;

	while (at + 5 < end && ((*at | 0x20) != 'l' || strncasecmp(at, "limit", 5)))
		at++;
	return at + 5 < end && (memchr(at, ',', (size_t)(end - at)) || turn_text_has(t, "offset"));
}

/* SHOW CREATE, GRANTS, WARNINGS and ERRORS are answered without a SELECT inside. */
static bool show_counts(const struct turn *t)
{
	return turn_text_has(t, "count(") ||
	       !(turn_text_has(t, "create") || turn_text_has(t, "grants") || turn_text_has(t, "warnings") || turn_text_has(t, "errors"));
}

static void note_found_select(struct turn *t)
{
	if (t->meaning->facts & SQL_F_CALC_FOUND_ROWS || t->cursor_open || !t->saw_rows || has_offset(t))
		found_here(t);
	else if (!starts_with(t, "values"))
		found_is(t, t->found_rows);
}

/* FOUND_ROWS() changes with each SELECT that runs, also inside other statements. */
static void note_found(struct turn *t)
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
		break;
	default:
		if (turn_text_has(t, "select") || (t->saw_rows && t->meaning->facts & (SQL_F_OPAQUE | SQL_F_MULTI)))
			found_here(t);
	}
}

/* Errors of values come when a SELECT is under way already, others before it has begun. */
static void note_found_failed(struct turn *t)
{
	if (t->command != COM_STMT_PREPARE && t->failed_with_data && turn_text_has(t, "select"))
		found_here(t);
}

/* A statement without tables leaves the list of the one before it. */
static bool clears_list(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;

	switch (m->verb) {
	case SQL_SELECT:
	case SQL_EXPLAIN:
		return has_from(t) || m->facts & (SQL_F_SEQUENCE | SQL_F_GET_LOCK) ||
		       (m->verb == SQL_EXPLAIN && !turn_text_has(t, "select"));
	case SQL_SHOW:
		return show_counts(t) && !turn_text_has(t, "count(");
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
	case SQL_ADMIN:
		return true;
	case SQL_SET:
	case SQL_DO:
		return has_from(t);
	case SQL_CALL:
		return t->row_count > 0;
	case SQL_EXECUTE:
		return t->saw_rows || t->row_count > 0;
	default:
		return false;
	}
}

static void note_list(struct turn *t)
{
	struct client *c = t->client;
	bool adds = t->failed || t->warnings;
	bool is_empty_here = c->diag_at == t->backend && !c->diag_open && !t->backend->has_diagnostics;

	/* An empty list stays as it is, whether it is cleared or not: that is every statement but a few. */
	if (!adds && is_empty_here)
		return;
	if (!adds && (t->command == COM_STMT_FETCH || !clears_list(t)))
		return;
	c->diag_at = t->backend;
	c->diag_open = adds;
	t->backend->has_diagnostics = adds;
}

void diagnose_note(struct turn *turn)
{
	struct client *c = turn->client;

	if (c->last != turn->backend || turn->command == COM_STMT_PREPARE)
		c->last_gone = true;
	if (turn->meaning->verb != SQL_DIAGNOSTICS || turn->failed)
		c->row_count = turn->failed ? -1 : turn->row_count;
	if (turn->failed)
		note_found_failed(turn);
	else
		note_found(turn);
	if (turn->meaning->verb != SQL_SHOW || !(turn->meaning->facts & SQL_F_READS_LAST) || turn->failed)
		note_list(turn);
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
