/* Session state as a value: what a SET brings, what it takes to bring a connection there, character sets and their defaults. */
#include "proxy/session/state.h"

#include <stdio.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "proxy/session/charset.h"

void suite_state(void);

/* Sorted by name. Server 0 is the primary; server 1, a replica, has another sql_mode and does not know one variable. */
#define OF(of, value) .name = (char *)(of), .primary_value = (char *)(value)
#define BOTH	      .exists = { true, true }
static struct tracked_variable variables[] = {
	{ OF("autocommit", "ON"), BOTH, .same_default = { true, true } },
	{ OF("character_set_client", "latin1"), BOTH, .same_default = { true, true } },
	{ OF("character_set_connection", "latin1"), BOTH, .same_default = { true, true } },
	{ OF("character_set_results", "latin1"), BOTH, .same_default = { true, true } },
	{ OF("collation_connection", "latin1_swedish_ci"), BOTH, .same_default = { true, true } },
	{ OF("empty_one", "x"), .empty_is_null = true, BOTH, .same_default = { true, true } },
	{ OF("lock_wait_timeout", "50"), .is_number = true, BOTH, .same_default = { true, true } },
	{ OF("max_join_size", "100"), .is_number = true, BOTH, .same_default = { true, true } },
	{ OF("only_on_primary", "a"), .exists = { true }, .same_default = { true } },
	{ OF("sql_big_selects", "ON"), BOTH, .same_default = { true, true } },
	{ OF("sql_mode", "STRICT_TRANS_TABLES"), BOTH, .same_default = { true, false },
	  .server_value = { (char *)"STRICT_TRANS_TABLES", (char *)"" } },
	{ OF("system_versioning_asof", ""), .default_is_bare = true, BOTH,
	  .same_default = { true, true } },
	{ OF("transaction_isolation", "REPEATABLE-READ"), .stands_for = "tx_isolation", BOTH,
	  .same_default = { true, true } },
	{ OF("tx_isolation", "REPEATABLE-READ"), BOTH, .same_default = { true, true } },
	{ OF("tx_read_only", "OFF"), BOTH, .same_default = { true, true } },
	{ OF("wait_timeout", "28800"), .is_number = true, BOTH, .same_default = { true, true } },
};

static struct snapshot cluster = {
	.server_count = 2,
	.primary = 0,
	.servers = { { .role = ROLE_PRIMARY, .version = 101100 },
		     { .role = ROLE_REPLICA, .version = 101100 } },
	.variables = variables,
	.variable_count = sizeof(variables) / sizeof(variables[0]),
};

static struct wire_bytes bytes(const char *text)
{
	return (struct wire_bytes){ (const uint8_t *)text, strlen(text) };
}

/* Takes the reference over. */
static struct state *with(struct state *state, const char *name, const char *value)
{
	struct state *next = state_with_variable(state, &cluster, bytes(name), bytes(value));

	state_unref(state);
	return next;
}

/* Applies "name=value" words separated by '|'. */
static struct state *apply(struct state *state, const char *changes)
{
	char copy[300], *rest = copy, *word;

	snprintf(copy, sizeof(copy), "%s", changes);
	while (*changes && (word = strsep(&rest, "|"))) {
		char *value = strchr(word, '=');

		*value++ = '\0';
		state = with(state, word, value);
	}
	return state;
}

static const char *difference(const struct state *target, const struct state *actual, int server,
			      bool is_replica)
{
	static uint8_t memory[1000];
	struct wire_writer w = wire_writer(memory, sizeof(memory) - 1);
	unsigned count = state_put_set(&w, target, actual, &cluster, server, is_replica);

	CU_ASSERT_EQUAL(count == 0, w.len == 0);
	memory[w.len] = '\0';
	return (const char *)memory;
}

