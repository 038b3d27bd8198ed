/*
 * The normalised form of a statement: literals become ?, lists of literals one ?, rows of literals one row, words are folded to
 * lower case. It exists as a running hash (the digest) and, for people, as text; both come from the same small machine.
 */
#ifndef TANDEM_SQL_DIGEST_H
#define TANDEM_SQL_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sql/lexer.h"

/* What a token is to the machine. */
enum digest_item {
	DIGEST_LITERAL,
	DIGEST_COMMA,
	DIGEST_OPEN,
	DIGEST_CLOSE,
	DIGEST_OTHER,
	DIGEST_ITEMS,
};

/* What has been seen. Items in brackets are held back: they vanish when the list goes on. */
enum digest_state {
	FOLD_NONE,
	FOLD_LIST,	 /* ?             a literal, perhaps of a list */
	FOLD_OPEN,	 /* ( */
	FOLD_ROW,	 /* ( ? */
	FOLD_ROWS,	 /* ( ? )         a row, perhaps the first of many */
	FOLD_HOLDING,	 /* from here on something is held back */
	FOLD_LIST_COMMA = FOLD_HOLDING, /* ? [,] */
	FOLD_ROW_COMMA,	 /* ( ? [,] */
	FOLD_NEXT,	 /* ( ? ) [,] */
	FOLD_NEXT_OPEN,	 /* ( ? ) [, (] */
	FOLD_NEXT_ROW,	 /* ( ? ) [, ( ?] */
	FOLD_NEXT_COMMA, /* ( ? ) [, ( ? ,] */
	FOLD_SIGN,	 /* [-]: a sign that may belong to a literal; `signed_state` is the state in front of it */
	FOLD_STATES,
};

struct digest {
	uint64_t hash;
	enum digest_state state;
	enum digest_state signed_state;
	char sign;
	struct digest_text *text; /* NULL when only the hash is wanted */
};

/* The text, when wanted. */
struct digest_text {
	const char *source;
	char *out;
	size_t size;
	size_t len;
	char last;	 /* how it ends: decides about spaces */
	bool after_name; /* the last token was a name: no space in front of "(" */
};

/* The state after each item; DIGEST_QUIET when the item is held back or swallowed. */
enum { DIGEST_QUIET = 0x80 };
extern const uint8_t digest_moves[FOLD_STATES][DIGEST_ITEMS];
extern const uint8_t digest_items[];

void digest_init(struct digest *digest);
/* For the states and tokens that need more than a look at the table. */
void digest_add_slow(struct digest *digest, const struct token *token, const struct token *before);
/* The hash with what a state holds back mixed in. */
uint64_t digest_hash_held(enum digest_state state, uint64_t hash);
/* Gives out what is held back; the digest, never 0. */
uint64_t digest_end(struct digest *digest);

/* Adds a token; `before` is the one in front of it. */
static inline void digest_add(struct digest *digest, const struct token *token, const struct token *before)
{
	uint8_t item = digest_items[token->kind], move = digest_moves[digest->state][item];

	if (digest->state >= FOLD_HOLDING || token->kind == TOKEN_MINUS || token->word->flags & WORD_LITERAL || digest->text) {
		digest_add_slow(digest, token, before);
		return;
	}
	if (!(move & DIGEST_QUIET))
		digest->hash = word_mix(digest->hash, token->hash);
	digest->state = (enum digest_state)(move & ~DIGEST_QUIET);
}

#endif
