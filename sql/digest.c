#include "sql/digest.h"

#include <stdbool.h>

/* What has been seen. Items in brackets are held back: they vanish when the list goes on. */
enum fold_state {
	FOLD_NONE,
	FOLD_LIST,	 /* ?             a literal, perhaps of a list */
	FOLD_LIST_COMMA, /* ? [,] */
	FOLD_OPEN,	 /* ( */
	FOLD_ROW,	 /* ( ? */
	FOLD_ROW_COMMA,	 /* ( ? [,] */
	FOLD_ROWS,	 /* ( ? )         a row, perhaps the first of many */
	FOLD_NEXT,	 /* ( ? ) [,] */
	FOLD_NEXT_OPEN,	 /* ( ? ) [, (] */
	FOLD_NEXT_ROW,	 /* ( ? ) [, ( ?] */
	FOLD_NEXT_COMMA, /* ( ? ) [, ( ? ,] */
	FOLD_STATES,
};

/* The state after an item, and whether the item is held back (HOLD), swallowed (DROP: it and what was held are part of the list),
 * or given out after what was held (0). */
enum { HOLD = 0x40, DROP = 0x80, STATE = 0x3f };

static const uint8_t moves[FOLD_STATES][5] = {
	[FOLD_NONE] = {FOLD_LIST, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_LIST] = {FOLD_LIST, FOLD_LIST_COMMA | HOLD, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_LIST_COMMA] = {FOLD_LIST | DROP, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_OPEN] = {FOLD_ROW, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_ROW] = {FOLD_LIST, FOLD_ROW_COMMA | HOLD, FOLD_OPEN, FOLD_ROWS, FOLD_NONE},
	[FOLD_ROW_COMMA] = {FOLD_ROW | DROP, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_ROWS] = {FOLD_LIST, FOLD_NEXT | HOLD, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_NEXT] = {FOLD_LIST, FOLD_NONE, FOLD_NEXT_OPEN | HOLD, FOLD_NONE, FOLD_NONE},
	[FOLD_NEXT_OPEN] = {FOLD_NEXT_ROW | HOLD, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_NEXT_ROW] = {FOLD_LIST, FOLD_NEXT_COMMA | HOLD, FOLD_OPEN, FOLD_ROWS | DROP, FOLD_NONE},
	[FOLD_NEXT_COMMA] = {FOLD_NEXT_ROW | HOLD, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
};

static const char *const held[FOLD_STATES] = {
	[FOLD_LIST_COMMA] = ",",	[FOLD_ROW_COMMA] = ",",	 [FOLD_NEXT] = ",",
	[FOLD_NEXT_OPEN] = ",(", [FOLD_NEXT_ROW] = ",(?", [FOLD_NEXT_COMMA] = ",(?,",
};

static const uint8_t items[] = {
	[TOKEN_END] = DIGEST_OTHER,   [TOKEN_SEMICOLON] = DIGEST_OTHER, [TOKEN_WORD] = DIGEST_OTHER,
	[TOKEN_QUOTED] = DIGEST_OTHER, [TOKEN_STRING] = DIGEST_LITERAL, [TOKEN_NUMBER] = DIGEST_LITERAL,
	[TOKEN_PARAM] = DIGEST_LITERAL, [TOKEN_UVAR] = DIGEST_OTHER,	[TOKEN_SYSVAR] = DIGEST_OTHER,
	[TOKEN_DOT] = DIGEST_OTHER,   [TOKEN_OPEN] = DIGEST_OPEN,	[TOKEN_CLOSE] = DIGEST_CLOSE,
	[TOKEN_COMMA] = DIGEST_COMMA, [TOKEN_EQUAL] = DIGEST_OTHER,	[TOKEN_ASSIGN] = DIGEST_OTHER,
	[TOKEN_MINUS] = DIGEST_OTHER, [TOKEN_OPERATOR] = DIGEST_OTHER,
};

static const char *const marks[] = {
	[TOKEN_SEMICOLON] = ";", [TOKEN_STRING] = "?", [TOKEN_NUMBER] = "?", [TOKEN_PARAM] = "?", [TOKEN_SYSVAR] = "@@",
	[TOKEN_DOT] = ".", [TOKEN_OPEN] = "(", [TOKEN_CLOSE] = ")", [TOKEN_COMMA] = ",", [TOKEN_EQUAL] = "=",
	[TOKEN_ASSIGN] = ":=", [TOKEN_OPERATOR] = NULL,
};

static void put(struct digest *d, char c)
{
	if (d->len + 1 < d->size)
		d->out[d->len] = c;
	d->len++;
	d->last = c;
}

/* Is a space due between the text so far and a piece that starts with `c`? */
static bool wants_space(const struct digest *d, char c, bool call)
{
	if (!d->len || d->last == '(' || d->last == '.' || d->last == '@')
		return false;
	return c != ')' && c != ',' && c != '.' && c != ';' && !(c == '(' && call);
}

static void write_piece(struct digest *d, const char *text, size_t len, bool lower, bool call)
{
	size_t i;

	if (len && wants_space(d, *text, call))
		put(d, ' ');
	for (i = 0; i < len; i++)
		put(d, lower && text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 0x20) : text[i]);
}