/* From a fresh connection to the state after these changes. */
static void test_differences(void)
{
	static const struct {
		const char *changes, *set;
	} rows[] = {
		{ "", "" },
		{ "autocommit=OFF", "SET autocommit='OFF'" },
		{ "autocommit=OFF|autocommit=ON", "" },
		{ "lock_wait_timeout=7", "SET lock_wait_timeout=7" },
		{ "lock_wait_timeout=7|autocommit=OFF",
		  "SET autocommit='OFF',lock_wait_timeout=7" },
		{ "no_such=1", "" },
		{ "wait_timeout=5", "" },
		{ "session_track_schema=OFF", "" },
		{ "empty_one=", "SET empty_one=NULL" },
		{ "system_versioning_asof=DEFAULT", "SET system_versioning_asof=DEFAULT" },
		{ "system_versioning_asof=2020-01-01", "SET system_versioning_asof='2020-01-01'" },
		/* two names of one value */
		{ "transaction_isolation=SERIALIZABLE", "SET tx_isolation='SERIALIZABLE'" },
		{ "transaction_isolation=SERIALIZABLE|tx_isolation=REPEATABLE-READ", "" },
		/* quoting goes by the connection as it is */
		{ "sql_mode=it's", "SET sql_mode='it''s'" },
		{ "sql_mode=a\\b", "SET sql_mode='a\\\\b'" },
		/* max_join_size sets the other one behind everybody's back */
		{ "max_join_size=9", "SET max_join_size=9,sql_big_selects='ON'" },
		{ "max_join_size=9|sql_big_selects=OFF",
		  "SET max_join_size=9,sql_big_selects='OFF',sql_big_selects='OFF'" },
		/* character sets that go together are one SET NAMES */
		{ "character_set_client=utf8mb4|character_set_connection=utf8mb4|character_set_"
		  "results=utf8mb4|"
		  "collation_connection=utf8mb4_bin",
		  "SET NAMES utf8mb4,collation_connection=utf8mb4_bin" },
		{ "character_set_client=utf8mb4",
		  "SET NAMES latin1,character_set_client=utf8mb4,collation_connection=latin1_swedish_ci" },
		{ "character_set_results=", "SET character_set_results=NULL" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct state *fresh = state_new(&cluster, 0, 0, NULL);
		struct state *target = apply(state_ref(fresh), rows[i].changes);
		const char *set = difference(target, fresh, 0, false);

		if (strcmp(set, rows[i].set))
			printf("row %zu: %s\n", i, set);
		CU_ASSERT_STRING_EQUAL(set, rows[i].set);
		CU_ASSERT_EQUAL(state_equal(target, fresh), !*rows[i].set);
		CU_ASSERT_STRING_EQUAL(difference(target, target, 0, false), "");
		state_unref(target);
		state_unref(fresh);
	}
}

/* And back: what a session left is taken away for the next. */
static void test_back_to_defaults(void)
{
	struct state *fresh = state_new(&cluster, 0, 0, NULL);
	struct state *used = apply(state_ref(fresh), "autocommit=OFF|lock_wait_timeout=7");

	CU_ASSERT_STRING_EQUAL(difference(fresh, used, 0, false),
			       "SET autocommit='ON',lock_wait_timeout=50");
	state_unref(used);
	state_unref(fresh);
}

/* A replica whose own defaults differ starts from them, keeps its guard, and is not told what it does not know. */
static void test_replica(void)
{
	struct state *session =
		apply(state_new(&cluster, -1, 0, NULL), "only_on_primary=b|tx_read_only=ON");
	struct state *replica = state_new(&cluster, 1, 0, NULL);

	CU_ASSERT_STRING_EQUAL(state_get(replica, &cluster, "sql_mode"), "");
	CU_ASSERT_STRING_EQUAL(difference(session, replica, 1, true),
			       "SET sql_mode='STRICT_TRANS_TABLES'");
	CU_ASSERT_STRING_EQUAL(difference(session, replica, 1, false),
			       "SET sql_mode='STRICT_TRANS_TABLES',tx_read_only='ON'");
	state_unref(replica);
	state_unref(session);
}

/* A connection with NO_BACKSLASH_ESCAPES takes backslashes as they are. */
static void test_backslashes(void)
{
	struct state *fresh = state_new(&cluster, 0, 0, NULL);
	struct state *actual = apply(state_ref(fresh), "sql_mode=NO_BACKSLASH_ESCAPES");
	struct state *target = apply(state_ref(actual), "autocommit=a\\b");

	CU_ASSERT_STRING_EQUAL(difference(target, actual, 0, false), "SET autocommit='a\\b'");
	state_unref(target);
	state_unref(actual);
	state_unref(fresh);
}

/* The collation number of a login, and a SET NAMES that gave the results a collation, too. */
static void test_login_charset(void)
{
	struct state *fresh = state_new(&cluster, 0, 0, NULL);
	struct state *utf8 = state_new(&cluster, 0, 45, NULL),
		     *bin = state_new(&cluster, 0, 46, NULL);
	struct state *same = state_new(&cluster, 0, 8, NULL);
	struct state *names = state_with_names(utf8, &cluster, bytes("utf8mb4_bin")), *usual, *results, *client;

	CU_ASSERT_STRING_EQUAL(difference(utf8, fresh, 0, false),
			       "SET NAMES utf8mb4,collation_connection=utf8mb4_general_ci");
	CU_ASSERT_STRING_EQUAL(difference(bin, fresh, 0, false),
			       "SET NAMES utf8mb4 COLLATE utf8mb4_bin");
	CU_ASSERT_TRUE(state_equal(same, fresh));
	CU_ASSERT_FALSE(state_equal(names, utf8));
	usual = state_with_names(utf8, &cluster, bytes("utf8mb4_general_ci"));
	CU_ASSERT_TRUE(state_equal(usual, utf8));
	/* one side named alone: the other keeps its collation */
	results = apply(state_ref(names), "character_set_results=latin1");
	CU_ASSERT_STRING_EQUAL(difference(results, fresh, 0, false),
			       "SET NAMES utf8mb4 COLLATE utf8mb4_bin,character_set_results=latin1,collation_connection=utf8mb4_general_ci");
	client = apply(state_ref(names), "character_set_client=latin1");
	CU_ASSERT_STRING_EQUAL(difference(client, fresh, 0, false),
			       "SET NAMES utf8mb4 COLLATE utf8mb4_bin,character_set_client=latin1,collation_connection=utf8mb4_general_ci");
	state_unref(client);
	client = apply(state_ref(names), "character_set_client=utf8mb4");
	CU_ASSERT_FALSE(state_equal(client, names));
	/* a collation of another character set than the results have by now is the client's alone */
	state_unref(usual);
	usual = state_with_names(results, &cluster, bytes("utf8mb4_bin"));
	CU_ASSERT_TRUE(state_equal(usual, results));
	state_unref(client);
	state_unref(results);
	state_unref(usual);
	state_unref(names);
	state_unref(same);
	state_unref(bin);
	state_unref(utf8);
	state_unref(fresh);
}

/* Servers before 10.6 know utf8mb3 as utf8. */
static void test_old_name_of_utf8(void)
{
	struct state *s;

	cluster.servers[0].version = 100500;
	s = state_new(&cluster, 0, 33, NULL);
	CU_ASSERT_STRING_EQUAL(state_get(s, &cluster, "character_set_client"), "utf8");
	CU_ASSERT_STRING_EQUAL(state_get(s, &cluster, "collation_connection"), "utf8_general_ci");
	state_unref(s);
	cluster.servers[0].version = 101100;
	s = state_new(&cluster, 0, 33, NULL);
	CU_ASSERT_STRING_EQUAL(state_get(s, &cluster, "character_set_client"), "utf8mb3");
	state_unref(s);
}

static void test_schema_and_role(void)
{
	struct state *none = state_new(&cluster, 0, 0, NULL), *a = state_with_schema(none, "a", 1);
	struct state *again = state_with_schema(a, "abc", 1),
		     *longer = state_with_schema(a, "abc", 3);
	struct state *back = state_with_schema(a, NULL, 0),
		     *role = state_with_role(a, "SET ROLE r", 10);

	CU_ASSERT_PTR_EQUAL(again, a);
	CU_ASSERT_STRING_EQUAL(longer->schema, "abc");
	CU_ASSERT_FALSE(state_equal(longer, a));
	CU_ASSERT_PTR_NULL(back->schema);
	CU_ASSERT_TRUE(state_equal(back, none));
	CU_ASSERT_FALSE(state_equal(a, none));
	CU_ASSERT_STRING_EQUAL(role->role, "SET ROLE r");
	CU_ASSERT_STRING_EQUAL(role->schema, "a");
	CU_ASSERT_FALSE(state_equal(role, a));
	state_unref(role);
	state_unref(back);
	state_unref(longer);
	state_unref(again);
	state_unref(a);
	state_unref(none);
}

static void test_order_does_not_matter(void)
{
	struct state *one = apply(state_new(&cluster, 0, 0, NULL),
				  "autocommit=OFF|lock_wait_timeout=7|sql_mode=ANSI");
	struct state *two = apply(state_new(&cluster, 0, 0, NULL),
				  "sql_mode=X|lock_wait_timeout=7|sql_mode=ANSI|autocommit=OFF");

	CU_ASSERT_TRUE(state_equal(one, two));
	CU_ASSERT_EQUAL(one->hash, two->hash);
	state_unref(two);
	state_unref(one);
}

static void test_what_the_classifier_hears(void)
{
	static const struct {
		const char *mode;
		bool ansi_quotes, no_backslash, oracle;
	} rows[] = {
		{ "", false, false, false },
		{ "ANSI_QUOTES", true, false, false },
		{ "STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES", false, true, false },
		{ "PIPES_AS_CONCAT,ANSI_QUOTES,ORACLE", true, false, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct state *s = with(state_new(&cluster, 0, 0, NULL), "sql_mode", rows[i].mode);
		struct sql_context context = state_sql_context(s, &cluster, i == 1);

		CU_ASSERT_EQUAL(context.ansi_quotes, rows[i].ansi_quotes);
		CU_ASSERT_EQUAL(context.no_backslash_escapes, rows[i].no_backslash);
		CU_ASSERT_EQUAL(context.oracle, rows[i].oracle);
		CU_ASSERT_EQUAL(context.multi_statements, i == 1);
		CU_ASSERT_EQUAL(context.version, 101100);
		state_unref(s);
	}
}

static void test_charsets(void)
{
	unsigned known = 0, defaults = 0;

	for (unsigned id = 0; id < 256; id++) {
		const struct charset *cs = charset_by_id((uint8_t)id);

		if (!cs)
			continue;
		known++;
		defaults += cs->is_default;
		CU_ASSERT_EQUAL(strncmp(cs->collation, cs->name, strlen(cs->name)), 0);
		CU_ASSERT_PTR_NOT_NULL_FATAL(charset_default(cs->name, strlen(cs->name)));
		if (cs->is_default)
			CU_ASSERT_PTR_EQUAL(charset_default(cs->name, strlen(cs->name)), cs);
	}
	CU_ASSERT_TRUE(known > 200 && defaults >= 40);
	CU_ASSERT_PTR_NULL(charset_by_id(0));
	CU_ASSERT_PTR_NULL(charset_default("utf8mb", 6));
	CU_ASSERT_PTR_NULL(charset_default("", 0));
}

void suite_state(void)
{
	static CU_TestInfo tests[] = {
		{ "differences", test_differences },
		{ "back to defaults", test_back_to_defaults },
		{ "replica", test_replica },
		{ "backslashes", test_backslashes },
		{ "login charset", test_login_charset },
		{ "old name of utf8", test_old_name_of_utf8 },
		{ "schema and role", test_schema_and_role },
		{ "order does not matter", test_order_does_not_matter },
		{ "what the classifier hears", test_what_the_classifier_hears },
		{ "charsets", test_charsets },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "state", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
