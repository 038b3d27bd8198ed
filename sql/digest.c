#include "sql/digest.h"

#define QUIET(state) ((state) | DIGEST_QUIET)

/* literal, comma, (, ), other. A literal, a comma or a bracket that carries a list on is quiet, for it may vanish; what turns out
 * not to is given by give_held() in front of the item that says so. */
const uint8_t digest_moves[FOLD_STATES][DIGEST_ITEMS] = {
	[FOLD_NONE] = {FOLD_LIST, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_LIST] = {FOLD_LIST, QUIET(FOLD_LIST_COMMA), FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_LIST_COMMA] = {QUIET(FOLD_LIST), FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_OPEN] = {FOLD_ROW, FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_ROW] = {FOLD_LIST, QUIET(FOLD_ROW_COMMA), FOLD_OPEN, FOLD_ROWS, FOLD_NONE},
	[FOLD_ROW_COMMA] = {QUIET(FOLD_ROW), FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_ROWS] = {FOLD_LIST, QUIET(FOLD_NEXT), FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_NEXT] = {FOLD_LIST, FOLD_NONE, QUIET(FOLD_NEXT_OPEN), FOLD_NONE, FOLD_NONE},
	[FOLD_NEXT_OPEN] = {QUIET(FOLD_NEXT_ROW), FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
	[FOLD_NEXT_ROW] = {FOLD_LIST, QUIET(FOLD_NEXT_COMMA), FOLD_OPEN, QUIET(FOLD_ROWS), FOLD_NONE},
	[FOLD_NEXT_COMMA] = {QUIET(FOLD_NEXT_ROW), FOLD_NONE, FOLD_OPEN, FOLD_NONE, FOLD_NONE},
};

static const char *const held[FOLD_STATES] = {
	[FOLD_LIST_COMMA] = ",", [FOLD_ROW_COMMA] = ",",  [FOLD_NEXT] = ",",
	[FOLD_NEXT_OPEN] = ",(", [FOLD_NEXT_ROW] = ",(?", [FOLD_NEXT_COMMA] = ",(?,",
};

const uint8_t digest_items[] = {
	[TOKEN_END] = DIGEST_OTHER,	[TOKEN_SEMICOLON] = DIGEST_OTHER, [TOKEN_WORD] = DIGEST_OTHER,
	[TOKEN_QUOTED] = DIGEST_OTHER,	[TOKEN_STRING] = DIGEST_LITERAL,  [TOKEN_NUMBER] = DIGEST_LITERAL,
	[TOKEN_PARAM] = DIGEST_LITERAL, [TOKEN_UVAR] = DIGEST_OTHER,	  [TOKEN_SYSVAR] = DIGEST_OTHER,
	[TOKEN_DOT] = DIGEST_OTHER,	[TOKEN_OPEN] = DIGEST_OPEN,	  [TOKEN_CLOSE] = DIGEST_CLOSE,
	[TOKEN_COMMA] = DIGEST_COMMA,	[TOKEN_EQUAL] = DIGEST_OTHER,	  [TOKEN_ASSIGN] = DIGEST_OTHER,
	[TOKEN_MINUS] = DIGEST_OTHER,	[TOKEN_OPERATOR] = DIGEST_OTHER,
};

/* Text */

static void put(struct digest_text *text, char c)
{
	if (text->len + 1 < text->size)
		text->out[text->len] = c;
	text->len++;
	text->last = c;
}

/* Is a space due between the text so far and a piece that starts with `c`? */
static bool wants_space(const struct digest_text *text, char c)
{
	if (!text->len || text->last == '(' || text->last == '.' || text->last == '@')
		return false;
	return c != ')' && c != ',' && c != '.' && c != ';' && !(c == '(' && text->after_name);
}

static void write_piece(struct digest_text *text, const char *piece, size_t len)
{
	size_t i;

	if (len && wants_space(text, *piece))
		put(text, ' ');
	for (i = 0; i < len; i++)
		put(text, piece[i] >= 'A' && piece[i] <= 'Z' ? (char)(piece[i] | 0x20) : piece[i]);
}

static void write_variable(struct digest_text *text, const struct token *t)
{
	write_piece(text, "@", 1);
	write_piece(text, text->source + t->inner.at, t->inner.len);
	text->last = 'v';
}

static bool is_name(const struct token *t)
{
	return t->kind == TOKEN_QUOTED || (t->kind == TOKEN_WORD && !(t->word->flags & WORD_GRAMMAR));
}

static void write_token(struct digest_text *text, const struct token *t)
{
	if (t->kind == TOKEN_UVAR)
		write_variable(text, t);
	else if (t->kind == TOKEN_QUOTED)
		write_piece(text, text->source + t->inner.at, t->inner.len);
	else
		write_piece(text, text->source + t->at, t->len);
	text->after_name = is_name(t);
}

/* The machine */

static void give(struct digest *d, char c)
{
	d->hash = word_mix(d->hash, (unsigned char)c);
	if (d->text) {
		write_piece(d->text, &c, 1);
		d->text->after_name = false;
	}
}

static void give_held(struct digest *d)
{
	const char *c;

	for (c = held[d->state]; c && *c; c++)
		give(d, *c);
}

uint64_t digest_hash_held(enum digest_state state, uint64_t hash)
{
	const char *c;

	for (c = held[state]; c && *c; c++)
		hash = word_mix(hash, (unsigned char)*c);
	return hash;
}

static void give_token(struct digest *d, const struct token *t, enum digest_item item)
{
	if (item == DIGEST_LITERAL) {
		give(d, '?');
		return;
	}
	d->hash = word_mix(d->hash, t->hash);
	if (d->text)
		write_token(d->text, t);
}

static void step(struct digest *d, const struct token *t, enum digest_item item)
{
	uint8_t move = digest_moves[d->state][item];

	if (!(move & DIGEST_QUIET)) {
		give_held(d);
		give_token(d, t, item);
	}
	d->state = (enum digest_state)(move & ~DIGEST_QUIET);
}

/* The sign in front was an operator after all, or stands in front of something else. */
static void give_sign(struct digest *d)
{
	d->state = d->signed_state;
	give_held(d);
	give(d, d->sign);
	d->state = FOLD_NONE;
}

/* Can the token be what a minus subtracts from? */
static bool is_operand(const struct token *t)
{
	switch (t->kind) {
	case TOKEN_WORD:
		return !(t->word->flags & WORD_GRAMMAR);
	case TOKEN_QUOTED:
	case TOKEN_STRING:
	case TOKEN_NUMBER:
	case TOKEN_PARAM:
	case TOKEN_UVAR:
	case TOKEN_CLOSE:
		return true;
	default:
		return false;
	}
}

/* NULL, DEFAULT, TRUE and FALSE are literals inside a list or a row. */
static enum digest_item item_of(const struct token *t, const struct token *before)
{
	if (t->word->flags & WORD_LITERAL && (before->kind == TOKEN_COMMA || before->kind == TOKEN_OPEN))
		return DIGEST_LITERAL;
	return (enum digest_item)digest_items[t->kind];
}

void digest_add_slow(struct digest *d, const struct token *t, const struct token *before)
{
	enum digest_item item = item_of(t, before);

	if (d->state == FOLD_SIGN && item == DIGEST_LITERAL)
		d->state = d->signed_state;
	else if (d->state == FOLD_SIGN)
		give_sign(d);
	if (t->kind == TOKEN_MINUS && !is_operand(before)) {
		d->signed_state = d->state;
		d->sign = (char)t->hash;
		d->state = FOLD_SIGN;
		return;
	}
	step(d, t, item);
}

uint64_t digest_end(struct digest *d)
{
	struct digest_text *text = d->text;

	if (d->state == FOLD_SIGN)
		give_sign(d);
	give_held(d);
	d->state = FOLD_NONE;
	if (text && text->size)
		text->out[text->len < text->size ? text->len : text->size - 1] = '\0';
	return d->hash ? d->hash : 1;
}

void digest_init(struct digest *d)
{
	*d = (struct digest){.hash = UINT64_C(0x74616e64656d)};
}
