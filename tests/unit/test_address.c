/* Addresses, ranges of them, and the PROXY header: tables of what is understood and what is refused. */
#include <CUnit/CUnit.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/proxy_header.h"

void suite_address(void);

static const char *shown(const struct address *address)
{
	static char text[ADDRESS_TEXT_BYTES];

	address_put(address, text);
	return text;
}

static void expect(const char *input, const char *wanted, const char *got)
{
	if (strcmp(wanted, got) != 0)
		fprintf(stderr, "\n    '%s': wanted %s, got %s", input, wanted, got);
	CU_ASSERT_STRING_EQUAL(wanted, got);
}

/* ---- Addresses ---- */

static void test_nodes(void)
{
	static const struct {
		const char *text;
		const char *bare; /* as a bare address; NULL: refused */
		const char *node; /* as what stands in a field, maybe with a port */
	} rows[] = {
		{ "10.0.0.7", "10.0.0.7", "10.0.0.7" },
		{ "2001:DB8::1", "2001:db8::1", "2001:db8::1" },
		{ "::ffff:10.0.0.7", "10.0.0.7", "10.0.0.7" },
		{ "::", "::", "::" },
		{ "10.0.0.7:80", NULL, "10.0.0.7" },
		{ "[2001:db8::1]:80", NULL, "2001:db8::1" },
		{ "[2001:db8::1]", NULL, "2001:db8::1" },
		{ "[10.0.0.7]", NULL, NULL },
		{ "[::1", NULL, NULL },
		{ "[::1]x", NULL, NULL },
		{ "[::1]:", NULL, NULL },
		{ "[::1]:123456", NULL, NULL },
		{ "10.0.0.7:", NULL, NULL },
		{ "10.0.0.7:8x", NULL, NULL },
		{ "10.0.0", NULL, NULL },
		{ "10.0.0.256", NULL, NULL },
		{ "010.0.0.1", NULL, NULL },
		{ "10.0.0.7 ", NULL, NULL },
		{ "fe80::1%eth0", NULL, NULL },
		{ "unknown", NULL, NULL },
		{ "_hidden", NULL, NULL },
		{ "", NULL, NULL },
		{ "localhost", NULL, NULL },
		{ "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", NULL, NULL },
	};
	struct address a;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = strlen(rows[i].text);

		expect(rows[i].text, rows[i].bare ? rows[i].bare : "none", address_parse(rows[i].text, len, &a) ? shown(&a) : "none");
		expect(rows[i].text, rows[i].node ? rows[i].node : "none", address_parse_node(rows[i].text, len, &a) ? shown(&a) : "none");
	}
	CU_ASSERT_FALSE(address_parse("10.0.0.7\0x", 10, &a));
	CU_ASSERT_FALSE(a.known);
}

static void test_peers(void)
{
	struct sockaddr_storage peer = { .ss_family = AF_UNIX };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&peer;
	struct address a;

	address_of_peer(&peer, &a);
	CU_ASSERT_FALSE(a.known);
	CU_ASSERT_STRING_EQUAL(shown(&a), "localhost");
	v4->sin_family = AF_INET;
	v4->sin_addr.s_addr = htonl(0x0a000007);
	address_of_peer(&peer, &a);
	CU_ASSERT_TRUE(address_is_v4(&a));
	CU_ASSERT_STRING_EQUAL(shown(&a), "10.0.0.7");
}

/* ---- Ranges ---- */

static void test_ranges_refused(void)
{
	static const char *const bad[] = { "",	      "x",	     "10.0.0.0/33", "10.0.0.0/-1",   "10.0.0.0/",    "10.0.0.0/08", "10.0.0.0/8 ",
					   "10.0.0.1/8", "10.0.0.0/8/8", "::1/129",	    "2001:db8::1/32", "10.0.0.0:80/8", "/8",	       "10/8",
					   "10.0.0.0/1000", "Unix" };
	struct address_range range;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		expect(bad[i], "refused", address_range_parse(bad[i], &range) ? "refused" : "taken");
}

/* Which of the list's ranges decides: the bits of the narrowest one, in IPv6's count. */
static void test_lists(void)
{
	static const char *const texts[] = { "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32", "192.168.1.128/25", "unix" };
	static const struct {
		const char *address;
		int bits;
	} rows[] = {
		{ "10.2.0.1", 104 },	 { "10.1.0.1", 112 },	{ "10.1.2.3", 128 },	  { "11.0.0.0", -1 },
		{ "::ffff:10.1.2.3", 128 }, { "2001:db8:f::1", 32 }, { "2001:db9::1", -1 },	  { "192.168.1.127", -1 },
		{ "192.168.1.128", 121 }, { "192.168.1.255", 121 }, { "192.168.2.128", -1 }, { "", 128 },
	};
	struct address_range ranges[6];
	struct address_list list = { ranges, 6 };
	struct address a;

	for (size_t i = 0; i < 6; i++)
		CU_ASSERT_PTR_NULL(address_range_parse(texts[i], &ranges[i]));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char wanted[16], got[16];

		CU_ASSERT_EQUAL(address_parse(rows[i].address, strlen(rows[i].address), &a), *rows[i].address != '\0');
		snprintf(wanted, sizeof(wanted), "%d", rows[i].bits);
		snprintf(got, sizeof(got), "%d", address_list_match(&list, &a));
		expect(rows[i].address, wanted, got);
	}
	CU_ASSERT_FALSE(address_list_has(&(struct address_list){ NULL, 0 }, &a));
}

