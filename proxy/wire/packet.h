/*
 * Reading and writing the protocol's basic types. A reader and a writer remember their first failure and ignore
 * later calls; the caller checks once.
 */
#ifndef TANDEM_WIRE_PACKET_H
#define TANDEM_WIRE_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/wire/protocol.h"

struct wire_bytes { /* borrowed, not NUL-terminated */
	const uint8_t *data;
	size_t len;
};

struct wire_reader {
	const uint8_t *at;
	const uint8_t *end;
	bool bad; /* read past the end or a malformed length: all later reads give 0 or empty */
};

static inline struct wire_reader wire_reader(const void *bytes, size_t len)
{
	static const uint8_t nothing;
	const uint8_t *start = bytes ? (const uint8_t *)bytes : &nothing;

	return (struct wire_reader){ .at = start, .end = start + (bytes ? len : 0) };
}
static inline size_t wire_left(const struct wire_reader *r)
{
	return (size_t)(r->end - r->at);
}
/* The next `len` bytes, or NULL when they are not there; then the reader is spent. */
static inline const uint8_t *wire_take(struct wire_reader *r, size_t len)
{
	const uint8_t *p = r->at;

	if (r->bad || len > wire_left(r)) {
		r->bad = true;
		r->at = r->end;
		return NULL;
	}
	r->at += len;
	return p;
}
/* The two that every reply needs are read in place; the others are calls. */
static inline uint8_t wire_get_u8(struct wire_reader *r)
{
	const uint8_t *p = wire_take(r, 1);

	return p ? p[0] : 0;
}
static inline uint16_t wire_get_u16(struct wire_reader *r)
{
	const uint8_t *p = wire_take(r, 2);

	return p ? (uint16_t)(p[0] | p[1] << 8) : 0;
}
uint32_t wire_get_u24(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
uint64_t wire_get_u64(struct wire_reader *r);
/* Length-encoded integer. 0xfb (NULL) and 0xff are failures. */
uint64_t wire_get_long_lenenc(struct wire_reader *r);
static inline uint64_t wire_get_lenenc(struct wire_reader *r)
{
	if (!r->bad && wire_left(r) && *r->at < 0xfb) /* nearly always */
		return *r->at++;
	return wire_get_long_lenenc(r);
}
struct wire_bytes wire_get_bytes(struct wire_reader *r, size_t len);
struct wire_bytes wire_get_lenenc_bytes(struct wire_reader *r);
/* Up to a NUL, which is consumed; without one it fails. */
struct wire_bytes wire_get_cstring(struct wire_reader *r);
struct wire_bytes wire_get_rest(struct wire_reader *r);

struct wire_writer {
	uint8_t *data;
	size_t size;
	size_t len;
	size_t packet; /* offset of the header of the packet being written */
	bool full;     /* something did not fit; len no longer grows */
};

static inline struct wire_writer wire_writer(void *memory, size_t size)
{
	return (struct wire_writer){ .data = (uint8_t *)memory, .size = size };
}
/* Room for `len` bytes, or NULL when they do not fit; then the writer takes nothing more. */
static inline uint8_t *wire_room(struct wire_writer *w, size_t len)
{
	uint8_t *p;

	if (w->full || len > w->size - w->len) {
		w->full = true;
		return NULL;
	}
	p = w->data + w->len;
	w->len += len;
	return p;
}
/* wire_begin leaves room for a header; wire_end fills it in. Payloads must stay below WIRE_MAX_PAYLOAD. */
static inline void wire_begin(struct wire_writer *w)
{
	w->packet = w->len;
	wire_room(w, WIRE_HEADER_BYTES);
}
void wire_end(struct wire_writer *w, uint8_t seq);
static inline void wire_put_u8(struct wire_writer *w, uint8_t v)
{
	uint8_t *p = wire_room(w, 1);

	if (p)
		p[0] = v;
}
static inline void wire_put_u16(struct wire_writer *w, uint16_t v)
{
	uint8_t *p = wire_room(w, 2);

	if (p) {
		p[0] = (uint8_t)v;
		p[1] = (uint8_t)(v >> 8);
	}
}
void wire_put_u24(struct wire_writer *w, uint32_t v);
void wire_put_u32(struct wire_writer *w, uint32_t v);
void wire_put_u64(struct wire_writer *w, uint64_t v);
void wire_put_long_lenenc(struct wire_writer *w, uint64_t v);
static inline void wire_put_lenenc(struct wire_writer *w, uint64_t v)
{
	if (v < 0xfb)
		wire_put_u8(w, (uint8_t)v);
	else
		wire_put_long_lenenc(w, v);
}
void wire_put_bytes(struct wire_writer *w, const void *bytes, size_t len);
void wire_put_lenenc_bytes(struct wire_writer *w, const void *bytes, size_t len);
void wire_put_cstring(struct wire_writer *w, const char *s);
void wire_put_zeros(struct wire_writer *w, size_t count);

/* Packet headers. */
static inline uint32_t wire_header_len(const uint8_t *header)
{
	return (uint32_t)header[0] | (uint32_t)header[1] << 8 | (uint32_t)header[2] << 16;
}
static inline void wire_put_header(uint8_t *header, uint32_t len, uint8_t seq)
{
	header[0] = (uint8_t)len;
	header[1] = (uint8_t)(len >> 8);
	header[2] = (uint8_t)(len >> 16);
	header[3] = seq;
}

#endif
