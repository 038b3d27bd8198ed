/*
 * What browsers send to applications, as far as it is parsed without input or output: multipart forms. The first byte of an input says how large
 * the pieces are; the rest is a Content-Type, a line end and a body. The parts do not depend on the pieces.
 */
#include <stdlib.h>
#include <string.h>

#include "app/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fine)
{
	if (!fine)
		abort();
}

/* All that was told, in order. */
struct story {
	struct buf text;
	bool inside;
};

static void tell(struct story *s, const void *bytes, size_t len)
{
	check(buf_append(&s->text, bytes, len));
}

static bool on_begin(void *owner, const struct multipart_part *part)
{
	struct story *s = owner;

	check(!s->inside && part->name && part->type);
	s->inside = true;
	tell(s, "<", 1);
	tell(s, part->name, strlen(part->name) + 1);
	tell(s, part->type, strlen(part->type) + 1);
	if (part->file_name)
		tell(s, part->file_name, strlen(part->file_name) + 1);
	return true;
}

static bool on_data(void *owner, const void *bytes, size_t len)
{
	struct story *s = owner;

	check(s->inside && len);
	tell(s, bytes, len);
	return true;
}

static bool on_end(void *owner)
{
	struct story *s = owner;

	check(s->inside);
	s->inside = false;
	tell(s, ">", 1);
	return true;
}

static enum multipart_result run(const char *boundary, const uint8_t *body, size_t len, size_t step, struct story *story)
{
	static const struct multipart_handler handler = { on_begin, on_data, on_end };
	enum multipart_result result = MULTIPART_MORE;
	struct multipart m;

	multipart_init(&m, boundary, &handler, story);
	for (size_t at = 0; at < len && result == MULTIPART_MORE; at += step) {
		result = multipart_feed(&m, body + at, len - at < step ? len - at : step);
		/* What waits is bounded, whatever comes. */
		check(buf_len(&m.window) <= MULTIPART_HEAD_MAX + step + MULTIPART_BOUNDARY_MAX);
	}
	multipart_fini(&m);
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *line = size ? memchr(data + 1, '\n', size - 1) : NULL;
	char type[256], boundary[MULTIPART_BOUNDARY_MAX + 1];
	struct story whole = { { 0 }, false }, pieces = { { 0 }, false };
	enum multipart_result a, b;
	size_t len;

	if (!line || (size_t)(line - data) > sizeof(type))
		return 0;
	memcpy(type, data + 1, (size_t)(line - data) - 1);
	type[line - data - 1] = '\0';
	if (!multipart_boundary(type, boundary))
		return 0;
	len = size - (size_t)(line + 1 - data);
	a = run(boundary, line + 1, len, len + 1, &whole);
	b = run(boundary, line + 1, len, (size_t)data[0] % 64 + 1, &pieces);
	check(a == b);
	if (a == MULTIPART_END || a == MULTIPART_BAD) {
		check(buf_len(&whole.text) == buf_len(&pieces.text));
		check(!buf_len(&whole.text) || !memcmp(buf_head(&whole.text), buf_head(&pieces.text), buf_len(&whole.text)));
	}
	buf_fini(&whole.text);
	buf_fini(&pieces.text);
	return 0;
}
