#include "sql/scan.h"

/* SET in all its forms. */

enum set_scope {
	SCOPE_NONE,   /* SET x = 1: the session */
	SCOPE_AT,     /* SET @@x = 1: the session too, but for transactions the next one only */
	SCOPE_SESSION,
	SCOPE_GLOBAL, /* also PERSIST, PERSIST_ONLY */
	SCOPE_OTHER,  /* NEW.x, structured variables */
};

/* The value, as far as one word or number tells. */
enum set_value {
	VALUE_OTHER,
	VALUE_DEFAULT,
	VALUE_FALSE, /* 0, OFF, FALSE */
	VALUE_TRUE,  /* 1, ON, TRUE */
};

static void grant(struct scan *s)
{
	s->verb = SQL_GRANT;
	scan_raise(s, SQL_F_ACCOUNTS | SQL_F_ENDS_TRX, SQL_TO_PRIMARY);
	scan_skip_rest(s);
}

static bool text_is(const struct scan *s, struct sql_span span, const char *word)
{
	return word_equals((const char *)s->lexer.text + span.at, span.len, word);
}

/* Values */

static enum set_value plain_value(const struct scan *s)
{
	struct sql_span text = {s->now->at, s->now->len};

	if (s->now->kind == TOKEN_STRING)
		text = s->now->inner;
	if (text_is(s, text, "0") || text_is(s, text, "off") || text_is(s, text, "false"))
		return VALUE_FALSE;
	if (text_is(s, text, "1") || text_is(s, text, "on") || text_is(s, text, "true"))
		return VALUE_TRUE;
	return text_is(s, text, "default") && s->now->kind == TOKEN_WORD ? VALUE_DEFAULT : VALUE_OTHER;
}

static bool starts_query(const struct scan *s)
{
	enum word_id id = scan_word(s);

	return s->before->kind == TOKEN_OPEN && (id == W_SELECT || id == W_VALUES || id == W_WITH || id == W_TABLE);
}

/* Watches the value up to the comma behind it or the end. */
static enum set_value value(struct scan *s)
{
	enum set_value plain = plain_value(s);
	int depth = 0, tokens = 0;

	for (; !scan_at_end(s); scan_advance(s), tokens++) {
		if (s->now->kind == TOKEN_COMMA && depth == 0)
			break;
		depth += s->now->kind == TOKEN_OPEN;
		depth -= s->now->kind == TOKEN_CLOSE;
		if (starts_query(s))
			s->facts |= SQL_F_SET_SUBQUERY;
		scan_watch(s);
	}
	return tokens == 1 ? plain : VALUE_OTHER;
}

static bool read_sign(struct scan *s)
{
	if (s->now->kind != TOKEN_EQUAL && s->now->kind != TOKEN_ASSIGN)
		return false;
	scan_advance(s);
	return true;
}

/* Variables */

static bool is_transaction(uint64_t facts)
{
	return (facts & SQL_F_SET_TRANSACTION_SESSION) != 0;
}

static void set_untracked(struct scan *s, struct sql_span name, enum set_value value)
{
	bool reset = text_is(s, name, "timestamp") && (value == VALUE_DEFAULT || value == VALUE_FALSE);

	if (!reset)
		s->facts = (s->facts | SQL_F_UNTRACKED) & ~SQL_F_UNTRACKED_RESET;
	else if (!(s->facts & SQL_F_UNTRACKED))
		s->facts |= SQL_F_UNTRACKED_RESET;
}

static void set_one_shot(struct scan *s, struct sql_span name, enum set_value value)
{
	bool read_only = text_is(s, name, "tx_read_only") || text_is(s, name, "transaction_read_only");

	s->facts |= SQL_F_ONESHOT;
	if (read_only && value != VALUE_FALSE)
		s->facts |= SQL_F_ONESHOT_READ_ONLY;
}

