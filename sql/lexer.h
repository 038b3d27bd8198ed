/*
 * Bytes -> tokens, as the servers' own lexers cut them: the five kinds of comment, strings in every quoting, identifiers,
 * variables, numbers. It leaves meaning to classify.c.
 */
#ifndef TANDEM_SQL_LEXER_H
#define TANDEM_SQL_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "sql/sql.h"
#include "sql/words.h"

enum token_kind {
	TOKEN_END,
	TOKEN_SEMICOLON,
	TOKEN_WORD,   /* bare word: keyword or identifier */
	TOKEN_QUOTED, /* identifier in quotes; `inner` is without them */
	TOKEN_STRING,
	TOKEN_NUMBER,
	TOKEN_PARAM,  /* ? */
	TOKEN_UVAR,   /* @name; `inner` is the name */
	TOKEN_SYSVAR, /* @@ alone; its name follows as words and dots */
	TOKEN_DOT,
	TOKEN_OPEN,
	TOKEN_CLOSE,
	TOKEN_COMMA,
	TOKEN_EQUAL,
	TOKEN_ASSIGN, /* := */
	TOKEN_MINUS,  /* + or - */
	TOKEN_OPERATOR,
};

struct token {
	enum token_kind kind;
	uint32_t at;
	uint32_t len;
	struct sql_span inner;	 /* not for words: see token_name() */
	uint64_t hash;		 /* of the folded text, words and quoted identifiers alike; all literals share one */
	const struct word *word; /* word_none for everything but a TOKEN_WORD that is known */
} __attribute__((aligned(64))); /* a cache line each; their index is a shift */

/* The text of a word or of an identifier without its quotes. */
static inline struct sql_span token_name(const struct token *token)
{
	return token->kind == TOKEN_WORD ? (struct sql_span){token->at, token->len} : token->inner;
}

struct lexer {
	const unsigned char *text;
	uint32_t len;
	uint32_t at;
	uint32_t version;
	enum sql_charset charset;
	bool mariadb;
	bool utf8;
	bool ansi_quotes;
	bool no_backslash;
	bool in_code;	   /* inside a comment that is code */
	bool unterminated; /* the text ended inside a comment or a quote */
	bool doubt;	   /* bytes that servers with another character set may cut in another way */
	enum sql_hint hint;
	struct sql_span hint_server;
};

void lexer_init(struct lexer *lexer, const struct sql_context *context, const char *text, size_t len);
/* The next token; TOKEN_END again and again at the end. */
void lexer_next(struct lexer *lexer, struct token *token);

/* The 64-bit hash of folded text, 8 bytes at a time; exact (no two texts share one) up to 8 bytes. Part of the digest, so it
 * never changes. */
static inline uint64_t word_mix(uint64_t hash, uint64_t eight)
{
	hash = (hash ^ eight) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

/* Eight bytes at a time. A mask has the top bit of each byte that fits. */

#define BYTES(c) (UINT64_C(0x0101010101010101) * (c))

static inline uint64_t bytes_load(const unsigned char *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	v = __builtin_bswap64(v);
#endif
	return v;
}

/* Which of the bytes, all below 0x80, lie in low..high? */
static inline uint64_t bytes_between(uint64_t v, unsigned char low, unsigned char high)
{
	return (v + BYTES(0x80 - low)) & ~(v + BYTES(0x7f - high)) & BYTES(0x80);
}

/* Letters, digits and _, not $; in `letters` the letters alone. Bytes from 0x80 on do not fit. */
static inline uint64_t bytes_of_words(uint64_t v, uint64_t *letters)
{
	uint64_t low = v & BYTES(0x7f), ascii = ~v & BYTES(0x80);
	uint64_t underscores = ~((low ^ BYTES('_')) + BYTES(0x7f));

	*letters = bytes_between(low | BYTES(0x20), 'a', 'z') & ascii;
	return *letters | ((bytes_between(low, '0', '9') | underscores) & ascii);
}

/* Which bytes are `c`? */
static inline uint64_t bytes_equal(uint64_t v, unsigned char c)
{
	v ^= BYTES(c);
	return ~(((v & BYTES(0x7f)) + BYTES(0x7f)) | v) & BYTES(0x80);
}

/* The first quote or backslash from `p` on, or the place from which on there are fewer than eight bytes to look at. */
static inline const unsigned char *bytes_find_quote(const unsigned char *p, const unsigned char *end, unsigned char quote)
{
	uint64_t v, stop;

#ifdef __SSE2__
	for (; end - p >= 16; p += 16) {
		__m128i sixteen = _mm_loadu_si128((const __m128i *)(const void *)p);
		unsigned found = (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(sixteen, _mm_set1_epi8((char)quote)),
									  _mm_cmpeq_epi8(sixteen, _mm_set1_epi8('\\'))));

		if (found)
			return p + __builtin_ctz(found);
	}
#endif
	for (; end - p >= 8; p += 8) {
		v = bytes_load(p);
		stop = bytes_equal(v, quote) | bytes_equal(v, '\\');
		if (stop)
			return p + __builtin_ctzll(stop) / 8;
	}
	return p;
}

#ifdef __SSE2__
/* Moves `p` to the end of a word of 1 to 15 bytes, with 16 to look at, and sets its hash; false when it is longer. */
static inline bool bytes_short_word(const unsigned char **p, uint64_t *hash)
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)*p);
	/* The smallest signed byte is the lowest of the range; one comparison then finds all of it. */
	__m128i from_a = _mm_add_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8((char)(0x80 - 'a')));
	__m128i from_0 = _mm_add_epi8(v, _mm_set1_epi8((char)(0x80 - '0')));
	__m128i letters = _mm_cmplt_epi8(from_a, _mm_set1_epi8(-128 + 26));
	__m128i others = _mm_or_si128(_mm_cmplt_epi8(from_0, _mm_set1_epi8(-128 + 10)), _mm_cmpeq_epi8(v, _mm_set1_epi8('_')));
	__m128i folded = _mm_or_si128(v, _mm_and_si128(letters, _mm_set1_epi8(0x20)));
	unsigned n = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(_mm_or_si128(letters, others)));
	uint64_t eight = __builtin_bswap64((uint64_t)_mm_cvtsi128_si64(folded));

	if (n >= 16)
		return false;
	if (n > 8) {
		*hash = word_mix(0, eight);
		eight = __builtin_bswap64((uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(folded, folded)));
		*hash = word_mix(*hash, eight >> (128 - 8 * n));
	} else {
		*hash = word_mix(0, eight >> (64 - 8 * n));
	}
	*p += n;
	return true;
}
#else
static inline bool bytes_short_word(const unsigned char **p, uint64_t *hash)
{
	(void)p, (void)hash;
	return false;
}
#endif

#endif
