#include "base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static void set_v4(struct address *out, const void *four)
{
	out->known = true;
	memcpy(out->bytes, v4_prefix, sizeof(v4_prefix));
	memcpy(out->bytes + sizeof(v4_prefix), four, 4);
}

static void set_v6(struct address *out, const void *sixteen)
{
	out->known = true;
	memcpy(out->bytes, sixteen, ADDRESS_BYTES);
}

/* ---- One address ---- */

bool address_parse(const char *text, size_t len, struct address *out)
{
	char copy[INET6_ADDRSTRLEN];
	uint8_t bytes[ADDRESS_BYTES];

	*out = (struct address){ 0 };
	if (len >= sizeof(copy) || memchr(text, '\0', len))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (inet_pton(AF_INET, copy, bytes) == 1)
		set_v4(out, bytes);
	else if (inet_pton(AF_INET6, copy, bytes) == 1)
		set_v6(out, bytes);
	return out->known;
}

/* ":" and one to five digits, or nothing. Proxies also write names such as "_x" for a port. */
static bool is_port(const char *text, size_t len)
{
	if (!len)
		return true;
	if (text[0] != ':' || len < 2 || len > 6)
		return false;
	for (size_t i = 1; i < len; i++)
		if (text[i] < '0' || text[i] > '9')
			return false;
	return true;
}

bool address_parse_node(const char *text, size_t len, struct address *out)
{
	const char *end;
	size_t host;

	*out = (struct address){ 0 };
	if (len && text[0] == '[') {
		end = memchr(text, ']', len);
		if (!end || !is_port(end + 1, len - (size_t)(end + 1 - text)))
			return false;
		return memchr(text, ':', (size_t)(end - text)) && address_parse(text + 1, (size_t)(end - text) - 1, out);
	}
	end = memchr(text, ':', len);
	host = end ? (size_t)(end - text) : len;
	if (end && memchr(text, '.', host) && is_port(end, len - host))
		return address_parse(text, host, out);
	return address_parse(text, len, out);
}

void address_of_peer(const struct sockaddr_storage *peer, struct address *out)
{
	*out = (struct address){ 0 };
	if (peer->ss_family == AF_INET)
		set_v4(out, &((const struct sockaddr_in *)peer)->sin_addr);
	else if (peer->ss_family == AF_INET6)
		set_v6(out, &((const struct sockaddr_in6 *)peer)->sin6_addr);
}

bool address_is_v4(const struct address *address)
{
	return address->known && !memcmp(address->bytes, v4_prefix, sizeof(v4_prefix));
}

bool address_equal(const struct address *a, const struct address *b)
{
	return a->known == b->known && !memcmp(a->bytes, b->bytes, ADDRESS_BYTES);
}

void address_put(const struct address *address, char out[ADDRESS_TEXT_BYTES])
{
	if (!address->known)
		snprintf(out, ADDRESS_TEXT_BYTES, "localhost");
	else if (address_is_v4(address))
		inet_ntop(AF_INET, address->bytes + sizeof(v4_prefix), out, ADDRESS_TEXT_BYTES);
	else
		inet_ntop(AF_INET6, address->bytes, out, ADDRESS_TEXT_BYTES);
}

/* ---- Ranges ---- */

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned rest = bits % 8;
	uint8_t mask = (uint8_t)(0xff << (8 - rest));

	return !memcmp(a, b, bits / 8) && (!rest || !((a[bits / 8] ^ b[bits / 8]) & mask));
}

static bool has_more_bits(const struct address_range *range)
{
	uint8_t kept[ADDRESS_BYTES] = { 0 };
	unsigned bits = range->bits, rest = bits % 8;

	memcpy(kept, range->bytes, bits / 8);
	if (rest)
		kept[bits / 8] = range->bytes[bits / 8] & (uint8_t)(0xff << (8 - rest));
	return memcmp(kept, range->bytes, ADDRESS_BYTES) != 0;
}

/* Digits without a sign, blank or leading zero; -1: none. */
static int read_bits(const char *text)
{
	int value = 0;

	if (!*text || strlen(text) > 3 || (text[0] == '0' && text[1]))
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		value = value * 10 + (*text - '0');
	}
	return value;
}

const char *address_range_parse(const char *text, struct address_range *out)
{
	const char *slash = strchr(text, '/');
	struct address address;
	int bits;

	*out = (struct address_range){ .bits = 128 };
	if (!strcmp(text, "unix")) {
		out->local = true;
		return NULL;
	}
	if (!address_parse(text, slash ? (size_t)(slash - text) : strlen(text), &address))
		return "is no address; write ADDRESS, ADDRESS/BITS or unix, such as 10.0.0.0/8 or 2001:db8::/32";
	memcpy(out->bytes, address.bytes, ADDRESS_BYTES);
	if (!slash)
		return NULL;
	bits = read_bits(slash + 1);
	if (bits < 0 || bits > (address_is_v4(&address) ? 32 : 128))
		return "the number behind the slash is from 0 to 32, in IPv6 to 128";
	out->bits = (uint8_t)(address_is_v4(&address) && memchr(text, '.', (size_t)(slash - text)) ? bits + 96 : bits);
	return has_more_bits(out) ? "has bits beyond the number behind the slash: make these 0, or the number larger" : NULL;
}

static bool holds(const struct address_range *range, const struct address *address)
{
	if (range->local || !address->known)
		return range->local && !address->known;
	/* ::/0 is every IPv6 address: an IPv4 one stands there only in our own form. */
	if (range->bits < 96 && address_is_v4(address))
		return false;
	return same_bits(range->bytes, address->bytes, range->bits);
}

int address_list_match(const struct address_list *list, const struct address *address)
{
	int best = -1;

	for (size_t i = 0; i < list->count; i++)
		if (list->ranges[i].bits > best && holds(&list->ranges[i], address))
			best = list->ranges[i].bits;
	return best;
}