static void collect_name(struct set_names *names, struct sql_span name)
{
	if (names->count < names->size)
		names->out[names->count] = name;
	names->count++;
}

static void set_session(struct scan *s, enum set_scope scope, struct sql_span name, enum set_value value)
{
	uint64_t facts = variable_set_facts((const char *)s->lexer.text + name.at, name.len);

	if (scope == SCOPE_AT && is_transaction(facts)) {
		set_one_shot(s, name, value);
		return;
	}
	if (s->set_names)
		collect_name(s->set_names, name);
	if (facts & SQL_F_UNTRACKED)
		set_untracked(s, name, value);
	/* Switching it on commits what is open. */
	if (facts & SQL_F_SETS_AUTOCOMMIT && value != VALUE_FALSE)
		s->facts |= SQL_F_ENDS_TRX;
	s->facts |= SQL_F_SETS_SESSION | (facts & ~SQL_F_UNTRACKED);
}

/* In a routine's body a bare name may be a local variable or a parameter. */
static bool is_local(const struct scan *s, enum set_scope scope, struct sql_span name)
{
	return s->in_body && scope == SCOPE_NONE &&
	       !variable_is_session((const char *)s->lexer.text + name.at, name.len);
}

static void set_variable(struct scan *s, enum set_scope scope, struct sql_span name, enum set_value value)
{
	if (scope == SCOPE_GLOBAL)
		scan_raise(s, SQL_F_SETS_GLOBAL, SQL_TO_PRIMARY);
	else if (scope == SCOPE_OTHER)
		scan_raise(s, 0, s->in_body ? SQL_TO_HELD : SQL_TO_PRIMARY);
	else if (!is_local(s, scope, name))
		set_session(s, scope, name, value);
}

static bool scope_word(const struct scan *s, struct sql_span word, enum set_scope *scope)
{
	if (text_is(s, word, "global") || text_is(s, word, "persist") || text_is(s, word, "persist_only"))
		*scope = SCOPE_GLOBAL;
	else if (text_is(s, word, "session") || text_is(s, word, "local"))
		*scope = SCOPE_SESSION;
	else
		return false;
	return true;
}

/* name, schema.name, and behind @@ scope.name; empty where none is. */
static struct sql_span variable_name(struct scan *s, enum set_scope *scope)
{
	struct sql_span name = s->now->inner, first = name;
	uint32_t parts = 1;

	if (!scan_is_name(s))
		return (struct sql_span){0, 0};
	for (scan_advance(s); s->now->kind == TOKEN_DOT; parts++) {
		scan_advance(s);
		if (!scan_is_name(s))
			return (struct sql_span){0, 0};
		name = s->now->inner;
		scan_advance(s);
	}
	if (parts == 1)
		return name;
	if (parts > 2 || *scope != SCOPE_AT || !scope_word(s, first, scope)) {
		if (*scope != SCOPE_GLOBAL)
			*scope = SCOPE_OTHER;
	}
	return name;
}

static void assignment(struct scan *s, enum set_scope scope)
{
	struct sql_span name;

	if (s->now->kind == TOKEN_SYSVAR) {
		scope = SCOPE_AT;
		scan_advance(s);
	}
	name = variable_name(s, &scope);
	if (!name.len || !read_sign(s)) {
		/* Not understood: perhaps a form of SET that came later than this code. */
		scan_raise(s, SQL_F_OPAQUE, SQL_TO_PRIMARY);
		value(s);
		return;
	}
	set_variable(s, scope, name, value(s));
}

static void user_variable(struct scan *s)
{
	s->facts |= SQL_F_SETS_UVAR;
	scan_advance(s);
	read_sign(s);
	value(s);
}

/* The forms with words of their own */

static void names(struct scan *s)
{
	s->facts |= SQL_F_SETS_SESSION;
	value(s);
}

