/*
 * SQL for applications, through the proxy in the same process: reads go to a replica, writes to the primary, as for any other client, and a
 * read sees what the application has written. Each app thread keeps one connection and its prepared statements; the account is
 * [app] user, password and database.
 *
 *	struct app_rows *people = app_sql(db, "SELECT id, name FROM people WHERE city = ? ORDER BY name", app_string(city));
 *
 *	while (app_rows_next(people))
 *		app_html(r, "<li><a href=\"%s/%lld\">%s</a>", app_link(r, "/edit"), app_rows_int(people, 0), app_rows_text(people, 1));
 *
 * Rows are kept in the request's memory: a statement that gives very many wants a LIMIT. A failed statement gives NULL, which all functions
 * on rows take for no rows; app_db_code() tells why. A connection keeps what SET did to it for later requests, so better do without; a
 * transaction that a handler leaves open is rolled back.
 */
#ifndef TANDEM_APP_DB_H
#define TANDEM_APP_DB_H

#include "app/app.h"

struct app_db;
struct app_rows;

/* The database for this request; NULL: there is none, or it cannot be had now (the reason is in the log): answer 503. */
struct app_db *app_db(struct app_request *r);

/* ---- Statements ---- */

enum app_value_kind { APP_VALUE_NULL, APP_VALUE_INT, APP_VALUE_REAL, APP_VALUE_STRING };

struct app_value {
	enum app_value_kind kind;
	long long number;
	double real;
	const char *text;
	size_t len;
};

static inline struct app_value app_int(long long number)
{
	return (struct app_value){ .kind = APP_VALUE_INT, .number = number };
}

static inline struct app_value app_real(double real)
{
	return (struct app_value){ .kind = APP_VALUE_REAL, .real = real };
}

static inline struct app_value app_bytes(const void *bytes, size_t len)
{
	return (struct app_value){ .kind = bytes ? APP_VALUE_STRING : APP_VALUE_NULL, .text = bytes, .len = len };
}

/* NULL is SQL's NULL. */
static inline struct app_value app_string(const char *text)
{
	return app_bytes(text, text ? __builtin_strlen(text) : 0);
}

/*
 * Runs a statement with a value for each ? in it. It is prepared once per thread; so let its text be constant, and what changes the values.
 * NULL: it failed.
 */
#define app_sql(db, sql, ...)                                                                                                                \
	app_sql_values(db, sql, sizeof((struct app_value[]){ { .kind = APP_VALUE_NULL }, ##__VA_ARGS__ }) / sizeof(struct app_value) - 1, \
		       (const struct app_value[]){ { .kind = APP_VALUE_NULL }, ##__VA_ARGS__ } + 1)
struct app_rows *app_sql_values(struct app_db *db, const char *sql, size_t count, const struct app_value *values);
/* The same for a text that is not worth preparing: one that is put together, by app_db_quote(), or that cannot be prepared. */
struct app_rows *app_sql_text(struct app_db *db, const char *sql);
/* A string as SQL writes it, with its quotes; "NULL" for NULL, and "''" when memory ran out. */
const char *app_db_quote(struct app_db *db, const char *text);

bool app_rows_next(struct app_rows *rows);
/* Of the row that app_rows_next() went to; NULL for SQL's NULL, and where there is no such column. */
const char *app_rows_text(const struct app_rows *rows, size_t column);
size_t app_rows_bytes(const struct app_rows *rows, size_t column);
long long app_rows_int(const struct app_rows *rows, size_t column);
size_t app_rows_count(const struct app_rows *rows);
size_t app_rows_columns(const struct app_rows *rows);
const char *app_rows_column(const struct app_rows *rows, size_t column);
/* Of a statement that changed something. */
uint64_t app_rows_affected(const struct app_rows *rows);
uint64_t app_rows_insert_id(const struct app_rows *rows);

/* Of the last statement: 0 when it went well, else MySQL's error number and what it said (not for visitors' eyes). */
unsigned app_db_code(const struct app_db *db);
const char *app_db_message(const struct app_db *db);

/* ---- Transactions ---- */

/*
 * Runs `work` in a transaction and commits it; when that or a statement fails by a deadlock, a lock time-out or a lost primary (1213, 1205,
 * SQLSTATE 40001), all of it is run again, at most APP_TRIES times: `work` must do nothing else that cannot be done twice. False: it was
 * rolled back, because `work` said false or failed.
 */
enum { APP_TRIES = 5 };
bool app_db_transaction(struct app_db *db, bool (*work)(struct app_db *db, void *arg), void *arg);

/* ---- Which server answered ---- */

/* From here on, what each statement of this request cost and who answered it is written down; asking costs some 30 us a statement. */
void app_db_trace(struct app_db *db);

struct app_trace {
	const char *sql;
	const char *server; /* as in [server NAME]; "" when the proxy could not tell any more */
	uint64_t us;
	uint64_t rows; /* given, or changed */
	unsigned code; /* 0: fine */
};
bool app_db_trace_at(struct app_db *db, size_t index, struct app_trace *out);

#endif
