/*
 * The words the classifier knows: grammar, built-in functions, functions with an effect. The tables are made at compile time by
 * make_words.py.
 */
#ifndef TANDEM_SQL_WORDS_H
#define TANDEM_SQL_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/word_ids.h"

enum {
	WORD_GRAMMAR = 1,  /* in front of "(" it is not a call of a stored function */
	WORD_PURE = 2,	   /* a built-in that only computes, when "(" follows at once */
	WORD_CALL = 4,	   /* a built-in with `facts` and `target` when "(" follows */
	WORD_WATCH = 8,	   /* the scan of an expression must look at it */
	WORD_LITERAL = 16, /* NULL and the like: a literal in a list */
	WORD_SCHEMA = 32,  /* in front of a dot it is a schema that describes a server */
};

struct word {
	uint64_t facts;
	const char *text;
	uint16_t id;
	uint8_t flags;
	uint8_t target;
	uint8_t len;
};

/* A perfect hash: every word has a slot of its own. Hashes are kept apart from the rest, for most lookups are of identifiers
 * and end there. The last entry is no word: id W_NONE, no flags. */
extern const struct word word_list[WORD_SLOTS + 1];
extern const uint64_t word_hashes[WORD_SLOTS];
extern const uint16_t word_shifts[256];

#define word_none (&word_list[WORD_SLOTS])

/* Is the text equal to this lower-case word, whatever its own case? */
bool word_equals(const char *text, uint32_t len, const char *lower);
/* Finds it in a sorted array of lower-case words; -1 when it is not there. */
int word_search(const char *const *sorted, int count, const char *text, uint32_t len);

/* The word with this hash (lexer.h) and folded text, or word_none. Never NULL. Up to 8 bytes the hash is exact; only longer
 * words are compared. */
static inline const struct word *word_find(uint64_t hash, const unsigned char *text, uint32_t len)
{
	uint32_t at = ((uint32_t)(hash >> WORD_WINDOW) ^ word_shifts[hash >> 56]) % WORD_SLOTS;

	if (word_hashes[at] != hash || !hash)
		return word_none;
	if (len > 8 && !word_equals((const char *)text, len, word_list[at].text))
		return word_none;
	return &word_list[at];
}

#endif
