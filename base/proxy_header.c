#include "base/proxy_header.h"

#include <string.h>

enum {
	V1_MAX = 107,
	V2_FIXED = 16, /* signature, version and command, family, length */
	TLV_HEADER = 3,
	TLV_SSL = 0x20,
	SSL_CLIENT = 0x01, /* of the flags that TLV_SSL begins with */
};

static const uint8_t v2_signature[12] = { '\r', '\n', '\r', '\n', '\0', '\r', '\n', 'Q', 'U', 'I', 'T', '\n' };

static enum proxy_header_step bad(struct proxy_header *out, const char *why)
{
	out->from = (struct address){ 0 };
	out->why = why;
	return PROXY_HEADER_BAD;
}

/* ---- Version 1: "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n" ---- */

struct words {
	const char *at;
	size_t left;
};

/* The next word; words are parted by one space. Empty: there is none. */
static struct words next_word(struct words *line)
{
	const char *space = memchr(line->at, ' ', line->left);
	struct words word = { line->at, space ? (size_t)(space - line->at) : line->left };
	size_t used = word.left + (space != NULL);

	line->at += used;
	line->left -= used;
	return word;
}

static bool word_is(struct words word, const char *text)
{
	return word.left == strlen(text) && !memcmp(word.at, text, word.left);
}

static bool read_port(struct words word, uint16_t *out)
{
	unsigned value = 0;

	if (!word.left || word.left > 5 || (word.left > 1 && word.at[0] == '0'))
		return false;
	for (size_t i = 0; i < word.left; i++) {
		if (word.at[i] < '0' || word.at[i] > '9')
			return false;
		value = value * 10 + (unsigned)(word.at[i] - '0');
	}
	*out = (uint16_t)value;
	return value <= 65535;
}

static bool read_address(struct words word, bool v4, struct address *out)
{
	/* The family is told by the spelling: an IPv4 address has no colon, an IPv6 one always. */
	return !memchr(word.at, ':', word.left) == v4 && address_parse(word.at, word.left, out);
}

static enum proxy_header_step read_v1_line(struct words line, struct proxy_header *out)
{
	struct words family = next_word(&line);
	bool v4 = word_is(family, "TCP4");
	struct address to;
	uint16_t port;

	if (word_is(family, "UNKNOWN"))
		return PROXY_HEADER_WHOLE; /* whatever follows is to be ignored */
	if (!v4 && !word_is(family, "TCP6"))
		return bad(out, "its PROXY header names a protocol that is neither TCP4, TCP6 nor UNKNOWN");
	if (!read_address(next_word(&line), v4, &out->from) || !read_address(next_word(&line), v4, &to))
		return bad(out, "its PROXY header has a malformed address");
	if (!read_port(next_word(&line), &out->port) || !read_port(next_word(&line), &port) || line.left || line.at[-1] == ' ')
		return bad(out, "its PROXY header has a malformed port");
	return PROXY_HEADER_WHOLE;
}

static enum proxy_header_step read_v1(const char *bytes, size_t len, struct proxy_header *out)
{
	static const char start[] = "PROXY ";
	size_t known = len < sizeof(start) - 1 ? len : sizeof(start) - 1;
	const char *end;

	if (memcmp(bytes, start, known) != 0)
		return bad(out, "it sent no PROXY header, and its address is one of proxy_protocol_from");
	end = memchr(bytes, '\n', len < V1_MAX ? len : V1_MAX);
	if (!end)
		return len < V1_MAX ? PROXY_HEADER_MORE : bad(out, "its PROXY header has no end");
	if (end[-1] != '\r')
		return bad(out, "its PROXY header ends without CR");
	out->len = (size_t)(end + 1 - bytes);
	return read_v1_line((struct words){ bytes + known, out->len - known - 2 }, out);
}

/* ---- Version 2 ---- */

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

/* What else the balancer tells; of interest is whether the client came by TLS. */
static bool read_tlvs(const uint8_t *at, size_t len, struct proxy_header *out)
{
	while (len) {
		size_t value;

		if (len < TLV_HEADER)
			return false;
		value = get16(at + 1);
		if (value > len - TLV_HEADER)
			return false;
		if (at[0] == TLV_SSL && value)
			out->tls = at[TLV_HEADER] & SSL_CLIENT;
		at += TLV_HEADER + value;
		len -= TLV_HEADER + value;
	}
	return true;
}

static const struct family {
	uint8_t byte; /* address family and transport */
	uint8_t address_len; /* of one address; 0: there is none that is of use */
	uint8_t block_len; /* both addresses and ports */
} families[] = {
	{ 0x00, 0, 0 }, /* not told: whatever stands there is skipped */
	{ 0x11, 4, 12 }, { 0x12, 0, 12 }, { 0x21, 16, 36 }, { 0x22, 0, 36 }, { 0x31, 0, 216 }, { 0x32, 0, 216 },
};

static const struct family *find_family(uint8_t byte)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (families[i].byte == byte)
			return &families[i];
	return NULL;
}

static void take_address(const uint8_t *block, const struct family *family, struct proxy_header *out)
{
	static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	size_t prefix = ADDRESS_BYTES - family->address_len;

	out->from.known = true;
	memcpy(out->from.bytes, v4_prefix, prefix);
	memcpy(out->from.bytes + prefix, block, family->address_len);
	out->port = (uint16_t)get16(block + 2 * (size_t)family->address_len);
}

static enum proxy_header_step read_v2_block(const uint8_t *bytes, struct proxy_header *out)
{
	const struct family *family = find_family(bytes[13]);
	const uint8_t *block = bytes + V2_FIXED;
	size_t len = out->len - V2_FIXED;

	if (bytes[12] == 0x20)
		return PROXY_HEADER_WHOLE; /* LOCAL: the balancer's own connection, such as a health check */
	if (bytes[12] != 0x21)
		return bad(out, "its PROXY header has an unknown version or command");
	if (!family)
		return bad(out, "its PROXY header has an unknown address family");
	if (len < family->block_len)
		return bad(out, "its PROXY header is too short for its addresses");
	if (!family->byte)
		return PROXY_HEADER_WHOLE;
	if (family->address_len)
		take_address(block, family, out);
	if (!read_tlvs(block + family->block_len, len - family->block_len, out))
		return bad(out, "its PROXY header has malformed additions");
	return PROXY_HEADER_WHOLE;
}

static enum proxy_header_step read_v2(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
	if (len < V2_FIXED)
		return PROXY_HEADER_MORE;
	out->len = V2_FIXED + get16(bytes + 14);
	if (out->len > PROXY_HEADER_MAX)
		return bad(out, "its PROXY header is longer than 4096 bytes");
	return len < out->len ? PROXY_HEADER_MORE : read_v2_block(bytes, out);
}

enum proxy_header_step proxy_header_read(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
	size_t known = len < sizeof(v2_signature) ? len : sizeof(v2_signature);

	*out = (struct proxy_header){ 0 };
	if (!len)
		return PROXY_HEADER_MORE;
	if (!memcmp(bytes, v2_signature, known))
		return read_v2(bytes, len, out);
	return read_v1((const char *)bytes, len, out);
}
