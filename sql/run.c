#include "sql/scan.h"

/*
 * The fast road over tokens that mean nothing for the judgement: plain words, numbers, short strings, commas, brackets. It takes as
 * many as it can with everything in registers and leaves the rest, and all that is unusual, to lexer_next(). What it takes it
 * takes exactly as the slow road would: the digest and the last three tokens are the same.
 */

enum run_class {
	RUN_STOP, /* the slow road's */
	RUN_LETTER,
	RUN_DIGIT,
	RUN_SINGLE, /* a token by itself: its kind is in `singles` */
	RUN_OPEN,
	RUN_DOT,
	RUN_QUOTE,
	RUN_SPACE,
};

static const uint8_t classes[256] = {
	['A' ... 'Z'] = RUN_LETTER, ['a' ... 'z'] = RUN_LETTER, ['_'] = RUN_LETTER, ['0' ... '9'] = RUN_DIGIT,
	[','] = RUN_SINGLE, ['='] = RUN_SINGLE, [')'] = RUN_SINGLE, ['('] = RUN_OPEN, ['.'] = RUN_DOT,
	['\''] = RUN_QUOTE, [' '] = RUN_SPACE, ['\t' ... '\r'] = RUN_SPACE,
};

static const uint8_t singles[256] = {
	[','] = TOKEN_COMMA, ['='] = TOKEN_EQUAL, [')'] = TOKEN_CLOSE,
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
	uint64_t hash;
	enum digest_state state;
	struct token *now;
	struct token *before;
	struct token *second;
};

/* Eight bytes, zeros past the end. The text has at least eight. */
static inline uint64_t load(const struct run *r, const unsigned char *p)
{
	size_t left = (size_t)(r->end - p);

	if (left >= 8)
		return bytes_load(p);
	return left ? bytes_load(r->end - 8) >> (64 - 8 * left) : 0;
}

/* The number of bytes in front of the first whose bit in `fits` is missing; not all fit. */
static inline unsigned count_fitting(uint64_t fits)
{
	return (unsigned)__builtin_ctzll(~fits & BYTES(0x80)) / 8;
}

/* Makes the bytes up to `end` the current token. */
static inline void take(struct run *r, enum token_kind kind, const unsigned char *end, const struct word *word)
{
	struct token *t = r->second;

	r->second = r->before;
	r->before = r->now;
	r->now = t;
	t->kind = kind;
	t->at = (uint32_t)(r->at - r->text);
	t->len = (uint32_t)(end - r->at);
	t->inner = (struct sql_span){t->at, t->len};
	t->word = word;
	r->at = end;
}

static inline void digest(struct run *r, enum digest_item item, uint64_t hash)
{
	uint8_t move = digest_moves[r->state][item];

	if (!(move & DIGEST_QUIET)) {
		if (r->state >= FOLD_HOLDING)
			r->hash = digest_hash_held(r->state, r->hash);
		r->hash = word_mix(r->hash, hash);
	}
	r->state = (enum digest_state)(move & ~DIGEST_QUIET);
}

static inline bool run_word(struct run *r)
{
	const unsigned char *p = r->at;
	uint64_t hash = 0, v = load(r, p), letters, words = bytes_of_words(v, &letters);
	const struct word *word;
	unsigned n;

	for (; words == BYTES(0x80); words = bytes_of_words(v, &letters)) {
		hash = word_mix(hash, __builtin_bswap64(v | letters >> 2));
		p += 8;
		v = load(r, p);
	}
	n = count_fitting(words);
	if (spoils[v >> 8 * n & 0xff] & SPOILS_WORD)
		return false;
	if (n)
		hash = word_mix(hash, __builtin_bswap64(v | letters >> 2) >> (64 - 8 * n));
	word = word_find(hash, r->at, (uint32_t)(p + n - r->at));
	if (word->flags & (WORD_WATCH | WORD_LITERAL))
		return false;
	take(r, TOKEN_WORD, p + n, word);
	digest(r, DIGEST_OTHER, hash);
	return true;
}

