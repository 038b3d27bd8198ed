#include "sql/scan.h"

/* CREATE, ALTER and DROP: what kind of thing it is decides. */

/* Bodies */

/* Is this word the first of a statement inside a block? */
static bool starts_statement(const struct scan *s)
{
	switch (s->before->word->id) {
	case W_THEN:
	case W_ELSE:
	case W_DO:
	case W_BEGIN:
	case W_LOOP:
	case W_REPEAT:
		return true;
	default:
		return s->before->kind <= TOKEN_SEMICOLON || s->before->kind == TOKEN_CLOSE ||
		       (s->before->kind == TOKEN_OPERATOR && s->lexer.text[s->before->at] == ':');
	}
}

/* How much deeper the block nesting is behind the current word. END IF and its kin close what IF opened. */
static int nesting(const struct scan *s)
{
	switch (scan_word(s)) {
	case W_BEGIN:
	case W_CASE:
		return s->before->word->id == W_END ? 0 : 1;
	case W_IF:
	case W_LOOP:
	case W_REPEAT:
	case W_WHILE:
	case W_FOR:
		return s->before->word->id != W_END && starts_statement(s) && scan_peek(s).word->id != W_EXISTS;
	case W_END:
		return -1;
	default:
		return 0;
	}
}

/* In ORACLE mode blocks open in more ways than these (IS, AS, DECLARE, packages): there the body is all that is left, and
 * whatever else may be in it counts as unknown. */
void scan_skip_body(struct scan *s)
{
	int depth = 0;

	for (;;) {
		if (s->now->kind == TOKEN_END || (s->now->kind == TOKEN_SEMICOLON && depth <= 0 && !s->context->oracle))
			return;
		depth += nesting(s);
		if (s->now->kind == TOKEN_SEMICOLON)
			scan_next_statement(s);
		else
			scan_advance(s);
	}
}

/* Finding the thing */

/* Goes on to the word that says what is created, altered or dropped. */
static enum word_id find_thing(struct scan *s, bool *temporary)
{
	for (*temporary = false; !scan_at_end(s); scan_advance(s)) {
		enum word_id id = scan_word(s);

		/* DEFINER = user, ALGORITHM = merge */
		if (s->before->kind == TOKEN_EQUAL)
			continue;
		switch (id) {
		case W_TEMPORARY:
			*temporary = true;
			break;
		case W_TABLE:
		case W_TABLES:
		case W_SEQUENCE:
		case W_INDEX:
		case W_VIEW:
		case W_TRIGGER:
		case W_PROCEDURE:
		case W_FUNCTION:
		case W_PACKAGE:
		case W_EVENT:
		case W_USER:
		case W_ROLE:
		case W_DATABASE:
		case W_SCHEMA:
		case W_SERVER:
		case W_INSTANCE:
			return id;
		default:
			break;
		}
	}
	return W_NONE;
}

/* IF EXISTS, IF NOT EXISTS */
static void skip_if_exists(struct scan *s)
{
	if (scan_word(s) != W_IF)
		return;
	while (scan_word(s) == W_IF || scan_word(s) == W_NOT || scan_word(s) == W_EXISTS)
		scan_advance(s);
}

static void name_table(struct scan *s)
{
	scan_advance(s);
	skip_if_exists(s);
	if (scan_name(s, &s->out->qualifier, &s->out->name))
		s->facts |= SQL_F_TEMP_NAMED;
}

/* CREATE TABLE */

/* The columns, then perhaps a query, whose functions count. */
static void table_definition(struct scan *s)
{
	s->no_functions = true;
	for (; !scan_at_end(s); scan_advance(s)) {
		enum word_id id = scan_word(s);

		if (id == W_SELECT || id == W_VALUES || id == W_WITH)
			s->no_functions = false;
		scan_watch(s);
	}
}

/* A temporary table commits nothing; a temporary sequence does. */
static void create_table(struct scan *s, bool temporary)
{
	bool commits = !temporary || scan_word(s) == W_SEQUENCE;

	scan_primary(s, SQL_CREATE, (temporary ? SQL_F_CREATES_TEMP : 0) | (commits ? SQL_F_ENDS_TRX : 0));
	if (temporary)
		name_table(s);
	else
		scan_advance(s);
	table_definition(s);
}

