/* The admin room without a daemon: words and statements that mean commands, and answers as people and programs see them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "admin/answer.h"
#include "admin/command.h"
#include "admin/render.h"
#include "base/nearest.h"
#include "tests/unit/suites.h"

void suite_admin(void);

enum { WORDS = 10 };

/* A request as text: "promote SERVER=db2 dry-run= timeout=5000"; what was refused: "? why". */
static void describe(bool ok, const struct request *r, const char *why, char *out, size_t size)
{
	size_t len;

	if (!ok) {
		snprintf(out, size, "? %s", why);
		return;
	}
	len = (size_t)snprintf(out, size, "%s", r->command->name);
	for (size_t i = 0; r->command->arguments[i].kind; i++) {
		const struct argument *a = &r->command->arguments[i];

		if (!r->texts[i])
			continue;
		len += (size_t)snprintf(out + len, size - len, " %s=", a->name);
		if (a->kind == ARGUMENT_DURATION || a->kind == ARGUMENT_NUMBER)
			len += (size_t)snprintf(out + len, size - len, "%llu", (unsigned long long)r->numbers[i]);
		else
			len += (size_t)snprintf(out + len, size - len, "%s", r->texts[i]);
	}
	if (r->like)
		snprintf(out + len, size - len, " like=%s", r->like);
}

