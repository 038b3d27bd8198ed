/* Heads of requests against the table of tests/web/requests.txt, whole and cut anywhere; bodies in chunks. */
#include <CUnit/CUnit.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "web/chunked.h"
#include "web/http1.h"

#ifndef TESTS_DIR
#define TESTS_DIR "tests"
#endif

void suite_http(void);

static const struct http_limits usual = { .head_bytes = 32768, .target_bytes = 8192 };

struct table {
	unsigned line;
	unsigned checked;
	unsigned failed;
};

static void complain(struct table *t, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "\n    tests/web/requests.txt:%u: ", t->line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	t->failed++;
}

static size_t unescape(const char *from, char *to)
{
	size_t len = 0;

	for (; *from; from++) {
		if (*from != '\\') {
			to[len++] = *from;
			continue;
		}
		switch (*++from) {
		case 'n': to[len++] = '\r'; to[len++] = '\n'; break;
		case 'l': to[len++] = '\n'; break;
		case 'c': to[len++] = '\r'; break;
		case 't': to[len++] = '\t'; break;
		case '0': to[len++] = '\0'; break;
		case '\\': to[len++] = '\\'; break;
		case 'x':
			to[len++] = (char)strtol((char[]){ from[1], from[2], '\0' }, NULL, 16);
			from += 2;
			break;
		default: abort();
		}
	}
	return len;
}

static bool is_text(struct http_text have, const char *escaped)
{
	char want[1024];
	size_t len = unescape(escaped, want);

	return have.len == len && (!len || !memcmp(have.at, want, len));
}

static bool value_holds(const struct http_head *head, const char *name_and_value)
{
	char name[128];
	const char *equals = strchr(name_and_value, '=');
	const struct http_text *value;

	snprintf(name, sizeof(name), "%.*s", (int)(equals - name_and_value), name_and_value);
	value = http_head_field(head, name);
	return value && is_text(*value, equals + 1);
}

static bool fact_holds(const struct http_head *head, const char *fact)
{
	const char *value = strchr(fact, '=');
	size_t len = value ? (size_t)(value - fact) : strlen(fact);
	bool (*const texts)(struct http_text, const char *) = is_text;

	value = value ? value + 1 : "";
	if (!strncmp(fact, "value:", 6))
		return value_holds(head, fact + 6);
#define FACT(word, holds) if (len == sizeof(word) - 1 && !strncmp(fact, word, len)) return (holds)
	FACT("path", texts(head->path, value));
	FACT("query", head->query.at && texts(head->query, value));
	FACT("host", texts(head->host, value));
	FACT("port", texts(head->port, value));
	FACT("length", head->framing == HTTP_LENGTH && head->content_length == strtoull(value, NULL, 10));
	FACT("chunked", head->framing == HTTP_CHUNKED);
	FACT("nobody", head->framing == HTTP_NO_BODY);
	FACT("keep", head->keep_alive);
	FACT("close", !head->keep_alive);
	FACT("continue", head->expects_continue);
	FACT("fields", head->field_count == strtoul(value, NULL, 10));
#undef FACT
	return !strcmp(fact, http_method_name(head->method));
}

static void check_verdict(struct table *t, const char *bytes, size_t len, char *facts)
{
	struct http_head head;
	struct http_verdict verdict = http1_parse(bytes, len, &usual, &head);
	char *save, *word = strtok_r(facts, " ", &save);

	if (verdict.status != strtoul(word, NULL, 10))
		complain(t, "%u %s", verdict.status, verdict.why ? verdict.why : "");
	else if (!verdict.status)
		while ((word = strtok_r(NULL, " ", &save)))
			if (!fact_holds(&head, word))
				complain(t, "not %s", word);
	t->checked++;
}

/* However the bytes come, the end is found where it is and never before. */
static void check_scan(struct table *t, const char *bytes, size_t len)
{
	for (size_t step = 1; step <= 7; step += 2) {
		size_t seen = 0, have = 0;

		while (have < len) {
			have = have + step < len ? have + step : len;
			if (http1_scan(bytes, have, &seen, &usual) == HTTP_SCAN_WHOLE)
				break;
		}
		if (seen != len || have != len)
			complain(t, "in pieces of %zu the end was found at %zu of %zu", step, seen, len);
	}
}

static void check_row(struct table *t, char *row)
{
	char *bar = strstr(row, " | "), bytes[4096];
	size_t len;

	if (!bar)
		bar = strstr(row, " |");
	*bar = '\0';
	len = unescape(bar + 3, bytes);
	memcpy(bytes + len, "\r\n\r\n", 4);
	len += 4;
	check_scan(t, bytes, len);
	check_verdict(t, bytes, len, row);
}

static void test_table(void)
{
	struct table t = { 0 };
	char row[4096];
	FILE *file = fopen(TESTS_DIR "/web/requests.txt", "r");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	while (fgets(row, sizeof(row), file)) {
		t.line++;
		row[strcspn(row, "\n")] = '\0';
		if (row[0] && row[0] != '#')
			check_row(&t, row);
	}
	fclose(file);
	CU_ASSERT(t.checked >= 150);
	CU_ASSERT_EQUAL(t.failed, 0);
}

static uint16_t status_of(const char *bytes, size_t len)
{
	struct http_head head;

	return http1_parse(bytes, len, &usual, &head).status;
}

