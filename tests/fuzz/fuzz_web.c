/*
 * The parsers of the web room. The first byte of an input chooses one, the second how large the pieces are. What is promised in the
 * headers is asserted: a parser's answer does not depend on the pieces, what it points at lies within the bytes, a path stays below its root.
 */
#include <stdlib.h>
#include <string.h>

#include "web/chunked.h"
#include "base/fastcgi.h"
#include "web/http1.h"
#include "web/http2_head.h"
#include "web/http_answer.h"
#include "web/path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES_MAX = 16384 };

static void check(bool fine)
{
	if (!fine)
		abort();
}

static bool lies_within(struct http_text text, const char *bytes, size_t len)
{
	return !text.len || (text.at >= bytes && text.at + text.len <= bytes + len) || http_text_is(text, "/");
}

static void heads(const char *bytes, size_t len, size_t step)
{
	static const struct http_limits limits = { .head_bytes = 8192, .target_bytes = 1024 };
	size_t seen = 0, whole = 0, have = 0;
	enum http_scan at_once = http1_scan(bytes, len, &whole, &limits), scan = HTTP_SCAN_MORE;
	struct http_head head;

	while (have < len && scan == HTTP_SCAN_MORE) {
		have = have + step < len ? have + step : len;
		scan = http1_scan(bytes, have, &seen, &limits);
	}
	if (at_once == HTTP_SCAN_WHOLE)
		check(scan == HTTP_SCAN_WHOLE && seen == whole);
	if (scan != HTTP_SCAN_WHOLE || http1_parse(bytes, seen, &limits, &head).status)
		return;
	check(lies_within(head.path, bytes, seen) && lies_within(head.host, bytes, seen) && lies_within(head.query, bytes, seen));
	check(head.minor == 0 || head.host.len);
	for (size_t i = 0; i < head.field_count; i++) {
		check(lies_within(head.fields[i].name, bytes, seen) && lies_within(head.fields[i].value, bytes, seen));
		check(!head.fields[i].value.len || !memchr(head.fields[i].value.at, '\n', head.fields[i].value.len));
	}
}

/* Fields as HTTP/2 brings them, each behind two bytes of lengths. None of them can end the head it is put into, or add another field. */
static void fields(const uint8_t *bytes, size_t len, bool ended)
{
	static const struct http_limits limits = { .head_bytes = 8192, .target_bytes = 1024 };
	struct http2_head fields = { 0 };
	struct http_head head;
	size_t size, seen = 0;
	char *text;

	while (len >= 2 && len - 2 >= (size_t)bytes[0] + bytes[1]) {
		const char *name = (const char *)bytes + 2;
		size_t used = 2 + (size_t)bytes[0] + bytes[1];

		http2_head_add(&fields, (struct http_text){ name, bytes[0] }, (struct http_text){ name + bytes[0], bytes[1] }, &limits);
		bytes += used;
		len -= used;
	}
	size = http2_head_finish(&fields);
	check(!size == !!fields.verdict.status);
	text = malloc(size + 1);
	if (size) {
		http2_head_write(&fields, text);
		check(http1_scan(text, size, &seen, &(struct http_limits){ size, size }) == HTTP_SCAN_WHOLE && seen == size);
		if (!http2_parse(text, size, &limits, ended, &head).status) {
			check(head.major == 2 && head.field_count <= (size_t)fields.count + 1);
			check(head.target.len == fields.path.len && lies_within(head.path, text, size));
			check(ended ? !head.expects_continue : head.framing != HTTP_NO_BODY);
		}
	}
	free(text);
	http2_head_fini(&fields);
}

static void answers(const char *bytes, size_t len, bool to_head)
{
	struct http_answer answer;

	if (http_answer_parse(bytes, len, to_head, &answer))
		return;
	check(answer.status >= 100 && answer.status <= 599);
	check(answer.framing != HTTP_ANSWER_LENGTH || answer.length != UINT64_MAX);
	check(!to_head || answer.framing == HTTP_ANSWER_EMPTY);
	for (size_t i = 0; i < answer.field_count; i++) {
		check(lies_within(answer.fields[i].name, bytes, len) && lies_within(answer.fields[i].value, bytes, len));
		check(!http_text_is(answer.fields[i].name, "Connection") && !http_text_is(answer.fields[i].name, "Content-Length"));
		check(!answer.fields[i].value.len || !memchr(answer.fields[i].value.at, '\n', answer.fields[i].value.len));
	}
}

static size_t unchunk(const uint8_t *bytes, size_t len, size_t step, uint8_t *out, struct chunked *c)
{
	size_t at = 0, n = 0;

	while (at < len && c->state < CHUNKED_END) {
		struct chunked_piece piece;

		at += chunked_take(c, bytes + at, step < len - at ? step : len - at, &piece);
		if (piece.len)
			memcpy(out + n, piece.data, piece.len);
		n += piece.len;
	}
	return n;
}

static void chunks(const uint8_t *bytes, size_t len, size_t step)
{
	static uint8_t a[BYTES_MAX], b[BYTES_MAX];
	struct chunked whole = { 0 }, cut = { 0 };
	size_t n = unchunk(bytes, len, len ? len : 1, a, &whole);

	check(unchunk(bytes, len, step, b, &cut) == n && !memcmp(a, b, n) && whole.state == cut.state);
}

static void records(const uint8_t *bytes, size_t len, size_t step)
{
	struct fcgi_reader reader = { 0 };
	size_t at = 0;

	while (at < len) {
		const uint8_t *piece = NULL;
		size_t used, piece_len = 0;
		enum fcgi_step what = fcgi_read(&reader, bytes + at, step < len - at ? step : len - at, &used, &piece, &piece_len);

		if (what == FCGI_BAD)
			return;
		check(used || what == FCGI_DONE);
		check(what != FCGI_CONTENT || (piece >= bytes && piece + piece_len <= bytes + len));
		at += used;
	}
}

static void pairs(const uint8_t *bytes, size_t len)
{
	struct fcgi_pair pair;
	size_t used;

	while (fcgi_take_pair(bytes, len, BYTES_MAX, &used, &pair) == FCGI_PAIR) {
		check(used <= len && (const uint8_t *)pair.value + pair.value_len == bytes + used);
		bytes += used;
		len -= used;
	}
}

static void paths(const char *bytes, size_t len)
{
	static char out[BYTES_MAX + 1];
	size_t n = path_normalise(bytes, len, out);

	if (!n)
		return;
	check(out[0] == '/' && n <= len && strlen(out) == n);
	check(!strstr(out, "//") && !strstr(out, "/../") && !strstr(out, "/./"));
	check(n < 3 || strcmp(out + n - 3, "/.."));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes;

	if (size < 2 || size > BYTES_MAX)
		return 0;
	/* A copy of its own size: the sanitizer sees a byte read too far. */
	bytes = malloc(size > 2 ? size - 2 : 1);
	memcpy(bytes, data + 2, size - 2);
	if (data[0] >= 128) {
		fields(bytes, size - 2, data[1] & 1);
		free(bytes);
		return 0;
	}
	switch (data[0] % 6) {
	case 0: heads((const char *)bytes, size - 2, data[1] % 64 + 1); break;
	case 1: chunks(bytes, size - 2, data[1] % 64 + 1); break;
	case 2: records(bytes, size - 2, data[1] % 64 + 1); break;
	case 3: pairs(bytes, size - 2); break;
	case 4: paths((const char *)bytes, size - 2); break;
	case 5: answers((const char *)bytes, size - 2, data[1] & 1); break;
	}
	free(bytes);
	return 0;
}
