/*
 * The normalised form of a statement: literals become ?, lists of literals one ?, rows of literals one row, words are folded to
 * lower case. It exists as a running hash (the digest) and, for people, as text; both come from the same small machine.
 */
#ifndef TANDEM_SQL_DIGEST_H
#define TANDEM_SQL_DIGEST_H

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
};

struct digest {
	uint64_t hash;
	uint8_t state;	 /* enum in digest.c: what the last items were, and which of them are held back */
	uint8_t before;	 /* enum token_kind of the token before */
	uint8_t operand; /* the token before was one that a sign cannot belong to */
	char sign;	 /* a sign held back: it may belong to a number; 0 for none */
	/* Text, when wanted. */
	const char *source;
	char *out;
	size_t size;
	size_t len;
	char last;	/* how the text ends: decides about spaces */
};

void digest_init(struct digest *digest);
void digest_add(struct digest *digest, const struct token *token);
/* Gives out what is held back; the digest, never 0. */
uint64_t digest_end(struct digest *digest);

#endif
