#include "sql/scan.h"

/* Common subexpressions kept in registers crowd out what the loop needs there: 3 % slower. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-gcse")
#endif

/*
 * The fast road over tokens that mean nothing for the judgement: plain words, numbers, short strings, commas, brackets. It takes as
 * many as it can with everything in registers and leaves the rest, and all that is unusual, to lexer_next(). What it takes it
 * takes exactly as the slow road would: the digest and the last three tokens are the same.
 */

/* All in one function, so that struct run lives in registers. */
#define ALWAYS_INLINE inline __attribute__((always_inline))

enum run_class {
	RUN_OTHER,
	RUN_LETTER,
	RUN_SPACE,
	RUN_DIGIT,
	RUN_ANGLE,
};

static const uint8_t classes[256] = {
	['A' ... 'Z'] = RUN_LETTER, ['a' ... 'z'] = RUN_LETTER, ['_'] = RUN_LETTER,
	[' '] = RUN_SPACE, ['\t' ... '\r'] = RUN_SPACE, ['0' ... '9'] = RUN_DIGIT, ['<'] = RUN_ANGLE, ['>'] = RUN_ANGLE,
};

/* Bytes that are a token by themselves. */
static const struct {
	uint8_t kind;
	uint8_t item;
} singles[256] = {
	[','] = {TOKEN_COMMA, DIGEST_COMMA}, ['='] = {TOKEN_EQUAL, DIGEST_OTHER}, [')'] = {TOKEN_CLOSE, DIGEST_CLOSE},
	['*'] = {TOKEN_OPERATOR, DIGEST_OTHER}, ['%'] = {TOKEN_OPERATOR, DIGEST_OTHER}, ['?'] = {TOKEN_PARAM, DIGEST_LITERAL},
};

/* Bytes behind a word or a number that make it something else: x'1f', _utf8'a', 1.5, 2nd, a$b, wide characters. */
static const uint8_t spoils[256] = {
	['\''] = 1, ['"'] = 1, ['$'] = 1, [0x80 ... 0xff] = 1,
	/* numbers only */
	['.'] = 2, ['A' ... 'Z'] = 2, ['a' ... 'z'] = 2, ['_'] = 2,
};

enum { SPOILS_WORD = 1, SPOILS_NUMBER = 3 };

struct run {
	const unsigned char *text;
	const unsigned char *at;
	const unsigned char *end;
	const unsigned char *far; /* the last place with 16 bytes to look at */
	uint64_t hash;
	enum digest_state state;
	struct token *tokens;
	size_t now; /* index of the current one */
};

static inline bool between(unsigned c, unsigned low, unsigned high)
{
	return c - low <= high - low;
}

/* Eight bytes, zeros past the end. The text has at least eight. */
static ALWAYS_INLINE uint64_t load(const struct run *r, const unsigned char *p)
{
	size_t left = (size_t)(r->end - p);

	if (left >= 8)
		return bytes_load(p);
	return left ? bytes_load(r->end - 8) >> (64 - 8 * left) : 0;
}

/* Eight times the number of bytes in front of the first whose bit in `fits` is missing; not all fit. */
static inline unsigned bits_fitting(uint64_t fits)
{
	return (unsigned)__builtin_ctzll(~fits & BYTES(0x80)) - 7;
}

/* Makes the bytes up to `end` the current token. Words and what else comes here have no `inner`: see token_name(). */
static ALWAYS_INLINE void take(struct run *r, enum token_kind kind, const unsigned char *end, const struct word *word)
{
	struct token *t = &r->tokens[r->now = (r->now + 1) % SCAN_TOKENS];

	t->kind = kind;
	t->at = (uint32_t)(r->at - r->text);
	t->len = (uint32_t)(end - r->at);
	t->word = word;
	r->at = end;
}

static ALWAYS_INLINE void digest(struct run *r, enum digest_item item, uint64_t hash)
{
	uint8_t move = digest_moves[r->state][item];

	if (!(move & DIGEST_QUIET)) {
		if (r->state >= FOLD_HOLDING)
			r->hash = digest_hash_held(r->state, r->hash);
		r->hash = word_mix(r->hash, hash);
	}
	r->state = (enum digest_state)(move & ~DIGEST_QUIET);
}

/* What is no part of a list ends it. */
static ALWAYS_INLINE void digest_other(struct run *r, uint64_t hash)
{
	if (r->state >= FOLD_HOLDING)
		r->hash = digest_hash_held(r->state, r->hash);
	r->hash = word_mix(r->hash, hash);
	r->state = FOLD_NONE;
}

/* Moves `p` from the start of a word to its end and adds it to the hash; false when this road is not for it. */
static ALWAYS_INLINE bool word_end(const struct run *r, const unsigned char **p, uint64_t *hash)
{
	uint64_t v, letters, words;
	unsigned bits;

	for (;; *p += 8) {
		v = load(r, *p);
		words = bytes_of_words(v, &letters);
		if (words != BYTES(0x80))
			break;
		*hash = word_mix(*hash, __builtin_bswap64(v | letters >> 2));
	}
	bits = bits_fitting(words);
	if (bits)
		*hash = word_mix(*hash, __builtin_bswap64(v | letters >> 2) >> (64 - bits));
	*p += bits / 8;
	return !(spoils[v >> bits & 0xff] & SPOILS_WORD);
}

/* The usual gap, taken where it is known to be usual; run_token() skips all others. */
static ALWAYS_INLINE void skip_one_space(struct run *r)
{
	if (r->at < r->end)
		r->at += *r->at == ' ';
}

