/* An application for tests: each path shows one thing that app/ promises. PROBE_VERSION tells one build of it from another. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "app/app.h"
#include "app/db.h"
#include "app/form.h"
#include "app/json.h"
#include "app/session.h"

#ifndef PROBE_VERSION
#define PROBE_VERSION 1
#endif
#ifndef ABI
#define ABI APP_ABI
#endif

static void plain(struct app_request *r)
{
	app_header(r, "Content-Type", "text/plain");
}

static void show_params(struct app_request *r)
{
	const char *name, *value;

	plain(r);
	for (size_t i = 0; app_param_at(r, i, &name, &value); i++)
		app_printf(r, "%s=%s\n", name, value);
	app_printf(r, "path=%s\nlink=%s\n", app_path(r), app_link(r, "/x"));
}

static void echo(struct app_request *r)
{
	char bytes[5000];
	ssize_t n;

	plain(r);
	while ((n = app_read(r, bytes, sizeof(bytes))) > 0)
		if (!app_write(r, bytes, (size_t)n))
			break;
	if (n) /* by its end, or by the client's that no longer takes the answer */
		app_log(r, "the body was cut");
}

static void count(struct app_request *r)
{
	static char bytes[65536];
	long long sum = 0;
	ssize_t n;

	while ((n = app_read(r, bytes, sizeof(bytes))) > 0)
		sum += n;
	plain(r);
	app_printf(r, "%lld", n < 0 ? -1 : sum);
}

/* ?n= times 64 KiB; stops when nobody listens. */
static void flood(struct app_request *r)
{
	static char block[65536];
	const char *n = app_query(r, "n");
	long long left = n ? atoll(n) : 1, done = 0;

	plain(r);
	memset(block, 'x', sizeof(block));
	while (left-- && app_write(r, block, sizeof(block)))
		done++;
	if (app_is_gone(r))
		app_log(r, "the client went after %lld blocks", done);
}

/* Says that it is there, then waits until the file ?file= exists. */
static void wait_for_file(struct app_request *r)
{
	static const struct timespec pause = { 0, 5000000 };
	const char *file = app_query(r, "file");

	plain(r);
	app_printf(r, "version %d begins\n", PROBE_VERSION);
	app_flush(r);
	while (file && access(file, F_OK) != 0 && !app_is_gone(r))
		nanosleep(&pause, NULL);
	app_printf(r, "version %d ends\n", PROBE_VERSION);
	if (app_is_gone(r))
		app_log(r, "nobody waits any more");
}

