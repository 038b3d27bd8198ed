#include "base/fastcgi.h"

#include <string.h>

enum { PROTOCOL_VERSION = 1, KEEP_CONNECTION = 1, LONG_LENGTH = 0x80 };

static uint16_t get_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_u16(uint8_t *p, size_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put_u32(uint8_t *p, size_t value)
{
	put_u16(p, value >> 16);
	put_u16(p + 2, value);
}

/* ---- Writing ---- */

void fcgi_put_header(uint8_t out[FCGI_HEADER_BYTES], enum fcgi_type type, uint16_t id, size_t content)
{
	out[0] = PROTOCOL_VERSION;
	out[1] = (uint8_t)type;
	put_u16(out + 2, id);
	put_u16(out + 4, content);
	out[6] = 0;
	out[7] = 0;
}

void fcgi_put_begin(uint8_t out[FCGI_BEGIN_BYTES], uint16_t id, enum fcgi_role role, bool keep_connection)
{
	fcgi_put_header(out, FCGI_BEGIN_REQUEST, id, 8);
	memset(out + FCGI_HEADER_BYTES, 0, 8);
	put_u16(out + FCGI_HEADER_BYTES, role);
	out[FCGI_HEADER_BYTES + 2] = keep_connection ? KEEP_CONNECTION : 0;
}

void fcgi_put_end(uint8_t out[FCGI_END_BYTES], uint16_t id, uint32_t app_status, enum fcgi_end end)
{
	fcgi_put_header(out, FCGI_END_REQUEST, id, 8);
	memset(out + FCGI_HEADER_BYTES, 0, 8);
	put_u32(out + FCGI_HEADER_BYTES, app_status);
	out[FCGI_HEADER_BYTES + 4] = (uint8_t)end;
}

static size_t length_bytes(size_t len)
{
	return len < LONG_LENGTH ? 1 : 4;
}

size_t fcgi_pair_bytes(size_t name_len, size_t value_len)
{
	return length_bytes(name_len) + length_bytes(value_len) + name_len + value_len;
}

static uint8_t *put_length(uint8_t *p, size_t len)
{
	if (len < LONG_LENGTH) {
		*p = (uint8_t)len;
		return p + 1;
	}
	put_u32(p, len | (size_t)LONG_LENGTH << 24);
	return p + 4;
}

size_t fcgi_put_pair(uint8_t *out, const char *name, size_t name_len, const char *value, size_t value_len)
{
	uint8_t *p = put_length(put_length(out, name_len), value_len);

	memcpy(p, name, name_len);
	if (value_len)
		memcpy(p + name_len, value, value_len);
	return (size_t)(p - out) + name_len + value_len;
}

/* ---- Reading ---- */

static enum fcgi_step take_header(struct fcgi_reader *r, const uint8_t *bytes, size_t len, size_t *used)
{
	size_t take = (size_t)FCGI_HEADER_BYTES - r->have;

	if (take > len)
		take = len;
	memcpy(r->header + r->have, bytes, take);
	r->have = (uint8_t)(r->have + take);
	*used = take;
	if (r->have && r->header[0] != PROTOCOL_VERSION)
		return FCGI_BAD;
	if (r->have < FCGI_HEADER_BYTES)
		return FCGI_MORE;
	r->record = (struct fcgi_record){
		.type = r->header[1],
		.id = get_u16(r->header + 2),
		.content_len = get_u16(r->header + 4),
		.padding_len = r->header[6],
	};
	r->left = r->record.content_len;
	r->padding = r->record.padding_len;
	r->inside = true;
	return FCGI_RECORD;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

enum fcgi_step fcgi_read(struct fcgi_reader *reader, const uint8_t *bytes, size_t len, size_t *used, const uint8_t **piece,
			 size_t *piece_len)
{
	*used = 0;
	if (!reader->inside)
		return take_header(reader, bytes, len, used);
	if (reader->left) {
		if (!len)
			return FCGI_MORE;
		*piece = bytes;
		*piece_len = *used = smaller(reader->left, len);
		reader->left = (uint16_t)(reader->left - *used);
		return FCGI_CONTENT;
	}
	*used = smaller(reader->padding, len);
	reader->padding = (uint8_t)(reader->padding - *used);
	if (reader->padding)
		return FCGI_MORE;
	reader->inside = false;
	reader->have = 0;
	return FCGI_DONE;
}

bool fcgi_parse_end(const uint8_t *content, size_t len, uint32_t *app_status, uint8_t *end)
{
	if (len < 8)
		return false;
	*app_status = get_u32(content);
	*end = content[4];
	return true;
}

bool fcgi_parse_begin(const uint8_t *content, size_t len, uint16_t *role, bool *keep_connection)
{
	if (len < 8)
		return false;
	*role = get_u16(content);
	*keep_connection = (content[2] & KEEP_CONNECTION) != 0;
	return true;
}

/* False: not all of the length is there. */
static bool take_length(const uint8_t *bytes, size_t len, size_t *at, size_t *out)
{
	if (*at >= len)
		return false;
	if (bytes[*at] < LONG_LENGTH) {
		*out = bytes[(*at)++];
		return true;
	}
	if (len - *at < 4)
		return false;
	*out = get_u32(bytes + *at) & 0x7fffffff;
	*at += 4;
	return true;
}

enum fcgi_pair_result fcgi_take_pair(const uint8_t *bytes, size_t len, size_t limit, size_t *used, struct fcgi_pair *out)
{
	size_t at = 0, name_len, value_len;

	if (!take_length(bytes, len, &at, &name_len) || !take_length(bytes, len, &at, &value_len))
		return FCGI_PAIR_MORE;
	if (at + name_len + value_len > limit)
		return FCGI_PAIR_BAD;
	if (len - at < name_len + value_len)
		return FCGI_PAIR_MORE;
	*out = (struct fcgi_pair){
		.name = (const char *)bytes + at,
		.name_len = name_len,
		.value = (const char *)bytes + at + name_len,
		.value_len = value_len,
	};
	*used = at + name_len + value_len;
	return FCGI_PAIR;
}
