/* Questions about the last statement: what is written into them, and which connection is asked. */
#include "proxy/session/turn.h"

#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "proxy/session/freeze.h"
#include "proxy/session/worker.h"

void suite_diagnose(void);

static struct snapshot cluster = { .server_count = 1, .primary = 0 };
static struct worker worker = { .snapshot = &cluster };
static struct client session;
static struct backend here, there;
static struct turn turn;

static void ask(const char *text)
{
	turn.command = COM_QUERY;
	turn.diagnosed = 0;
	turn.list_saved = turn.stands_for_show = false;
	CU_ASSERT_TRUE_FATAL(turn_set_text(&turn, text, strlen(text)));
	turn_judge_again(&turn);
	turn.meaning = &turn.own;
}

/* `here` ran the last statement and nothing has come between; `there` is another of the session's. */
static void begin(void)
{
	memset(&session, 0, sizeof(session));
	memset(&turn, 0, sizeof(turn));
	memset(&here, 0, sizeof(here));
	memset(&there, 0, sizeof(there));
	session.worker = &worker;
	session.id = here.session = 7;
	session.value = state_new(&cluster, -1, 0, "work");
	session.sql = state_sql_context(session.value, &cluster, true);
	session.status = SERVER_STATUS_AUTOCOMMIT;
	session.row_count = 3;
	session.found_rows = 12;
	here.state = there.state = BACKEND_READY;
	here.value = session.value;
	there.value = NULL;
	here.client = there.client = &session;
	here.next_attached = &there;
	session.attached = &here;
	session.last = session.found_at = session.diag_at = &here;
	turn.client = &session;
}

static void end(void)
{
	freeze_forget_list(&session);
	free(turn.packet);
	free(turn.restore);
	state_unref(session.value);
}

static void expect_text(const char *text)
{
	CU_ASSERT_EQUAL(turn.text_len, strlen(text));
	CU_ASSERT_NSTRING_EQUAL(turn.text, text, strlen(text));
}

static void test_asks_list(void)
{
	static const struct {
		const char *text;
		bool list;
	} rows[] = {
		{ "SHOW WARNINGS", true },
		{ "SHOW COUNT(*) ERRORS", true },
		{ "SELECT @@warning_count", true },
		{ "SELECT @@session.error_count", true },
		{ "GET DIAGNOSTICS @a = NUMBER", true },
		{ "SELECT 1; SHOW WARNINGS", true },
		{ "SELECT ROW_COUNT()", false },
		{ "SELECT FOUND_ROWS(), '@@warning_count'", false },
		{ "SELECT `@@warning_count`, ROW_COUNT()", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin();
		ask(rows[i].text);
		CU_ASSERT_EQUAL(diagnose_asks_list(&turn), rows[i].list);
		end();
	}
}

/* Where nothing has come in between the server answers; else the value is written down. */
static void test_values(void)
{
	static const struct {
		const char *question, *written;
	} rows[] = {
		{ "SELECT ROW_COUNT()", "SELECT (0+LEAST(3,9223372036854775807)) AS `ROW_COUNT()`" },
		{ "SELECT FOUND_ROWS() AS n", "SELECT (0+LEAST(12,9223372036854775807)) AS n" },
		{ "DO SLEEP(ROW_COUNT())", "DO SLEEP((0+LEAST(3,9223372036854775807)))" },
		{ "SELECT 'ROW_COUNT()', row_counts()", NULL },
		{ "CREATE FUNCTION f() RETURNS INT RETURN ROW_COUNT()", NULL }, /* the words are kept, not answered */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin();
		ask(rows[i].question);
		CU_ASSERT_FALSE(diagnose_begin(&turn));
		expect_text(rows[i].question);
		ask(rows[i].question);
		session.last_gone = true;
		CU_ASSERT_FALSE(diagnose_begin(&turn));
		expect_text(rows[i].written ? rows[i].written : rows[i].question);
		end();
	}
}

static void test_counts_of_a_frozen_list(void)
{
	begin();
	session.last_gone = true;
	freeze_error(&session, 1146, "42S02", "no such table");
	ask("SELECT @@error_count AS e");
	CU_ASSERT_FALSE(diagnose_begin(&turn));
	expect_text("SELECT LEAST(CAST(1 AS UNSIGNED),18446744073709551615) AS e");
	ask("SHOW COUNT(*) WARNINGS");
	CU_ASSERT_FALSE(diagnose_begin(&turn));
	expect_text("SELECT LEAST(CAST(1 AS UNSIGNED),18446744073709551615) AS `@@session.warning_count`");
	ask("SHOW WARNINGS");
	CU_ASSERT_FALSE(diagnose_begin(&turn));
	CU_ASSERT_PTR_NOT_NULL_FATAL(turn.restore); /* it is made again where the question goes */
	CU_ASSERT_STRING_EQUAL(turn.restore, "SIGNAL SQLSTATE '42S02' SET MYSQL_ERRNO=1146,MESSAGE_TEXT=_utf8 x'6E6F2073756368207461626C65'");
	end();
}

static void test_where(void)
{
	begin();
	ask("SELECT ROW_COUNT()");
	CU_ASSERT_PTR_EQUAL(diagnose_where(&turn), &here); /* it has run last, and knows */
	session.last_gone = true;
	session.diag_at = &there;
	session.diag_open = true;
	ask("SHOW WARNINGS");
	CU_ASSERT_PTR_EQUAL(diagnose_where(&turn), &there);
	session.found_rows_there = true;
	ask("SELECT FOUND_ROWS()");
	CU_ASSERT_PTR_EQUAL(diagnose_where(&turn), &here);
	session.found_rows_there = false;
	session.diag_at = NULL;
	session.diag_open = false;
	here.has_diagnostics = true;
	ask("SHOW ERRORS");
	CU_ASSERT_PTR_EQUAL(diagnose_where(&turn), &there); /* any that has no other list */
	there.has_diagnostics = true;
	CU_ASSERT_PTR_NULL(diagnose_where(&turn));
	end();
}

void suite_diagnose(void)
{
	CU_pSuite suite = CU_add_suite("diagnose", NULL, NULL);

	CU_add_test(suite, "is it about the list", test_asks_list);
	CU_add_test(suite, "values in questions", test_values);
	CU_add_test(suite, "counts of a frozen list", test_counts_of_a_frozen_list);
	CU_add_test(suite, "which connection", test_where);
}
