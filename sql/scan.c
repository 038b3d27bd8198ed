#include "sql/scan.h"

#include <string.h>

static const uint8_t ranks[] = {
	[SQL_TO_REPLICA] = 0, [SQL_TO_HELD] = 1, [SQL_TO_ROLE] = 2, [SQL_TO_LAST] = 3, [SQL_TO_PRIMARY] = 4,
};

/* Functions that come from components or plugins, so that no catalog lists them, and that act on the server. */
static const char *const acting_prefixes[] = {
	"asynchronous_connection_failover_", "audit_", "group_replication_", "keyring_", "mysql_firewall_",
	"mysql_query_attribute", "set_firewall_", "version_tokens_",
};

void scan_raise(struct scan *s, uint64_t facts, enum sql_target target)
{
	s->facts |= facts;
	if (ranks[target] > ranks[s->target])
		s->target = target;
}

void scan_primary(struct scan *s, enum sql_verb verb, uint64_t facts)
{
	s->verb = verb;
	scan_raise(s, facts, SQL_TO_PRIMARY);
}

static inline void lex(struct scan *s)
{
	scan_turn(s, (size_t)(s->now - s->tokens) + 1);
	lexer_next(&s->lexer, s->now);
}

/* To the next token of this statement, when there is one. */
static inline void advance(struct scan *s)
{
	lex(s);
	if (!scan_at_end(s))
		digest_add(&s->digest, s->now, s->before);
}

void scan_advance(struct scan *s)
{
	if (!scan_at_end(s))
		advance(s);
}

void scan_next_statement(struct scan *s)
{
	struct token semicolon = *s->now, before = *s->before;

	lex(s);
	/* A semicolon at the very end means nothing. */
	if (s->now->kind != TOKEN_END) {
		digest_add(&s->digest, &semicolon, &before);
		if (s->now->kind != TOKEN_SEMICOLON)
			digest_add(&s->digest, s->now, &semicolon);
	}
}

struct token scan_peek(const struct scan *s)
{
	struct lexer lexer = s->lexer;
	struct token token;

	if (scan_at_end(s))
		return *s->now;
	lexer_next(&lexer, &token);
	return token;
}

void scan_add_function(struct scan *s, struct sql_span name)
{
	const char *text = (const char *)s->lexer.text;
	struct sql_meaning *out = s->out;
	uint8_t i;

	s->facts |= SQL_F_FUNCTIONS;
	for (i = 0; i < out->function_count; i++)
		if (out->functions[i].len == name.len && !memcmp(text + out->functions[i].at, text + name.at, name.len))
			return;
	if (out->function_count == SQL_MAX_FUNCTIONS)
		s->facts |= SQL_F_MANY_FUNCTIONS;
	else
		out->functions[out->function_count++] = name;
}

static bool acts(const char *name, uint32_t len)
{
	size_t i;

	for (i = 0; i < sizeof(acting_prefixes) / sizeof(acting_prefixes[0]); i++) {
		uint32_t n = (uint32_t)strlen(acting_prefixes[i]);

		if (len >= n && word_equals(name, n, acting_prefixes[i]))
			return true;
	}
	return false;
}

static bool has_from(const struct scan *s)
{
	struct lexer lexer = s->lexer;
	struct token token;

	lexer.at = 0;
	do
		lexer_next(&lexer, &token);
	while (token.kind != TOKEN_END && token.word->id != W_FROM);
	return token.kind != TOKEN_END;
}

/* Locks are counted, one for each statement that takes one. Where a statement may take more, by a second call, once for each
 * row, or in a loop, nobody can know when the last one is gone. */
static void take_lock(struct scan *s)
{
	bool again = (s->facts | s->out->facts) & SQL_F_GET_LOCK;

	if (s->in_body || again || has_from(s))
		s->facts |= SQL_F_OPAQUE;
}

static void known_call(struct scan *s, const struct word *word)
{
	if (word->facts & SQL_F_GET_LOCK)
		take_lock(s);
	if (word->id != W_LAST_INSERT_ID)
		scan_raise(s, word->facts, (enum sql_target)word->target);
	else if (scan_peek(s).kind == TOKEN_CLOSE)
		scan_raise(s, SQL_F_READS_LAST_ID, SQL_TO_LAST);
	else
		scan_raise(s, SQL_F_SETS_LAST_ID, SQL_TO_PRIMARY);
}

/* At a "(" behind a name. */
static void call(struct scan *s)
{
	const struct token *name = s->before;
	const struct sql_span span = token_name(name);
	const struct word *word = name->word;
	bool qualified = s->second->kind == TOKEN_DOT;
	bool adjacent = name->at + name->len == s->now->at;

	if (!qualified && word->flags & WORD_GRAMMAR)
		return;
	if (!qualified && word->flags & WORD_CALL) {
		known_call(s, word);
		return;
	}
	/* With a gap "count (1)" is a stored function of that name, if there is one. */
	if (s->no_functions || (!qualified && adjacent && word->flags & WORD_PURE))
		return;
	/* An alias or a table with its columns. */
	if (s->second->word->id == W_AS || s->second->word->id == W_INTO || s->second->word->id == W_TABLE)
		return;
	if (acts((const char *)s->lexer.text + span.at, span.len))
		scan_raise(s, 0, SQL_TO_PRIMARY);
	scan_add_function(s, span);
}

