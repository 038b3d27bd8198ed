#include "proxy/session/question.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proxy/session/freeze.h"
#include "proxy/session/turn.h"

/* ---- Words ---- */

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '.';
}

bool question_has_word(const char *text, size_t len, const char *word)
{
	size_t n = strlen(word);

	for (size_t i = 0; text && i + n <= len; i++)
		if ((text[i] | 0x20) == word[0] && !strncasecmp(text + i, word, n) && (!i || !is_word(text[i - 1])) &&
		    (i + n == len || !is_word(text[i + n])))
			return true;
	return false;
}

bool turn_has_word(const struct turn *turn, const char *word)
{
	return question_has_word(turn->text, turn->text_len, word);
}

/* "from" as a word: near enough to "reads a table". */
bool question_reads_table(const char *text, size_t len)
{
	return question_has_word(text, len, "from") && !question_has_word(text, len, "dual");
}

/* The text of a statement that is prepared or run by name, quotes and all. */
bool question_uses_table(const char *text, size_t len)
{
	static const char *const words[] = { "insert", "update", "delete", "replace", "create", "drop", "alter", "truncate", "rename",
					     "table", "nextval", "lastval" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (question_has_word(text, len, words[i]))
			return true;
	return question_reads_table(text, len);
}

/* ---- What is asked ---- */

static const struct {
	const char *word;
	enum question asks;
	bool is_function;
} words[] = {
	{ "row_count", ASKS_ROW_COUNT, true },
	{ "found_rows", ASKS_FOUND_ROWS, true },
	{ "@@warning_count", ASKS_WARNINGS, false },
	{ "@@session.warning_count", ASKS_WARNINGS, false },
	{ "@@local.warning_count", ASKS_WARNINGS, false },
	{ "@@error_count", ASKS_ERRORS, false },
	{ "@@session.error_count", ASKS_ERRORS, false },
	{ "@@local.error_count", ASKS_ERRORS, false },
};

static const char *skip_spaces(const char *at, const char *end)
{
	while (at < end && isspace((unsigned char)*at))
		at++;
	return at;
}

/* Past a quoted run that begins at `at`. */
static const char *skip_quoted(const char *at, const char *end)
{
	char quote = *at++;

	while (at < end && *at != quote)
		at += *at == '\\' && quote != '`' ? 2 : 1;
	return at < end ? at + 1 : end;
}

/* The question that stands at `at`, and its length. */
static enum question question_at(const char *text, const char *at, const char *end, size_t *len)
{
	if (at > text && (is_word(at[-1]) || at[-1] == '@'))
		return ASKS_NOTHING;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i].word);
		const char *p = at + n;

		if ((size_t)(end - at) < n || strncasecmp(at, words[i].word, n) || (p < end && is_word(*p)))
			continue;
		if (words[i].is_function) {
			p = skip_spaces(p, end);
			p = p < end && *p == '(' ? skip_spaces(p + 1, end) : end;
			if (p == end || *p++ != ')')
				continue;
		}
		*len = (size_t)(p - at);
		return words[i].asks;
	}
	return ASKS_NOTHING;
}

/* Bits by enum question. Statements behind a semicolon ask about the one in front of them. */
unsigned questions_in(const struct turn *t)
{
	const char *at = t->text, *end = at + t->text_len;
	unsigned found = 0;
	size_t len;

	while (at < end && *at != ';') {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
			continue;
		}
		found |= 1u << question_at(t->text, at, end, &len);
		at++;
	}
	return found;
}

/* ---- Writing values into a question ---- */

void question_put_value(char *out, size_t size, const struct client *c, enum question asks)
{
	/* LEAST and the sum make it of the type and length that the function's or variable's own result has */
	switch (asks) {
	case ASKS_ROW_COUNT:
		snprintf(out, size, "(0+LEAST(%lld,9223372036854775807))", (long long)c->row_count);
		break;
	case ASKS_FOUND_ROWS:
		snprintf(out, size, "(0+LEAST(%llu,9223372036854775807))", (unsigned long long)c->found_rows);
		break;
	default:
		snprintf(out, size, "LEAST(CAST(%llu AS UNSIGNED),18446744073709551615)",
			 !c->list ? 0 : (unsigned long long)(asks == ASKS_WARNINGS ? c->list->warnings : c->list->errors));
	}
}

void rewrite_put(struct rewrite *rewrite, const char *text, size_t len)
{
	struct rewrite *r = rewrite;

	if (r->len + len > sizeof(r->out)) {
		r->full = true;
		return;
	}
	memcpy(r->out + r->len, text, len);
	r->len += len;
}

static bool word_here(const struct rewrite *r, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(r->end - r->at) >= n && !strncasecmp(r->at, word, n) && (r->at == r->turn->text || !is_word(r->at[-1])) &&
	       (r->at + n == r->end || !is_word(r->at[n]));
}

