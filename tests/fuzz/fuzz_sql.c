/*
 * Any bytes as a statement: the classifier ends, stays inside, says the same twice and on both of its roads, and says the same
 * when white space and comments grow where there were some already. The first byte of an input is the context, the rest is the text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sql/lexer.h"
#include "sql/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fine)
{
	if (!fine)
		abort();
}

static struct sql_context context_of(uint8_t bits)
{
	return (struct sql_context){
		.flavour = bits & 1 ? SQL_MYSQL : SQL_MARIADB,
		.version = bits & 1 ? 90704 : 101119,
		.charset = bits & 2 ? (enum sql_charset)(1 + (bits >> 6)) : SQL_CHARSET_SAFE,
		.ansi_quotes = bits & 4,
		.no_backslash_escapes = bits & 8,
		.oracle = bits & 16,
		.multi_statements = bits & 32,
	};
}

static void check_span(struct sql_span span, size_t len)
{
	check(span.at <= len && span.len <= len - span.at);
}

static void check_meaning(const struct sql_meaning *m, size_t len)
{
	check(m->digest != 0);
	check(m->verb <= SQL_OTHER && m->target <= SQL_TO_ROLE);
	check(m->function_count <= SQL_MAX_FUNCTIONS);
	check(!m->function_count == !(m->facts & SQL_F_FUNCTIONS));
	check(!(m->facts & SQL_F_LOCKING_READ) || m->target == SQL_TO_PRIMARY);
	for (unsigned i = 0; i < m->function_count; i++)
		check_span(m->functions[i], len);
	check_span(m->hint_server, len);
	check_span(m->name, len);
	check_span(m->qualifier, len);
	check_span(m->text, len);
}

/* The same statement with more in every gap. */
static size_t widen(const struct sql_context *context, const char *text, size_t len, char *out)
{
	static const char more[] = " \t/* x ' ` \" */\n";
	struct lexer lexer;
	struct token token;
	size_t end = 0, size = 0;

	lexer_init(&lexer, context, text, len);
	do {
		lexer_next(&lexer, &token);
		/* White space behind a dash may turn it and the one before into a comment. */
		if (token.at > end && !(end && text[end - 1] == '-')) {
			memcpy(out + size, more, sizeof(more) - 1);
			size += sizeof(more) - 1;
		}
		memcpy(out + size, text + end, token.at + token.len - end);
		size += token.at + token.len - end;
		end = token.at + token.len;
	} while (token.kind != TOKEN_END);
	check(end == len);
	return size;
}

static void check_widened(const struct sql_context *context, const char *text, size_t len, const struct sql_meaning *m)
{
	char *wide = malloc(len * 18 + 18);
	size_t wide_len = widen(context, text, len, wide);
	struct sql_meaning other;

	sql_classify(context, wide, wide_len, &other);
	check(other.digest == m->digest && other.verb == m->verb && other.target == m->target && other.facts == m->facts &&
	      other.parts == m->parts && other.hint == m->hint && other.function_count == m->function_count);
	free(wide);
}

static bool is_ascii(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] & 0x80)
			return false;
	return true;
}

/* The fast road over plain tokens is closed to character sets that hide bytes. Over ASCII both roads must lead to the same. */
static void check_roads(const struct sql_context *context, const char *text, size_t len, const struct sql_meaning *m)
{
	struct sql_context slow = *context;
	struct sql_meaning other;

	if (context->charset != SQL_CHARSET_SAFE || !is_ascii(text, len))
		return;
	slow.charset = SQL_CHARSET_BIG5;
	memset(&other, 0, sizeof(other));
	sql_classify(&slow, text, len, &other);
	check(memcmp(m, &other, sizeof(other)) == 0); /* NOLINT: all were cleared, padding too */
}

static void check_normal(const struct sql_context *context, const char *text, size_t len)
{
	char all[64];
	size_t wanted = sql_normalise(context, text, len, NULL, 0);

	memset(all, 'x', sizeof(all));
	check(sql_normalise(context, text, len, all, sizeof(all)) == wanted);
	check(memchr(all, '\0', sizeof(all)) != NULL);
	check(sql_normalise(context, text, len, all, 1) == wanted && all[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_meaning m, again;
	struct sql_context context;
	const char *text;

	if (size < 1)
		return 0;
	context = context_of(data[0]);
	text = (const char *)data + 1;
	size--;
	memset(&m, 0, sizeof(m));
	memset(&again, 0, sizeof(again));
	sql_classify(&context, text, size, &m);
	check_meaning(&m, size);
	sql_classify(&context, text, size, &again);
	check(memcmp(&m, &again, sizeof(m)) == 0); /* NOLINT: both were cleared, padding too */
	check_widened(&context, text, size, &m);
	check_roads(&context, text, size, &m);
	check_normal(&context, text, size);
	sql_classify_body(&context, text, size, &m);
	check_meaning(&m, size);
	return 0;
}