static void routine(struct scan *s, uint64_t facts)
{
	scan_primary(s, SQL_CREATE, facts | SQL_F_ENDS_TRX | (s->context->oracle ? SQL_F_OPAQUE : 0));
	scan_skip_body(s);
}

/* At VIEW. Nobody has to wait for one that calls nothing to be looked into. */
static void view(struct scan *s)
{
	const uint64_t harmless = SQL_F_SESSION_STATE_READ | SQL_F_IDENTITY_READ, facts = s->facts;
	const uint8_t functions = s->out->function_count;
	bool plain;

	s->facts = 0;
	s->target = SQL_TO_REPLICA;
	table_definition(s);
	plain = s->target == SQL_TO_REPLICA && !(s->facts & ~harmless);
	s->out->function_count = functions;
	s->facts = facts | SQL_F_CATALOG | (plain ? SQL_F_PLAIN_VIEW : 0);
	s->target = SQL_TO_PRIMARY;
}

void scan_create(struct scan *s)
{
	bool temporary;
	enum word_id thing;

	scan_primary(s, SQL_CREATE, 0);
	scan_advance(s);
	thing = find_thing(s, &temporary);
	switch (thing) {
	case W_TABLE:
	case W_SEQUENCE:
		create_table(s, temporary);
		return;
	case W_PROCEDURE:
	case W_FUNCTION:
	case W_TRIGGER:
	case W_PACKAGE:
		routine(s, SQL_F_CATALOG);
		return;
	case W_EVENT:
		routine(s, 0);
		return;
	case W_VIEW:
		view(s);
		break;
	case W_USER:
	case W_ROLE:
		scan_primary(s, SQL_GRANT, SQL_F_ACCOUNTS);
		break;
	default:
		break;
	}
	s->facts |= SQL_F_ENDS_TRX;
	scan_skip_rest(s);
}

void scan_alter(struct scan *s)
{
	bool temporary;

	scan_primary(s, SQL_ALTER, SQL_F_ENDS_TRX);
	scan_advance(s);
	switch (find_thing(s, &temporary)) {
	case W_EVENT:
		scan_skip_body(s);
		return;
	case W_PROCEDURE:
	case W_FUNCTION:
		s->facts |= SQL_F_CATALOG;
		break;
	case W_VIEW:
		view(s);
		break;
	case W_USER:
	case W_ROLE:
		scan_primary(s, SQL_GRANT, SQL_F_ACCOUNTS);
		break;
	case W_INSTANCE:
		scan_primary(s, SQL_ADMIN, 0);
		s->facts &= ~SQL_F_ENDS_TRX;
		break;
	default:
		break;
	}
	scan_skip_rest(s);
}

static void drop_table(struct scan *s, bool temporary)
{
	/* DROP TABLE of a temporary one by its name alone commits all the same; with the word TEMPORARY it does not. */
	s->facts |= SQL_F_DROPS_TABLE | (temporary ? 0 : SQL_F_ENDS_TRX);
	name_table(s);
	scan_skip_rest(s);
}

void scan_drop(struct scan *s)
{
	bool temporary;

	scan_primary(s, SQL_DROP, 0);
	scan_advance(s);
	switch (find_thing(s, &temporary)) {
	case W_TABLE:
	case W_TABLES:
	case W_SEQUENCE:
		drop_table(s, temporary);
		return;
	case W_PROCEDURE:
	case W_FUNCTION:
	case W_TRIGGER:
	case W_PACKAGE:
	case W_DATABASE:
	case W_SCHEMA:
		s->facts |= SQL_F_CATALOG;
		break;
	case W_VIEW:
		s->facts |= SQL_F_CATALOG | SQL_F_PLAIN_VIEW;
		break;
	case W_USER:
	case W_ROLE:
		scan_primary(s, SQL_GRANT, SQL_F_ACCOUNTS);
		break;
	default:
		break;
	}
	s->facts |= SQL_F_ENDS_TRX;
	scan_skip_rest(s);
}
