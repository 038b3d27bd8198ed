/* The record of a transaction: entries keep their bytes while the memory grows, limits hold, references are given back. */
#include <CUnit/CUnit.h>
#include <string.h>

#include "proxy/session/record.h"

void suite_record(void);

enum { LIMIT = 1 << 20 };

static bool add_text(struct record *record, const char *text, uint64_t hash, size_t limit)
{
	return record_add(record, NULL, (const uint8_t *)text, strlen(text), hash, limit);
}

static void test_entries_in_order(void)
{
	struct record record = { 0 };
	const struct record_entry *entry;
	char text[300];
	size_t at = 0;

	CU_ASSERT_PTR_NULL(record_at(&record, 0, &at));
	memset(text, 'x', sizeof(text));
	for (unsigned i = 0; i < 299; i++) {
		text[i] = '\0';
		CU_ASSERT_TRUE(add_text(&record, text, i * 7, LIMIT));
		text[i] = 'x';
	}
	CU_ASSERT_EQUAL(record.count, 299);
	at = 0;
	for (unsigned i = 0; i < 299; i++) {
		entry = record_at(&record, at, &at);
		CU_ASSERT_PTR_NOT_NULL_FATAL(entry);
		CU_ASSERT_EQUAL(entry->len, i);
		CU_ASSERT_EQUAL(entry->hash, i * 7);
		CU_ASSERT_EQUAL(memcmp(entry->packet, text, i), 0);
	}
	CU_ASSERT_PTR_NULL(record_at(&record, at, &at));
	record_clear(&record, 0);
	CU_ASSERT_PTR_NULL(record.bytes);
}

static void test_limit(void)
{
	struct record record = { 0 };
	size_t before;

	CU_ASSERT_TRUE(add_text(&record, "one", 1, 100));
	before = record.len;
	CU_ASSERT_FALSE(record_add(&record, NULL, (const uint8_t *)"", 0, 1, before));
	CU_ASSERT_FALSE(record_add(&record, NULL, (const uint8_t *)"", 0, 1, before + 1));
	CU_ASSERT_FALSE(record_add(&record, NULL, (const uint8_t *)"", 0, 1, 0));
	CU_ASSERT_EQUAL(record.len, before);
	CU_ASSERT_EQUAL(record.count, 1);
	CU_ASSERT_TRUE(add_text(&record, "two", 2, before * 2));
	record_clear(&record, 0);
}

static void test_memory_kept(void)
{
	struct record record = { 0 };
	uint8_t *bytes;

	CU_ASSERT_TRUE(add_text(&record, "one", 1, LIMIT));
	bytes = record.bytes;
	record_clear(&record, record.size);
	CU_ASSERT_PTR_EQUAL(record.bytes, bytes);
	CU_ASSERT_EQUAL(record.count, 0);
	CU_ASSERT_TRUE(add_text(&record, "two", 1, LIMIT));
	record_clear(&record, record.size - 1);
	CU_ASSERT_PTR_NULL(record.bytes);
	CU_ASSERT_EQUAL(record.size, 0);
}

static void test_references(void)
{
	struct record record = { 0 };
	struct statement statement = { .refs = 1 };

	CU_ASSERT_TRUE(record_add(&record, &statement, (const uint8_t *)"x", 1, 1, LIMIT));
	CU_ASSERT_TRUE(record_add(&record, &statement, (const uint8_t *)"y", 1, 1, LIMIT));
	CU_ASSERT_FALSE(record_add(&record, &statement, (const uint8_t *)"z", 1, 1, record.len));
	CU_ASSERT_EQUAL(statement.refs, 3);
	record_clear(&record, 0);
	CU_ASSERT_EQUAL(statement.refs, 1);
}

void suite_record(void)
{
	CU_pSuite suite = CU_add_suite("record", NULL, NULL);

	CU_add_test(suite, "entries in order", test_entries_in_order);
	CU_add_test(suite, "limit", test_limit);
	CU_add_test(suite, "memory kept", test_memory_kept);
	CU_add_test(suite, "references", test_references);
}
