#include "sql/sql.h"

#include <string.h>

#include "sql/scan.h"

static const char *const verbs[] = {
	[SQL_EMPTY] = "empty",
	[SQL_SELECT] = "select",
	[SQL_EXPLAIN] = "explain",
	[SQL_SHOW] = "show",
	[SQL_INSERT] = "insert",
	[SQL_REPLACE] = "replace",
	[SQL_UPDATE] = "update",
	[SQL_DELETE] = "delete",
	[SQL_LOAD] = "load",
	[SQL_CALL] = "call",
	[SQL_DO] = "do",
	[SQL_SET] = "set",
	[SQL_USE] = "use",
	[SQL_BEGIN] = "begin",
	[SQL_COMMIT] = "commit",
	[SQL_ROLLBACK] = "rollback",
	[SQL_SAVEPOINT] = "savepoint",
	[SQL_XA] = "xa",
	[SQL_LOCK_TABLES] = "lock_tables",
	[SQL_UNLOCK_TABLES] = "unlock_tables",
	[SQL_HANDLER] = "handler",
	[SQL_PREPARE] = "prepare",
	[SQL_EXECUTE] = "execute",
	[SQL_EXECUTE_IMMEDIATE] = "execute_immediate",
	[SQL_DEALLOCATE] = "deallocate",
	[SQL_KILL] = "kill",
	[SQL_CREATE] = "create",
	[SQL_ALTER] = "alter",
	[SQL_DROP] = "drop",
	[SQL_TRUNCATE] = "truncate",
	[SQL_RENAME] = "rename",
	[SQL_GRANT] = "grant",
	[SQL_ADMIN] = "admin",
	[SQL_DIAGNOSTICS] = "diagnostics",
	[SQL_SIGNAL] = "signal",
	[SQL_COMPOUND] = "compound",
	[SQL_HELP] = "help",
	[SQL_OTHER] = "other",
};

static const char *const targets[] = {
	[SQL_TO_REPLICA] = "replica", [SQL_TO_PRIMARY] = "primary", [SQL_TO_HELD] = "held",
	[SQL_TO_LAST] = "last",	      [SQL_TO_ROLE] = "role",
};

static const char *const facts[] = {
	"opens_trx", "ends_trx", "trx_read_only", "trx_read_write", "oneshot", "oneshot_read_only", "reads_uvar", "sets_uvar",
	"reads_last_id", "reads_last", "calc_found_rows", "sets_last_id", "creates_temp", "drops_table", "get_lock",
	"release_lock", "release_all_locks", "flush_lock", "backup_stage", "backup_end", "handler_open", "handler_close",
	"xa_open", "xa_close", "sequence", "profiling", "untracked", "untracked_reset", "sets_role", "sets_global",
	"sets_session", "sets_autocommit", "catalog", "accounts", "functions", "many_functions", "locking_read", "into",
	"multi", "connection_id", "set_subquery", "no_binlog", "opaque", "local_infile", "identity_read", "too_long",
	"session_state_read", "ends_with_comment", "set_statement", "set_transaction_session", "temp_named",
	"plain_view",
};

const char *sql_verb_name(enum sql_verb verb)
{
	return (size_t)verb < sizeof(verbs) / sizeof(verbs[0]) ? verbs[verb] : "other";
}

const char *sql_target_name(enum sql_target target)
{
	return (size_t)target < sizeof(targets) / sizeof(targets[0]) ? targets[target] : "primary";
}

const char *sql_fact_name(unsigned bit)
{
	return bit < sizeof(facts) / sizeof(facts[0]) ? facts[bit] : NULL;
}

static const struct {
	const char *prefix;
	enum sql_charset charset;
} charsets[] = {
	/* gb2312, euckr, ujis and eucjpms are safe: their second bytes are never a quote or a backslash. */
	{"gb18030", SQL_CHARSET_GB18030}, {"gbk", SQL_CHARSET_GBK},	{"big5", SQL_CHARSET_BIG5},
	{"sjis", SQL_CHARSET_SJIS},	  {"cp932", SQL_CHARSET_SJIS},
};

enum sql_charset sql_charset_of(const char *name, size_t len)
{
	size_t i;

	for (i = 0; i < sizeof(charsets) / sizeof(charsets[0]); i++) {
		uint32_t n = (uint32_t)strlen(charsets[i].prefix);

		if (len >= n && word_equals(name, n, charsets[i].prefix) && (len == n || name[n] == '_'))
			return charsets[i].charset;
	}
	return SQL_CHARSET_SAFE;
}

static bool has_effect(enum sql_target target)
{
	return target == SQL_TO_PRIMARY || target == SQL_TO_HELD;
}

/* Several statements in a packet: all must agree on where to run, else it is the primary's. A question about the last
 * statement may lead, for then it asks about one before the packet. */
static enum sql_target join(enum sql_target first, enum sql_target next)
{
	if (first == next || (first == SQL_TO_LAST && next == SQL_TO_REPLICA))
		return first;
	return SQL_TO_PRIMARY;
}

