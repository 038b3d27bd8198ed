/*
 * What a connection knows belongs to its thread and outlives requests: the handle and the prepared statements. What a request asks for lives
 * in the request's memory.
 */
#include "app/db.h"

#include <errno.h>
#include <errmsg.h>
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "app/request.h"
#include "app/settings.h"
#include "app/thread.h"
#include "base/clock.h"
#include "base/log.h"
#include "proxy/settings.h"

enum {
	STATEMENTS_MAX = 200, /* prepared at a time, per thread; the one unused for longest makes room */
	IDLE_MS = 60000,      /* after which a connection is asked whether it still is one */
	CONNECT_S = 5,
	COLUMNS_MAX = 4096,
	CODE_DEADLOCK = 1213,
	CODE_LOCK_TIMEOUT = 1205,
	CODE_ENDED = 1927, /* the proxy's own: the connection behind it was lost */
};

struct statement {
	TAILQ_ENTRY(statement) link; /* the last used first */
	char *sql;
	MYSQL_STMT *handle;
};

struct trace {
	STAILQ_ENTRY(trace) link;
	struct app_trace what;
};

struct app_db {
	MYSQL *handle; /* NULL: not connected */
	TAILQ_HEAD(statement_list, statement) statements;
	size_t statement_count;
	uint64_t used_ms;
	struct app_thread *thread;
	struct app_request *request; /* the one it serves now */
	unsigned code;
	char state[6];
	char message[512];
	bool traces;
	STAILQ_HEAD(, trace) trace;
};

struct cell {
	const char *text; /* NULL: NULL */
	size_t len;
};

struct row {
	STAILQ_ENTRY(row) link;
	struct cell cells[];
};

struct app_rows {
	size_t columns, count;
	const char **names;
	uint64_t affected, insert_id;
	STAILQ_HEAD(, row) rows;
	const struct row *now; /* NULL: in front of the first, or behind the last */
	bool begun;
};

/* ---- The connection ---- */

static void free_statement(struct statement *s)
{
	if (s->handle)
		mysql_stmt_close(s->handle);
	free(s->sql);
	free(s);
}

static void drop_statement(struct app_db *db, struct statement *s)
{
	TAILQ_REMOVE(&db->statements, s, link);
	db->statement_count--;
	free_statement(s);
}

static void disconnect(struct app_db *db)
{
	MYSQL *handle = db->handle;
	struct statement *next;

	for (struct statement *s = TAILQ_FIRST(&db->statements); s; s = next) {
		next = TAILQ_NEXT(s, link);
		free_statement(s);
	}
	TAILQ_INIT(&db->statements);
	db->statement_count = 0;
	app_thread_set_socket(db->thread, -1);
	db->handle = NULL;
	if (handle)
		mysql_close(handle);
}

static void note_error(struct app_db *db, unsigned code, const char *state, const char *message)
{
	db->code = code;
	snprintf(db->state, sizeof(db->state), "%s", state);
	snprintf(db->message, sizeof(db->message), "%s", message);
}

