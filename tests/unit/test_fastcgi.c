/* FastCGI records cut anywhere, name-value pairs of all length forms, and the normal form of paths. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "base/fastcgi.h"
#include "web/path.h"

void suite_fastcgi(void);

/* ---- Records ---- */

struct trace {
	char text[512];
	size_t len;
};

static void note(struct trace *t, const char *text, size_t len)
{
	memcpy(t->text + t->len, text, len);
	t->len += len;
	t->text[t->len] = '\0';
}

/* What a reader reports, as text: "(type.id" content ")" ... */
static void read_in_pieces(const uint8_t *bytes, size_t len, size_t step, struct trace *t)
{
	struct fcgi_reader reader = { 0 };
	size_t at = 0;

	while (at < len) {
		size_t have = step < len - at ? step : len - at, used, piece_len = 0;
		const uint8_t *piece = NULL;
		char head[32];

		switch (fcgi_read(&reader, bytes + at, have, &used, &piece, &piece_len)) {
		case FCGI_RECORD:
			note(t, head, (size_t)sprintf(head, "(%u.%u ", reader.record.type, reader.record.id));
			/* A record without content and padding is over at once, without another byte. */
			while (!reader.left && !reader.padding && reader.inside) {
				size_t none;

				CU_ASSERT_EQUAL(fcgi_read(&reader, bytes + at + used, 0, &none, &piece, &piece_len), FCGI_DONE);
				note(t, ")", 1);
			}
			break;
		case FCGI_CONTENT:
			note(t, (const char *)piece, piece_len);
			break;
		case FCGI_DONE:
			note(t, ")", 1);
			break;
		case FCGI_BAD:
			note(t, "!", 1);
			return;
		case FCGI_MORE:
			break;
		}
		at += used;
	}
	/* The last record may have ended with the bytes. */
	if (reader.inside && !reader.left && !reader.padding)
		note(t, ")", 1);
}

static size_t put_record(uint8_t *out, enum fcgi_type type, uint16_t id, const char *content, uint8_t padding)
{
	size_t len = strlen(content);

	fcgi_put_header(out, type, id, len);
	out[6] = padding;
	memcpy(out + FCGI_HEADER_BYTES, content, len);
	memset(out + FCGI_HEADER_BYTES + len, 'P', padding);
	return FCGI_HEADER_BYTES + len + padding;
}

static void test_records(void)
{
	uint8_t bytes[256];
	size_t len = 0;

	len += put_record(bytes + len, FCGI_STDOUT, 1, "Status: 200", 5);
	len += put_record(bytes + len, FCGI_STDOUT, 1, "", 0);
	len += put_record(bytes + len, FCGI_STDERR, 1, "oh", 255 - 200);
	len += put_record(bytes + len, (enum fcgi_type)99, 65535, "", 8);
	len += put_record(bytes + len, FCGI_STDOUT, 1, "x", 0);
	for (size_t step = 1; step <= len; step++) {
		struct trace t = { .len = 0 };

		read_in_pieces(bytes, len, step, &t);
		CU_ASSERT_STRING_EQUAL(t.text, "(6.1 Status: 200)(6.1 )(7.1 oh)(99.65535 )(6.1 x)");
	}
}

static void test_not_fastcgi(void)
{
	struct trace t = { .len = 0 };

	read_in_pieces((const uint8_t *)"HTTP/1.1 200 OK", 15, 4, &t);
	CU_ASSERT_STRING_EQUAL(t.text, "!");
}

static void test_begin_and_end(void)
{
	uint8_t bytes[FCGI_BEGIN_BYTES];
	uint32_t status;
	uint16_t role;
	uint8_t end;
	bool keep;

	fcgi_put_begin(bytes, 7, FCGI_RESPONDER, true);
	CU_ASSERT_EQUAL(memcmp(bytes, "\1\1\0\7\0\10\0\0\0\1\1\0\0\0\0\0", 16), 0);
	CU_ASSERT(fcgi_parse_begin(bytes + 8, 8, &role, &keep) && role == FCGI_RESPONDER && keep);
	CU_ASSERT(!fcgi_parse_begin(bytes + 8, 7, &role, &keep));
	fcgi_put_end(bytes, 7, 0x01020304, FCGI_OVERLOADED);
	CU_ASSERT_EQUAL(memcmp(bytes, "\1\3\0\7\0\10\0\0\1\2\3\4\2\0\0\0", 16), 0);
	CU_ASSERT(fcgi_parse_end(bytes + 8, 8, &status, &end) && status == 0x01020304 && end == FCGI_OVERLOADED);
	CU_ASSERT(!fcgi_parse_end(bytes + 8, 5, &status, &end));
}

/* ---- Pairs ---- */

