/* Positions: both texts, merging and comparing, and the board that threads share. */
#include <CUnit/CUnit.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "proxy/cluster/gtid.h"

void suite_gtid(void);

#define UUID_A "3E11FA47-71CA-11E1-9E33-C80AA9429562"
#define UUID_B "4350f323-7565-4e59-8763-4b1b83a0ce0e"

static struct gtid_set set_of(const char *text)
{
	struct gtid_set set;

	CU_ASSERT_TRUE(gtid_parse(text, strlen(text), &set));
	return set;
}

static uint64_t sequence_of(const struct gtid_set *set, uint32_t domain)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->points[i].domain == domain)
			return set->points[i].sequence;
	return 0;
}

static void test_mariadb_text(void)
{
	struct gtid_set set = set_of("0-1-100,1-2-7");
	char text[64];

	CU_ASSERT_EQUAL(set.count, 2);
	CU_ASSERT_EQUAL(sequence_of(&set, 0), 100);
	CU_ASSERT_EQUAL(sequence_of(&set, 1), 7);
	CU_ASSERT_EQUAL(gtid_format(&set, text, sizeof(text)), strlen("0-0-100,1-0-7"));
	CU_ASSERT_STRING_EQUAL(text, "0-0-100,1-0-7");
	CU_ASSERT_EQUAL(gtid_format(&set, text, 5), strlen("0-0-100,1-0-7"));
	CU_ASSERT_STRING_EQUAL(text, "0-0-");
	set = set_of("");
	CU_ASSERT_EQUAL(set.count, 0);
	CU_ASSERT_FALSE(set.lost);
	CU_ASSERT_EQUAL(gtid_format(&set, text, sizeof(text)), 0);
	set = set_of(" 0-1-18446744073709551615 ,\n1-1-1");
	CU_ASSERT_EQUAL(sequence_of(&set, 0), UINT64_MAX);
	CU_ASSERT_EQUAL(sequence_of(&set, 1), 1);
}

static void test_mysql_text(void)
{
	struct gtid_set set = set_of(UUID_A ":1-5:7-9,\n" UUID_B ":3");
	struct gtid_set again;
	char text[256];

	CU_ASSERT_EQUAL(set.count, 2);
	gtid_format_mysql(&set, text, sizeof(text));
	CU_ASSERT_STRING_EQUAL(text, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9," UUID_B ":1-3");
	again = set_of(text);
	CU_ASSERT_TRUE(gtid_covers(&set, &again) && gtid_covers(&again, &set));
	/* Tags (8.4 on) are sources of their own. */
	set = set_of(UUID_A ":1-5:blue:1-3");
	CU_ASSERT_EQUAL(set.count, 2);
	gtid_format_mysql(&set, text, sizeof(text));
	CU_ASSERT_STRING_EQUAL(text, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5,3e11fa47-71ca-11e1-"
				     "9e33-c80aa9429562:blue:1-3");
}

static void test_malformed(void)
{
	static const char *const rows[] = {
		"0",
		"0-1",
		"0-1-",
		"0-1-x",
		"-1-1",
		"0-1-1-1",
		"0-1-1;",
		"4294967296-1-1",
		"0-4294967296-1",
		"0-1-18446744073709551616",
		"0-1-1 1-1-1",
		":",
		UUID_A ":",
		UUID_A ":1-",
		UUID_A,
		"abc:1-5",
		UUID_A ":1-5 x",
		UUID_A "00:1",
	};
	struct gtid_set set;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (gtid_parse(rows[i], strlen(rows[i]), &set)) {
			printf("accepted: %s\n", rows[i]);
			CU_FAIL("malformed text accepted");
		}
}

static void test_covers(void)
{
	static const struct {
		const char *have, *want;
		bool covers;
	} rows[] = {
		{ "", "", true },
		{ "0-1-5", "", true },
		{ "", "0-1-5", false },
		{ "0-1-5", "0-2-5", true },
		{ "0-1-5", "0-1-6", false },
		{ "0-1-5,1-1-1", "1-9-1", true },
		{ "0-1-5", "0-1-5,1-1-1", false },
		{ "0-1-9,1-1-1", "0-1-5,1-1-1", true },
		{ "1-1-9", "0-1-1", false },
	};
	struct gtid_set have, want;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		have = set_of(rows[i].have);
		want = set_of(rows[i].want);
		CU_ASSERT_EQUAL(gtid_covers(&have, &want), rows[i].covers);
	}
	want.lost = true;
	CU_ASSERT_FALSE(gtid_covers(&have, &want));
}

