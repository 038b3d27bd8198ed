/*
 * When memory runs out: the n-th request for memory fails, for n = 1, 2, 3 ..., until all goes well. Nothing may crash, and a sanitizer
 * build tells what was not given back. The linker puts these functions in front of those that Tandem's own objects call.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "base/buf.h"
#include "daemon/config.h"
#include "proxy/session/credentials.h"
#include "proxy/session/statement.h"

void suite_memory(void);

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t len);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t len);
int __wrap_asprintf(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Requests of this thread until one fails; 0: none will. Other threads of other tests are not meant. */
static __thread unsigned left;
static __thread bool failed;

static bool fails(void)
{
	if (left && --left == 0)
		failed = true;
	return failed && left == 0;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(align, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t len)
{
	return fails() ? NULL : __real_strndup(text, len);
}

int __wrap_asprintf(char **out, const char *format, ...)
{
	va_list args;
	int len;

	*out = NULL;
	if (fails())
		return -1;
	va_start(args, format);
	len = vasprintf(out, format, args);
	va_end(args);
	return len;
}

/* Runs `attempt` with the 1st, 2nd, ... request failing (and all behind it, as when memory is really gone), until none fails. It gives
 * false when it could not do its work. */
static unsigned sweep(bool (*attempt)(void))
{
	unsigned n = 0;
	bool ok;

	do {
		left = ++n;
		failed = false;
		ok = attempt();
		left = 0;
		if (failed)
			CU_ASSERT_FALSE(ok);
	} while (failed && n < 100000);
	failed = false;
	CU_ASSERT_TRUE(ok);
	return n - 1;
}

/* ---- attempts ---- */

static char path[] = "/tmp/tandem-unit-memory-XXXXXX";

static int make_file(void)
{
	static const char text[] = "[tandem]\nlog_level = debug\n[proxy]\nlisten = 127.0.0.1:1, "
				   "127.0.0.1:2\nserver_version = 'x'\n"
				   "[monitor]\nuser = m\npassword = p\n[replication]\nuser = r\n"
				   "[server a]\naddress = a\nreplication_address = b:1\n[server "
				   "b]\naddress = unix:/b\n"
				   "[user u]\npassword = s\n[user v]\npassword =\n";
	int fd = mkstemp(path);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return !ok;
}

static int remove_file(void)
{
	return unlink(path);
}

static bool load_settings(void)
{
	FILE *nowhere = fopen("/dev/null", "w");
	struct settings *s = config_load(path, nowhere);

	fclose(nowhere);
	settings_unref(s);
	return s != NULL;
}

/* Of what the settings say, something must be said about each failure, too: a refusal without a word helps nobody. */
static void test_settings(void)
{
	char said[2000] = "";
	FILE *stream = fmemopen(said, sizeof(said), "w");

	CU_ASSERT_TRUE(sweep(load_settings) > 30);
	left = 3;
	CU_ASSERT_PTR_NULL(config_load(path, stream));
	left = 0;
	failed = false;
	fclose(stream);
	CU_ASSERT_PTR_NOT_NULL(strstr(said, "out of memory"));
}

static bool log_in(void)
{
	struct credentials *c = credentials_new("app", 3);
	bool ok = c != NULL;

	credentials_unref(c);
	return ok;
}

static void test_credentials(void)
{
	CU_ASSERT_TRUE(sweep(log_in) >= 2);
	account_tokens_free();
}

static struct snapshot cluster = { .server_count = 1, .primary = 0 };
static struct state *value;

static bool prepare(void)
{
	static const struct sql_meaning meaning;
	struct statement_table table = { 0 };
	struct statement_cache cache = { 0 };
	bool ok = true;
	uint32_t evicted;

	for (uint64_t i = 1; i <= 9 && ok; i++) {
		const uint64_t key[2] = { i, i };

		ok = statement_add(&table, "SELECT 1", 8, &meaning, value, &cluster) &&
		     prepared_add(&cache, key, 100, &evicted) != PREPARED_NONE;
	}
	statement_table_fini(&table);
	prepared_fini(&cache);
	return ok;
}

static void test_statements(void)
{
	value = state_new(&cluster, -1, 0, NULL);
	CU_ASSERT_TRUE(sweep(prepare) > 20);
	state_unref(value);
}

static bool fill(void)
{
	struct buf buf = { 0 };
	bool ok = true;

	for (int i = 0; i < 200 && ok; i++)
		ok = buf_append(&buf, path, sizeof(path));
	buf_fini(&buf);
	return ok;
}

static void test_buffers(void)
{
	CU_ASSERT_TRUE(sweep(fill) >= 2);
}

void suite_memory(void)
{
	static CU_TestInfo tests[] = {
		{ "settings", test_settings },
		{ "credentials", test_credentials },
		{ "statements", test_statements },
		{ "buffers", test_buffers },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "memory", make_file, remove_file, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
