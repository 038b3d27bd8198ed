/*
 * Bytes -> tokens, as the servers' own lexers cut them: the five kinds of comment, strings in every quoting, identifiers,
 * variables, numbers. It leaves meaning to classify.c.
 */
#ifndef TANDEM_SQL_LEXER_H
#define TANDEM_SQL_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
	struct sql_span inner;
	uint64_t hash;		 /* of the folded text; words and quoted identifiers alike; literals have none */
	const struct word *word; /* the empty word for everything but a TOKEN_WORD that is known */
};

struct lexer {
	const unsigned char *text;
	uint32_t len;
	uint32_t at;
	uint32_t version;
	enum sql_charset charset;
	bool mariadb;
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

#endif
