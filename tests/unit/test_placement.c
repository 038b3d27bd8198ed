/* Which worker a session lives on: the rules, without any worker. */
#include "proxy/session/placement.h"

#include <stdio.h>

#include <CUnit/CUnit.h>

void suite_placement(void);

enum { MOST = 4 };

static void test_of_new(void)
{
	static const struct {
		const char *what;
		struct placement_load loads[MOST];
		unsigned count, limit, want;
	} rows[] = {
		{ "nothing to do", { { 0 }, { 0 } }, 2, 750, 0 },
		{ "some", { { .permille = 500, .clients = 90 }, { 0 } }, 2, 750, 0 },
		{ "much", { { .permille = 750 }, { 0 } }, 2, 750, 1 },
		{ "many came a moment ago", { { .permille = 100, .given = 33 }, { 0 } }, 2, 750, 1 },
		{ "starved", { { .permille = 300, .full = true }, { 0 } }, 2, 750, 1 },
		{ "all full: by their number", { { .permille = 900, .full = true, .clients = 9 }, { .permille = 990, .full = true, .clients = 8 },
		  { .permille = 800, .full = true, .clients = 9 } }, 3, 750, 1 },
		{ "without a limit by their number", { { .permille = 0, .clients = 3 }, { .permille = 900, .clients = 2 } }, 2, 0, 1 },
		{ "the first of equals", { { .clients = 2 }, { .clients = 2 } }, 2, 0, 0 },
		{ "one worker", { { .permille = 1000, .full = true } }, 1, 750, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CU_ASSERT_EQUAL(placement_of_new(rows[i].loads, rows[i].count, rows[i].limit), rows[i].want);
}

static void test_plan(void)
{
	static const struct {
		const char *what;
		struct placement_load loads[MOST];
		unsigned count, self, active, limit;
		unsigned to, leave;
		bool at_once;
	} rows[] = {
		{ "half of a full one's go to an idle one", { { .permille = 900, .full = true }, { 0 } }, 2, 0, 16, 750, 1, 8, true },
		{ "a quarter, where that makes them equal", { { .permille = 800, .full = true }, { .permille = 400 } }, 2, 0, 16, 750, 1, 4, true },
		{ "not to one that has nearly as much", { { .permille = 800, .full = true }, { .permille = 500 } }, 2, 0, 16, 750, 1, 0, true },
		{ "to the least busy", { { .permille = 300 }, { .permille = 900, .full = true }, { .permille = 100 } }, 3, 1, 9, 750, 2, 4, true },
		{ "what is on its way counts", { { .permille = 900, .full = true }, { .given = 23 }, { .permille = 100 } }, 3, 0, 9, 750, 2, 4, true },
		{ "one of two", { { .permille = 900, .full = true }, { 0 } }, 2, 0, 2, 750, 1, 1, true },
		{ "a single session has nowhere better", { { .permille = 1000, .full = true }, { 0 } }, 2, 0, 1, 750, 1, 0, true },
		{ "a starved one's, too", { { .permille = 300, .full = true }, { .permille = 20 } }, 2, 0, 10, 750, 1, 5, true },
		{ "from full to full when that has half", { { .permille = 1000, .full = true }, { .permille = 400, .full = true } }, 2, 0, 10, 300, 1, 3, true },
		{ "alone", { { .permille = 1000, .full = true } }, 1, 0, 10, 750, 0, 0, true },
		{ "two with little gather", { { .permille = 200 }, { .permille = 200 } }, 2, 1, 7, 750, 0, 7, false },
		{ "the first stays where it is", { { .permille = 200 }, { .permille = 200 } }, 2, 0, 7, 750, 0, 0, false },
		{ "two with more do not", { { .permille = 300 }, { .permille = 200 } }, 2, 1, 7, 750, 1, 0, false },
		{ "to the first that has room", { { .permille = 700 }, { .permille = 100 }, { .permille = 50 } }, 3, 2, 7, 750, 1, 7, false },
		{ "not to a starved one", { { .permille = 100, .full = true }, { .permille = 50 } }, 2, 1, 7, 750, 1, 0, false },
		{ "nobody is active", { { 0 }, { .permille = 10 } }, 2, 1, 0, 750, 1, 0, false },
		{ "without a limit they stay", { { .permille = 1000, .full = true }, { 0 } }, 2, 0, 10, 0, 0, 0, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct placement_plan p = placement_plan(rows[i].loads, rows[i].count, rows[i].self, rows[i].active, rows[i].limit);

		CU_ASSERT_EQUAL(p.leave, rows[i].leave);
		CU_ASSERT(!p.leave || (p.to == rows[i].to && p.at_once == rows[i].at_once));
		if (p.leave != rows[i].leave || (p.leave && p.to != rows[i].to))
			printf("%s: %u to %u\n", rows[i].what, p.leave, p.to);
	}
}

void suite_placement(void)
{
	CU_pSuite suite = CU_add_suite("placement", NULL, NULL);

	CU_add_test(suite, "of a new session", test_of_new);
	CU_add_test(suite, "of those that are there", test_plan);
}