static void test_limits(void)
{
	static char bytes[64 * 1024];
	size_t seen = 0, len;

	len = (size_t)sprintf(bytes, "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n", 8190, 0);
	CU_ASSERT_EQUAL(status_of(bytes, len), 0);
	len = (size_t)sprintf(bytes, "GET /%0*d HTTP/1.1\r\nHost: a\r\n\r\n", 8200, 0);
	CU_ASSERT_EQUAL(status_of(bytes, len), 414);
	len = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\nX: %0*d\r\n\r\n", 33000, 0);
	CU_ASSERT_EQUAL(status_of(bytes, len), 431);
	CU_ASSERT_EQUAL(http1_scan(bytes, 20000, &seen, &usual), HTTP_SCAN_MORE);
	CU_ASSERT_EQUAL(http1_scan(bytes, 32769, &seen, &usual), HTTP_SCAN_TOO_LONG);
	for (int fields = 99; fields <= 100; fields++) {
		len = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\n");
		for (int i = 0; i < fields; i++)
			len += (size_t)sprintf(bytes + len, "X: y\r\n");
		len += (size_t)sprintf(bytes + len, "\r\n");
		CU_ASSERT_EQUAL(status_of(bytes, len), fields == 99 ? 0 : 431);
	}
}

/* Bytes behind a head are the body's or the next request's and are not looked at. */
static void test_pipelined(void)
{
	static const char bytes[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
	size_t seen = 0;

	CU_ASSERT_EQUAL(http1_scan(bytes, sizeof(bytes) - 1, &seen, &usual), HTTP_SCAN_WHOLE);
	CU_ASSERT_EQUAL(seen, (sizeof(bytes) - 1) / 2);
}

/* ---- Chunks ---- */

static const struct chunk_row {
	const char *bytes;
	const char *body; /* NULL: refused */
	size_t rest;	  /* bytes behind the end */
} chunk_rows[] = {
	{ "0\r\n\r\n", "", 0 },
	{ "5\r\nhello\r\n0\r\n\r\n", "hello", 0 },
	{ "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /", "hello world", 5 },
	{ "A\r\n0123456789\r\n000\r\n\r\n", "0123456789", 0 },
	{ "a;x=y\r\n0123456789\r\n0;last\r\n\r\n", "0123456789", 0 },
	{ "1;x=\"a b\"\r\na\r\n0\r\n\r\n", "a", 0 },
	{ "1\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\nrest", "a", 4 },
	{ "2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0 },
	{ "0x2\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ " 2\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "2 \r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "+2\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "-2\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ ";x\r\n", NULL, 0 },
	{ "2\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "2\r\nabc\r\n0\r\n\r\n", NULL, 0 },
	{ "2\r\nab0\r\n\r\n", NULL, 0 },
	{ "2\r\nab\n0\r\n\r\n", NULL, 0 },
	{ "2\rab", NULL, 0 },
	{ "g\r\n", NULL, 0 },
	{ "1000000000000000\r\n", NULL, 0 },
	{ "0000000000000000000001\r\na\r\n", NULL, 0 },
	{ "2;\x01\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "2;a\nb\r\nab\r\n0\r\n\r\n", NULL, 0 },
	{ "0\r\nX y: z\r\n\r\n", NULL, 0 },
	{ "0\r\n: z\r\n\r\n", NULL, 0 },
	{ "0\r\n X: z\r\n\r\n", NULL, 0 },
	{ "0\r\nX\r\n\r\n", NULL, 0 },
	{ "0\r\nX: y\n\r\n", NULL, 0 },
	{ "0\r\n\n", NULL, 0 },
	{ "0\r\n\rx", NULL, 0 },
};

static bool chunks_come_out(const struct chunk_row *row, size_t step)
{
	struct chunked c = { 0 };
	char body[64];
	size_t len = strlen(row->bytes), at = 0, out = 0;

	while (at < len && c.state < CHUNKED_END) {
		struct chunked_piece piece;
		size_t have = step < len - at ? step : len - at;

		at += chunked_take(&c, (const uint8_t *)row->bytes + at, have, &piece);
		memcpy(body + out, piece.len ? piece.data : (const uint8_t *)"", piece.len);
		out += piece.len;
	}
	if (!row->body)
		return c.state == CHUNKED_BAD;
	return c.state == CHUNKED_END && len - at == row->rest && out == strlen(row->body) && !memcmp(body, row->body, out);
}

static void test_chunks(void)
{
	for (size_t i = 0; i < sizeof(chunk_rows) / sizeof(chunk_rows[0]); i++)
		for (size_t step = 1; step <= 64; step++)
			if (!chunks_come_out(&chunk_rows[i], step)) {
				fprintf(stderr, "\n    chunk row %zu in pieces of %zu", i, step);
				CU_FAIL("chunks");
				break;
			}
}

static void test_chunk_bounds(void)
{
	struct chunked c = { 0 };
	struct chunked_piece piece;

	chunked_take(&c, (const uint8_t *)"1;", 2, &piece);
	for (int i = 0; i <= CHUNKED_DROP_LIMIT; i++)
		chunked_take(&c, (const uint8_t *)"x", 1, &piece);
	CU_ASSERT_EQUAL(c.state, CHUNKED_BAD);
}

void suite_http(void)
{
	CU_pSuite suite = CU_add_suite("http", NULL, NULL);

	CU_add_test(suite, "the table of request heads", test_table);
	CU_add_test(suite, "limits", test_limits);
	CU_add_test(suite, "the end of a head with more behind it", test_pipelined);
	CU_add_test(suite, "chunks", test_chunks);
	CU_add_test(suite, "what is dropped is bounded", test_chunk_bounds);
}