/* Does it name a prepared statement, whose meaning only its name tells? */
static bool is_named(enum sql_verb verb)
{
	return verb == SQL_PREPARE || verb == SQL_EXECUTE || verb == SQL_DEALLOCATE;
}

static void add_part(struct scan *s, struct sql_meaning *out)
{
	/* The same bytes might be cut in another way by a server whose character set we do not know. */
	if (s->lexer.doubt)
		scan_raise(s, 0, SQL_TO_PRIMARY);
	if (!out->parts) {
		out->verb = s->verb;
		out->target = s->target;
	} else {
		if (has_effect(s->target) && !has_effect(out->target))
			out->verb = s->verb;
		out->target = join(out->target, s->target);
	}
	if (out->parts && (is_named(s->verb) || s->is_named))
		s->facts |= SQL_F_OPAQUE;
	s->is_named |= is_named(s->verb);
	out->facts |= s->facts;
	out->parts++;
}

/* Names and numbers belong to one statement; of several nobody could say whose they are. */
static void finish_multi(const struct scan *s, struct sql_meaning *out)
{
	out->facts = (out->facts | SQL_F_MULTI) & ~SQL_F_TEMP_NAMED;
	out->name = out->qualifier = out->text = (struct sql_span){0, 0};
	out->has_using = out->kill_query = out->kill_query_id = false;
	out->kill_id = 0;
	if (!s->context->multi_statements || out->facts & SQL_F_OPAQUE)
		out->target = SQL_TO_PRIMARY;
}

static void finish(struct scan *s, size_t len, struct sql_meaning *out)
{
	out->digest = digest_end(&s->digest);
	out->hint = s->lexer.hint;
	out->hint_server = s->lexer.hint_server;
	if (s->lexer.unterminated) {
		out->facts |= SQL_F_ENDS_WITH_COMMENT;
		out->target = SQL_TO_PRIMARY;
	}
	if (len > UINT32_MAX) {
		out->facts |= SQL_F_TOO_LONG;
		out->target = SQL_TO_PRIMARY;
	}
	if (out->parts > 1)
		finish_multi(s, out);
}

static void judge_parts(struct scan *s, struct sql_meaning *out)
{
	out->verb = SQL_EMPTY;
	out->target = SQL_TO_REPLICA;
	for (;;) {
		if (!scan_at_end(s)) {
			scan_statement(s);
			scan_skip_rest(s);
			add_part(s, out);
		}
		if (s->now->kind == TOKEN_END)
			break;
		scan_next_statement(s);
	}
}

void sql_classify(const struct sql_context *context, const char *text, size_t len, struct sql_meaning *out)
{
	struct scan s;

	scan_init(&s, context, text, len, out);
	judge_parts(&s, out);
	finish(&s, len, out);
}

size_t sql_first_part(const struct sql_context *context, const char *text, size_t len)
{
	struct sql_meaning ignored;
	struct scan s;

	scan_init(&s, context, text, len, &ignored);
	if (!context->multi_statements || scan_at_end(&s))
		return len;
	scan_statement(&s);
	scan_skip_rest(&s);
	if (s.now->kind != TOKEN_SEMICOLON || s.lexer.doubt || s.lexer.unterminated)
		return len;
	return s.now->at;
}

unsigned sql_set_names(const struct sql_context *context, const char *text, size_t len, struct sql_span *out, unsigned size)
{
	struct set_names names = {.out = out, .size = size};
	struct sql_meaning ignored;
	struct scan s;

	scan_init(&s, context, text, len, &ignored);
	s.set_names = &names;
	judge_parts(&s, &ignored);
	return names.count;
}

bool sql_mentions(const struct sql_context *context, const char *text, size_t len,
		  bool (*seen)(void *arg, const char *name, size_t len), void *arg)
{
	struct lexer lexer;
	struct token token;

	lexer_init(&lexer, context, text, len);
	for (lexer_next(&lexer, &token); token.kind != TOKEN_END; lexer_next(&lexer, &token)) {
		struct sql_span name = token_name(&token);

		if ((token.kind == TOKEN_WORD || token.kind == TOKEN_QUOTED) && seen(arg, text + name.at, name.len))
			return true;
	}
	return false;
}

size_t sql_normalise(const struct sql_context *context, const char *text, size_t len, char *out, size_t size)
{
	struct digest_text normal = {.source = text, .out = out, .size = size};
	struct sql_meaning ignored;
	struct scan s;

	/* Begun twice, for the first token is in the digest when scan_init() returns. */
	scan_init(&s, context, text, len, &ignored);
	lexer_init(&s.lexer, context, text, len);
	digest_init(&s.digest);
	s.digest.text = &normal;
	s.before->kind = TOKEN_END;
	lexer_next(&s.lexer, s.now);
	if (!scan_at_end(&s))
		digest_add(&s.digest, s.now, s.before);
	while (s.now->kind != TOKEN_END) {
		scan_skip_rest(&s);
		if (s.now->kind == TOKEN_SEMICOLON)
			scan_next_statement(&s);
	}
	digest_end(&s.digest);
	return normal.len;
}
