/* What keeps a session on one connection: each statement with its counterpart, in the order in which a client may send them. */
#include "proxy/session/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "proxy/session/named.h"
#include "proxy/session/worker.h"

void suite_pins(void);

static struct routine routines[] = {
	{ .name = (char *)"locker", .facts = SQL_F_BACKUP_STAGE },
	{ .name = (char *)"quiet", .harmless = true },
	{ .name = (char *)"setter", .facts = SQL_F_SETS_SESSION },
};
static struct snapshot cluster = { .server_count = 1,
				   .primary = 0,
				   .routines = routines,
				   .routine_count = sizeof(routines) / sizeof(routines[0]),
				   .catalog_known = true };
static struct worker worker = { .snapshot = &cluster };
static struct client session;
static struct backend backend;

static void begin(void)
{
	memset(&session, 0, sizeof(session));
	memset(&backend, 0, sizeof(backend));
	session.worker = &worker;
	session.value = state_new(&cluster, -1, 0, "work");
	session.sql = state_sql_context(session.value, &cluster, false);
}

static void end(void)
{
	client_pins_clear(&session);
	named_clear(&session);
	free(session.pins);
	free(session.uvars);
	state_unref(session.value);
}

static void run(const char *text)
{
	struct sql_meaning meaning;

	sql_classify(&session.sql, text, strlen(text), &meaning);
	client_note_statement(&session, &backend, &meaning, text, strlen(text));
}