static bool ends_select_list(const struct rewrite *r)
{
	static const char *const after[] = { "from", "into", "where", "limit", "order", "group", "having", "union", "for", "procedure", "as",
					     "except", "intersect" };

	if (*r->at == ';')
		return true;
	for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++)
		if (word_here(r, after[i]))
			return true;
	return false;
}

/* "a+1 b": the last word stands behind a space and no operator. */
static bool has_bare_alias(const char *from, const char *to)
{
	const char *word = to;

	while (word > from && (is_word(word[-1]) || word[-1] == '`' || word[-1] == '"' || word[-1] == '\''))
		word--;
	if (word == to || word == from || !isspace((unsigned char)word[-1]))
		return false;
	while (word > from && isspace((unsigned char)word[-1]))
		word--;
	return word > from && (is_word(word[-1]) || word[-1] == ')' || word[-1] == '`');
}

/* A changed expression without a name of its own gets the name that it would have had. */
static void end_item(struct rewrite *r, bool named)
{
	const char *from = r->item.from, *to = r->at;

	if (from && r->item.changed && !named) {
		from = skip_spaces(from, to);
		while (to > from && isspace((unsigned char)to[-1]))
			to--;
		if (!has_bare_alias(from, to) && !memchr(from, '`', (size_t)(to - from))) {
			while (r->len && isspace((unsigned char)r->out[r->len - 1]))
				r->len--;
			rewrite_put(r, " AS `", 5);
			rewrite_put(r, from, (size_t)(to - from));
			rewrite_put(r, "` ", to < r->at ? 2 : 1);
		}
	}
	r->item = (struct item){ 0 };
}

static void look_for_item(struct rewrite *r)
{
	if (*r->at == ',') {
		end_item(r, false);
		r->item.from = r->at + 1;
	} else if (word_here(r, "as")) {
		end_item(r, true);
	} else if (ends_select_list(r)) {
		end_item(r, false);
		r->in_list = false;
	}
}

static void copy_quoted(struct rewrite *r)
{
	const char *past = skip_quoted(r->at, r->end);

	rewrite_put(r, r->at, (size_t)(past - r->at));
	r->at = past;
}

static void rewrite_step(struct rewrite *r, unsigned replace)
{
	size_t len = 0;
	enum question asks = question_at(r->turn->text, r->at, r->end, &len);
	char value[96];

	if (1u << asks & replace) {
		question_put_value(value, sizeof(value), r->turn->client, asks);
		rewrite_put(r, value, strlen(value));
		r->at += len;
		r->any = r->item.changed = true;
		return;
	}
	if (!r->depth && r->in_list)
		look_for_item(r);
	r->depth += (*r->at == '(') - (*r->at == ')');
	if (!r->depth && word_here(r, "select")) {
		rewrite_put(r, r->at, 6);
		r->at += 6;
		r->item = (struct item){ .from = r->at };
		r->in_list = true;
		return;
	}
	rewrite_put(r, r->at++, 1);
}

bool question_rewrite(struct turn *turn, unsigned replace)
{
	struct rewrite r = { .turn = turn, .at = turn->text, .end = turn->text + turn->text_len };

	while (r.at < r.end && *r.at != ';' && !r.full) {
		if (*r.at == '\'' || *r.at == '"' || *r.at == '`')
			copy_quoted(&r);
		else
			rewrite_step(&r, replace);
	}
	if (!r.depth)
		end_item(&r, false);
	rewrite_put(&r, r.at, (size_t)(r.end - r.at));
	return r.any && !r.full && turn_set_text(turn, r.out, r.len);
}

void rewrite_put_text(struct rewrite *rewrite, const char *text)
{
	rewrite_put(rewrite, text, strlen(text));
}

/* ---- Parts ---- */

/* A word outside of quotes, given in lower case. */
bool question_has_plain_word(const struct turn *t, const char *word)
{
	const char *at = t->text, *end = at + t->text_len;
	size_t n = strlen(word);

	while (at < end) {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
			continue;
		}
		if ((*at | 0x20) == *word && (size_t)(end - at) >= n && !strncasecmp(at, word, n) && (at == t->text || !is_word(at[-1])) &&
		    (at + n == end || !is_word(at[n])))
			return true;
		at++;
	}
	return false;
}

/* The end of the statement that begins at `at`: its semicolon or the end of all. */
const char *question_part_end(const char *at, const char *end)
{
	while (at < end && *at != ';') {
		if (*at == '\'' || *at == '"' || *at == '`') {
			at = skip_quoted(at, end);
		} else if (end - at > 1 && at[0] == '/' && at[1] == '*') {
			const char *closed = memmem(at + 2, (size_t)(end - at - 2), "*/", 2);

			at = closed ? closed + 2 : end;
		} else if (*at == '#' || (end - at > 2 && at[0] == '-' && at[1] == '-' && isspace((unsigned char)at[2]))) {
			const char *line = memchr(at, '\n', (size_t)(end - at));

			at = line ? line : end;
		} else {
			at++;
		}
	}
	return at;
}
