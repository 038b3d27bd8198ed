/*
 * The words the classifier knows: grammar, built-in functions, functions with an effect. The table is made at compile time by
 * make_words.py.
 */
#ifndef TANDEM_SQL_WORDS_H
#define TANDEM_SQL_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/word_ids.h"

enum {
	WORD_GRAMMAR = 1, /* in front of "(" it is not a call of a stored function */
	WORD_PURE = 2,	  /* a built-in that only computes, when "(" follows at once */
	WORD_CALL = 4,	  /* a built-in with `facts` and `target` when "(" follows */
	WORD_WATCH = 8,	  /* the scan of an expression must look at it */
};

struct word {
	uint64_t hash;
	uint64_t facts;
	const char *text;
	uint16_t id;
	uint8_t flags;
	uint8_t target;
	uint8_t len;
};

/* No word. */
extern const struct word word_none;

/* The word with this hash (lexer.h) and folded text, or word_none. Never NULL. `text` is compared
 * only when the hash agrees and the word is longer than the 8 bytes for which the hash is exact. */
const struct word *word_find(uint64_t hash, const char *text, uint32_t len);

/* Is the text equal to this lower-case word, whatever its own case? */
bool word_equals(const char *text, uint32_t len, const char *lower);
/* Finds it in a sorted array of lower-case words; -1 when it is not there. */
int word_search(const char *const *sorted, int count, const char *text, uint32_t len);

#endif