static void test_merge(void)
{
	struct gtid_set to = set_of("0-1-5,1-1-9");
	struct gtid_set with = set_of("0-2-7,1-2-3,2-1-1");

	gtid_merge(&to, &with);
	CU_ASSERT_EQUAL(to.count, 3);
	CU_ASSERT_EQUAL(sequence_of(&to, 0), 7);
	CU_ASSERT_EQUAL(sequence_of(&to, 1), 9);
	CU_ASSERT_FALSE(to.lost);
	/* More domains than fit: nothing but the primary can be trusted to have them. */
	with = set_of("10-1-1,11-1-1,12-1-1,13-1-1,14-1-1,15-1-1");
	gtid_merge(&to, &with);
	CU_ASSERT_TRUE(to.lost);
	CU_ASSERT_EQUAL(to.count, GTID_MAX_DOMAINS);
}

static void test_board(void)
{
	static struct gtid_board board;
	struct gtid_set set = set_of("0-1-5,7-1-2");
	struct gtid_set seen;
	uint64_t generation;

	gtid_board_raise(&board, &set);
	CU_ASSERT_TRUE(gtid_board_covers(&board, &set));
	generation = atomic_load(&board.generation);
	set = set_of("0-1-3");
	gtid_board_raise(&board, &set);
	CU_ASSERT_EQUAL(atomic_load(&board.generation), generation);
	gtid_board_read(&board, &seen);
	CU_ASSERT_EQUAL(sequence_of(&seen, 0), 5);
	CU_ASSERT_EQUAL(sequence_of(&seen, 7), 2);
	/* A restarted server may know less. */
	gtid_board_reset(&board, &set);
	gtid_board_read(&board, &seen);
	CU_ASSERT_EQUAL(sequence_of(&seen, 0), 3);
	CU_ASSERT_EQUAL(sequence_of(&seen, 7), 0);
	CU_ASSERT_EQUAL(seen.count, 1);
	set = set_of("0-1-4");
	CU_ASSERT_FALSE(gtid_board_covers(&board, &set));
	set = set_of("7-1-1");
	CU_ASSERT_FALSE(gtid_board_covers(&board, &set));
}

static void test_board_overflow(void)
{
	static struct gtid_board board;
	struct gtid_set set = set_of("0-1-1,1-1-1,2-1-1,3-1-1,4-1-1,5-1-1,6-1-1,7-1-1");
	struct gtid_set ninth = set_of("8-1-1");

	gtid_board_raise(&board, &set);
	gtid_board_raise(&board, &ninth);
	CU_ASSERT_TRUE(gtid_board_covers(&board, &set));
	CU_ASSERT_FALSE(gtid_board_covers(&board, &ninth));
}

enum { RAISES = 20000 };

static struct gtid_board shared;

static void *raise_many(void *arg)
{
	uint32_t domain = (uint32_t)(uintptr_t)arg;

	for (uint64_t i = 1; i <= RAISES; i++) {
		struct gtid_set set = { .count = 2, .points = { { 99, i }, { domain, i } } };

		gtid_board_raise(&shared, &set);
	}
	return NULL;
}

/* What was once on the board stays covered, whoever else is raising. */
static void test_board_threads(void)
{
	pthread_t threads[3];
	struct gtid_set before = { 0 }, now;
	bool fell = false;

	for (uintptr_t i = 0; i < 3; i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, raise_many, (void *)i), 0);
	for (int i = 0; i < 1000; i++) {
		gtid_board_read(&shared, &now);
		fell |= !gtid_covers(&now, &before);
		before = now;
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT_FALSE(fell);
	gtid_board_read(&shared, &now);
	CU_ASSERT_EQUAL(now.count, 4);
	for (unsigned i = 0; i < now.count; i++)
		CU_ASSERT_EQUAL(now.points[i].sequence, RAISES);
}

static void test_clamp(void)
{
	struct gtid_set set = set_of("0-1-100,1-1-5,2-1-7"), fork = set_of("0-2-99,1-2-6");

	CU_ASSERT_TRUE(gtid_clamp(&set, &fork));
	CU_ASSERT_EQUAL(set.count, 2);
	CU_ASSERT_EQUAL(sequence_of(&set, 0), 99);
	CU_ASSERT_EQUAL(sequence_of(&set, 1), 5);
	CU_ASSERT_FALSE(gtid_clamp(&set, &fork));
	set = (struct gtid_set){ .lost = true };
	CU_ASSERT_FALSE(gtid_clamp(&set, &fork));
	CU_ASSERT_TRUE(set.lost);
}

void suite_gtid(void)
{
	CU_pSuite suite = CU_add_suite("gtid", NULL, NULL);

	CU_add_test(suite, "MariaDB text", test_mariadb_text);
	CU_add_test(suite, "MySQL text", test_mysql_text);
	CU_add_test(suite, "malformed text", test_malformed);
	CU_add_test(suite, "covering", test_covers);
	CU_add_test(suite, "merging", test_merge);
	CU_add_test(suite, "board", test_board);
	CU_add_test(suite, "more domains than the board has", test_board_overflow);
	CU_add_test(suite, "board between threads", test_board_threads);
	CU_add_test(suite, "clamp", test_clamp);
}
