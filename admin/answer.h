/*
 * What a command answers: a plain value of typed tables and a few sentences, the same for every face (text, JSON, SQL console). It owns
 * all its texts. Filled by one thread, read by the face that asked.
 */
#ifndef TANDEM_ADMIN_ANSWER_H
#define TANDEM_ADMIN_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cell_type {
	CELL_TEXT,
	CELL_INTEGER,
	CELL_MS,   /* a duration in milliseconds, fractions allowed */
	CELL_BOOL,
	CELL_TIME, /* a moment: milliseconds since the epoch */
};

struct column {
	const char *name; /* lower case, words joined by '_': the key in JSON, upper case and with blanks in text */
	enum cell_type type;
	unsigned width; /* of text that is printed row by row, before all rows are known; else the rows decide */
};

struct cell {
	bool is_null;
	char *text;	 /* CELL_TEXT */
	int64_t integer; /* CELL_INTEGER, CELL_BOOL, CELL_TIME */
	double ms;	 /* CELL_MS */
};

/* How people see a table; JSON is always an array of objects, or one object for TABLE_FACTS. */
enum table_shape {
	TABLE_ROWS,
	TABLE_LINES, /* one column, shown as lines without a header */
	TABLE_FACTS, /* one row, shown as lines of "name  value" */
};

struct table {
	const char *name;  /* the key in JSON */
	const char *title; /* a line above it; NULL: none */
	const char *empty; /* said in place of a table without rows */
	enum table_shape shape;
	const struct column *columns; /* static */
	size_t column_count;
	struct cell *cells; /* row after row */
	size_t row_count;
	size_t room; /* rows that `cells` has room for */
	size_t ended; /* rows so far, those that were cleared included */
	size_t next; /* the cell to be filled next; column_count: the row is whole */
};

enum answer_result {
	ANSWER_DONE,
	ANSWER_REFUSED, /* nothing was touched, or everything was put back */
	ANSWER_FAILED,	/* not whole: the summary says what is left */
	ANSWER_USAGE,	/* the request made no sense */
};

enum { ANSWER_TABLES = 6, ANSWER_SENTENCE = 1024 };

/* Starts zeroed; answer_fini() empties it. */
struct answer {
	enum answer_result result;
	char summary[ANSWER_SENTENCE]; /* one sentence; "" */
	char advice[ANSWER_SENTENCE];  /* what to do, "" */
	struct table tables[ANSWER_TABLES];
	size_t table_count;
	bool no_memory;
	/* Somebody wants to see each row as it comes. NULL: all at the end. False: nobody listens any more. */
	bool (*on_row)(void *owner, const struct table *table);
	void *owner;
};

/* Adds a table, to be filled row by row. Never NULL: beyond ANSWER_TABLES the last one is given. */
struct table *answer_table(struct answer *answer, const char *name, enum table_shape shape, const struct column *columns, size_t column_count);
#define ANSWER_TABLE(answer, name, shape, columns) \
	answer_table(answer, name, shape, columns, sizeof(columns) / sizeof((columns)[0]))

/* Begins a row; cells follow in the order of the columns, each by the function of its type. A row that cannot be had for lack of memory is
 * dropped, and so are its cells. */
void table_row(struct answer *answer, struct table *table);
void table_text(struct table *table, const char *text); /* NULL is NULL; copied */
void table_textf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_integer(struct table *table, int64_t value);
void table_ms(struct table *table, double ms); /* negative: NULL */
void table_bool(struct table *table, bool value);
void table_time(struct table *table, int64_t ms); /* 0: NULL */
void table_null(struct table *table);
/* Ends it and shows it to whoever wants to see rows as they come. False: nobody listens any more. */
bool table_end_row(struct answer *answer, struct table *table);

/* Forgets its rows. */
void table_clear(struct table *table);

static inline const struct cell *table_cell(const struct table *table, size_t row, size_t column)
{
	return &table->cells[row * table->column_count + column];
}

/* Sets the result and the sentences; advice may be NULL. summary is printf-like. */
void answer_end(struct answer *answer, enum answer_result result, const char *advice, const char *summary, ...)
	__attribute__((format(printf, 4, 5)));
const char *answer_result_name(enum answer_result result);
void answer_fini(struct answer *answer);

#endif