static void fields(struct app_request *r)
{
	static const char *const names[][2] = {
		{ "X-Good", "yes" }, { "X-Twice", "a" },	 { "X-Twice", "b" },	    { "X-Split", "a\r\nX-Evil: 1" }, { "X Bad", "1" },
		{ "", "1" },	     { "Content-Length", "3" },	 { "Connection", "close" }, { "Transfer-Encoding", "x" },    { "Set-Cookie", "a=1" },
		{ "Set-Cookie", "b=2" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		app_printf(r, "%d", app_header(r, names[i][0], names[i][1]));
	app_header(r, "Content-Type", "text/plain");
	app_flush(r);
	app_printf(r, "%d", app_header(r, "X-Late", "1"));
}

static void form(struct app_request *r)
{
	const struct app_form_limits limits = { .text_bytes = 1000, .fields = 10, .file_bytes = 1 << 20 };
	const char *name, *value;
	const struct app_file *file;
	static const unsigned statuses[] = { 200, 400, 413, 415 };
	enum app_form_result result = app_form_read(r, &limits);

	plain(r);
	app_status(r, statuses[result]);
	for (size_t i = 0; app_field_at(r, i, &name, &value); i++)
		app_printf(r, "%s=%s\n", name, value);
	file = app_file(r, "file");
	if (file) {
		char bytes[16] = "";
		ssize_t n = read(file->fd, bytes, sizeof(bytes) - 1);

		app_printf(r, "file %s %s %llu %.*s\n", file->name, file->type, (unsigned long long)file->size, (int)n, bytes);
	}
}

static void html(struct app_request *r)
{
	app_html(r, "%s|%.*s|%d|%u|%lld|%5.2f|%c|%%|%s|%zu", "<a href='x'>&\"", 3, "<<>>", -5, 7u, 1234567890123LL, 3.14159, '<', app_query(r, "none"),
		 (size_t)9);
	app_html(r, "|%s", app_url(r, "a b/ü&=+"));
}

static void session(struct app_request *r)
{
	const char *set = app_query(r, "set"), *seen = app_session_get(r, "x");

	plain(r);
	if (set)
		app_session_set(r, "x", *set ? set : NULL);
	if (app_query(r, "clear"))
		app_session_clear(r);
	app_printf(r, "%s", seen ? seen : "(none)");
}

static void json(struct app_request *r)
{
	json_t *body = app_json_read(r, 1000);

	if (body)
		app_json_send(r, 200, body);
}

/* ---- SQL ---- */

static int tries;

static bool deadlock(struct app_db *db, void *arg)
{
	tries++;
	if (!app_sql_text(db, "INSERT INTO test.probe (word) VALUES ('once')"))
		return false;
	return tries >= *(int *)arg || app_sql_text(db, "SIGNAL SQLSTATE '40001'") != NULL;
}

static void transaction(struct app_request *r, struct app_db *db)
{
	int wanted = app_query(r, "tries") ? atoi(app_query(r, "tries")) : 1;
	bool fine;

	tries = 0;
	fine = app_db_transaction(db, deadlock, &wanted);
	app_printf(r, "%d after %d, code %u", fine, tries, app_db_code(db));
}

static void values(struct app_request *r, struct app_db *db)
{
	struct app_rows *rows = app_sql(db, "SELECT ?, ?, ?, ?, REPEAT('x', 100000), 12345678901234, NOW() > '2000-01-01', ? IS NULL", app_int(-7),
					app_string("it's \"ü\" \\"), app_real(1.5), app_bytes("a\0b", 3), app_string(NULL));

	if (!app_rows_next(rows)) {
		app_printf(r, "error %u: %s", app_db_code(db), app_db_message(db));
		return;
	}
	for (size_t i = 0; i < app_rows_columns(rows); i++)
		if (app_rows_bytes(rows, i) < 100)
			app_printf(r, "%s|", app_rows_bytes(rows, i) == 3 && !strcmp(app_rows_text(rows, i), "a") ? "a.b" : app_rows_text(rows, i));
		else
			app_printf(r, "(%zu)|", app_rows_bytes(rows, i));
}

static void trace(struct app_request *r, struct app_db *db)
{
	struct app_trace t;

	app_db_trace(db);
	app_sql(db, "INSERT INTO test.probe (word) VALUES (?)", app_string("traced"));
	app_sql(db, "SELECT COUNT(*) FROM test.probe");
	app_sql_text(db, "SELECT word FROM test.probe FOR UPDATE");
	app_sql_text(db, "SELECT nonsense FROM test.probe");
	for (size_t i = 0; app_db_trace_at(db, i, &t); i++)
		app_printf(r, "%s %llu %u %s\n", t.server, (unsigned long long)t.rows, t.code, t.sql);
}

/* Leaves a transaction open: the next request must not find it. */
static void leave_open(struct app_request *r, struct app_db *db)
{
	app_sql_text(db, "START TRANSACTION");
	app_sql(db, "INSERT INTO test.probe (word) VALUES (?)", app_string("open"));
	app_puts(r, "left");
}

static void quote(struct app_request *r, struct app_db *db)
{
	struct app_rows *rows = app_sql_text(db, app_text(r, "SELECT %s, %s", app_db_quote(db, "a'b\\\"c"), app_db_quote(db, NULL)));

	if (app_rows_next(rows))
		app_printf(r, "%s %s", app_rows_text(rows, 0), app_rows_text(rows, 1) ? "text" : "NULL");
}

static void wrong_count(struct app_request *r, struct app_db *db)
{
	bool fine = app_sql(db, "SELECT ?, ?", app_int(1)) != NULL;

	app_printf(r, "%d %u", fine, app_db_code(db));
}

/* More different statements than a thread keeps. */
static void many_statements(struct app_request *r, struct app_db *db)
{
	long long sum = 0;

	for (int i = 0; i < 500; i++) {
		struct app_rows *rows = app_sql(db, app_text(r, "SELECT %d + ?", i), app_int(1));

		if (app_rows_next(rows))
			sum += app_rows_int(rows, 0);
	}
	app_printf(r, "%lld", sum);
}

static void sql(struct app_request *r, void (*serve)(struct app_request *r, struct app_db *db))
{
	struct app_db *db = app_db(r);

	plain(r);
	if (db)
		serve(r, db);
	else
		app_fail(r, 503, "no database");
}

static const struct {
	const char *path;
	void (*serve)(struct app_request *r);
	void (*sql)(struct app_request *r, struct app_db *db);
} pages[] = {
	{ "/params", show_params, NULL },
	{ "/echo", echo, NULL },
	{ "/count", count, NULL },
	{ "/flood", flood, NULL },
	{ "/wait", wait_for_file, NULL },
	{ "/fields", fields, NULL },
	{ "/form", form, NULL },
	{ "/html", html, NULL },
	{ "/session", session, NULL },
	{ "/json", json, NULL },
	{ "/transaction", NULL, transaction },
	{ "/values", NULL, values },
	{ "/trace", NULL, trace },
	{ "/open", NULL, leave_open },
	{ "/quote", NULL, quote },
	{ "/wrong-count", NULL, wrong_count },
	{ "/many", NULL, many_statements },
};

static void handle(struct app_request *r)
{
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		if (strcmp(app_path(r), pages[i].path))
			continue;
		if (pages[i].serve)
			pages[i].serve(r);
		else
			sql(r, pages[i].sql);
		return;
	}
	if (!strcmp(app_path(r), "/crash"))
		abort();
	plain(r);
	app_printf(r, "version %d\n", PROBE_VERSION);
}

#ifdef REFUSES
static bool start(char *why, size_t why_size)
{
	strncpy(why, "its licence has run out", why_size);
	return false;
}
#else
#define start NULL
#endif

APP_MODULE(probe) = { .abi = ABI, .name = "probe", .init = start, .handle = handle };