/* [SESSION | GLOBAL] TRANSACTION ISOLATION LEVEL x, READ ONLY */
static void transaction(struct scan *s, enum set_scope scope)
{
	if (scope == SCOPE_GLOBAL)
		scan_raise(s, SQL_F_SETS_GLOBAL, SQL_TO_PRIMARY);
	else if (scope == SCOPE_SESSION)
		s->facts |= SQL_F_SETS_SESSION | SQL_F_SET_TRANSACTION_SESSION;
	else
		s->facts |= SQL_F_ONESHOT;
	for (; !scan_at_end(s); scan_advance(s))
		if (scope == SCOPE_NONE && scan_word(s) == W_ONLY && s->before->word->id == W_READ)
			s->facts |= SQL_F_ONESHOT_READ_ONLY;
}

/* Does an assignment follow, so that the word is a variable of that name? */
static bool is_assigned(const struct scan *s)
{
	struct token next = scan_peek(s);

	return next.kind == TOKEN_EQUAL || next.kind == TOKEN_ASSIGN;
}

/* One item of the list. The scope word stays in force for the items behind it. */
static void item(struct scan *s, enum set_scope *scope)
{
	if (s->now->kind == TOKEN_UVAR) {
		user_variable(s);
		return;
	}
	if (s->now->kind == TOKEN_WORD && !is_assigned(s) && scope_word(s, s->now->inner, scope))
		scan_advance(s);
	if (!is_assigned(s))
		switch (scan_word(s)) {
		case W_TRANSACTION:
			transaction(s, *scope);
			return;
		case W_NAMES:
		case W_CHARACTER:
		case W_CHARSET:
		case W_CHAR:
			names(s);
			return;
		default:
			break;
		}
	assignment(s, *scope);
}

static void list(struct scan *s)
{
	enum set_scope scope = SCOPE_NONE;

	while (!scan_at_end(s)) {
		item(s, &scope);
		if (s->now->kind == TOKEN_COMMA)
			scan_advance(s);
		else
			scan_skip_rest(s);
	}
	/* A SET that asks the data goes where the question may go. */
	if (!(s->facts & SQL_F_SET_SUBQUERY))
		scan_raise(s, 0, SQL_TO_HELD);
}

/* SET STATEMENT a = 1, b = 2 FOR statement: at STATEMENT. */
static void for_statement(struct scan *s)
{
	enum sql_target target;
	uint64_t facts;

	for (scan_advance(s); !scan_at_end(s) && scan_word(s) != W_FOR; scan_advance(s)) {
		struct sql_span name = s->now->inner;

		if (scan_is_name(s) && (text_is(s, name, "tx_read_only") || text_is(s, name, "transaction_read_only")))
			scan_raise(s, 0, SQL_TO_PRIMARY);
		scan_watch(s);
	}
	target = s->target;
	facts = s->facts | SQL_F_SET_STATEMENT;
	scan_advance(s);
	s->nested++;
	scan_statement(s);
	s->nested--;
	scan_raise(s, facts, target);
}

static void role(struct scan *s)
{
	scan_raise(s, SQL_F_SETS_ROLE, SQL_TO_HELD);
	scan_skip_rest(s);
}

static void resource_group(struct scan *s)
{
	scan_raise(s, SQL_F_OPAQUE, SQL_TO_PRIMARY);
	scan_skip_rest(s);
}

void scan_set(struct scan *s)
{
	s->verb = SQL_SET;
	scan_advance(s);
	/* SET PASSWORD = ... is no variable, but in a body any other word may be one. */
	if (is_assigned(s) && (s->in_body || scan_word(s) != W_PASSWORD)) {
		list(s);
		return;
	}
	switch (scan_word(s)) {
	case W_STATEMENT:
		for_statement(s);
		break;
	case W_PASSWORD:
	case W_DEFAULT:
		grant(s);
		break;
	case W_ROLE:
		role(s);
		break;
	case W_RESOURCE:
		resource_group(s);
		break;
	default:
		list(s);
		break;
	}
}