static inline void mix(struct digest *d, uint64_t hash)
{
	d->hash = word_mix(d->hash, hash);
}

static void give(struct digest *d, char c)
{
	mix(d, (unsigned char)c);
	if (d->source)
		write_piece(d, &c, 1, false, false);
}

static void give_held(struct digest *d)
{
	const char *c;

	if (held[d->state])
		for (c = held[d->state]; *c; c++)
			give(d, *c);
}

static void write_token(struct digest *d, const struct token *t)
{
	const char *mark = marks[t->kind];
	bool call = d->before == TOKEN_QUOTED || d->before == TOKEN_CLOSE || (d->before == TOKEN_WORD && d->operand);

	if (t->kind == TOKEN_UVAR) {
		write_piece(d, "@", 1, false, false);
		write_piece(d, d->source + t->inner.at, t->inner.len, true, false);
		d->last = 'v';
	} else if (mark) {
		write_piece(d, mark, mark[1] ? 2 : 1, false, call);
	} else if (t->kind == TOKEN_WORD || t->kind == TOKEN_QUOTED) {
		write_piece(d, d->source + t->inner.at, t->inner.len, true, false);
	} else {
		write_piece(d, d->source + t->at, t->len, false, false);
	}
}

static uint64_t token_hash(const struct token *t)
{
	switch (t->kind) {
	case TOKEN_WORD:
	case TOKEN_QUOTED:
	case TOKEN_UVAR:
	case TOKEN_SYSVAR:
	case TOKEN_OPERATOR:
	case TOKEN_ASSIGN:
	case TOKEN_MINUS:
		return t->hash;
	default:
		return (unsigned char)marks[t->kind][0];
	}
}

/* NULL, DEFAULT, TRUE and FALSE are literals inside a list or a row. */
static enum digest_item item_of(const struct digest *d, const struct token *t)
{
	if (t->kind == TOKEN_WORD && (d->before == TOKEN_COMMA || d->before == TOKEN_OPEN))
		switch (t->word->id) {
		case W_NULL:
		case W_DEFAULT:
		case W_TRUE:
		case W_FALSE:
			return DIGEST_LITERAL;
		default:
			break;
		}
	return (enum digest_item)items[t->kind];
}

static void remember(struct digest *d, const struct token *t)
{
	d->before = (uint8_t)t->kind;
	switch (t->kind) {
	case TOKEN_WORD:
		d->operand = !(t->word->flags & WORD_GRAMMAR);
		break;
	case TOKEN_QUOTED:
	case TOKEN_STRING:
	case TOKEN_NUMBER:
	case TOKEN_PARAM:
	case TOKEN_UVAR:
	case TOKEN_CLOSE:
		d->operand = 1;
		break;
	default:
		d->operand = 0;
		break;
	}
}

static void step(struct digest *d, const struct token *t, enum digest_item item)
{
	uint8_t move = moves[d->state][item];

	if (!(move & (HOLD | DROP))) {
		give_held(d);
		mix(d, item == DIGEST_LITERAL ? '?' : token_hash(t));
		if (d->source && item == DIGEST_LITERAL)
			write_piece(d, "?", 1, false, false);
		else if (d->source)
			write_token(d, t);
	}
	d->state = move & STATE;
}

static void give_sign(struct digest *d)
{
	char sign = d->sign;

	d->sign = 0;
	give_held(d);
	d->state = FOLD_NONE;
	give(d, sign);
}

void digest_add(struct digest *d, const struct token *t)
{
	enum digest_item item = item_of(d, t);

	if (d->sign && item != DIGEST_LITERAL)
		give_sign(d);
	d->sign = 0;
	if (t->kind == TOKEN_MINUS && !d->operand) {
		/* The token before stays `before`: "(-5" is a literal behind a bracket. */
		d->sign = (char)t->hash;
		return;
	}
	step(d, t, item);
	remember(d, t);
}

uint64_t digest_end(struct digest *d)
{
	if (d->sign)
		give_sign(d);
	give_held(d);
	d->state = FOLD_NONE;
	if (d->out && d->size)
		d->out[d->len < d->size ? d->len : d->size - 1] = '\0';
	return d->hash ? d->hash : 1;
}

void digest_init(struct digest *d)
{
	*d = (struct digest){.hash = UINT64_C(0x74616e64656d)};
}
