/*
 * What a statement has done to the answers of the questions that may come behind it: ROW_COUNT(), FOUND_ROWS(), and the list of warnings and
 * errors. See diagnose.c for who asks.
 */
#include "proxy/session/turn.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/freeze.h"
#include "proxy/session/named.h"
#include "proxy/session/question.h"
#include "proxy/session/worker.h"

static bool reads_table(const struct turn *t)
{
	return question_reads_table(t->text, t->text_len);
}

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

/* CREATE and ALTER of what is only kept: a SELECT in it does not run. */
static bool keeps_text(const struct turn *t)
{
	static const char *const kept[] = { "view", "procedure", "function", "trigger", "event", "package" };

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (question_has_plain_word(t, kept[i]))
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
		else if (!reads_table(t))
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
		if (!keeps_text(t) && question_has_plain_word(t, "select"))
			found_here(t);
		break;
	default:
		if (question_has_plain_word(t, "select") || (t->saw_rows && t->meaning->facts & (SQL_F_OPAQUE | SQL_F_MULTI)))
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
		if (question_has_word(t->text, t->text_len, keep[i]))
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
		return clears_if(reads_table(t) || m->facts & SQL_F_SEQUENCE || (m->verb == SQL_EXPLAIN && !turn_text_has(t, "select")));
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
		return clears_if(reads_table(t));
	case SQL_PREPARE:
		return m->text.len ? clears_if(question_uses_table(t->text + m->text.at, m->text.len)) : UNCLEAR;
	case SQL_EXECUTE_IMMEDIATE:
		return clears_if(question_uses_table(t->text, t->text_len));
	case SQL_EXECUTE:
		named = named_find(t->client, t->text + m->name.at, m->name.len);
		return named && named->text ? clears_if(question_uses_table(named->text, named->len)) : UNCLEAR;
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
	return question_uses_table(t->text, t->text_len);
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
