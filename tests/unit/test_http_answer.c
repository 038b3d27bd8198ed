/* Heads of answers: where the body ends, what is passed on, what is refused. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "web/http_answer.h"

void suite_http_answer(void);

#define END "\r\n\r\n"

static const char *parse(const char *text, bool to_head, struct http_answer *out)
{
	return http_answer_parse(text, strlen(text), to_head, out);
}

static void test_framing(void)
{
	static const struct {
		const char *head;
		bool to_head;
		enum http_answer_framing framing;
		uint64_t length;
		bool keep_alive;
	} cases[] = {
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5" END, false, HTTP_ANSWER_LENGTH, 5, true },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 0" END, false, HTTP_ANSWER_LENGTH, 0, true },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close" END, false, HTTP_ANSWER_LENGTH, 5, false },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 5" END, false, HTTP_ANSWER_LENGTH, 5, false },
		{ "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive" END, false, HTTP_ANSWER_LENGTH, 5, true },
		{ "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked" END, false, HTTP_ANSWER_CHUNKED, UINT64_MAX, true },
		{ "HTTP/1.1 200" END, false, HTTP_ANSWER_UNTIL_CLOSE, UINT64_MAX, false },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5" END, true, HTTP_ANSWER_EMPTY, 5, true },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" END, true, HTTP_ANSWER_EMPTY, UINT64_MAX, true },
		{ "HTTP/1.1 304 Not Modified\r\nContent-Length: 5" END, false, HTTP_ANSWER_EMPTY, 5, true },
		{ "HTTP/1.1 204 No Content" END, false, HTTP_ANSWER_EMPTY, UINT64_MAX, true },
		{ "HTTP/1.1 100 Continue" END, false, HTTP_ANSWER_EMPTY, UINT64_MAX, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct http_answer a;

		CU_ASSERT_PTR_NULL(parse(cases[i].head, cases[i].to_head, &a));
		CU_ASSERT_EQUAL(a.framing, cases[i].framing);
		CU_ASSERT_EQUAL(a.length, cases[i].length);
		CU_ASSERT_EQUAL(a.keep_alive, cases[i].keep_alive);
	}
}

static void test_refused(void)
{
	static const char *const heads[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1" END, "HTTP/1.1 200 OK\r\nContent-Length: 1, 1" END,
		"HTTP/1.1 200 OK\r\nContent-Length: -1" END, "HTTP/1.1 200 OK\r\nContent-Length:" END,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked" END,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked" END, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip" END,
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked" END, "HTTP/1.1 200 OK\r\nX : y" END, "HTTP/1.1 200 OK\r\n X: y" END,
		"HTTP/1.1 200 OK\r\nX" END, "HTTP/1.1 200 OK\r\n: y" END, "HTTP/1.1 200 OK\r\nX: a\nb" END, "HTTP/1.1 200 OK\r\nX: \x7f" END,
		"HTTP/1.1 200 O\x01K" END, "HTTP/1.1  200 OK" END, "HTTP/1.1 20 OK" END, "HTTP/1.1 2000" END, "HTTP/1.1 000 OK" END,
		"HTTP/1.1 600 OK" END, "HTTP/2.0 200 OK" END, "HTTP/1.x 200 OK" END, "http/1.1 200 OK" END, "" END, "200 OK" END,
		"HTTP/1.1 200 OK\r\n\r\nX: y" END,
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct http_answer a;

		CU_ASSERT_PTR_NOT_NULL(parse(heads[i], false, &a));
	}
}

static void test_fields(void)
{
	struct http_answer a;
	char names[256] = "";

	CU_ASSERT_PTR_NULL(parse("HTTP/1.1 200 OK\r\nDate: x\r\nServer: y\r\nA: 1\r\nConnection: keep-alive, C\r\nKeep-Alive: 5\r\nSet-Cookie: a\r\n"
				 "set-cookie: b\r\nC: no\r\nUpgrade: h2\r\nTrailer: T\r\nContent-Length: 3\r\nX: \xff" END, false, &a));
	for (size_t i = 0; i < a.field_count; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%.*s ", (int)a.fields[i].name.len, a.fields[i].name.at);
	CU_ASSERT_STRING_EQUAL(names, "A Set-Cookie set-cookie X ");
	CU_ASSERT_EQUAL(a.upgrade.len, 0);
	CU_ASSERT_PTR_NULL(parse("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket" END, false, &a));
	CU_ASSERT(http_text_is(a.upgrade, "websocket"));
}

void suite_http_answer(void)
{
	CU_pSuite suite = CU_add_suite("http_answer", NULL, NULL);

	CU_add_test(suite, "where the body ends", test_framing);
	CU_add_test(suite, "what is refused", test_refused);
	CU_add_test(suite, "what is passed on", test_fields);
}
