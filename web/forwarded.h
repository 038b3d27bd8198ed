/*
 * Whose request it is when trusted proxies stand in front: X-Forwarded-For or Forwarded (RFC 7239), read from the right, where the nearest
 * proxy has added, until an address is not a trusted one. What stands further left anybody may have made up. Pure.
 */
#ifndef TANDEM_WEB_FORWARDED_H
#define TANDEM_WEB_FORWARDED_H

#include "base/address.h"
#include "web/http1.h"

/* Which field the trusted proxies write. The other is the client's own invention: proxies pass it on unseen. */
enum forwarded_by { FORWARDED_BY_X, FORWARDED_BY_RFC };

/* A chain longer than this ends there. */
enum { FORWARDED_HOPS_MAX = 32 };

struct forwarded {
	struct address client;
	bool tls; /* the client spoke TLS with the proxy, by X-Forwarded-Proto or proto= */
};

/*
 * `out` says on entry whose connection it is, and on return whose request: unchanged when that peer is none of `trusted` or nothing that can be
 * understood is told.
 */
void forwarded_read(const struct http_head *head, enum forwarded_by by, const struct address_list *trusted, struct forwarded *out);

#endif
