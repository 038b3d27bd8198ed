/* What votes mean: who may lead, and until when writes may be sent. Now is 10,000, the lease 2,000: own part 1,500. */
#include <CUnit/CUnit.h>
#include <string.h>

#include "proxy/cluster/lease.h"

void suite_lease(void);

enum { NOW = 10000, LEASE = 2000 };

struct lease_row {
	const char *what;
	size_t count;
	struct lease_paper papers[5];
	uint32_t primary;
	bool changing;
	/* Wanted: */
	unsigned answered, mine, taken, open;
	uint32_t says;
	uint64_t until;
};

#define MINE(at, id)  { at, true, false, id }
#define TAKEN(at, id) { at, false, true, id }
#define OPEN(at)      { at, false, false, 0 }
#define SILENT	      { 0, false, false, 0 }

static const struct lease_row rows[] = {
	{ "nobody answered", 3, { SILENT, SILENT, SILENT }, 1, false, 0, 0, 0, 0, 0, 0 },
	{ "all mine", 3, { MINE(9900, 1), MINE(9800, 1), MINE(9700, 1) }, 1, false, 3, 3, 0, 0, 1, 11300 },
	{ "two of three mine", 3, { MINE(9900, 1), MINE(9800, 1), SILENT }, 1, false, 2, 2, 0, 0, 1, 11300 },
	{ "one of three", 3, { MINE(9900, 1), SILENT, SILENT }, 1, false, 1, 1, 0, 0, 0, 0 },
	{ "the second is too old", 3, { MINE(9900, 1), MINE(8500, 1), SILENT }, 1, false, 1, 1, 0, 0, 0, 0 },
	{ "the second is just young enough", 3, { MINE(9900, 1), MINE(8501, 1), SILENT }, 1, false, 2, 2, 0, 0, 1, 10001 },
	{ "another leads and agrees", 3, { TAKEN(9900, 1), TAKEN(9800, 1), SILENT }, 1, false, 2, 0, 2, 0, 1, 11300 },
	{ "another leads to another primary", 3, { TAKEN(9900, 2), TAKEN(9800, 2), TAKEN(9800, 2) }, 1, false, 3, 0, 3, 0, 2, 0 },
	{ "another leads and has withdrawn its word", 3, { TAKEN(9900, 0), TAKEN(9800, 0), TAKEN(9800, 0) }, 1, false, 3, 0, 3, 0, 0, 0 },
	{ "the word is half withdrawn", 3, { TAKEN(9900, 0), TAKEN(9800, 1), TAKEN(9700, 1) }, 1, false, 3, 0, 3, 0, 1, 11200 },
	{ "nobody leads", 3, { OPEN(9900), OPEN(9900), OPEN(9900) }, 1, false, 3, 0, 0, 3, 0, 0 },
	{ "no primary here", 3, { MINE(9900, 1), MINE(9800, 1), MINE(9800, 1) }, 0, false, 3, 3, 0, 0, 1, 0 },
	{ "I change the primary myself", 3, { MINE(9900, 0), MINE(9800, 0), SILENT }, 1, true, 2, 2, 0, 0, 0, 11300 },
	{ "another's votes are no excuse for that", 3, { TAKEN(9900, 0), TAKEN(9800, 0), SILENT }, 1, true, 2, 0, 2, 0, 0, 0 },
	{ "two voters, one gone: half is left", 2, { MINE(9900, 1), SILENT }, 1, false, 1, 1, 0, 0, 1, 11400 },
	{ "four voters, two gone", 4, { MINE(9900, 1), MINE(9700, 1), SILENT, SILENT }, 1, false, 2, 2, 0, 0, 1, 11200 },
	{ "one server alone", 1, { MINE(9900, 1) }, 1, false, 1, 1, 0, 0, 1, 11400 },
};

static void test_count(void)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct lease_row *r = &rows[i];
		struct lease_terms terms = { NOW, LEASE, r->primary, r->changing };
		struct lease_count c;

		lease_take_count(r->papers, r->count, &terms, &c);
		if (c.answered != r->answered || c.mine != r->mine || c.taken != r->taken || c.open != r->open ||
		    c.primary_id != r->says || c.writes_until_ms != r->until)
			CU_FAIL_FATAL(r->what);
	}
	CU_PASS("counted");
}

static void test_thresholds(void)
{
	static const unsigned wanted[][3] = { { 1, 1, 1 }, { 2, 2, 1 }, { 3, 2, 2 }, { 4, 3, 2 }, { 5, 3, 3 } };
	struct lease_paper papers[5];
	struct lease_terms terms = { NOW, LEASE, 1, false };

	memset(papers, 0, sizeof(papers));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		struct lease_count c;

		lease_take_count(papers, wanted[i][0], &terms, &c);
		CU_ASSERT_EQUAL(c.majority, wanted[i][1]);
		CU_ASSERT_EQUAL(c.half, wanted[i][2]);
		/* What makes half enough to go on with: another one cannot have a majority beside it. */
		CU_ASSERT_TRUE(c.majority + c.half > c.voters);
	}
}

static void test_needed(void)
{
	struct lease_count two = { .voters = 2, .majority = 2, .half = 1, .answered = 1 };
	struct lease_count three = { .voters = 3, .majority = 2, .half = 2, .answered = 1 };
	struct lease_count none = { .voters = 3, .majority = 2, .half = 2 };

	CU_ASSERT_EQUAL(lease_needed(&two, false, false), 2);
	CU_ASSERT_EQUAL(lease_needed(&two, true, false), 1);
	CU_ASSERT_EQUAL(lease_needed(&three, true, false), 2);
	CU_ASSERT_EQUAL(lease_needed(&three, false, true), 1);
	CU_ASSERT_EQUAL(lease_needed(&none, true, true), 1);
}

void suite_lease(void)
{
	CU_pSuite suite = CU_add_suite("lease", NULL, NULL);

	CU_add_test(suite, "what the voters say", test_count);
	CU_add_test(suite, "half and more than half", test_thresholds);
	CU_add_test(suite, "what a change of the primary needs", test_needed);
}
