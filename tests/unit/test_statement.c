/* Prepared statements: a client's table, what a connection keeps prepared, named ones; and the credentials that connections share. */
#include "proxy/session/statement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "proxy/session/credentials.h"
#include "proxy/session/named.h"

void suite_statement(void);

static struct snapshot cluster = { .server_count = 1, .primary = 0 };
static const struct sql_meaning nothing;

static struct statement *add(struct statement_table *table, const char *text, struct state *value)
{
	struct statement *s = statement_add(table, text, strlen(text), &nothing, value, &cluster);

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	return s;
}

/* ---- a client's ---- */

static void test_numbers(void)
{
	struct statement_table table = { 0 };
	struct state *value = state_new(&cluster, -1, 0, NULL);

	CU_ASSERT_PTR_NULL(statement_find(&table, 1));
	CU_ASSERT_PTR_NULL(statement_find(&table, UINT32_MAX));
	for (uint32_t i = 1; i <= 20; i++)
		CU_ASSERT_EQUAL(add(&table, "SELECT ?", value)->id, i);
	for (uint32_t i = 2; i <= 20; i += 2)
		statement_remove(&table, statement_find(&table, i));
	for (uint32_t i = 0; i <= 22; i++)
		CU_ASSERT_EQUAL(statement_find(&table, i) != NULL, i % 2 == 1 && i <= 20);
	CU_ASSERT_PTR_NULL(
		statement_find(&table, UINT32_MAX)); /* the last one is closed: -1 means nothing */
	CU_ASSERT_EQUAL(add(&table, "SELECT 1", value)->id, 21); /* numbers are not used twice */
	CU_ASSERT_EQUAL(statement_find(&table, UINT32_MAX)->id, 21);
	statement_table_fini(&table);
	state_unref(value);
}

/* Two statements are the same to a connection when text and schema are, and no part runs into the next. */
static void test_keys(void)
{
	static const struct {
		const char *text, *schema;
	} rows[] = {
		{ "SELECT 1", NULL }, { "SELECT 1", "a" },   { "SELECT 1", "b" },
		{ "SELECT 1", "ab" }, { "SELECT 1a", NULL }, { "SELECT 1a", "b" },
		{ "", NULL },
	};
	enum { N = sizeof(rows) / sizeof(rows[0]) };
	struct statement_table table = { 0 };
	struct statement *s[2 * N];

	for (size_t i = 0; i < (size_t)2 * N; i++) {
		struct state *value = state_new(&cluster, -1, 0, rows[i % N].schema);

		s[i] = add(&table, rows[i % N].text, value);
		state_unref(value);
	}
	for (size_t i = 0; i < (size_t)2 * N; i++)
		for (size_t j = 0; j < (size_t)2 * N; j++)
			CU_ASSERT_EQUAL(memcmp(s[i]->key, s[j]->key, sizeof(s[i]->key)) == 0,
					i % N == j % N);
	statement_table_fini(&table);
}

/* ---- a connection's ---- */

static struct statement keyed(uint64_t key)
{
	return (struct statement){ .key = { key, ~key } };
}

static uint32_t keep(struct statement_cache *cache, uint64_t key, uint32_t budget,
		     uint32_t *evicted)
{
	struct statement s = keyed(key);
	uint32_t slot = prepared_add(cache, s.key, budget, evicted);

	CU_ASSERT_NOT_EQUAL_FATAL(slot, PREPARED_NONE);
	return slot;
}

static bool is_kept(struct statement_cache *cache, uint64_t key)
{
	struct statement s = keyed(key);

	return prepared_find(cache, &s) != PREPARED_NONE;
}

/* With the budget spent, the one that was not used for longest goes, and the server is told its number. */
static void test_budget(void)
{
	struct statement_cache cache = { 0 };
	uint32_t evicted;

	for (uint64_t key = 1; key <= 3; key++) {
		uint32_t slot = keep(&cache, key, 3, &evicted);

		CU_ASSERT_EQUAL(evicted, 0);
		cache.slots[slot].id = (uint32_t)(100 + key);
	}
	CU_ASSERT_TRUE(is_kept(&cache, 1)); /* used: now 2 is the oldest */
	keep(&cache, 4, 3, &evicted);
	CU_ASSERT_EQUAL(evicted, 102);
	CU_ASSERT_EQUAL(cache.count, 3);
	CU_ASSERT_FALSE(is_kept(&cache, 2));
	CU_ASSERT_TRUE(is_kept(&cache, 1) && is_kept(&cache, 3) && is_kept(&cache, 4));
	prepared_clear(&cache);
	CU_ASSERT_FALSE(is_kept(&cache, 1));
	CU_ASSERT_EQUAL(prepared_oldest(&cache), PREPARED_NONE);
	prepared_fini(&cache);
}

