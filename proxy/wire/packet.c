#include "proxy/wire/packet.h"

#include <string.h>

#include "proxy/wire/protocol.h"

static uint64_t get_little(struct wire_reader *r, size_t width)
{
	const uint8_t *p = wire_take(r, width);
	uint64_t v = 0;

	if (!p)
		return 0;
	for (size_t i = 0; i < width; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint32_t wire_get_u24(struct wire_reader *r)
{
	return (uint32_t)get_little(r, 3);
}

uint32_t wire_get_u32(struct wire_reader *r)
{
	return (uint32_t)get_little(r, 4);
}

uint64_t wire_get_u64(struct wire_reader *r)
{
	return get_little(r, 8);
}

uint64_t wire_get_long_lenenc(struct wire_reader *r)
{
	uint8_t first = wire_get_u8(r);

	switch (first) {
	case 0xfc:
		return wire_get_u16(r);
	case 0xfd:
		return wire_get_u24(r);
	case 0xfe:
		return wire_get_u64(r);
	case 0xfb:
	case 0xff:
		r->bad = true;
		r->at = r->end;
		return 0;
	default:
		return first;
	}
}

struct wire_bytes wire_get_bytes(struct wire_reader *r, size_t len)
{
	const uint8_t *p = wire_take(r, len);

	return (struct wire_bytes){ .data = p, .len = p ? len : 0 };
}

struct wire_bytes wire_get_lenenc_bytes(struct wire_reader *r)
{
	uint64_t len = wire_get_lenenc(r);

	/* A length beyond size_t would be cut by the call below; it is beyond the packet in any case. */
	if (len > wire_left(r))
		len = wire_left(r) + 1;
	return wire_get_bytes(r, (size_t)len);
}

struct wire_bytes wire_get_cstring(struct wire_reader *r)
{
	size_t left = wire_left(r);
	const uint8_t *nul = left ? memchr(r->at, 0, left) : NULL;
	struct wire_bytes s;

	if (!nul) {
		r->bad = true;
		r->at = r->end;
		return (struct wire_bytes){ 0 };
	}
	s = wire_get_bytes(r, (size_t)(nul - r->at));
	wire_take(r, 1);
	return s;
}

struct wire_bytes wire_get_rest(struct wire_reader *r)
{
	return wire_get_bytes(r, wire_left(r));
}

void wire_end(struct wire_writer *w, uint8_t seq)
{
	size_t payload;

	if (w->full)
		return;
	payload = w->len - w->packet - WIRE_HEADER_BYTES;
	if (payload >= WIRE_MAX_PAYLOAD) {
		w->full = true;
		return;
	}
	wire_put_header(w->data + w->packet, (uint32_t)payload, seq);
}

static void put_little(struct wire_writer *w, uint64_t v, size_t width)
{
	uint8_t *p = wire_room(w, width);

	if (!p)
		return;
	for (size_t i = 0; i < width; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

void wire_put_u24(struct wire_writer *w, uint32_t v)
{
	put_little(w, v, 3);
}

void wire_put_u32(struct wire_writer *w, uint32_t v)
{
	put_little(w, v, 4);
}

void wire_put_u64(struct wire_writer *w, uint64_t v)
{
	put_little(w, v, 8);
}

void wire_put_long_lenenc(struct wire_writer *w, uint64_t v)
{
	if (v <= 0xffff) {
		wire_put_u8(w, 0xfc);
		wire_put_u16(w, (uint16_t)v);
	} else if (v <= 0xffffff) {
		wire_put_u8(w, 0xfd);
		wire_put_u24(w, (uint32_t)v);
	} else {
		wire_put_u8(w, 0xfe);
		wire_put_u64(w, v);
	}
}

void wire_put_bytes(struct wire_writer *w, const void *bytes, size_t len)
{
	uint8_t *p = wire_room(w, len);

	if (p && len)
		memcpy(p, bytes, len);
}

void wire_put_lenenc_bytes(struct wire_writer *w, const void *bytes, size_t len)
{
	wire_put_lenenc(w, len);
	wire_put_bytes(w, bytes, len);
}

void wire_put_cstring(struct wire_writer *w, const char *s)
{
	wire_put_bytes(w, s, strlen(s) + 1);
}

void wire_put_zeros(struct wire_writer *w, size_t count)
{
	uint8_t *p = wire_room(w, count);

	if (p && count)
		memset(p, 0, count);
}
