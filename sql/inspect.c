#include "sql/scan.h"

/* EXPLAIN and its kin */

static bool starts_explainable(const struct scan *s)
{
	return scan_word(s) == W_SET || scan_starts_query_or_change(s);
}

static void explain_options(struct scan *s, bool *executes)
{
	while (!scan_at_end(s)) {
		switch (scan_word(s)) {
		case W_ANALYZE:
			*executes = true;
			break;
		case W_EXTENDED:
		case W_PARTITIONS:
		case W_FORMAT:
			break;
		case W_INTO:
			s->facts |= SQL_F_SETS_UVAR;
			break;
		default:
			if (s->now->kind != TOKEN_EQUAL && s->before->kind != TOKEN_EQUAL && s->now->kind != TOKEN_UVAR)
				return;
			break;
		}
		/* "EXPLAIN format": a table of that name. */
		if (scan_is_name(s) && s->before->kind != TOKEN_EQUAL && scan_peek(s).kind <= TOKEN_SEMICOLON)
			return;
		scan_advance(s);
	}
}

/* Behind the options: a statement, or a table. A change is explained where it would run, for a replica refuses to (1792). */
static void explained(struct scan *s, bool executes)
{
	if (!starts_explainable(s)) {
		if (scan_word(s) == W_FOR)
			scan_raise(s, 0, SQL_TO_PRIMARY);
		s->verb = SQL_EXPLAIN;
		scan_rest(s);
		return;
	}
	if (scan_word(s) == W_SET)
		scan_set(s);
	else
		scan_query_or_change(s);
	if (!executes || s->verb == SQL_SELECT)
		s->verb = SQL_EXPLAIN;
}

void scan_explain(struct scan *s)
{
	bool executes = false;

	scan_advance(s);
	explain_options(s, &executes);
	explained(s, executes);
}

/* ANALYZE TABLE, or ANALYZE [FORMAT=x] statement, which runs it. */
void scan_analyze(struct scan *s)
{
	bool executes = true;

	scan_advance(s);
	explain_options(s, &executes);
	if (starts_explainable(s) && scan_word(s) != W_TABLE) {
		explained(s, true);
		return;
	}
	scan_primary(s, SQL_ADMIN, SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

/* SHOW */

typedef void (*show_fn)(struct scan *scan);

static void show_read(struct scan *s)
{
	scan_rest(s);
}

static void show_last(struct scan *s)
{
	scan_raise(s, SQL_F_READS_LAST, SQL_TO_LAST);
	scan_skip_rest(s);
}

static void show_profile(struct scan *s)
{
	scan_raise(s, SQL_F_PROFILING, SQL_TO_PRIMARY);
	scan_skip_rest(s);
}

/* Replicas show every event as disabled. */
static void show_create(struct scan *s)
{
	scan_advance(s);
	if (scan_word(s) == W_EVENT)
		scan_raise(s, 0, SQL_TO_PRIMARY);
	scan_rest(s);
}

/* SHOW TABLE STATUS and SHOW TABLE TYPES are the server's. */
static void show_other(struct scan *s)
{
	scan_raise(s, 0, SQL_TO_PRIMARY);
	scan_rest(s);
}

static show_fn show_kind(enum word_id id)
{
	switch (id) {
	case W_TABLES:
	case W_COLUMNS:
	case W_FIELDS:
	case W_INDEX:
	case W_INDEXES:
	case W_KEYS:
	case W_DATABASES:
	case W_SCHEMAS:
	case W_TRIGGERS:
	case W_CHARACTER:
	case W_CHARSET:
	case W_COLLATION:
		return show_read;
	case W_CREATE:
		return show_create;
	case W_WARNINGS:
	case W_ERRORS:
	case W_COUNT: /* SHOW COUNT(*) WARNINGS */
		return show_last;
	case W_PROFILE:
	case W_PROFILES:
		return show_profile;
	default:
		return show_other;
	}
}

void scan_show(struct scan *s)
{
	s->verb = SQL_SHOW;
	scan_advance(s);
	/* SHOW FULL PROCESSLIST is no read of the data: the word behind decides. */
	while (scan_word(s) == W_FULL || scan_word(s) == W_EXTENDED)
		scan_advance(s);
	show_kind(scan_word(s))(s);
}
