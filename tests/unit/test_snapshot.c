/* Lookups in a snapshot, and the choice of an account as the server makes it. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cluster/accounts.h"
#include "proxy/cluster/snapshot.h"

void suite_snapshot(void);

static void test_host_patterns(void)
{
	static const struct {
		const char *pattern, *name, *ip;
		bool matches;
	} rows[] = {
		{ "%", NULL, "10.0.0.7", true },
		{ "", NULL, "10.0.0.7", true },
		{ "10.0.0.7", NULL, "10.0.0.7", true },
		{ "10.0.0.7", NULL, "10.0.0.70", false },
		{ "10.0.%", NULL, "10.0.0.7", true },
		{ "10.0._.7", NULL, "10.0.0.7", true },
		{ "10.0._.7", NULL, "10.0.10.7", false },
		{ "10.%.7", NULL, "10.1.2.7", true },
		{ "10.%.7", NULL, "10.1.2.8", false },
		{ "localhost", "localhost", NULL, true },
		{ "LOCALHOST", "localhost", NULL, true },
		{ "localhost", NULL, "127.0.0.1", false },
		{ "localhost", "localhost", "127.0.0.1", true },
		{ "127.0.0.1", "localhost", "127.0.0.1", true },
		{ "127.0.0.1", "localhost", NULL, false },
		{ "%", "localhost", NULL, true },
		{ "%.example.com", "web1.example.com", "10.0.0.7", true },
		{ "%.example.com", NULL, "10.0.0.7", false },
		{ "web\\_1", "web_1", NULL, true },
		{ "web\\_1", "webx1", NULL, false },
		{ "192.168.1.0/255.255.255.0", NULL, "192.168.1.77", true },
		{ "192.168.1.0/255.255.255.0", NULL, "192.168.2.77", false },
		{ "192.168.1.0/24", NULL, "192.168.1.77", true },
		{ "192.168.1.0/33", NULL, "192.168.1.77", false },
		{ "192.168.1.0/", NULL, "192.168.1.77", false },
		{ "192.168.1.0/255.255.255.0", NULL, "::1", false },
		{ "::1", NULL, "::1", true },
		{ "fe80::%", NULL, "fe80::1", true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (accounts_host_matches(rows[i].pattern, rows[i].name, rows[i].ip) !=
		    rows[i].matches) {
			printf("row %zu: %s\n", i, rows[i].pattern);
			CU_FAIL("host pattern");
		}
}

static const struct {
	const char *user, *host;
	bool is_role;
} table[] = {
	{ "app", "%", false },		{ "app", "10.0.%", false }, { "app", "10.0.0.%", false },
	{ "app", "10.0.0.7", false },	{ "", "localhost", false }, { "root", "localhost", false },
	{ "root", "127.0.0.1", false }, { "root", "::1", false },   { "web", "%", false },
	{ "web", "localhost", false },	{ "duty", "", true },	    { "any", "", false },
	{ "any", "10.%", false },
};

static struct snapshot *make_snapshot(void)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	atomic_init(&s->refs, 1);
	s->account_count = sizeof(table) / sizeof(table[0]);
	s->accounts = calloc(s->account_count, sizeof(*s->accounts));
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->accounts);
	for (size_t i = 0; i < s->account_count; i++) {
		s->accounts[i].user = strdup(table[i].user);
		s->accounts[i].host = strdup(table[i].host);
		s->accounts[i].plugin = strdup("mysql_native_password");
		s->accounts[i].auth = strdup("");
		s->accounts[i].is_role = table[i].is_role;
	}
	accounts_sort(s->accounts, s->account_count);
	return s;
}

/* Expectations as "user@host": what CURRENT_USER() of a real 10.11 said with the same table (but for the empty host, which CREATE USER
 * no longer writes). */
static void test_account_choice(void)
{
	static const struct {
		const char *user, *host;
		bool loopback, skip_names;
		const char *chosen;
	} rows[] = {
		{ "app", "10.0.0.7", false, false, "app@10.0.0.7" },
		{ "app", "10.0.0.8", false, false, "app@10.0.0.%" },
		{ "app", "10.0.1.8", false, false, "app@10.0.%" },
		{ "app", "10.1.1.8", false, false, "app@%" },
		/* The anonymous local account is more specific than app@%. */
		{ "app", "localhost", false, false, "@localhost" },
		{ "app", "127.0.0.1", true, false, "@localhost" },
		{ "app", "127.0.0.1", true, true, "app@%" },
		{ "web", "localhost", false, false, "web@localhost" },
		{ "web", "127.0.0.1", true, true, "web@%" },
		{ "root", "localhost", false, false, "root@localhost" },
		{ "root", "127.0.0.1", true, false, "root@localhost" },
		{ "root", "127.0.0.1", true, true, "root@127.0.0.1" },
		{ "root", "10.0.0.7", false, false, NULL },
		{ "nobody", "10.0.0.7", false, false, NULL },
		{ "nobody", "localhost", false, false, "@localhost" },
		{ "duty", "10.0.0.7", false, false, NULL },
		{ "any", "10.0.0.7", false, false, "any@10.%" },
		{ "any", "11.0.0.7", false, false, "any@" },
		{ "", "localhost", false, false, "@localhost" },
	};
	struct snapshot *s = make_snapshot();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct account *a;
		char chosen[128] = "";

		s->skip_name_resolve = rows[i].skip_names;
		a = snapshot_account(s, rows[i].user, strlen(rows[i].user), rows[i].host,
				     rows[i].loopback);
		if (a)
			snprintf(chosen, sizeof(chosen), "%s@%s", a->user, a->host);
		if (strcmp(chosen, rows[i].chosen ? rows[i].chosen : "")) {
			printf("row %zu: %s\n", i, chosen);
			CU_FAIL("account choice");
		}
	}
	snapshot_unref(s);
}

