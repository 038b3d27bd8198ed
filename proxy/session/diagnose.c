/*
 * ROW_COUNT() and FOUND_ROWS() belong to a connection, and connections change hands and run statements of Tandem's own: both values went by
 * in the reply to the session's last statement, and are written into the question.
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

bool diagnose_rewrite(struct turn *turn)
{
	const struct client *c = turn->client;
	const char *at = turn->text, *end = at + turn->text_len;
	char out[4096];
	size_t len = 0;
	bool any = false;

	while (at < end && len + 96 < sizeof(out)) {
		bool starts = at == turn->text || !is_word(at[-1]);
		size_t rows = starts ? call_length(at, end, &row_count) : 0;
		size_t found = starts && !rows ? call_length(at, end, &found_rows) : 0;

		if (rows || found) {
			size_t n = rows + found;
			/* LEAST makes it of the type that the function's own result has */
			int put = snprintf(out + len, sizeof(out) - len, "LEAST(%lld,9223372036854775807)",
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
