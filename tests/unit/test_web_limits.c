/* Who asks, by the fields of proxies, and how much he may. */
#include <CUnit/CUnit.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "web/forwarded.h"
#include "web/limit.h"

void suite_web_limits(void);

/* ---- X-Forwarded-For and Forwarded ---- */

static const struct {
	const char *peer;
	const char *fields; /* of a request, without the line ends at their end */
	const char *by_x;   /* "CLIENT", or "CLIENT tls" */
	const char *by_rfc;
} rows[] = {
	{ "1.2.3.4", "X-Forwarded-For: 5.6.7.8\r\nForwarded: for=5.6.7.8;proto=https\r\nX-Forwarded-Proto: https", "1.2.3.4", "1.2.3.4" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8", "5.6.7.8", "10.0.0.1" },
	{ "10.0.0.1", "Forwarded: for=5.6.7.8", "10.0.0.1", "5.6.7.8" },
	{ "10.0.0.1", "X-Forwarded-For: 9.9.9.9, 5.6.7.8", "5.6.7.8", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 9.9.9.9, 5.6.7.8, 10.0.0.2", "5.6.7.8", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 5.6.7.8\r\nX-Forwarded-For: 10.0.0.2", "5.6.7.8", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 10.0.0.3, 10.0.0.2", "10.0.0.3", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8, rubbish", "10.0.0.1", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8, rubbish, 10.0.0.2", "10.0.0.2", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8,", "10.0.0.1", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For:", "10.0.0.1", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8:1234", "5.6.7.8", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: [2001:db8::1]:1234", "2001:db8::1", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 2001:db8::1", "2001:db8::1", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https", "5.6.7.8 tls", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-For: 5.6.7.8\r\nX-Forwarded-Proto: https, http", "5.6.7.8", "10.0.0.1" },
	{ "10.0.0.1", "X-Forwarded-Proto: HTTPS", "10.0.0.1 tls", "10.0.0.1" },
	{ "10.0.0.1", "Forwarded: for=9.9.9.9;proto=http, for=5.6.7.8;proto=https;by=10.0.0.1", "10.0.0.1", "5.6.7.8 tls" },
	{ "10.0.0.1", "Forwarded: FOR=\"[2001:db8::1]:80\" ; Proto=HTTPS", "10.0.0.1", "2001:db8::1 tls" },
	{ "10.0.0.1", "Forwarded: for=\"5.6.7.8:80\", for=10.0.0.2", "10.0.0.1", "5.6.7.8" },
	{ "10.0.0.1", "Forwarded: for=unknown", "10.0.0.1", "10.0.0.1" },
	{ "10.0.0.1", "Forwarded: for=_hidden, for=10.0.0.2", "10.0.0.1", "10.0.0.2" },
	{ "10.0.0.1", "Forwarded: by=10.0.0.2;proto=http", "10.0.0.1", "10.0.0.1" },
	{ "10.0.0.1", "Forwarded: for=5.6.7.8;x=\"a,for=9.9.9.9\"", "10.0.0.1", "5.6.7.8" },
	{ "10.0.0.1", "Forwarded: for=5.6.7.8;x=\"a\\\",for=9.9.9.9\"", "10.0.0.1", "5.6.7.8" },
	{ "10.0.0.1", "Forwarded: for=5.6.7.8;x=\"open, for=9.9.9.9", "10.0.0.1", "5.6.7.8" },
	{ "10.0.0.1", "Forwarded: for=5.6.7.8\r\nForwarded: for=10.0.0.9,,", "10.0.0.1", "5.6.7.8" },
};

static const char *asked_by(const char *peer, const char *fields, enum forwarded_by by)
{
	static const struct http_limits limits = { 32768, 8192 };
	static char text[ADDRESS_TEXT_BYTES + 8];
	struct address_range range;
	struct address_list trusted = { &range, 1 };
	struct forwarded f = { .tls = false };
	struct http_head head;
	char request[1024];
	int len = snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", fields);

	CU_ASSERT_PTR_NULL(address_range_parse("10.0.0.0/8", &range));
	CU_ASSERT_TRUE(address_parse(peer, strlen(peer), &f.client));
	CU_ASSERT_EQUAL(http1_parse(request, (size_t)len, &limits, &head).status, 0);
	forwarded_read(&head, by, &trusted, &f);
	address_put(&f.client, text);
	if (f.tls)
		strcat(text, " tls");
	return text;
}

static void expect(const char *fields, const char *wanted, const char *got)
{
	if (strcmp(wanted, got) != 0)
		fprintf(stderr, "\n    %s: wanted %s, got %s", fields, wanted, got);
	CU_ASSERT_STRING_EQUAL(wanted, got);
}

static void test_forwarded(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		expect(rows[i].fields, rows[i].by_x, asked_by(rows[i].peer, rows[i].fields, FORWARDED_BY_X));
		expect(rows[i].fields, rows[i].by_rfc, asked_by(rows[i].peer, rows[i].fields, FORWARDED_BY_RFC));
	}
}