/* Behind INTO of a SELECT. */
static void into(struct scan *s)
{
	struct token next = scan_peek(s);

	if (next.word->id == W_OUTFILE || next.word->id == W_DUMPFILE)
		scan_raise(s, SQL_F_INTO, SQL_TO_PRIMARY);
	else if (next.kind == TOKEN_UVAR)
		scan_raise(s, SQL_F_SETS_UVAR, SQL_TO_REPLICA);
	else if (!s->in_body)
		scan_raise(s, 0, SQL_TO_PRIMARY);
}

static bool follows_next_value(const struct scan *s)
{
	return s->before->word->id == W_VALUE && (s->second->word->id == W_NEXT || s->second->word->id == W_PREVIOUS);
}

static void watch_word(struct scan *s)
{
	enum word_id before = (enum word_id)s->before->word->id;

	switch (s->now->word->id) {
	case W_UPDATE:
	case W_SHARE:
		if (before == W_FOR)
			scan_raise(s, SQL_F_LOCKING_READ, SQL_TO_PRIMARY);
		break;
	case W_LOCK:
		if (scan_peek(s).word->id == W_IN)
			scan_raise(s, SQL_F_LOCKING_READ, SQL_TO_PRIMARY);
		break;
	case W_FOR:
		if (follows_next_value(s))
			scan_raise(s, SQL_F_SEQUENCE, SQL_TO_PRIMARY);
		break;
	case W_INTO:
		into(s);
		break;
	case W_SQL_CALC_FOUND_ROWS:
		scan_raise(s, SQL_F_CALC_FOUND_ROWS, SQL_TO_REPLICA);
		break;
	default:
		break;
	}
}

/* s.nextval and s.currval are sequences where sql_mode is ORACLE. */
static void watch_member(struct scan *s)
{
	enum word_id id = (enum word_id)s->now->word->id;

	if (s->context->oracle && (id == W_NEXTVAL || id == W_CURRVAL))
		scan_raise(s, SQL_F_SEQUENCE, SQL_TO_PRIMARY);
}

static inline void watch(struct scan *s)
{
	switch (s->now->kind) {
	case TOKEN_WORD:
		if (!(s->now->word->flags & WORD_WATCH))
			break;
		if (s->before->kind == TOKEN_DOT)
			watch_member(s);
		else
			watch_word(s);
		break;
	case TOKEN_OPEN:
		if (s->before->kind == TOKEN_WORD || s->before->kind == TOKEN_QUOTED)
			call(s);
		break;
	case TOKEN_DOT:
		if (s->second->kind != TOKEN_DOT)
			schema_read(s);
		break;
	case TOKEN_UVAR:
		s->facts |= SQL_F_READS_UVAR;
		break;
	case TOKEN_ASSIGN:
		if (s->before->kind == TOKEN_UVAR)
			s->facts |= SQL_F_SETS_UVAR;
		break;
	case TOKEN_SYSVAR:
		variable_read(s);
		break;
	default:
		break;
	}
}

void scan_watch(struct scan *s)
{
	watch(s);
}

void scan_rest(struct scan *s)
{
	while (!scan_at_end(s)) {
		watch(s);
		/* What the watching stopped at may be the end. */
		if (scan_at_end(s))
			break;
		scan_run(s);
		advance(s);
	}
}

void scan_skip_rest(struct scan *s)
{
	while (!scan_at_end(s))
		scan_advance(s);
}

bool scan_name(struct scan *s, struct sql_span *qualifier, struct sql_span *name)
{
	*qualifier = *name = (struct sql_span){0, 0};
	if (!scan_is_name(s))
		return false;
	*name = token_name(s->now);
	scan_advance(s);
	while (s->now->kind == TOKEN_DOT) {
		scan_advance(s);
		if (!scan_is_name(s))
			break;
		*qualifier = *name;
		*name = token_name(s->now);
		scan_advance(s);
	}
	return true;
}

static void clear(struct sql_meaning *out)
{
	const size_t behind = offsetof(struct sql_meaning, functions) + sizeof(out->functions);

	memset(out, 0, offsetof(struct sql_meaning, functions));
	memset((char *)out + behind, 0, sizeof(*out) - behind);
}

/* Field by field instead of one memset(), and of the meaning's functions only the number: a short statement takes 100 ns, so
 * this counts. */
void scan_init(struct scan *s, const struct sql_context *context, const char *text, size_t len, struct sql_meaning *out)
{
	clear(out);
	lexer_init(&s->lexer, context, text, len);
	digest_init(&s->digest);
	s->context = context;
	s->out = out;
	scan_turn(s, 0);
	s->before->kind = s->second->kind = TOKEN_END;
	s->before->word = s->second->word = word_none;
	s->before->at = s->before->len = 0;
	s->verb = SQL_EMPTY;
	s->target = SQL_TO_REPLICA;
	s->facts = 0;
	s->no_functions = s->in_body = s->is_named = false;
	s->nested = 0;
	s->set_names = NULL;
	lexer_next(&s->lexer, s->now);
	if (!scan_at_end(s))
		digest_add(&s->digest, s->now, s->before);
}