/* Every IPv6 address, and every IPv4 one, are different things. */
static void test_everything(void)
{
	struct address_range six, four;
	struct address v4, v6;

	CU_ASSERT_PTR_NULL(address_range_parse("::/0", &six));
	CU_ASSERT_PTR_NULL(address_range_parse("0.0.0.0/0", &four));
	CU_ASSERT_TRUE(address_parse("10.0.0.7", 8, &v4));
	CU_ASSERT_TRUE(address_parse("::1", 3, &v6));
	CU_ASSERT_TRUE(address_list_has(&(struct address_list){ &six, 1 }, &v6));
	CU_ASSERT_FALSE(address_list_has(&(struct address_list){ &six, 1 }, &v4));
	CU_ASSERT_TRUE(address_list_has(&(struct address_list){ &four, 1 }, &v4));
	CU_ASSERT_FALSE(address_list_has(&(struct address_list){ &four, 1 }, &v6));
}

/* ---- PROXY headers ---- */

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define T(text) text, sizeof(text) - 1

static const struct {
	const char *bytes;
	size_t len;
	const char *wanted; /* "ADDRESS PORT tls length", "none length", "bad" or "more" */
} headers[] = {
	{ T(""), "more" },
	{ T("P"), "more" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r"), "more" },
	{ T("PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\nGET /"), "192.0.2.1 4711 clear 41" },
	{ T("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), "2001:db8::1 0 clear 36" },
	{ T("PROXY UNKNOWN\r\n"), "none 15" },
	{ T("PROXY UNKNOWN whatever stands here\r\n"), "none 36" },
	{ T("GET / HTTP/1.1\r\n"), "bad" },
	{ T("\x16\x03\x01\x02\x00"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n"), "bad" },
	{ T("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 1 65536\r\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.4 ::1 1 2\r\n"), "bad" },
	{ T("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n"), "bad" },
	{ T("PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n"), "bad" },
	{ T("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n"), "bad" },
	{ T("PROXY \r\n"), "bad" },
	{ T("PROXY\r\n"), "bad" },
	{ T("proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), "bad" },
	{ T("PROXY UNKNOWN 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789\r\n"), "bad" },
	{ T(V2), "more" },
	{ T(V2 "\x20\x00\x00"), "more" },
	{ T(V2 "\x20\x00\x00\x00"), "none 16" },
	{ T(V2 "\x20\xff\x00\x02xy"), "none 18" },
	{ T(V2 "\x21\x11\x00\x0c\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbbREST"), "192.0.2.1 4711 clear 28" },
	{ T(V2 "\x21\x11\x00\x0c\xc0\0\2\1\xc0\0\2\2\x12\x67\x01"), "more" },
	{ T(V2 "\x21\x11\x00\x14\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb\x20\0\5\1\0\0\0\0"), "192.0.2.1 4711 tls 36" },
	{ T(V2 "\x21\x11\x00\x14\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb\x20\0\5\0\0\0\0\0"), "192.0.2.1 4711 clear 36" },
	{ T(V2 "\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\2"), "2001:db8::1 1 clear 52" },
	{ T(V2 "\x21\x00\x00\x03\x61\x62\x63"), "none 19" },
	{ T(V2 "\x21\x12\x00\x0c\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb"), "none 28" },
	{ T(V2 "\x21\x11\x00\x0b\xc0\0\2\1\xc0\0\2\2\x12\x67\x01"), "bad" },
	{ T(V2 "\x21\x11\x00\x0e\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb\x20\0"), "bad" },
	{ T(V2 "\x21\x11\x00\x14\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb\x20\0\6\1\0\0\0\0"), "bad" },
	{ T(V2 "\x21\x13\x00\x0c\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb"), "bad" },
	{ T(V2 "\x22\x11\x00\x0c\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb"), "bad" },
	{ T(V2 "\x11\x11\x00\x0c\xc0\0\2\1\xc0\0\2\2\x12\x67\x01\xbb"), "bad" },
	{ T(V2 "\x21\x11\xff\xff"), "bad" },
	{ T("\r\n\r\n\0\r\nQUIX"), "bad" },
};

static const char *described(enum proxy_header_step step, const struct proxy_header *h)
{
	static char text[96];

	if (step == PROXY_HEADER_MORE)
		return "more";
	if (step == PROXY_HEADER_BAD)
		return h->why ? "bad" : "bad without a reason";
	if (!h->from.known)
		snprintf(text, sizeof(text), "none %zu", h->len);
	else
		snprintf(text, sizeof(text), "%s %u %s %zu", shown(&h->from), h->port, h->tls ? "tls" : "clear", h->len);
	return text;
}

/* Also byte by byte: what is whole was "more" before, and what is bad never was whole. */
static void test_headers(void)
{
	struct proxy_header h;

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		enum proxy_header_step step = PROXY_HEADER_MORE;
		uint8_t *copy = malloc(headers[i].len ? headers[i].len : 1);

		memcpy(copy, headers[i].bytes, headers[i].len);
		for (size_t len = 0; len <= headers[i].len && step == PROXY_HEADER_MORE; len++)
			step = proxy_header_read(copy, len, &h);
		expect(headers[i].bytes, headers[i].wanted, described(step, &h));
		step = proxy_header_read(copy, headers[i].len, &h);
		expect(headers[i].bytes, headers[i].wanted, described(step, &h));
		free(copy);
	}
}

void suite_address(void)
{
	CU_pSuite suite = CU_add_suite("address", NULL, NULL);

	CU_add_test(suite, "addresses with and without a port", test_nodes);
	CU_add_test(suite, "peers of sockets", test_peers);
	CU_add_test(suite, "ranges that are none", test_ranges_refused);
	CU_add_test(suite, "the narrowest range decides", test_lists);
	CU_add_test(suite, "all of IPv4, all of IPv6", test_everything);
	CU_add_test(suite, "PROXY headers, whole and cut", test_headers);
}
