#include "sql/scan.h"

/* Routine bodies: blocks are walked, each simple statement in them is judged as it would be on its own. */

/* Watches an expression up to one of two words outside CASE ... END, and goes over that word. */
static void expression_until(struct scan *s, enum word_id stop, enum word_id other_stop)
{
	int cases = 0;

	for (; !scan_at_end(s); scan_advance(s)) {
		enum word_id id = scan_word(s);

		if (cases == 0 && (id == stop || id == other_stop)) {
			scan_advance(s);
			return;
		}
		cases += id == W_CASE;
		cases -= id == W_END && cases > 0;
		scan_watch(s);
	}
}

/* DECLARE: variables with defaults, cursors, handlers. */
static bool declaration_goes_on(struct scan *s)
{
	for (; !scan_at_end(s); scan_advance(s)) {
		enum word_id id = scan_word(s);

		/* CURSOR FOR select, HANDLER FOR conditions statement */
		if (id == W_FOR && s->before->word->id == W_CURSOR) {
			scan_advance(s);
			return true;
		}
		if (id == W_FOR && s->before->word->id == W_HANDLER) {
			scan_advance(s);
			return true;
		}
		if (id == W_DEFAULT || id == W_FOR || id == W_SELECT)
			s->no_functions = false;
		scan_watch(s);
	}
	return false;
}

static bool is_condition(const struct scan *s)
{
	switch (scan_word(s)) {
	case W_SQLSTATE:
	case W_VALUE:
	case W_SQLEXCEPTION:
	case W_SQLWARNING:
	case W_NOT:
	case W_FOUND:
		return true;
	default:
		break;
	}
	switch (s->now->kind) {
	case TOKEN_STRING:
	case TOKEN_NUMBER:
	case TOKEN_COMMA:
		return true;
	case TOKEN_WORD:
	case TOKEN_QUOTED:
		/* The name of a condition: more conditions or a statement follow. */
		return s->now->word->id == W_NONE || s->before->kind == TOKEN_COMMA;
	default:
		return false;
	}
}

/* SQLSTATE '42000', 1062, NOT FOUND ... in front of the handler's statement. */
static void skip_conditions(struct scan *s)
{
	while (!scan_at_end(s) && is_condition(s))
		scan_advance(s);
}

/* Goes over what only holds statements together; false when a simple statement begins or this one ended. */
static bool block_word(struct scan *s)
{
	bool handler;

	switch (scan_word(s)) {
	case W_BEGIN:
		scan_advance(s);
		if (scan_accept(s, W_NOT))
			scan_advance(s);
		return true;
	case W_THEN:
	case W_ELSE:
	case W_LOOP:
	case W_REPEAT:
		scan_advance(s);
		return true;
	case W_IF:
	case W_ELSEIF:
	case W_ELSIF:
	case W_WHEN:
		scan_advance(s);
		expression_until(s, W_THEN, W_THEN);
		return true;
	case W_CASE:
		scan_advance(s);
		expression_until(s, W_WHEN, W_WHEN);
		expression_until(s, W_THEN, W_THEN);
		return true;
	case W_WHILE:
	case W_FOR:
		scan_advance(s);
		expression_until(s, W_DO, W_LOOP);
		return true;
	case W_UNTIL:
		scan_advance(s);
		expression_until(s, W_END, W_END);
		scan_skip_rest(s);
		return false;
	case W_END:
		scan_skip_rest(s);
		return false;
	case W_DECLARE:
		s->no_functions = true;
		handler = declaration_goes_on(s);
		s->no_functions = false;
		if (handler)
			skip_conditions(s);
		return handler;
	default:
		return false;
	}
}

static bool skip_label(struct scan *s)
{
	struct token next = scan_peek(s);

	if (!scan_is_name(s) || next.kind != TOKEN_OPERATOR || s->lexer.text[next.at] != ':')
		return false;
	scan_advance(s);
	scan_advance(s);
	return true;
}

/* Statements that exist only in bodies and touch nothing outside. */
static bool is_local_statement(const struct scan *s)
{
	switch (scan_word(s)) {
	case W_RETURN:
	case W_OPEN:
	case W_FETCH:
	case W_CLOSE:
	case W_LEAVE:
	case W_ITERATE:
		return true;
	default:
		return false;
	}
}

/* The union of what its statements do; a read only as long as all are. */
static void add(struct scan *s, struct sql_meaning *out)
{
	bool reads = s->target == SQL_TO_REPLICA || (s->verb == SQL_SET && s->target == SQL_TO_HELD);

	out->facts |= s->facts;
	if (!reads)
		out->target = SQL_TO_PRIMARY;
	if (out->verb == SQL_EMPTY || (!reads && out->verb == SQL_SELECT))
		out->verb = s->verb;
}

static void body_statement(struct scan *s, struct sql_meaning *out)
{
	s->facts = 0;
	s->target = SQL_TO_REPLICA;
	s->verb = SQL_EMPTY;
	while (!scan_at_end(s) && (skip_label(s) || block_word(s)))
		;
	if (!scan_at_end(s) && is_local_statement(s)) {
		scan_advance(s);
		scan_rest(s);
	} else if (!scan_at_end(s)) {
		uint64_t facts = s->facts;
		enum sql_target target = s->target;

		scan_statement(s);
		scan_raise(s, facts, target);
	}
	/* Dynamic text may be anything. */
	if (s->verb == SQL_PREPARE || s->verb == SQL_EXECUTE || s->verb == SQL_OTHER || s->verb == SQL_COMPOUND)
		scan_raise(s, SQL_F_OPAQUE, SQL_TO_PRIMARY);
	scan_skip_rest(s);
	add(s, out);
}

void sql_classify_body(const struct sql_context *context, const char *text, size_t len, struct sql_meaning *out)
{
	struct scan s;

	scan_init(&s, context, text, len, out);
	s.in_body = true;
	out->verb = SQL_EMPTY;
	out->target = SQL_TO_REPLICA;
	out->parts = 1;
	for (;;) {
		if (!scan_at_end(&s))
			body_statement(&s, out);
		if (s.now->kind == TOKEN_END)
			break;
		scan_next_statement(&s);
	}
	out->digest = digest_end(&s.digest);
	if (s.lexer.unterminated || s.lexer.doubt || len > UINT32_MAX) {
		out->facts |= SQL_F_OPAQUE;
		out->target = SQL_TO_PRIMARY;
	}
}