static bool connect_now(struct app_db *db)
{
	const struct app_settings *s = app_settings_of(db->thread->settings);
	unsigned seconds = CONNECT_S;
	my_bool off = 0;

	db->handle = mysql_init(NULL);
	if (!db->handle)
		return false;
	mysql_options(db->handle, MYSQL_OPT_CONNECT_TIMEOUT, &seconds);
	mysql_options(db->handle, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	mysql_options(db->handle, MYSQL_OPT_LOCAL_INFILE, &off);
	mysql_options(db->handle, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &off); /* a socket of this very process */
	mysql_optionsv(db->handle, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", "tandem app");
	if (mysql_real_connect(db->handle, NULL, s->user, s->password ? s->password : "", s->database, 0, s->socket, 0)) {
		app_thread_set_socket(db->thread, mysql_get_socket(db->handle));
		return true;
	}
	note_error(db, mysql_errno(db->handle), mysql_sqlstate(db->handle), mysql_error(db->handle));
	disconnect(db);
	return false;
}

static bool is_connected(struct app_db *db)
{
	if (db->handle && clock_ms() - db->used_ms > IDLE_MS && mysql_ping(db->handle))
		disconnect(db);
	return db->handle || connect_now(db);
}

struct app_db *app_db_new(struct app_thread *thread)
{
	struct app_db *db = calloc(1, sizeof(*db));

	if (!db)
		return NULL;
	db->thread = thread;
	TAILQ_INIT(&db->statements);
	STAILQ_INIT(&db->trace);
	return db;
}

void app_db_free(struct app_db *db)
{
	if (!db)
		return;
	disconnect(db);
	free(db);
	mysql_thread_end();
}

void app_db_end_request(struct app_db *db)
{
	unsigned status = 0;

	if (!db || !db->request)
		return;
	db->request = NULL;
	db->traces = false;
	STAILQ_INIT(&db->trace);
	if (!db->handle)
		return;
	mariadb_get_infov(db->handle, MARIADB_CONNECTION_SERVER_STATUS, &status);
	if (status & SERVER_STATUS_IN_TRANS && mysql_rollback(db->handle))
		disconnect(db);
}

struct app_db *app_db(struct app_request *r)
{
	struct app_db *db;

	if (!app_settings_of(r->thread->settings)->user) {
		app_log(r, "it wants a database: set [app] user, password and database");
		return NULL;
	}
	if (!r->thread->db)
		r->thread->db = app_db_new(r->thread);
	db = r->thread->db;
	if (!db)
		return NULL;
	db->request = r;
	if (is_connected(db))
		return db;
	app_log(r, "no database: error %u: %s", db->code, db->message);
	return NULL;
}

/* ---- What was given ---- */

static struct app_rows *new_rows(struct app_db *db, const MYSQL_FIELD *fields, size_t columns)
{
	struct app_rows *rows = app_alloc(db->request, sizeof(*rows));

	if (!rows || columns > COLUMNS_MAX)
		return NULL;
	*rows = (struct app_rows){ .columns = columns };
	STAILQ_INIT(&rows->rows);
	rows->names = app_alloc(db->request, (columns + 1) * sizeof(*rows->names));
	for (size_t i = 0; rows->names && i < columns; i++) {
		rows->names[i] = app_copy(db->request, fields[i].name, fields[i].name_length);
		if (!rows->names[i])
			return NULL;
	}
	return rows->names ? rows : NULL;
}

static struct row *add_row(struct app_db *db, struct app_rows *rows)
{
	struct row *row = app_alloc(db->request, sizeof(*row) + rows->columns * sizeof(row->cells[0]));

	if (!row)
		return NULL;
	STAILQ_INSERT_TAIL(&rows->rows, row, link);
	rows->count++;
	return row;
}

static struct app_rows *no_memory(struct app_db *db)
{
	note_error(db, CR_OUT_OF_MEMORY, "HY001", "out of memory");
	return NULL;
}

/* ---- Prepared statements ---- */

static struct app_rows *statement_failed(struct app_db *db, MYSQL_STMT *handle)
{
	note_error(db, mysql_stmt_errno(handle), mysql_stmt_sqlstate(handle), mysql_stmt_error(handle));
	return NULL;
}

static struct statement *find_statement(struct app_db *db, const char *sql)
{
	struct statement *s;

	TAILQ_FOREACH(s, &db->statements, link)
		if (!strcmp(s->sql, sql)) {
			TAILQ_REMOVE(&db->statements, s, link);
			TAILQ_INSERT_HEAD(&db->statements, s, link);
			return s;
		}
	return NULL;
}

static struct statement *prepare(struct app_db *db, const char *sql)
{
	struct statement *s = find_statement(db, sql);
	my_bool on = 1;

	if (s)
		return s;
	if (db->statement_count >= STATEMENTS_MAX)
		drop_statement(db, TAILQ_LAST(&db->statements, statement_list));
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	TAILQ_INSERT_HEAD(&db->statements, s, link);
	db->statement_count++;
	s->sql = strdup(sql);
	s->handle = mysql_stmt_init(db->handle);
	if (!s->sql || !s->handle) {
		drop_statement(db, s);
		return NULL;
	}
	mysql_stmt_attr_set(s->handle, STMT_ATTR_UPDATE_MAX_LENGTH, &on);
	if (mysql_stmt_prepare(s->handle, sql, strlen(sql))) {
		statement_failed(db, s->handle);
		drop_statement(db, s);
		return NULL;
	}
	return s;
}

static void bind_value(const struct app_value *value, MYSQL_BIND *bind)
{
	static const enum enum_field_types types[] = {
		[APP_VALUE_NULL] = MYSQL_TYPE_NULL,
		[APP_VALUE_INT] = MYSQL_TYPE_LONGLONG,
		[APP_VALUE_REAL] = MYSQL_TYPE_DOUBLE,
		[APP_VALUE_STRING] = MYSQL_TYPE_STRING,
	};

	memset(bind, 0, sizeof(*bind));
	bind->buffer_type = types[value->kind];
	bind->buffer = value->kind == APP_VALUE_INT  ? (void *)&value->number
		       : value->kind == APP_VALUE_REAL ? (void *)&value->real
							 : (void *)value->text;
	bind->buffer_length = value->len;
}

static bool execute(struct app_db *db, MYSQL_STMT *handle, size_t count, const struct app_value *values)
{
	MYSQL_BIND *binds = app_alloc(db->request, (count + 1) * sizeof(*binds));

	if (!binds) {
		no_memory(db);
		return false;
	}
	if (mysql_stmt_param_count(handle) != count) {
		note_error(db, CR_INVALID_PARAMETER_NO, "HY000", "the statement has another number of ? than values");
		return false;
	}
	for (size_t i = 0; i < count; i++)
		bind_value(&values[i], &binds[i]);
	if ((count && mysql_stmt_bind_param(handle, binds)) || mysql_stmt_execute(handle)) {
		statement_failed(db, handle);
		return false;
	}
	return true;
}

/* What a row is fetched into. */
struct fetch {
	MYSQL_BIND *binds;
	unsigned long *lengths;
	my_bool *nulls;
};

static bool bind_columns(struct app_db *db, MYSQL_STMT *handle, const MYSQL_FIELD *fields, size_t columns, struct fetch *fetch)
{
	fetch->binds = app_alloc(db->request, columns * sizeof(*fetch->binds));
	fetch->lengths = app_alloc(db->request, columns * sizeof(*fetch->lengths));
	fetch->nulls = app_alloc(db->request, columns * sizeof(*fetch->nulls));
	if (!fetch->binds || !fetch->lengths || !fetch->nulls)
		return false;
	memset(fetch->binds, 0, columns * sizeof(*fetch->binds));
	for (size_t i = 0; i < columns; i++) {
		MYSQL_BIND *b = &fetch->binds[i];

		/* The longest value of the column, and room for a number that is written out. */
		b->buffer_length = fields[i].max_length + 64;
		b->buffer = app_alloc(db->request, b->buffer_length);
		b->buffer_type = MYSQL_TYPE_STRING;
		b->length = &fetch->lengths[i];
		b->is_null = &fetch->nulls[i];
		if (!b->buffer)
			return false;
	}
	return !mysql_stmt_bind_result(handle, fetch->binds);
}

static bool copy_row(struct app_db *db, struct app_rows *rows, const struct fetch *fetch)
{
	struct row *row = add_row(db, rows);

	for (size_t i = 0; row && i < rows->columns; i++) {
		row->cells[i] = (struct cell){ 0 };
		if (fetch->nulls[i])
			continue;
		row->cells[i].len = fetch->lengths[i] < fetch->binds[i].buffer_length ? fetch->lengths[i] : fetch->binds[i].buffer_length;
		row->cells[i].text = app_copy(db->request, fetch->binds[i].buffer, row->cells[i].len);
		if (!row->cells[i].text)
			return false;
	}
	return row != NULL;
}

static struct app_rows *take_rows(struct app_db *db, MYSQL_STMT *handle)
{
	MYSQL_RES *meta = mysql_stmt_result_metadata(handle);
	size_t columns = meta ? mysql_num_fields(meta) : 0;
	struct app_rows *rows;
	struct fetch fetch;
	int got = 0;

	if (meta && mysql_stmt_store_result(handle)) {
		mysql_free_result(meta);
		return statement_failed(db, handle);
	}
	/* The longest lengths are known only now. */
	if (meta) {
		mysql_free_result(meta);
		meta = mysql_stmt_result_metadata(handle);
	}
	rows = new_rows(db, meta ? mysql_fetch_fields(meta) : NULL, columns);
	if (!rows || (columns && !bind_columns(db, handle, mysql_fetch_fields(meta), columns, &fetch)))
		rows = no_memory(db);
	while (rows && columns && ((got = mysql_stmt_fetch(handle)) == 0 || got == MYSQL_DATA_TRUNCATED))
		if (!copy_row(db, rows, &fetch))
			rows = no_memory(db);
	if (rows && got == 1)
		rows = statement_failed(db, handle);
	if (rows && !columns) {
		rows->affected = mysql_stmt_affected_rows(handle);
		rows->insert_id = mysql_stmt_insert_id(handle);
	}
	if (meta)
		mysql_free_result(meta);
	mysql_stmt_free_result(handle);
	return rows;
}

static struct app_rows *run_prepared(struct app_db *db, const char *sql, size_t count, const struct app_value *values)
{
	struct statement *s = prepare(db, sql);

	if (!s)
		return db->code ? NULL : no_memory(db);
	return execute(db, s->handle, count, values) ? take_rows(db, s->handle) : NULL;
}

/* ---- Text ---- */

static struct app_rows *take_text_rows(struct app_db *db, MYSQL_RES *result)
{
	struct app_rows *rows = new_rows(db, mysql_fetch_fields(result), mysql_num_fields(result));
	MYSQL_ROW from;

	while (rows && (from = mysql_fetch_row(result))) {
		const unsigned long *lengths = mysql_fetch_lengths(result);
		struct row *row = add_row(db, rows);

		if (!row)
			return NULL;
		for (size_t i = 0; i < rows->columns; i++) {
			row->cells[i] = (struct cell){ from[i] ? app_copy(db->request, from[i], lengths[i]) : NULL, lengths[i] };
			if (from[i] && !row->cells[i].text)
				return NULL;
		}
	}
	return rows;
}

static struct app_rows *run_text(struct app_db *db, const char *sql)
{
	struct app_rows *rows;
	MYSQL_RES *result;

	if (mysql_real_query(db->handle, sql, strlen(sql))) {
		note_error(db, mysql_errno(db->handle), mysql_sqlstate(db->handle), mysql_error(db->handle));
		return NULL;
	}
	result = mysql_store_result(db->handle);
	if (!result && mysql_field_count(db->handle)) {
		note_error(db, mysql_errno(db->handle), mysql_sqlstate(db->handle), mysql_error(db->handle));
		return NULL;
	}
	rows = result ? take_text_rows(db, result) : new_rows(db, NULL, 0);
	if (!rows)
		no_memory(db);
	if (rows && !result) {
		rows->affected = mysql_affected_rows(db->handle);
		rows->insert_id = mysql_insert_id(db->handle);
	}
	if (result)
		mysql_free_result(result);
	return rows;
}

const char *app_db_quote(struct app_db *db, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	char *out = app_alloc(db->request, 2 * len + 3);

	if (!text)
		return "NULL";
	if (!out || !db->handle)
		return "''";
	out[0] = '\'';
	len = mysql_real_escape_string(db->handle, out + 1, text, len);
	memcpy(out + 1 + len, "'", 2);
	return out;
}

/* ---- Running, and writing down what it cost ---- */

static void add_trace(struct app_db *db, const char *sql, const struct app_rows *rows, uint64_t us)
{
	struct trace *t = app_alloc(db->request, sizeof(*t));
	char server[65] = "";

	if (!t)
		return;
	if (db->handle)
		app_thread_ask_server(db->thread, (uint32_t)mysql_thread_id(db->handle), server, sizeof(server));
	t->what = (struct app_trace){
		.sql = app_copy(db->request, sql, strlen(sql)),
		.server = app_copy(db->request, server, strlen(server)),
		.us = us,
		.rows = rows ? rows->columns ? rows->count : rows->affected : 0,
		.code = db->code,
	};
	if (t->what.sql && t->what.server)
		STAILQ_INSERT_TAIL(&db->trace, t, link);
}

/* Nothing of the connection can be used any more. */
static bool is_lost(unsigned code)
{
	return code == CR_SERVER_GONE_ERROR || code == CR_SERVER_LOST || code == CR_COMMANDS_OUT_OF_SYNC || code == CR_MALFORMED_PACKET ||
	       code == CODE_ENDED;
}

static struct app_rows *run(struct app_db *db, const char *sql, bool prepared, size_t count, const struct app_value *values)
{
	uint64_t began = clock_us(), us;
	struct app_rows *rows = NULL;

	note_error(db, 0, "00000", "");
	if (!db->handle && !connect_now(db))
		return NULL;
	rows = prepared ? run_prepared(db, sql, count, values) : run_text(db, sql);
	us = clock_us() - began;
	db->request->sql_us += us;
	db->used_ms = clock_ms();
	if (db->traces)
		add_trace(db, sql, rows, us);
	if (db->code)
		log_debug(&db->request->call->subject, "SQL error %u: %s: %s", db->code, db->message, sql);
	if (is_lost(db->code))
		disconnect(db);
	return rows;
}

struct app_rows *app_sql_values(struct app_db *db, const char *sql, size_t count, const struct app_value *values)
{
	return run(db, sql, true, count, values);
}

struct app_rows *app_sql_text(struct app_db *db, const char *sql)
{
	return run(db, sql, false, 0, NULL);
}

unsigned app_db_code(const struct app_db *db)
{
	return db->code;
}

const char *app_db_message(const struct app_db *db)
{
	return db->message;
}

void app_db_trace(struct app_db *db)
{
	db->traces = true;
}

bool app_db_trace_at(struct app_db *db, size_t index, struct app_trace *out)
{
	const struct trace *t = STAILQ_FIRST(&db->trace);

	while (t && index--)
		t = STAILQ_NEXT(t, link);
	if (t)
		*out = t->what;
	return t != NULL;
}

/* ---- Rows ---- */

bool app_rows_next(struct app_rows *rows)
{
	if (!rows)
		return false;
	rows->now = !rows->begun ? STAILQ_FIRST(&rows->rows) : rows->now ? STAILQ_NEXT(rows->now, link) : NULL;
	rows->begun = true;
	return rows->now != NULL;
}

const char *app_rows_text(const struct app_rows *rows, size_t column)
{
	return rows && rows->now && column < rows->columns ? rows->now->cells[column].text : NULL;
}

size_t app_rows_bytes(const struct app_rows *rows, size_t column)
{
	return app_rows_text(rows, column) ? rows->now->cells[column].len : 0;
}

long long app_rows_int(const struct app_rows *rows, size_t column)
{
	const char *text = app_rows_text(rows, column);

	return text ? strtoll(text, NULL, 10) : 0;
}

size_t app_rows_count(const struct app_rows *rows)
{
	return rows ? rows->count : 0;
}

size_t app_rows_columns(const struct app_rows *rows)
{
	return rows ? rows->columns : 0;
}

const char *app_rows_column(const struct app_rows *rows, size_t column)
{
	return rows && column < rows->columns ? rows->names[column] : NULL;
}

uint64_t app_rows_affected(const struct app_rows *rows)
{
	return rows ? rows->affected : 0;
}

uint64_t app_rows_insert_id(const struct app_rows *rows)
{
	return rows ? rows->insert_id : 0;
}

/* ---- Transactions ---- */

static bool may_try_again(const struct app_db *db)
{
	return db->code == CODE_DEADLOCK || db->code == CODE_LOCK_TIMEOUT || !strcmp(db->state, "40001");
}

/* Keeps what went wrong first for the caller to see. */
static void roll_back(struct app_db *db)
{
	unsigned code = db->code;
	char state[6], message[512];

	memcpy(state, db->state, sizeof(state));
	memcpy(message, db->message, sizeof(message));
	if (db->handle)
		app_sql_text(db, "ROLLBACK");
	note_error(db, code, state, message);
}

bool app_db_transaction(struct app_db *db, bool (*work)(struct app_db *db, void *arg), void *arg)
{
	for (int i = 0; i < APP_TRIES; i++) {
		if (!app_sql_text(db, "START TRANSACTION"))
			return false;
		/* A failed COMMIT has rolled back, or nobody knows: only the retryable errors say which. */
		if (work(db, arg)) {
			if (app_sql_text(db, "COMMIT"))
				return true;
			if (!may_try_again(db))
				return false;
		} else {
			bool again = may_try_again(db);

			roll_back(db);
			if (!again)
				return false;
		}
	}
	return false;
}