/* All hops trusted: the chain is followed as far as it is kept, and no further. */
static void test_long_chain(void)
{
	char fields[1024] = "X-Forwarded-For: 5.6.7.8";

	for (int i = 0; i < 30; i++)
		strcat(fields, ", 10.0.0.2");
	CU_ASSERT_STRING_EQUAL(asked_by("10.0.0.1", fields, FORWARDED_BY_X), "5.6.7.8");
	for (int i = 0; i < 30; i++)
		strcat(fields, ", 10.0.0.2");
	CU_ASSERT_STRING_EQUAL(asked_by("10.0.0.1", fields, FORWARDED_BY_X), "10.0.0.2");
}

/* ---- Limits ---- */

static struct address at(const char *text)
{
	struct address a;

	CU_ASSERT_TRUE(address_parse(text, strlen(text), &a));
	return a;
}

static void test_rate(void)
{
	struct limit_table *t = limit_table_new(0);
	struct address a = at("10.0.0.1"), b = at("10.0.0.2"), none = { 0 };
	const uint64_t start = 5000000;

	for (int i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(limit_take_request(t, &a, 10, 5, start), 0);
	CU_ASSERT_EQUAL(limit_take_request(t, &a, 10, 5, start), 100000);
	CU_ASSERT_EQUAL(limit_take_request(t, &a, 10, 5, start + 40000), 60000); /* the refused one cost nothing */
	CU_ASSERT_EQUAL(limit_take_request(t, &b, 10, 5, start), 0);
	CU_ASSERT_EQUAL(limit_take_request(t, &a, 10, 5, start + 100000), 0);
	CU_ASSERT_NOT_EQUAL(limit_take_request(t, &a, 10, 5, start + 100000), 0);
	for (int i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(limit_take_request(t, &a, 10, 5, start + 10000000), 0);
	CU_ASSERT_NOT_EQUAL(limit_take_request(t, &a, 10, 5, start + 10000000), 0);
	for (int i = 0; i < 100; i++)
		CU_ASSERT_EQUAL(limit_take_request(t, &none, 1, 1, start), 0);
	limit_table_free(t);
}

static void test_v6_by_64(void)
{
	struct limit_table *t = limit_table_new(0);
	struct address a = at("2001:db8:0:1::1"), b = at("2001:db8:0:1:ffff::9"), c = at("2001:db8:0:2::1");

	CU_ASSERT_EQUAL(limit_take_request(t, &a, 1, 1, 1000), 0);
	CU_ASSERT_NOT_EQUAL(limit_take_request(t, &b, 1, 1, 1000), 0);
	CU_ASSERT_EQUAL(limit_take_request(t, &c, 1, 1, 1000), 0);
	limit_table_free(t);
}

static void test_connections(void)
{
	struct limit_table *t = limit_table_new(0);
	struct address a = at("10.0.0.1"), none = { 0 };
	struct limit_entry *held[3], *more;

	for (int i = 0; i < 3; i++)
		CU_ASSERT_TRUE(limit_enter(t, &a, 3, &held[i]) && held[i]);
	CU_ASSERT_FALSE(limit_enter(t, &a, 3, &more));
	CU_ASSERT_TRUE(limit_enter(t, &none, 3, &more) && !more);
	limit_leave(more);
	limit_leave(held[0]);
	CU_ASSERT_TRUE(limit_enter(t, &a, 3, &held[0]));
	CU_ASSERT_FALSE(limit_enter(t, &a, 3, &more));
	limit_table_free(t);
}

static struct address numbered(unsigned n)
{
	char text[32];

	snprintf(text, sizeof(text), "10.%u.%u.%u", n >> 16 & 255, n >> 8 & 255, n & 255);
	return at(text);
}

/* A table of 4 entries and many more addresses: who has a connection keeps his entry, the others take turns. */
static void test_full_table(void)
{
	struct limit_table *t = limit_table_new(1);
	struct limit_entry *held[4], *more;
	struct address first = numbered(0);

	CU_ASSERT_TRUE(limit_enter(t, &first, 1, &held[0]));
	for (unsigned i = 1; i < 1000; i++) {
		struct address a = numbered(i);

		CU_ASSERT_EQUAL(limit_take_request(t, &a, 1, 1, 1000 + i), 0);
	}
	CU_ASSERT_FALSE(limit_enter(t, &first, 1, &more));
	for (unsigned i = 1; i < 4; i++) {
		struct address a = numbered(i);

		CU_ASSERT_TRUE(limit_enter(t, &a, 1, &held[i]) && held[i]);
	}
	/* No room: let in uncounted, and without a rate, rather than refused for what others do. */
	CU_ASSERT_TRUE(limit_enter(t, &(struct address){ .known = true, .bytes = { 1 } }, 1, &more) && !more);
	CU_ASSERT_EQUAL(limit_take_request(t, &(struct address){ .known = true, .bytes = { 1 } }, 1, 1, 5000), 0);
	limit_leave(held[1]);
	CU_ASSERT_TRUE(limit_enter(t, &(struct address){ .known = true, .bytes = { 1 } }, 1, &more) && more);
	limit_table_free(t);
}

/* ---- Many threads: no request too many, no connection lost ---- */

static struct limit_table *shared;
static _Atomic unsigned answered;

static void *ask(void *arg)
{
	struct address a = at("10.0.0.1");

	(void)arg;
	for (int i = 0; i < 20000; i++) {
		struct address other = numbered((unsigned)i * 7919);
		struct limit_entry *e, *f;

		if (!limit_take_request(shared, &a, 1, 500, 1000))
			atomic_fetch_add(&answered, 1);
		if (limit_enter(shared, &a, 3, &e))
			limit_leave(e);
		if (limit_enter(shared, &other, 1, &f))
			limit_leave(f);
	}
	return NULL;
}

static void test_threads(void)
{
	struct address a = at("10.0.0.1");
	struct limit_entry *held, *e;
	pthread_t threads[4];

	shared = limit_table_new(16);
	atomic_store(&answered, 0);
	/* Held all the while, so that the entry cannot be given away and its tokens be forgotten. */
	CU_ASSERT_TRUE(limit_enter(shared, &a, 3, &held));
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, ask, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT_EQUAL(atomic_load(&answered), 500);
	CU_ASSERT_TRUE(limit_enter(shared, &a, 2, &e));
	CU_ASSERT_FALSE(limit_enter(shared, &a, 2, &e));
	limit_table_free(shared);
}

void suite_web_limits(void)
{
	CU_pSuite suite = CU_add_suite("web limits", NULL, NULL);

	CU_add_test(suite, "whose request it is", test_forwarded);
	CU_add_test(suite, "a chain of many proxies", test_long_chain);
	CU_add_test(suite, "requests in a time", test_rate);
	CU_add_test(suite, "IPv6 by /64", test_v6_by_64);
	CU_add_test(suite, "connections at once", test_connections);
	CU_add_test(suite, "more addresses than entries", test_full_table);
	CU_add_test(suite, "many threads", test_threads);
}
