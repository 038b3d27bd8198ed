/*
 * The header that a load balancer puts in front of a connection to tell whose it is: the PROXY protocol, versions 1 and 2, as HAProxy's
 * specification (proxy-protocol.txt) says. Pure: bytes in, meaning out.
 *
 * By that specification a receiver knows in advance which peers send it, and never guesses: from these it must come, from others it is
 * part of the protocol behind it, where it makes no sense.
 */
#ifndef TANDEM_BASE_PROXY_HEADER_H
#define TANDEM_BASE_PROXY_HEADER_H

#include "base/address.h"

/* Version 1 has at most 107 bytes. Version 2 could have 64 KiB; what is sent in it are 12 to some hundred. */
enum { PROXY_HEADER_MAX = 4096 };

enum proxy_header_step {
	PROXY_HEADER_MORE,  /* the beginning of one: more must come */
	PROXY_HEADER_WHOLE,
	PROXY_HEADER_BAD,   /* none, or malformed: the connection is to be closed; `why` says it */
};

struct proxy_header {
	size_t len;	     /* of the header: what follows is the client's */
	struct address from; /* unknown: the balancer speaks for itself (a health check), or does not say */
	uint16_t port;	     /* of `from` */
	bool tls;	     /* the client speaks TLS with the balancer (version 2) */
	const char *why;     /* BAD: static text */
};

/* Looks at all `len` bytes that have come so far. */
enum proxy_header_step proxy_header_read(const uint8_t *bytes, size_t len, struct proxy_header *out) __attribute__((warn_unused_result));

#endif
