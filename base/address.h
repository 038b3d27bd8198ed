/*
 * Addresses of peers and ranges of them ("10.0.0.0/8", "2001:db8::/32"): parsing, comparing, lists. IPv4 and IPv6 share one form. Pure: no
 * sockets, no allocation.
 */
#ifndef TANDEM_BASE_ADDRESS_H
#define TANDEM_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { ADDRESS_BYTES = 16, ADDRESS_TEXT_BYTES = 48 };

/* IPv4 as ::ffff:a.b.c.d. All zero: no address, as the peer at a Unix socket has none. */
struct address {
	bool known;
	uint8_t bytes[ADDRESS_BYTES];
};

struct address_range {
	uint8_t bits; /* of `bytes` that count, as in IPv6: an IPv4 range has 96 more than written */
	bool local;   /* the word "unix": peers without an address; `bytes` and `bits` mean nothing */
	uint8_t bytes[ADDRESS_BYTES];
};

/* A setting's ranges; the array is owned by whoever owns the list. All zero: empty. */
struct address_list {
	struct address_range *ranges;
	size_t count;
};

/* "10.0.0.7" or "2001:db8::1" and nothing else: no port, brackets, zone, octal or short forms. */
bool address_parse(const char *text, size_t len, struct address *out) __attribute__((warn_unused_result));
/* The same, and with a port, which is dropped: "10.0.0.7:80", "[2001:db8::1]:80", "[2001:db8::1]". */
bool address_parse_node(const char *text, size_t len, struct address *out) __attribute__((warn_unused_result));
/* Of a socket's peer; unknown for a Unix socket. */
void address_of_peer(const struct sockaddr_storage *peer, struct address *out);
bool address_is_v4(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);
/* As people write it; "localhost" when there is none. */
void address_put(const struct address *address, char out[ADDRESS_TEXT_BYTES]);

/* A single address, ADDRESS/BITS, or "unix". NULL, or why it is none: words that follow "TEXT: ". */
const char *address_range_parse(const char *text, struct address_range *out);
/* The bits of the narrowest range that holds the address; -1: none does. */
int address_list_match(const struct address_list *list, const struct address *address);
static inline bool address_list_has(const struct address_list *list, const struct address *address)
{
	return list->count && address_list_match(list, address) >= 0;
}

#endif
