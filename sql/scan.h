/*
 * The walk over one packet's tokens and what is found on the way. scan.c knows expressions, whatever statement they stand in;
 * statement.c, inspect.c, change.c, set.c and body.c know statements. Private to sql/.
 */
#ifndef TANDEM_SQL_SCAN_H
#define TANDEM_SQL_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "sql/digest.h"
#include "sql/lexer.h"
#include "sql/sql.h"
#include "sql/words.h"

enum { SCAN_TOKENS = 4 }; /* a power of two; three are in use */

struct scan {
	struct lexer lexer;
	struct digest digest;
	struct token tokens[SCAN_TOKENS]; /* the current one and those before it, in turn */
	struct token *now;
	struct token *before;
	struct token *second; /* before `before` */
	const struct sql_context *context;
	struct sql_meaning *out;
	/* The statement at hand; merged into `out` at its end. */
	enum sql_verb verb;
	enum sql_target target;
	uint64_t facts;
	bool no_functions; /* names in front of "(" are columns, types, indexes */
	bool in_body;	   /* of a stored routine */
	bool is_named;	   /* a statement of this packet was a PREPARE, EXECUTE or DEALLOCATE */
	uint8_t nested;	   /* statements inside statements: a limit keeps the stack small */
	struct set_names *set_names; /* NULL: nobody wants them */
};

/* What sql_set_names() collects. */
struct set_names {
	struct sql_span *out;
	unsigned size;
	unsigned count;
};

void scan_init(struct scan *scan, const struct sql_context *context, const char *text, size_t len, struct sql_meaning *out);

/* To the next token of this statement; stays where the statement ends. */
void scan_advance(struct scan *scan);
/* Over the semicolon that ends this statement. */
void scan_next_statement(struct scan *scan);
/* The token after the current one, without going there. */
struct token scan_peek(const struct scan *scan);
/* Looks at the current token as part of an expression or a query. */
void scan_watch(struct scan *scan);
/* Watches all that is left of the statement. */
void scan_rest(struct scan *scan);
/* Goes on over tokens that scan_watch() would not look at; stops at the last of them. */
void scan_run(struct scan *scan);
/* Goes to the end of the statement and looks at nothing. */
void scan_skip_rest(struct scan *scan);
/* Adds facts, and moves the target up: replica, held, role, last, primary. */
void scan_raise(struct scan *scan, uint64_t facts, enum sql_target target);
/* Sets the verb of a statement that is the primary's. */
void scan_primary(struct scan *scan, enum sql_verb verb, uint64_t facts);
/* Reads [schema.]name and goes behind it. */
bool scan_name(struct scan *scan, struct sql_span *qualifier, struct sql_span *name);
void scan_add_function(struct scan *scan, struct sql_span name);

/* Makes tokens[at] the current one. */
static inline void scan_turn(struct scan *scan, size_t at)
{
	scan->now = &scan->tokens[at % SCAN_TOKENS];
	scan->before = &scan->tokens[(at + SCAN_TOKENS - 1) % SCAN_TOKENS];
	scan->second = &scan->tokens[(at + SCAN_TOKENS - 2) % SCAN_TOKENS];
}

static inline bool scan_at_end(const struct scan *scan)
{
	return scan->now->kind <= TOKEN_SEMICOLON;
}

/* The current token's word id, W_NONE when it is no known word or an identifier behind a dot. */
static inline enum word_id scan_word(const struct scan *scan)
{
	return scan->before->kind == TOKEN_DOT ? W_NONE : (enum word_id)scan->now->word->id;
}

static inline bool scan_is_name(const struct scan *scan)
{
	return scan->now->kind == TOKEN_WORD || scan->now->kind == TOKEN_QUOTED;
}

/* Goes over the word when it is the current one. */
static inline bool scan_accept(struct scan *scan, enum word_id id)
{
	if (scan_word(scan) != id)
		return false;
	scan_advance(scan);
	return true;
}

/* Statements: statement.c. Judges the one at the current token, up to its end. */
void scan_statement(struct scan *scan);
/* What follows WITH, EXPLAIN, SET STATEMENT ... FOR; these may only be queries and changes of rows. */
void scan_query_or_change(struct scan *scan);
bool scan_starts_query_or_change(const struct scan *scan);

/* inspect.c */
void scan_explain(struct scan *scan);
void scan_analyze(struct scan *scan);
void scan_show(struct scan *scan);

/* change.c */
void scan_create(struct scan *scan);
void scan_alter(struct scan *scan);
void scan_drop(struct scan *scan);
/* To the end of a routine's body or a compound statement, semicolons inside and all. */
void scan_skip_body(struct scan *scan);

/* set.c */
void scan_set(struct scan *scan);

/* variables.c: where a read of @@name may run and what it tells, what SET of it does. */
void variable_read(struct scan *scan);
uint64_t variable_set_facts(const char *name, uint32_t len);
bool variable_is_session(const char *name, uint32_t len);

/* schemas.c: reads of information_schema, mysql and the like. */
void schema_read(struct scan *scan);

#endif