/* Up to seven digits. */
static inline bool run_number(struct run *r)
{
	uint64_t v = load(r, r->at), digits = bytes_between(v & BYTES(0x7f), '0', '9') & ~v;
	unsigned n;

	if (digits == BYTES(0x80))
		return false;
	n = count_fitting(digits);
	if (spoils[v >> 8 * n & 0xff] & SPOILS_NUMBER)
		return false;
	take(r, TOKEN_NUMBER, r->at + n, word_none);
	digest(r, DIGEST_LITERAL, '?');
	return true;
}

static inline uint64_t bytes_equal(uint64_t v, unsigned char c)
{
	v ^= BYTES(c);
	return ~(((v & BYTES(0x7f)) + BYTES(0x7f)) | v) & BYTES(0x80);
}

/* A string without quotes or backslashes inside, in a character set whose wide characters hide none. */
static inline bool run_string(struct run *r)
{
	const unsigned char *p = r->at + 1;
	uint64_t v, stop = 0;

	for (; r->end - p >= 8; p += 8) {
		v = bytes_load(p);
		stop = bytes_equal(v, '\'') | bytes_equal(v, '\\');
		if (stop)
			break;
	}
	if (!stop)
		return false;
	p += __builtin_ctzll(stop) / 8;
	if (*p != '\'' || (p + 1 < r->end && p[1] == '\''))
		return false;
	take(r, TOKEN_STRING, p + 1, word_none);
	digest(r, DIGEST_LITERAL, '?');
	return true;
}

/* A bracket behind what can be no function. */
static inline bool run_open(struct run *r)
{
	const struct token *name = r->now;

	if (name->kind == TOKEN_QUOTED || (name->kind == TOKEN_WORD && !(name->word->flags & WORD_GRAMMAR)) ||
	    r->before->kind == TOKEN_DOT)
		return false;
	take(r, TOKEN_OPEN, r->at + 1, word_none);
	digest(r, DIGEST_OPEN, '(');
	return true;
}

/* A dot behind what can be no schema of the server's, in front of a name. */
static inline bool run_dot(struct run *r)
{
	if (r->now->kind != TOKEN_WORD || r->now->word->flags & WORD_SCHEMA || r->end - r->at < 2 ||
	    classes[r->at[1]] == RUN_DIGIT)
		return false;
	take(r, TOKEN_DOT, r->at + 1, word_none);
	digest(r, DIGEST_OTHER, '.');
	return true;
}

static inline bool run_single(struct run *r, unsigned c)
{
	enum token_kind kind = (enum token_kind)singles[c];

	take(r, kind, r->at + 1, word_none);
	digest(r, kind == TOKEN_COMMA ? DIGEST_COMMA : kind == TOKEN_CLOSE ? DIGEST_CLOSE : DIGEST_OTHER, c);
	return true;
}

static inline bool run_token(struct run *r)
{
	unsigned class;

	while (r->at < r->end && classes[*r->at] == RUN_SPACE)
		r->at++;
	if (r->at >= r->end)
		return false;
	class = classes[*r->at];
	if (class == RUN_LETTER)
		return run_word(r);
	if (class == RUN_SINGLE)
		return run_single(r, *r->at);
	if (class == RUN_DIGIT)
		return run_number(r);
	if (class == RUN_QUOTE)
		return run_string(r);
	if (class == RUN_DOT)
		return run_dot(r);
	return class == RUN_OPEN && run_open(r);
}

void scan_run(struct scan *s)
{
	struct run r = {
		.text = s->lexer.text,
		.at = s->lexer.text + s->lexer.at,
		.end = s->lexer.text + s->lexer.len,
		.hash = s->digest.hash,
		.state = s->digest.state,
		.now = s->now,
		.before = s->before,
		.second = s->second,
	};

	/* A comment that is code may end anywhere; a sign waits for its number; wide characters may hide quotes. */
	if (s->lexer.in_code || s->lexer.charset != SQL_CHARSET_SAFE || s->lexer.len < 8 || r.state == FOLD_SIGN || s->digest.text)
		return;
	while (run_token(&r))
		;
	s->lexer.at = (uint32_t)(r.at - r.text);
	s->digest.hash = r.hash;
	s->digest.state = r.state;
	s->now = r.now;
	s->before = r.before;
	s->second = r.second;
}
