/*
 * Questions about the last statement as they stand in a text: which they are, and the text with values in their place. Reads text and a
 * session's counts, and asks nobody.
 */
#ifndef TANDEM_SESSION_QUESTION_H
#define TANDEM_SESSION_QUESTION_H

#include <stdbool.h>
#include <stddef.h>

struct client;
struct turn;

enum question { ASKS_NOTHING, ASKS_ROW_COUNT, ASKS_FOUND_ROWS, ASKS_WARNINGS, ASKS_ERRORS };

/* Bits by enum question, of the first statement in the turn's text: those behind a semicolon ask about the one in front of them. */
unsigned questions_in(const struct turn *turn);
/* What stands for a question that the session can answer by value: an expression of the type that the question's own result has. */
void question_put_value(char *out, size_t size, const struct client *client, enum question asks);
/* Writes values in place of the questions in `replace` (bits) into the turn's text; what has no name of its own keeps that of its text. False:
 * there were none, or the text got too long, and it is as it was. */
bool question_rewrite(struct turn *turn, unsigned replace);

/* A word, in lower case: anywhere, or outside of quotes. */
bool question_has_word(const char *text, size_t len, const char *word);
bool question_has_plain_word(const struct turn *turn, const char *word);
/* Near enough to "reads a table". */
bool question_reads_table(const char *text, size_t len);
/* Of a statement that is prepared or run by name, quotes and all. */
bool question_uses_table(const char *text, size_t len);
/* The end of the statement that begins at `at`: its semicolon or the end of all. */
const char *question_part_end(const char *at, const char *end);

/* An expression of the select list is named by its text. */
struct item {
	const char *from; /* where it begins in the question; NULL: not in a select list */
	bool changed;
};

struct rewrite {
	const struct turn *turn;
	const char *at, *end;
	char out[8192];
	size_t len;
	bool any, full;
	int depth; /* of brackets */
	bool in_list; /* the select list */
	struct item item;
};

/* Appends to `out`; too much sets `full`. */
void rewrite_put(struct rewrite *rewrite, const char *text, size_t len);
void rewrite_put_text(struct rewrite *rewrite, const char *text);

#endif