static bool fits(const struct snapshot *s, const char *user, const char *host)
{
	for (size_t i = 0; i < s->account_count; i++)
		if (!strcmp(s->accounts[i].user, user) && !strcmp(s->accounts[i].host, host))
			return s->accounts[i].fits_backends;
	return false;
}

/* An account may be used for backends only where the server, seeing Tandem's address, would choose the same one. */
static void test_fit(void)
{
	static const struct account_origin origins[] = { { "localhost", "127.0.0.1" },
							 { "", "10.0.0.7" } };
	struct snapshot *s = make_snapshot();

	accounts_judge_fit(s->accounts, s->account_count, origins, 1);
	CU_ASSERT_TRUE(fits(s, "web", "localhost"));
	CU_ASSERT_FALSE(fits(s, "web", "%"));
	CU_ASSERT_FALSE(fits(s, "app", "%"));
	accounts_judge_fit(s->accounts, s->account_count, origins + 1, 1);
	CU_ASSERT_TRUE(fits(s, "web", "%"));
	CU_ASSERT_TRUE(fits(s, "app", "10.0.0.7"));
	CU_ASSERT_FALSE(fits(s, "app", "%"));
	accounts_judge_fit(s->accounts, s->account_count, origins, 2);
	CU_ASSERT_FALSE(fits(s, "web", "%"));
	CU_ASSERT_FALSE(fits(s, "web", "localhost"));
	accounts_judge_fit(s->accounts, s->account_count, origins, 0);
	CU_ASSERT_FALSE(fits(s, "web", "%"));
	snapshot_unref(s);
}

static void test_copy(void)
{
	struct snapshot *s = make_snapshot();
	struct account *copy = accounts_copy(s->accounts, s->account_count);

	CU_ASSERT_TRUE(accounts_equal(copy, s->account_count, s->accounts, s->account_count));
	CU_ASSERT_FALSE(accounts_equal(copy, s->account_count - 1, s->accounts, s->account_count));
	copy[3].locked = true;
	CU_ASSERT_FALSE(accounts_equal(copy, s->account_count, s->accounts, s->account_count));
	accounts_free(copy, s->account_count);
	snapshot_unref(s);
}

static void test_names(void)
{
	static const char *const names[] = { "abc", "abcd", "sql_mode", "time_zone" };
	struct snapshot *s = calloc(1, sizeof(*s));
	const struct routine *r;

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	atomic_init(&s->refs, 1);
	s->variables = calloc(4, sizeof(*s->variables));
	s->routines = calloc(4, sizeof(*s->routines));
	CU_ASSERT_TRUE_FATAL(s->variables && s->routines);
	for (int i = 0; i < 4; i++) {
		s->variables[s->variable_count++].name = strdup(names[i]);
		s->routines[s->routine_count].harmless = true;
		s->routines[s->routine_count++].name = strdup(names[i]);
	}
	CU_ASSERT_PTR_EQUAL(snapshot_variable(s, "SQL_mode,x", 8), &s->variables[2]);
	CU_ASSERT_PTR_EQUAL(snapshot_variable(s, "abc", 3), &s->variables[0]);
	CU_ASSERT_PTR_EQUAL(snapshot_variable(s, "abcd", 4), &s->variables[1]);
	CU_ASSERT_PTR_NULL(snapshot_variable(s, "ab", 2));
	CU_ASSERT_PTR_NULL(snapshot_variable(s, "abcde", 5));
	CU_ASSERT_PTR_NULL(snapshot_variable(s, "", 0));
	CU_ASSERT_PTR_EQUAL(snapshot_routine(s, "ABCD", 4), &s->routines[1]);
	CU_ASSERT_PTR_NULL(snapshot_routine(s, "count", 5));
	/* Not found under a name that may be stored differently proves nothing. */
	r = snapshot_routine(s, "\xc3\x84rger", 6);
	CU_ASSERT_TRUE(r && !r->harmless && r->writes);
	r = snapshot_routine(s, "a``b", 4);
	CU_ASSERT_TRUE(r && !r->harmless);
	snapshot_unref(s);
}

void suite_snapshot(void)
{
	CU_pSuite suite = CU_add_suite("snapshot", NULL, NULL);

	CU_add_test(suite, "host patterns", test_host_patterns);
	CU_add_test(suite, "which account", test_account_choice);
	CU_add_test(suite, "accounts fit for backends", test_fit);
	CU_add_test(suite, "copies of accounts", test_copy);
	CU_add_test(suite, "variables and routines by name", test_names);
}
