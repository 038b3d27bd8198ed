/* Promotion without servers: the errant-transaction test of preflight, waiting only for what is missing, the journal's copy. */
/* NOLINTBEGIN(bugprone-suspicious-include): static functions are looked at here */
#include "proxy/cluster/preflight.c"
#include "proxy/cluster/replication.c"
/* NOLINTEND(bugprone-suspicious-include) */

#include <CUnit/CUnit.h>
#include <unistd.h>

#include "proxy/cluster/journal.h"

/* What the candidate has written, what the primary has, what the primary got by being cloned; what must be said. */
static const struct errant_case {
	const char *mine, *primarys, *cloned, *said;
} errant_cases[] = {
	{ "", "", "", NULL },
	{ "0-1-100", "0-1-100", "", NULL },
	{ "0-1-99", "0-1-100", "", NULL },
	{ "0-1-100,0-2-50", "0-1-100,0-2-50", "", NULL },
	/* Its own one, hidden below the position. */
	{ "0-1-100,0-2-51", "0-1-100", "", "0-2-51" },
	{ "0-2-51,0-1-100", "0-1-100,0-2-50", "", "0-2-51" },
	/* A domain that the primary has never seen. */
	{ "0-1-100,7-2-1", "0-1-100", "", "7-2-1" },
	/* The primary was cloned from somewhere that had these. */
	{ "0-1-100,0-2-90", "0-1-100", "0-2-95", NULL },
	{ "0-1-100,0-2-96", "0-1-100", "0-2-95", "0-2-96" },
};

static void test_errant(void)
{
	for (size_t i = 0; i < sizeof(errant_cases) / sizeof(*errant_cases); i++) {
		const struct errant_case *c = &errant_cases[i];
		struct report report = { 0 };
		struct operation op = { .report = &report };

		op.to = &op.actors[0];
		op.to->subject.name = "db2";
		compare_mariadb(&op, c->mine, c->primarys, c->cloned);
		CU_ASSERT_EQUAL(report_has(&report, REMARK_REFUSAL), c->said != NULL);
		if (c->said && report.count)
			CU_ASSERT_PTR_NOT_NULL(strstr(report.remarks[0].text, c->said));
		report_free(&report);
	}
}

static void test_wait_only_for_missing(void)
{
	static const struct {
		const char *wanted, *applied, *left;
	} cases[] = {
		{ "0-1-100", "", "0-1-100" },
		{ "0-1-100", "0-1-99", "0-1-100" },
		{ "0-1-100", "0-2-100", "" },
		{ "0-1-100,3-1-7", "0-1-100,3-1-6", "3-1-7" },
		{ "0-1-100,3-1-7,5-1-1", "3-1-9", "0-1-100,5-1-1" },
		{ "", "0-1-1", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char wanted[POSITION_BYTES];

		snprintf(wanted, sizeof(wanted), "%s", cases[i].wanted);
		keep_missing(wanted, cases[i].applied);
		CU_ASSERT_STRING_EQUAL(wanted, cases[i].left);
	}
}

static void test_journal_copy(void)
{
	struct journal_entry entry, loaded;
	char folder[] = "/tmp/tandem-journal-XXXXXX", path[64];

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	CU_ASSERT_TRUE_FATAL(journal_init(&entry) && journal_init(&loaded));
	CU_ASSERT_FALSE(journal_load(folder, &loaded));
	entry.epoch = 42;
	entry.state = JOURNAL_RUNNING;
	snprintf(entry.operation, sizeof(entry.operation), "promote");
	snprintf(entry.from, sizeof(entry.from), "db 1");
	snprintf(entry.to, sizeof(entry.to), "db2");
	snprintf(entry.by, sizeof(entry.by), "host, process 1");
	journal_set(&entry.events, "event_scheduler=ON\n`a b`.`c`\n`d`.`e`\n");
	CU_ASSERT_TRUE(journal_save(folder, &entry));
	CU_ASSERT_TRUE(journal_load(folder, &loaded));
	CU_ASSERT_EQUAL(loaded.epoch, 42);
	CU_ASSERT_EQUAL(loaded.state, JOURNAL_RUNNING);
	CU_ASSERT_STRING_EQUAL(loaded.from, "db 1");
	CU_ASSERT_STRING_EQUAL(loaded.fork, "");
	CU_ASSERT_STRING_EQUAL(loaded.events, entry.events);
	entry.state = JOURNAL_DONE;
	CU_ASSERT_TRUE(journal_is_newer(&entry, &loaded));
	loaded.epoch = 43;
	CU_ASSERT_FALSE(journal_is_newer(&entry, &loaded));
	journal_fini(&entry);
	journal_fini(&loaded);
	snprintf(path, sizeof(path), "%s/operation", folder);
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(rmdir(folder), 0);
}

struct heard {
	unsigned lines;
};

static void hear(void *owner, const struct remark *remark)
{
	struct heard *heard = owner;

	(void)remark;
	heard->lines++;
}

static void test_report_held_back(void)
{
	struct heard heard = { 0 };
	struct report report = { .added = hear, .added_owner = &heard };

	report_add(&report, REMARK_OK, "a", "", -1, "x");
	CU_ASSERT_EQUAL(heard.lines, 1);
	report_hold_back(&report, true);
	for (int i = 0; i < 100; i++)
		report_add(&report, REMARK_OK, "b", "", -1, "%d", i);
	CU_ASSERT_EQUAL(heard.lines, 1);
	report_hold_back(&report, false);
	CU_ASSERT_EQUAL(heard.lines, 101);
	report_free(&report);
}

void suite_promotion(void);
void suite_promotion(void)
{
	CU_pSuite suite = CU_add_suite("promotion", NULL, NULL);

	CU_add_test(suite, "extra transactions are found by who wrote them", test_errant);
	CU_add_test(suite, "only what is missing is waited for", test_wait_only_for_missing);
	CU_add_test(suite, "the journal's copy", test_journal_copy);
	CU_add_test(suite, "a report held back", test_report_held_back);
}
