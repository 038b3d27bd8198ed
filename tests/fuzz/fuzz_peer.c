/*
 * Who a peer is: PROXY headers, ranges of addresses, the fields of proxies. The first byte of an input chooses one. Asserted besides what the
 * sanitizers see: an answer does not depend on how many bytes came at a time, and what was understood is understood again from its own text.
 */
#include <stdlib.h>
#include <string.h>

#include "base/proxy_header.h"
#include "web/forwarded.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 8192 };

static void check(bool fine)
{
	if (!fine)
		abort();
}

static void check_text(const struct address *address)
{
	char text[ADDRESS_TEXT_BYTES];
	struct address again;

	address_put(address, text);
	check(address_parse(text, strlen(text), &again) && address_equal(&again, address));
}

static void headers(const uint8_t *bytes, size_t len)
{
	struct proxy_header whole, cut;
	enum proxy_header_step step = proxy_header_read(bytes, len, &whole), now = PROXY_HEADER_MORE;

	for (size_t have = 0; have <= len && now == PROXY_HEADER_MORE; have++)
		now = proxy_header_read(bytes, have, &cut);
	check(now == step);
	check((step == PROXY_HEADER_BAD) == (whole.why != NULL));
	check(step != PROXY_HEADER_MORE || len < PROXY_HEADER_MAX);
	if (step != PROXY_HEADER_WHOLE)
		return;
	check(whole.len && whole.len <= len && whole.len == cut.len && address_equal(&whole.from, &cut.from));
	if (whole.from.known)
		check_text(&whole.from);
}

static void ranges(char *text)
{
	struct address_range range;
	const char *why = address_range_parse(text, &range);
	struct address first = { .known = !range.local };

	if (why)
		return;
	check(range.bits <= 128);
	if (!range.local)
		memcpy(first.bytes, range.bytes, ADDRESS_BYTES);
	check(address_list_has(&(struct address_list){ &range, 1 }, &first) || (range.bits < 96 && address_is_v4(&first)));
}

static void fields(const char *bytes, size_t len, bool all)
{
	static const struct http_limits limits = { .head_bytes = BYTES_MAX, .target_bytes = 1024 };
	struct address_range everyone[2];
	struct address_list trusted = { everyone, all ? 2 : 1 };
	struct http_head head;

	check(!address_range_parse("10.0.0.0/8", &everyone[0]) && !address_range_parse("::/0", &everyone[1]));
	if (http1_parse(bytes, len, &limits, &head).status)
		return;
	for (int by = FORWARDED_BY_X; by <= FORWARDED_BY_RFC; by++) {
		struct forwarded f = { .tls = false };

		check(address_parse("10.0.0.1", 8, &f.client));
		forwarded_read(&head, (enum forwarded_by)by, &trusted, &f);
		check(f.client.known);
		check_text(&f.client);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *bytes;

	if (size < 2 || size > BYTES_MAX)
		return 0;
	/* A copy of its own size, and a terminated one for texts: the sanitizer sees a byte read too far. */
	bytes = malloc(size);
	memcpy(bytes, data + 1, size - 1);
	bytes[size - 1] = '\0';
	switch (data[0] % 4) {
	case 0: {
		uint8_t *exact = malloc(size - 1);

		memcpy(exact, data + 1, size - 1);
		headers(exact, size - 1);
		free(exact);
		break;
	}
	case 1: ranges(bytes); break;
	case 2: fields(bytes, size - 1, false); break;
	case 3: fields(bytes, size - 1, true); break;
	}
	free(bytes);
	return 0;
}