/* One that is still being prepared has no number to close it by, and one with a cursor is in use: the budget is passed rather. */
static void test_what_cannot_go(void)
{
	struct statement_cache cache = { 0 };
	struct statement holder = keyed(2), other = keyed(2);
	uint32_t evicted, under_way = keep(&cache, 1, 1, &evicted), held;

	held = keep(&cache, 2, 1, &evicted);
	CU_ASSERT_EQUAL(evicted, 0);
	CU_ASSERT_NOT_EQUAL(held, under_way);
	cache.slots[held].id = 7;
	cache.slots[held].holder = &holder;
	CU_ASSERT_EQUAL(prepared_oldest(&cache), PREPARED_NONE);
	CU_ASSERT_EQUAL(prepared_find(&cache, &holder), held);
	CU_ASSERT_EQUAL(prepared_find(&cache, &other), PREPARED_NONE);
	cache.slots[held].holder = NULL;
	CU_ASSERT_EQUAL(prepared_find(&cache, &other), held);
	CU_ASSERT_EQUAL(prepared_oldest(&cache), held);
	prepared_fini(&cache);
}

/* The slot remembered from another connection is looked at, not believed. */
static void test_remembered_slot(void)
{
	struct statement_cache one = { 0 }, two = { 0 };
	struct statement s = keyed(5);
	uint32_t evicted, slot;

	for (uint64_t key = 1; key <= 5; key++)
		slot = keep(&one, key, 10, &evicted);
	CU_ASSERT_EQUAL(prepared_find(&one, &s), slot);
	CU_ASSERT_EQUAL(prepared_find(&two, &s), PREPARED_NONE);
	slot = keep(&two, 5, 10, &evicted);
	keep(&two, 9, 10, &evicted);
	CU_ASSERT_EQUAL(prepared_find(&two, &s), slot);
	prepared_drop(&two, slot);
	prepared_drop(&two, slot); /* again is nothing */
	CU_ASSERT_EQUAL(two.count, 1);
	CU_ASSERT_EQUAL(prepared_find(&two, &s), PREPARED_NONE);
	prepared_fini(&one);
	prepared_fini(&two);
}

/* ---- credentials ---- */

static struct credentials *login(const char *user, const char *password, uint64_t account)
{
	struct credentials *c = credentials_new(user, strlen(user));

	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	credentials_set_password(c, password, strlen(password));
	c->account = account;
	return c;
}

static void test_credentials(void)
{
	static const struct {
		const char *user, *password;
		uint64_t account;
		bool same; /* as the first */
	} rows[] = {
		{ "app", "secret", 1, true },	{ "app", "secret", 1, true },
		{ "app", "secret", 2, false },	{ "app", "Secret", 1, false },
		{ "app", "", 1, false },	{ "App", "secret", 1, false },
		{ "app2", "secret", 1, false },
	};
	struct credentials *first = login("app", "secret", 1);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct credentials *c = login(rows[i].user, rows[i].password, rows[i].account);

		CU_ASSERT_EQUAL(credentials_same(first, c), rows[i].same);
		CU_ASSERT_EQUAL(credentials_same(c, first), rows[i].same);
		CU_ASSERT_EQUAL(c->token == first->token, strcmp(rows[i].user, "app") == 0);
		CU_ASSERT_PTR_NOT_EQUAL(c->token, account_token_global());
		credentials_unref(c);
	}
	CU_ASSERT_PTR_EQUAL(credentials_ref(first), first);
	credentials_unref(first);
	CU_ASSERT_STRING_EQUAL(first->password, "secret");
	credentials_unref(first);
	credentials_unref(NULL);
	account_tokens_free();
}

/* ---- named ---- */

static struct client session;
static struct backend here, there, elsewhere; /* not ready: nothing is sent on them */

static bool note(const char *text)
{
	struct sql_meaning meaning;

	sql_classify(&session.sql, text, strlen(text), &meaning);
	return named_note(&session, &here, &meaning, text);
}

static void note_failed(const char *text)
{
	struct sql_meaning meaning;

	sql_classify(&session.sql, text, strlen(text), &meaning);
	named_note_failure(&session, &here, &meaning, text);
}

static const struct named *read_by(const char *text)
{
	struct sql_meaning meaning;
	const struct named *n;

	sql_classify(&session.sql, text, strlen(text), &meaning);
	n = named_find(&session, text + meaning.name.at, meaning.name.len);
	return n && n->text && named_is_read(&session, n, &meaning) ? n : NULL;
}