static void test_words(void)
{
	static const struct {
		const char *words[WORDS];
		const char *means;
	} rows[] = {
		{ { "status" }, "status" },
		{ { "STATUS" }, "status" },
		{ { "promote", "db2" }, "promote SERVER=db2" },
		{ { "promote", "--dry-run", "db2", "--timeout", "5s" }, "promote SERVER=db2 dry-run= timeout=5000" },
		{ { "promote", "--timeout=1min", "db2" }, "promote SERVER=db2 timeout=60000" },
		{ { "promote", "--", "--db2" }, "promote SERVER=--db2" },
		{ { "failover" }, "failover" },
		{ { "failover", "db3", "--force" }, "failover SERVER=db3 force=" },
		{ { "explain", "select", "1" }, "explain SQL=select 1" },
		{ { "explain", "--user", "app", "--", "-- x\n select 1" }, "explain user=app SQL=-- x\n select 1" },
		{ { "explain", "select 1", "--user" }, "explain SQL=select 1 --user" },
		{ { "events", "--last", "0" }, "events last=0" },
		{ { "sessions", "--user", "" }, "sessions user=" },
		{ { "events", "--last", "4294967295" }, "events last=4294967295" },
		{ { "events", "--last", "4294967296" }, "? --last 4294967296: not a whole number" },
		{ { "events", "--last", "0x10" }, "? --last 0x10: not a whole number" },
		{ { "events", "--last", " 1" }, "? --last  1: not a whole number" },
		{ { "promote", "db2", "--timeout", "99999999min" },
		  "? --timeout 99999999min: not a time; write a whole number and ms, s or min, such as 5s" },
		{ { "promote", "db2", "--timeout=" }, "? --timeout : not a time; write a whole number and ms, s or min, such as 5s" },
		{ { "promote" }, "? promote needs SERVER: the replica" },
		{ { "promote", "" }, "? SERVER is empty" },
		{ { "promote", "db2", "db3" }, "? promote: nothing known of db3" },
		{ { "promote", "db2", "--dryrun" }, "? promote has no option --dryrun; did you mean --dry-run?" },
		{ { "promote", "db2", "--d" }, "? promote has no option --d" },
		{ { "promote", "db2", "--force", "--force" }, "? --force is given twice" },
		{ { "promote", "db2", "--force=1" }, "? --force takes no value" },
		{ { "promote", "db2", "--timeout" }, "? --timeout needs a value" },
		{ { "promot" }, "? unknown command promot; did you mean promote?" },
		{ { "drian" }, "? unknown command drian; did you mean drain?" },
		{ { "qqq" }, "? unknown command qqq; help lists all" },
		{ { "" }, "? unknown command ; help lists all" },
		{ { NULL }, "? no command" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct request r;
		char why[512] = "", text[1024];
		size_t count = 0;
		bool ok;

		while (count < WORDS && rows[i].words[count])
			count++;
		ok = command_parse_words((char *const *)rows[i].words, count, &r, why, sizeof(why));
		describe(ok, &r, why, text, sizeof(text));
		CU_ASSERT_STRING_EQUAL(text, rows[i].means);
		if (strcmp(text, rows[i].means))
			printf("    row %zu: %s\n", i, text);
		request_fini(&r);
	}
}

static void test_statements(void)
{
	static const struct {
		const char *text, *means;
	} rows[] = {
		{ "SHOW SERVERS", "servers" },
		{ "show\n servers ;", "servers" },
		{ "/* who */ Show /* what */ Servers;;", "servers" },
		{ "servers", "servers" },
		{ "SHOW SERVERS LIKE 'db%'", "servers like=db%" },
		{ "SHOW SERVERS LONG LIKE \"x\"", "servers long= like=x" },
		{ "SHOW PROCESSLIST", "sessions" },
		{ "SHOW FULL PROCESSLIST", "sessions" },
		{ "SHOW SESSIONS USER = 'a b' BUSY", "sessions user=a b busy=" },
		{ "PROMOTE db2", "promote SERVER=db2" },
		{ "promote `db2` dry run timeout 5s", "promote SERVER=db2 dry-run= timeout=5000" },
		{ "PROMOTE db2 TIMEOUT=5s FORCE", "promote SERVER=db2 force= timeout=5000" },
		{ "PROMOTE db2 --dry-run --timeout = 5s", "promote SERVER=db2 dry-run= timeout=5000" },
		{ "PROMOTE 'dry' RUN", "? promote: nothing known of RUN" },
		{ "FAILOVER", "failover" },
		{ "FAILOVER TO db3", "failover SERVER=db3" },
		{ "EXPLAIN ROUTE SELECT 'a;b' -- x", "explain SQL=SELECT 'a;b' -- x" },
		{ "EXPLAIN ROUTE USER app SCHEMA s IN TRANSACTION SELECT 1", "explain user=app schema=s in-transaction= SQL=SELECT 1" },
		{ "EXPLAIN ROUTE in transaction", "? explain needs SQL: the statement" },
		{ "EXPLAIN SELECT 1", "? unknown command EXPLAIN; did you mean explain?" },
		{ "SHOW EVENTS LAST 3", "events last=3" },
		{ "HELP promote", "help COMMAND=promote" },
		{ "SHOW SERVERZ", "? unknown command SERVERZ; did you mean servers?" },
		{ "SHOW", "? unknown command SHOW; help lists all" },
		{ "", "? unknown command ; help lists all" },
		{ "PROMOTE", "? promote needs SERVER: the replica" },
		{ "PROMOTE 'db2", "? a quote is not closed" },
		{ "SHOW SERVERS LIKE db", "? LIKE needs a quoted pattern" },
		{ "PROMOTE db2 TIMEOUT", "? timeout needs a value" },
		{ "PROMOTE db2 TIMEOUT =", "? timeout needs a value" },
		{ "/* open", "? unknown command ; help lists all" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct request r;
		char why[512] = "", text[1024];
		bool ok = command_parse_sql(rows[i].text, strlen(rows[i].text), &r, why, sizeof(why));

		describe(ok, &r, why, text, sizeof(text));
		CU_ASSERT_STRING_EQUAL(text, rows[i].means);
		if (strcmp(text, rows[i].means))
			printf("    row %zu: %s\n", i, text);
		request_fini(&r);
	}
}

/* Nothing but bytes of this alphabet, in all orders that the dice give: no crash, and a refusal has a reason. */
static void test_random_statements(void)
{
	static const char letters[] = "PROMTE SHW LIKE'\"`%_\\/*-=;,()0159ms \n\t";
	unsigned dice = 1;
	char text[64], why[512];

	for (int n = 0; n < 200000; n++) {
		struct request r;
		size_t len;

		dice = dice * 1103515245 + 12345;
		len = dice >> 8 & 63;
		for (size_t i = 0; i < len; i++) {
			dice = dice * 1103515245 + 12345;
			text[i] = letters[(dice >> 16) % (sizeof(letters) - 1)];
		}
		why[0] = '\0';
		if (!command_parse_sql(text, len, &r, why, sizeof(why)))
			CU_ASSERT_FATAL(why[0] != '\0');
		request_fini(&r);
	}
}

static void test_like(void)
{
	static const struct {
		const char *pattern, *text;
		bool matches;
	} rows[] = {
		{ "", "", true },	    { "", "a", false },	      { "%", "", true },	 { "a", "A", true },
		{ "a_c", "abc", true },	    { "a_c", "ac", false },   { "%b%", "abc", true },	 { "%b", "abc", false },
		{ "a%%c", "ac", true },	    { "%a%a%", "xaya", true }, { "%a%a%", "xay", false }, { "a\\%", "a%", true },
		{ "a\\%", "ab", false },    { "a\\", "a\\", true },   { "_", "", false },	 { "db%", "db12", true },
		{ "%12", "db1212", true },
	};
	char text[2001];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CU_ASSERT_EQUAL(like_matches(rows[i].pattern, rows[i].text), rows[i].matches);
		if (like_matches(rows[i].pattern, rows[i].text) != rows[i].matches)
			printf("    row %zu\n", i);
	}
	/* A pattern that would take years when each % tries every place. */
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	CU_ASSERT_FALSE(like_matches("%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%ab", text));
}

static void test_nearest(void)
{
	struct nearest best = { NULL, 0 };

	nearest_consider(&best, "status", "servers");
	CU_ASSERT_PTR_NULL(best.name);
	nearest_consider(&best, "servers", "server");
	nearest_consider(&best, "sessions", "server");
	CU_ASSERT_STRING_EQUAL(best.name, "servers");
}

/* ---- Answers ---- */

static const struct column columns[] = {
	{ "name", CELL_TEXT, 0 }, { "count", CELL_INTEGER, 0 }, { "lag_ms", CELL_MS, 0 }, { "is_up", CELL_BOOL, 0 }, { "note", CELL_TEXT, 0 },
};

static void add_row(struct answer *a, struct table *t, const char *name, int64_t count, double lag, const char *note)
{
	table_row(a, t);
	table_text(t, name);
	table_integer(t, count);
	table_ms(t, lag);
	table_bool(t, count > 0);
	table_text(t, note);
	table_end_row(a, t);
}

static char *text_of(const struct answer *a, bool of_errors)
{
	char *out, *err;
	size_t len;
	FILE *to = open_memstream(&out, &len), *errors = open_memstream(&err, &len);

	render_text(a, 0, to, errors);
	fclose(to);
	fclose(errors);
	free(of_errors ? out : err);
	return of_errors ? err : out;
}

static void test_text(void)
{
	struct answer a = { .result = ANSWER_DONE };
	struct table *t = ANSWER_TABLE(&a, "rows", TABLE_ROWS, columns);
	char *text;

	t->empty = "Nothing.";
	text = text_of(&a, false);
	CU_ASSERT_STRING_EQUAL(text, "Nothing.\n");
	free(text);
	add_row(&a, t, "a", 5, 0.26, NULL);
	add_row(&a, t, "b\xc3\xbc", 1234, -1, "x\033[2J\n");
	add_row(&a, t, NULL, 0, 12345678, "");
	answer_end(&a, ANSWER_DONE, NULL, "%d rows", 3);
	text = text_of(&a, false);
	CU_ASSERT_STRING_EQUAL(text, "NAME  COUNT     LAG  IS UP  NOTE\n"
				     "a         5  0.3 ms  yes\n"
				     "b\xc3\xbc     1234       -  yes    x\\x1b[2J\\x0a\n"
				     "-         0   3.4 h  no     \n"
				     "3 rows\n");
	free(text);
	answer_end(&a, ANSWER_REFUSED, "do this", "no");
	text = text_of(&a, true);
	CU_ASSERT_STRING_EQUAL(text, "no\ndo this\n");
	free(text);
	answer_fini(&a);
}

static void test_units(void)
{
	static const struct {
		double ms;
		const char *text;
	} rows[] = {
		{ 0, "0 ms" },	     { 0.04, "0.0 ms" },      { 3.14159, "3.1 ms" },  { 42, "42 ms" },	   { 999, "999 ms" },
		{ 1000, "1.0 s" },   { 59900, "59.9 s" },     { 60000, "1 min" },     { 7200000, "2.0 h" }, { 864000000, "10 d" },
	};
	char text[64];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct cell cell = { .ms = rows[i].ms };

		render_cell(&columns[2], &cell, true, text, sizeof(text));
		CU_ASSERT_STRING_EQUAL(text, rows[i].text);
	}
}

