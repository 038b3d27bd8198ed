/* Who is next: exact ratios, no bursts, servers that come and go, slow start. */
#include <CUnit/CUnit.h>
#include <stdlib.h>

#include "web/balance.h"

void suite_balance(void);

enum { SERVERS_MAX = 8 };

static void set_up(struct balance_entry *entries, const unsigned *weights, size_t count)
{
	for (size_t i = 0; i < count; i++)
		entries[i] = (struct balance_entry){ .usable = true, .weight = balance_weight(weights[i], UINT64_MAX, 0) };
}

/* After any number of picks each has its share, off by less than one. */
static void test_shares(void)
{
	static const unsigned cases[][SERVERS_MAX] = { { 1 }, { 1, 1 }, { 3, 2, 1 }, { 5, 1, 1 }, { 256, 1 }, { 7, 7, 7, 1 }, { 1, 2, 3, 4, 5, 6, 7, 8 } };

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct balance_entry entries[SERVERS_MAX];
		unsigned total = 0, got[SERVERS_MAX] = { 0 };
		size_t count = 0;

		while (count < SERVERS_MAX && cases[c][count])
			total += cases[c][count++];
		set_up(entries, cases[c], count);
		for (unsigned n = 1; n <= 10 * total; n++) {
			got[balance_pick(BALANCE_ROUND_ROBIN, entries, count)]++;
			for (size_t i = 0; i < count; i++)
				CU_ASSERT(abs((int)(got[i] * total) - (int)(n * cases[c][i])) <= (int)total);
		}
	}
}

static void test_smooth(void)
{
	static const unsigned weights[] = { 3, 2, 1 };
	struct balance_entry entries[3];
	int last = -1;

	set_up(entries, weights, 3);
	for (int n = 0; n < 600; n++) {
		int i = balance_pick(BALANCE_ROUND_ROBIN, entries, 3);

		/* Half of all go to the first: never two in a row to the others, never three to it. */
		CU_ASSERT(i == 0 || i != last);
		last = i;
	}
}

static void test_not_usable(void)
{
	static const unsigned weights[] = { 3, 2, 1 };
	struct balance_entry entries[3];
	unsigned got[3] = { 0 };

	set_up(entries, weights, 3);
	for (int n = 0; n < 300; n++) {
		entries[0].usable = n >= 100 && n < 200;
		entries[1].usable = entries[2].usable = true;
		got[balance_pick(BALANCE_ROUND_ROBIN, entries, 3)]++;
	}
	/* Alone two thirds and one third; with the first a half, a third and a sixth. */
	CU_ASSERT(abs((int)got[0] - 50) <= 2 && abs((int)got[1] - 166) <= 3 && abs((int)got[2] - 84) <= 3);
	for (int i = 0; i < 3; i++)
		entries[i].usable = false;
	CU_ASSERT_EQUAL(balance_pick(BALANCE_ROUND_ROBIN, entries, 3), -1);
	CU_ASSERT_EQUAL(balance_pick(BALANCE_LEAST_CONNECTIONS, entries, 3), -1);
	CU_ASSERT_EQUAL(balance_pick(BALANCE_ROUND_ROBIN, entries, 0), -1);
}

/* A weight that changes counts from the next pick on. */
static void test_changed_weight(void)
{
	static const unsigned weights[] = { 1, 1 };
	struct balance_entry entries[2];
	unsigned got[2] = { 0 };

	set_up(entries, weights, 2);
	for (int n = 0; n < 100; n++)
		balance_pick(BALANCE_ROUND_ROBIN, entries, 2);
	entries[0].weight = balance_weight(9, UINT64_MAX, 0);
	for (int n = 0; n < 100; n++)
		got[balance_pick(BALANCE_ROUND_ROBIN, entries, 2)]++;
	CU_ASSERT(abs((int)got[0] - 90) <= 1);
}

static void test_least_connections(void)
{
	static const struct {
		unsigned weight[3], active[3];
		int next;
	} cases[] = {
		{ { 1, 1, 1 }, { 5, 4, 6 }, 1 }, { { 1, 1, 1 }, { 0, 0, 1 }, 0 }, { { 2, 1, 1 }, { 3, 2, 2 }, 0 },
		{ { 4, 1, 1 }, { 4, 0, 1 }, 1 }, { { 1, 1, 10 }, { 0, 0, 8 }, 2 },
	};

	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct balance_entry entries[3];

		set_up(entries, cases[c].weight, 3);
		for (int i = 0; i < 3; i++)
			entries[i].active = cases[c].active[i];
		CU_ASSERT_EQUAL(balance_pick(BALANCE_LEAST_CONNECTIONS, entries, 3), cases[c].next);
	}
}

/* Requests that all take as long end up spread by weight. */
static void test_least_connections_in_the_long_run(void)
{
	static const unsigned weights[] = { 3, 2, 1 };
	struct balance_entry entries[3];
	unsigned active[3] = { 0 };

	set_up(entries, weights, 3);
	for (int n = 0; n < 60; n++) {
		for (int i = 0; i < 3; i++) {
			entries[i].usable = true;
			entries[i].active = active[i];
		}
		active[balance_pick(BALANCE_LEAST_CONNECTIONS, entries, 3)]++;
	}
	CU_ASSERT(active[0] == 30 && active[1] == 20 && active[2] == 10);
}

static void test_slow_start(void)
{
	CU_ASSERT_EQUAL(balance_weight(3, 0, 0), 3 * BALANCE_FULL_WEIGHT);
	CU_ASSERT_EQUAL(balance_weight(3, 0, 1000), 1);
	CU_ASSERT_EQUAL(balance_weight(4, 500, 1000), 2 * BALANCE_FULL_WEIGHT);
	CU_ASSERT_EQUAL(balance_weight(4, 1000, 1000), 4 * BALANCE_FULL_WEIGHT);
	CU_ASSERT_EQUAL(balance_weight(256, UINT64_MAX, UINT32_MAX), 256 * BALANCE_FULL_WEIGHT);
	CU_ASSERT_EQUAL(balance_weight(256, UINT32_MAX - 1u, UINT32_MAX), 256 * BALANCE_FULL_WEIGHT - 1);
}

void suite_balance(void)
{
	CU_pSuite suite = CU_add_suite("balance", NULL, NULL);

	CU_add_test(suite, "each gets its share", test_shares);
	CU_add_test(suite, "never in bursts", test_smooth);
	CU_add_test(suite, "some that may not be taken", test_not_usable);
	CU_add_test(suite, "a weight that changes", test_changed_weight);
	CU_add_test(suite, "least connections", test_least_connections);
	CU_add_test(suite, "least connections in the long run", test_least_connections_in_the_long_run);
	CU_add_test(suite, "slow start", test_slow_start);
}