static void test_named_places(void)
{
	struct named *n;

	memset(&session, 0, sizeof(session));
	session.value = state_new(&cluster, -1, 0, "a");
	session.sql = state_sql_context(session.value, &cluster, false);
	CU_ASSERT_TRUE(note("PREPARE s FROM 'SELECT 1'"));
	n = named_find(&session, "S", 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(n);
	CU_ASSERT_TRUE(named_is_at(n, &here) && !named_is_at(n, &there));
	named_add_place(n, &there);
	CU_ASSERT_TRUE(named_is_at(n, &here) && named_is_at(n, &there));
	named_add_place(n, &elsewhere); /* two are remembered; the first is its home */
	CU_ASSERT_TRUE(named_is_at(n, &here) && named_is_at(n, &elsewhere));
	named_forget_backend(&session, &here);
	CU_ASSERT_TRUE(!named_is_at(n, &here) && n->at == &elsewhere);
	named_drop_place(n, &elsewhere);
	CU_ASSERT_PTR_NULL(n->at);
	named_add_place(n, &there);
	CU_ASSERT_PTR_EQUAL(n->at, &there);
	note_failed("PREPARE s FROM @nothing"); /* it need not have come as far as the name */
	note_failed("PREPARE other FROM 'SELECT nosuch'");
	CU_ASSERT_PTR_NOT_NULL(named_find(&session, "s", 1));
	note_failed("PREPARE s FROM 'SELECT nosuch'");
	CU_ASSERT_PTR_NULL(named_find(&session, "s", 1));
	named_clear(&session);
	state_unref(session.value);
}

static void test_named(void)
{
	struct state *other;

	memset(&session, 0, sizeof(session));
	session.value = state_new(&cluster, -1, 0, "a");
	session.sql = state_sql_context(session.value, &cluster, false);
	CU_ASSERT_TRUE(note("PREPARE s FROM 'SELECT ''x'' FROM t'"));
	CU_ASSERT_PTR_NOT_NULL_FATAL(read_by("EXECUTE S"));
	CU_ASSERT_STRING_EQUAL(read_by("EXECUTE s")->prepare,
			       "PREPARE `s` FROM 'SELECT ''x'' FROM t'");
	CU_ASSERT_EQUAL(read_by("EXECUTE s")->len, strlen("SELECT 'x' FROM t"));
	CU_ASSERT_PTR_NULL(read_by("EXECUTE s USING @a"));
	CU_ASSERT_PTR_NULL(read_by("EXECUTE other"));
	CU_ASSERT_TRUE(note("PREPARE s FROM 'DELETE FROM t'")); /* the name was there before */
	CU_ASSERT_PTR_NULL(read_by("EXECUTE s"));
	CU_ASSERT_EQUAL(named_fixed(&session), 0);
	CU_ASSERT_TRUE(note("PREPARE p FROM @text"));
	CU_ASSERT_PTR_NULL(read_by("EXECUTE p"));
	CU_ASSERT_EQUAL(named_fixed(&session), 1);
	CU_ASSERT_TRUE(note("PREPARE v FROM 'SELECT @a'"));
	CU_ASSERT_PTR_NULL(read_by("EXECUTE v")); /* its answer is the session's own */
	CU_ASSERT_TRUE(note("PREPARE q FROM 'SELECT 1 FROM t'"));
	other = session.value;
	session.value = state_with_schema(other, "b", 1);
	CU_ASSERT_PTR_NULL(read_by("EXECUTE q")); /* prepared in another schema */
	state_unref(session.value);
	session.value = other;
	CU_ASSERT_PTR_NOT_NULL(read_by("EXECUTE q"));
	CU_ASSERT_TRUE(note("DEALLOCATE PREPARE q"));
	CU_ASSERT_PTR_NULL(named_find(&session, "q", 1));
	CU_ASSERT_PTR_NULL(read_by("EXECUTE q"));
	named_clear(&session);
	CU_ASSERT_PTR_NULL(session.named);
	state_unref(session.value);
}

void suite_statement(void)
{
	static CU_TestInfo tests[] = {
		{ "numbers", test_numbers },
		{ "keys", test_keys },
		{ "budget", test_budget },
		{ "what cannot go", test_what_cannot_go },
		{ "remembered slot", test_remembered_slot },
		{ "credentials", test_credentials },
		{ "named", test_named },
		{ "named places", test_named_places },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "statement", NULL, NULL, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
