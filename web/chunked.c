#include "web/chunked.h"

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_name_char(uint8_t c)
{
	return c > ' ' && c < 0x7f && c != ':';
}

static bool is_text(uint8_t c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

static enum chunked_state size_byte(struct chunked *c, uint8_t byte)
{
	int value = hex_value(byte);

	if (value >= 0) {
		/* 15 digits are an exabyte: more is an overflow sought. */
		if (++c->digits > 15)
			return CHUNKED_BAD;
		c->left = c->left * 16 + (unsigned)value;
		return CHUNKED_SIZE;
	}
	if (!c->digits)
		return CHUNKED_BAD;
	if (byte == ';')
		return CHUNKED_EXTENSION;
	return byte == '\r' ? CHUNKED_SIZE_LF : CHUNKED_BAD;
}

/* Bytes that are looked at and forgotten. */
static enum chunked_state dropped_byte(struct chunked *c, uint8_t byte, enum chunked_state at_cr)
{
	if (byte == '\r')
		return at_cr;
	if (!is_text(byte) || ++c->dropped > CHUNKED_DROP_LIMIT)
		return CHUNKED_BAD;
	return c->state;
}

static enum chunked_state size_line_over(struct chunked *c, uint8_t byte)
{
	if (byte != '\n')
		return CHUNKED_BAD;
	c->digits = 0;
	return c->left ? CHUNKED_DATA : CHUNKED_TRAILER;
}

static enum chunked_state trailer_name_byte(struct chunked *c, uint8_t byte)
{
	if (byte == ':')
		return c->state == CHUNKED_TRAILER_NAME ? CHUNKED_TRAILER_VALUE : CHUNKED_BAD;
	if (c->state == CHUNKED_TRAILER && byte == '\r')
		return CHUNKED_LAST_LF;
	if (!is_name_char(byte) || ++c->dropped > CHUNKED_DROP_LIMIT)
		return CHUNKED_BAD;
	return CHUNKED_TRAILER_NAME;
}

static enum chunked_state next_state(struct chunked *c, uint8_t byte)
{
	switch (c->state) {
	case CHUNKED_SIZE:
		return size_byte(c, byte);
	case CHUNKED_EXTENSION:
		return dropped_byte(c, byte, CHUNKED_SIZE_LF);
	case CHUNKED_SIZE_LF:
		return size_line_over(c, byte);
	case CHUNKED_DATA_CR:
		return byte == '\r' ? CHUNKED_DATA_LF : CHUNKED_BAD;
	case CHUNKED_DATA_LF:
		return byte == '\n' ? CHUNKED_SIZE : CHUNKED_BAD;
	case CHUNKED_TRAILER:
	case CHUNKED_TRAILER_NAME:
		return trailer_name_byte(c, byte);
	case CHUNKED_TRAILER_VALUE:
		return dropped_byte(c, byte, CHUNKED_TRAILER_LF);
	case CHUNKED_TRAILER_LF:
		return byte == '\n' ? CHUNKED_TRAILER : CHUNKED_BAD;
	case CHUNKED_LAST_LF:
		return byte == '\n' ? CHUNKED_END : CHUNKED_BAD;
	case CHUNKED_DATA:
	case CHUNKED_END:
	case CHUNKED_BAD:
		break;
	}
	return c->state;
}

static size_t take_data(struct chunked *c, const uint8_t *bytes, size_t len, struct chunked_piece *piece)
{
	size_t take = c->left < len ? (size_t)c->left : len;

	*piece = (struct chunked_piece){ bytes, take };
	c->left -= take;
	if (!c->left)
		c->state = CHUNKED_DATA_CR;
	return take;
}

size_t chunked_take(struct chunked *chunked, const uint8_t *bytes, size_t len, struct chunked_piece *piece)
{
	size_t used = 0;

	*piece = (struct chunked_piece){ 0 };
	while (used < len && chunked->state < CHUNKED_END) {
		if (chunked->state == CHUNKED_DATA)
			return used + take_data(chunked, bytes + used, len - used, piece);
		chunked->state = next_state(chunked, bytes[used++]);
	}
	return used;
}