static void test_json(void)
{
	struct answer a = { .result = ANSWER_DONE };
	struct table *t = ANSWER_TABLE(&a, "rows", TABLE_ROWS, columns), *facts = ANSWER_TABLE(&a, "facts", TABLE_FACTS, columns);
	json_t *json;
	char *text;

	add_row(&a, t, "q\"\xff", 5, 0.5, NULL);
	add_row(&a, facts, "f", 0, -1, "n");
	json = render_json(&a);
	text = json_dumps(json, JSON_COMPACT);
	CU_ASSERT_STRING_EQUAL(text, "{\"result\":\"done\","
				     "\"rows\":[{\"name\":\"q\\\"?\",\"count\":5,\"lag_ms\":0.5,\"is_up\":true,\"note\":null}],"
				     "\"facts\":{\"name\":\"f\",\"count\":0,\"lag_ms\":null,\"is_up\":false,\"note\":\"n\"}}");
	free(text);
	json_decref(json);
	answer_fini(&a);
}

static bool stop_at_two(void *owner, const struct table *table)
{
	(void)owner;
	return table->ended < 2;
}

/* Rows that were shown can be let go; whoever fills the table hears that nobody listens any more. */
static void test_rows_as_they_come(void)
{
	struct answer a = { .on_row = stop_at_two };
	struct table *t = ANSWER_TABLE(&a, "rows", TABLE_ROWS, columns);

	table_row(&a, t);
	table_text(t, "one");
	CU_ASSERT_TRUE(table_end_row(&a, t));
	CU_ASSERT_TRUE(table_cell(t, 0, 4)->is_null); /* cells that were not given */
	table_clear(t);
	CU_ASSERT_EQUAL(t->row_count, 0);
	table_row(&a, t);
	CU_ASSERT_FALSE(table_end_row(&a, t));
	table_text(t, "a cell of no row");
	CU_ASSERT_EQUAL(t->ended, 2);
	for (int i = 0; i < 10; i++)
		t = ANSWER_TABLE(&a, "more", TABLE_ROWS, columns);
	CU_ASSERT_EQUAL(a.table_count, ANSWER_TABLES);
	answer_fini(&a);
}