static ALWAYS_INLINE bool run_word(struct run *r)
{
	const unsigned char *p = r->at;
	const struct word *word;
	uint64_t hash = 0;

	if (p <= r->far && bytes_short_word(&p, &hash)) {
		if (spoils[*p] & SPOILS_WORD)
			return false;
	} else if (!word_end(r, &p, &hash)) {
		return false;
	}
	word = word_find(hash, r->at, (uint32_t)(p - r->at));
	if (word->flags & (WORD_WATCH | WORD_LITERAL))
		return false;
	take(r, TOKEN_WORD, p, word);
	digest_other(r, hash);
	skip_one_space(r);
	return true;
}

/* Up to seven digits. */
static ALWAYS_INLINE bool run_number(struct run *r)
{
	uint64_t v = load(r, r->at), digits = bytes_between(v & BYTES(0x7f), '0', '9') & ~v;
	unsigned bits;

	if (digits == BYTES(0x80))
		return false;
	bits = bits_fitting(digits);
	if (spoils[v >> bits & 0xff] & SPOILS_NUMBER)
		return false;
	take(r, TOKEN_NUMBER, r->at + bits / 8, word_none);
	digest(r, DIGEST_LITERAL, '?');
	return true;
}

/* A short identifier in backquotes. */
static ALWAYS_INLINE bool run_quoted(struct run *r)
{
	const unsigned char *p = r->at + 1;
	uint64_t hash = 0;

	if (p > r->far || classes[*p] != RUN_LETTER || !bytes_short_word(&p, &hash) || *p != '`' || p + 1 >= r->end ||
	    p[1] == '`')
		return false;
	take(r, TOKEN_QUOTED, p + 1, word_none);
	r->tokens[r->now].inner = (struct sql_span){r->tokens[r->now].at + 1, r->tokens[r->now].len - 2};
	r->tokens[r->now].hash = hash;
	digest_other(r, hash);
	return true;
}

/* A string without quotes or backslashes inside, in a character set whose wide characters hide none. */
static ALWAYS_INLINE bool run_string(struct run *r)
{
	const unsigned char *p = bytes_find_quote(r->at + 1, r->end, '\'');

	if (p >= r->end || *p != '\'' || (p + 1 < r->end && p[1] == '\''))
		return false;
	take(r, TOKEN_STRING, p + 1, word_none);
	digest(r, DIGEST_LITERAL, '?');
	return true;
}

/* A bracket behind what can be no function. */
static ALWAYS_INLINE bool run_open(struct run *r)
{
	const struct token *name = &r->tokens[r->now], *before = &r->tokens[(r->now + SCAN_TOKENS - 1) % SCAN_TOKENS];

	if (name->kind == TOKEN_QUOTED || (name->kind == TOKEN_WORD && !(name->word->flags & WORD_GRAMMAR)) ||
	    before->kind == TOKEN_DOT)
		return false;
	take(r, TOKEN_OPEN, r->at + 1, word_none);
	digest(r, DIGEST_OPEN, '(');
	return true;
}

/* A dot behind what can be no schema of the server's, in front of a name. */
static ALWAYS_INLINE bool run_dot(struct run *r)
{
	const struct token *name = &r->tokens[r->now];

	if (name->kind != TOKEN_WORD || name->word->flags & WORD_SCHEMA || r->end - r->at < 2 ||
	    between(r->at[1], '0', '9'))
		return false;
	take(r, TOKEN_DOT, r->at + 1, word_none);
	digest_other(r, '.');
	return true;
}

static ALWAYS_INLINE bool run_single(struct run *r, unsigned c)
{
	take(r, (enum token_kind)singles[c].kind, r->at + 1, word_none);
	digest(r, (enum digest_item)singles[c].item, c);
	return true;
}

/* < or > alone. */
static ALWAYS_INLINE bool run_angle(struct run *r, unsigned c)
{
	if (r->end - r->at < 2 || between(r->at[1], '<', '>'))
		return false;
	take(r, TOKEN_OPERATOR, r->at + 1, word_none);
	digest_other(r, c);
	return true;
}

static ALWAYS_INLINE bool run_token(struct run *r)
{
	unsigned c, class;

	do {
		if (r->at >= r->end)
			return false;
		c = *r->at;
		class = classes[c];
	} while (class == RUN_SPACE && r->at++);
	if (class == RUN_LETTER)
		return run_word(r);
	if (singles[c].kind)
		return run_single(r, c);
	if (class == RUN_DIGIT)
		return run_number(r);
	if (c == '\'')
		return run_string(r);
	if (c == '(')
		return run_open(r);
	if (c == '.')
		return run_dot(r);
	if (c == '`')
		return run_quoted(r);
	return class == RUN_ANGLE && run_angle(r, c);
}

void scan_run(struct scan *s)
{
	struct run r = {
		.text = s->lexer.text,
		.at = s->lexer.text + s->lexer.at,
		.end = s->lexer.text + s->lexer.len,
		.far = s->lexer.len < 16 ? NULL : s->lexer.text + s->lexer.len - 16,
		.hash = s->digest.hash,
		.state = s->digest.state,
		.tokens = s->tokens,
		.now = (size_t)(s->now - s->tokens),
	};

	/* A comment that is code may end anywhere; a sign waits for its number; wide characters may hide quotes. */
	if (s->lexer.in_code || s->lexer.charset != SQL_CHARSET_SAFE || s->lexer.len < 8 || r.state == FOLD_SIGN || s->digest.text)
		return;
	while (run_token(&r))
		;
	s->lexer.at = (uint32_t)(r.at - r.text);
	s->digest.hash = r.hash;
	s->digest.state = r.state;
	scan_turn(s, r.now);
}