static void check_pair(size_t name_len, size_t value_len)
{
	static char name[70000], value[70000];
	static uint8_t bytes[150000];
	struct fcgi_pair pair;
	size_t used, len = fcgi_pair_bytes(name_len, value_len);

	memset(name, 'n', sizeof(name));
	memset(value, 'v', sizeof(value));
	CU_ASSERT_EQUAL(fcgi_put_pair(bytes, name, name_len, value, value_len), len);
	CU_ASSERT_EQUAL(fcgi_take_pair(bytes, len, len, &used, &pair), FCGI_PAIR);
	CU_ASSERT(used == len && pair.name_len == name_len && pair.value_len == value_len);
	CU_ASSERT(!memcmp(pair.name, name, name_len) && !memcmp(pair.value, value, value_len));
	for (size_t cut = 0; cut < len; cut += len / 7 + 1)
		CU_ASSERT_EQUAL(fcgi_take_pair(bytes, cut, len, &used, &pair), FCGI_PAIR_MORE);
	if (name_len + value_len)
		CU_ASSERT_EQUAL(fcgi_take_pair(bytes, len, len - 1, &used, &pair), FCGI_PAIR_BAD);
}

static void test_pairs(void)
{
	static const size_t lengths[] = { 0, 1, 127, 128, 255, 256, 65535, 65536 };
	enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };

	for (int i = 0; i < COUNT; i++)
		for (int j = 0; j < COUNT; j++)
			check_pair(lengths[i], lengths[j]);
}

static void test_huge_pair(void)
{
	struct fcgi_pair pair;
	size_t used;

	CU_ASSERT_EQUAL(fcgi_take_pair((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff", 8, 65536, &used, &pair), FCGI_PAIR_BAD);
}

/* ---- Paths ---- */

static const struct path_row {
	const char *from;
	const char *to; /* NULL: refused */
} path_rows[] = {
	{ "/", "/" },
	{ "/a/b.html", "/a/b.html" },
	{ "/a//b///c/", "/a/b/c/" },
	{ "//a", "/a" },
	{ "/./a/./b/.", "/a/b/" },
	{ "/a/../b", "/b" },
	{ "/a/b/..", "/a/" },
	{ "/a/..", "/" },
	{ "/a/b/../../c/", "/c/" },
	{ "/...", "/..." },
	{ "/..a", "/..a" },
	{ "/a../b", "/a../b" },
	{ "/.well-known/x", "/.well-known/x" },
	{ "/a%20b", "/a b" },
	{ "/%41%7a", "/Az" },
	{ "/%e4%Ff", "/\xe4\xff" },
	{ "/a%2e%2E/b", "/a../b" },
	{ "/a/%2e%2e/b", "/b" },
	{ "/a/%2e/b", "/a/b" },
	{ "/%252e%252e/x", "/%2e%2e/x" },
	{ "/..", NULL },
	{ "/../a", NULL },
	{ "/a/../../b", NULL },
	{ "/%2e%2e/a", NULL },
	{ "/.%2e/a", NULL },
	{ "/a%2fb", NULL },
	{ "/a%2Fb", NULL },
	{ "/a%00b", NULL },
	{ "/a%0", NULL },
	{ "/a%", NULL },
	{ "/a%zz", NULL },
	{ "/a%+1", NULL },
	{ "a", NULL },
	{ "", NULL },
};

static void test_paths(void)
{
	for (size_t i = 0; i < sizeof(path_rows) / sizeof(path_rows[0]); i++) {
		const struct path_row *row = &path_rows[i];
		char out[64];
		size_t len = path_normalise(row->from, strlen(row->from), out);
		bool fine = row->to ? len == strlen(row->to) && !strcmp(out, row->to) : len == 0;

		if (!fine)
			fprintf(stderr, "\n    %s became %s", row->from, len ? out : "refused");
		CU_ASSERT(fine);
	}
}

static void test_below(void)
{
	CU_ASSERT(path_is_below("/api", "/api"));
	CU_ASSERT(path_is_below("/api/x", "/api"));
	CU_ASSERT(path_is_below("/api/x", "/api/"));
	CU_ASSERT(!path_is_below("/apix", "/api"));
	CU_ASSERT(!path_is_below("/ap", "/api"));
	CU_ASSERT(path_is_below("/x", "/"));
	CU_ASSERT(path_is_below("/", "/"));
}

void suite_fastcgi(void)
{
	CU_pSuite suite = CU_add_suite("fastcgi", NULL, NULL);

	CU_add_test(suite, "records in pieces of any size", test_records);
	CU_add_test(suite, "something else on the connection", test_not_fastcgi);
	CU_add_test(suite, "begin and end", test_begin_and_end);
	CU_add_test(suite, "pairs", test_pairs);
	CU_add_test(suite, "a pair of four gigabytes", test_huge_pair);
	CU_add_test(suite, "paths", test_paths);
	CU_add_test(suite, "what lies below a path", test_below);
}