static void test_every_command_has_help(void)
{
	char *text, usage[256];
	size_t len;
	FILE *out = open_memstream(&text, &len);

	command_print_all(out);
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		CU_ASSERT_PTR_NOT_NULL_FATAL(commands[i].name);
		CU_ASSERT_PTR_NOT_NULL(commands[i].help);
		command_usage(&commands[i], usage, sizeof(usage));
		CU_ASSERT_PTR_EQUAL(command_find(commands[i].name), &commands[i]);
		command_print_one(out, &commands[i]);
	}
	fclose(out);
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "promote SERVER [--dry-run] [--force] [--timeout TIME]"));
	free(text);
}

void suite_admin(void)
{
	CU_pSuite suite = CU_add_suite("admin", NULL, NULL);

	CU_add_test(suite, "words", test_words);
	CU_add_test(suite, "statements", test_statements);
	CU_add_test(suite, "random statements", test_random_statements);
	CU_add_test(suite, "like", test_like);
	CU_add_test(suite, "nearest", test_nearest);
	CU_add_test(suite, "text", test_text);
	CU_add_test(suite, "units", test_units);
	CU_add_test(suite, "json", test_json);
	CU_add_test(suite, "rows as they come", test_rows_as_they_come);
	CU_add_test(suite, "every command has help", test_every_command_has_help);
}