/* Statements one after another, separated by '|'; behind each one "+" for pinned, "-" for free. */
static void test_statements(void)
{
	static const struct {
		const char *statements, *pinned;
	} rows[] = {
		{ "SELECT 1|INSERT INTO t VALUES (1)|SET autocommit=1", "---" },
		{ "CREATE TEMPORARY TABLE a (i INT)|SELECT 1|DROP TABLE a", "++-" },
		{ "CREATE TEMPORARY TABLE a (i INT)|DROP TABLE other.a|DROP TABLE A", "++-" },
		{ "CREATE TEMPORARY TABLE a (i INT)|CREATE TEMPORARY TABLE a (i INT)|DROP TABLE a",
		  "++-" },
		{ "CREATE TEMPORARY TABLE a (i INT)|CREATE TEMPORARY TABLE b (i INT)|DROP TABLE "
		  "b|DROP TABLE work.a",
		  "+++-" },
		{ "CREATE TABLE a (i INT)|DROP TABLE a", "--" },
		{ "LOCK TABLES t READ|SELECT * FROM t|UNLOCK TABLES", "++-" },
		{ "UNLOCK TABLES|SELECT 1", "--" },
		{ "FLUSH TABLES WITH READ LOCK|UNLOCK TABLES", "+-" },
		{ "BACKUP STAGE START|BACKUP STAGE FLUSH|BACKUP STAGE END", "++-" },
		{ "HANDLER t OPEN|HANDLER t OPEN AS u|HANDLER t CLOSE|HANDLER u CLOSE", "+++-" },
		{ "HANDLER t CLOSE|SELECT 1", "--" },
		{ "XA START 'x'|XA END 'x'|XA PREPARE 'x'|XA COMMIT 'x'", "+++-" },
		{ "SET timestamp=1|SELECT NOW()|SET timestamp=DEFAULT", "++-" },
		{ "PREPARE s FROM 'SELECT 1'|DEALLOCATE PREPARE s", "--" },
		{ "PREPARE s FROM @text|PREPARE r FROM 'SELECT 1'|DEALLOCATE PREPARE r|DEALLOCATE PREPARE s", "+++-" },
		{ "PREPARE s FROM @text|PREPARE s FROM 'SELECT 2'|DEALLOCATE PREPARE s", "+--" },
		{ "DEALLOCATE PREPARE s|SELECT 1", "--" },
		{ "CALL quiet()|SELECT 1", "--" },
		{ "CALL setter()|SELECT 1", "++" },
		{ "CALL unknown()|SELECT 1", "++" },
		{ "CALL locker()|BACKUP STAGE END", "+-" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char copy[300], got[20] = "", *rest = copy, *one;
		size_t n = 0;

		begin();
		snprintf(copy, sizeof(copy), "%s", rows[i].statements);
		while ((one = strsep(&rest, "|"))) {
			run(one);
			CU_ASSERT_EQUAL(client_is_pinned(&session), session.pinned == &backend);
			got[n++] = client_is_pinned(&session) ? '+' : '-';
		}
		if (strcmp(got, rows[i].pinned))
			printf("row %zu: %s is %s\n", i, rows[i].statements, got);
		CU_ASSERT_STRING_EQUAL(got, rows[i].pinned);
		CU_ASSERT_EQUAL(backend.tainted, strchr(got, '+') || strncmp(rows[i].statements, "PREPARE", 7) == 0);
		end();
	}
}

/* GET_LOCK counts by what the server answered. */
static void test_locks(void)
{
	begin();
	client_note_lock(&session, &backend, -1);
	CU_ASSERT_FALSE(client_is_pinned(&session));
	client_note_lock(&session, &backend, 1);
	client_note_lock(&session, &backend, 1);
	run("DO 1");
	CU_ASSERT_TRUE(client_is_pinned(&session) && client_pins_all(&session));
	client_note_lock(&session, &backend, -1);
	CU_ASSERT_TRUE(client_is_pinned(&session));
	run("SELECT RELEASE_ALL_LOCKS()");
	CU_ASSERT_FALSE(client_is_pinned(&session));
	end();
}

/* Where values of the session live that no tracker reports. */
static void test_values(void)
{
	begin();
	run("SELECT 1");
	CU_ASSERT_FALSE(session.has_uvars || session.has_last_id);
	run("SET @a = 1");
	CU_ASSERT_TRUE(session.has_uvars && backend.has_uvars);
	CU_ASSERT_PTR_EQUAL(session.uvars_at, &backend);
	CU_ASSERT_FALSE(client_is_pinned(&session));
	run("SELECT LAST_INSERT_ID(7)");
	CU_ASSERT_TRUE(session.has_last_id);
	CU_ASSERT_PTR_EQUAL(session.last_id_at, &backend);
	end();
}

/* SET TRANSACTION for the next one: held on its connection, and known without it as long as it was said plainly. */
static void test_oneshot(void)
{
	static const struct {
		const char *statements;
		bool set, fixed;
		const char *texts[ONESHOT_TEXTS];
	} rows[] = {
		{ "SET TRANSACTION READ WRITE", true, false, { "SET TRANSACTION READ WRITE" } },
		{ "SET TRANSACTION READ WRITE|SELECT 1|SET TRANSACTION READ WRITE", true, false, { "SET TRANSACTION READ WRITE" } },
		{ "SET TRANSACTION READ WRITE|SET @@tx_isolation='SERIALIZABLE'", true, false,
		  { "SET TRANSACTION READ WRITE", "SET @@tx_isolation='SERIALIZABLE'" } },
		{ "SET TRANSACTION READ ONLY|SET TRANSACTION READ WRITE|SET TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE", true, true,
		  { "SET TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE" } },
		{ "SET TRANSACTION READ ONLY|SET TRANSACTION READ WRITE|SET TRANSACTION READ ONLY", true, true,
		  { "SET TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE" } },
		{ "SET @@tx_isolation=@a", true, true, { NULL } },
		{ "SET TRANSACTION READ WRITE|INSERT INTO t VALUES (1)", false, false, { NULL } },
		{ "SET TRANSACTION READ WRITE|SELECT * FROM t", false, false, { NULL } },
		{ "SET TRANSACTION READ WRITE|COMMIT|SET TRANSACTION READ ONLY", true, false, { "SET TRANSACTION READ ONLY" } },
		{ "SET SESSION TRANSACTION READ WRITE", false, false, { NULL } },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static const struct oneshot none;
		const struct oneshot *now;
		struct oneshot copy = none;
		char list[200], *rest = list, *one;

		begin();
		snprintf(list, sizeof(list), "%s", rows[i].statements);
		while ((one = strsep(&rest, "|")))
			run(one);
		now = session.pins ? &session.pins->oneshot : &none;
		CU_ASSERT_EQUAL(now->set, rows[i].set);
		CU_ASSERT_EQUAL(client_is_pinned(&session), rows[i].set);
		CU_ASSERT_EQUAL(client_is_stuck(&session), rows[i].fixed);
		CU_ASSERT_FALSE(client_awaits_oneshot(&session));
		oneshot_copy(&copy, now);
		for (int j = 0; j < ONESHOT_TEXTS; j++) {
			const char *wanted = rows[i].texts[j];

			CU_ASSERT_TRUE(wanted ? now->texts[j] && !strcmp(now->texts[j], wanted) : !now->texts[j]);
			CU_ASSERT_TRUE(wanted ? copy.texts[j] && !strcmp(copy.texts[j], wanted) : !copy.texts[j]);
		}
		client_pins_clear(&session);
		client_set_oneshot(&session, &copy); /* its connection is gone */
		CU_ASSERT_EQUAL(client_awaits_oneshot(&session), rows[i].set);
		oneshot_clear(&copy);
		end();
	}
}

/* Everything is over with the session. */
static void test_clear(void)
{
	begin();
	run("CREATE TEMPORARY TABLE a (i INT)");
	run("LOCK TABLES t WRITE");
	client_pins_clear(&session);
	CU_ASSERT_FALSE(client_is_pinned(&session));
	CU_ASSERT_PTR_NULL(session.pinned);
	run("SELECT 1");
	CU_ASSERT_FALSE(client_is_pinned(&session));
	end();
}

/* What a READ ONLY block has left on a replica gives way to what a statement leaves on the primary. */
static void test_replica(void)
{
	static struct backend replica = { .is_replica = true };
	struct sql_meaning meaning;
	const char *call = "CALL anything()";

	begin();
	sql_classify(&session.sql, call, strlen(call), &meaning);
	client_note_statement(&session, &replica, &meaning, call, strlen(call));
	CU_ASSERT_PTR_EQUAL(session.pinned, &replica);
	run("CREATE TEMPORARY TABLE a (x INT)");
	CU_ASSERT_PTR_EQUAL(session.pinned, &backend);
	client_note_statement(&session, &replica, &meaning, call, strlen(call));
	CU_ASSERT_PTR_EQUAL(session.pinned, &backend);
	end();
}

void suite_pins(void)
{
	static CU_TestInfo tests[] = {
		{ "statements", test_statements },
		{ "locks", test_locks },
		{ "values", test_values },
		{ "clear", test_clear },
		{ "set transaction", test_oneshot },
		{ "replica", test_replica },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "pins", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
