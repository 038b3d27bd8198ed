/*
 * Who asks and whether he may: the client of a connection or request, also behind load balancers and proxies; lists of addresses; how much of
 * everything one address gets. What is refused is refused before anybody works for it.
 */
#ifndef TANDEM_WEB_GUARD_H
#define TANDEM_WEB_GUARD_H

#include "web/exchange.h"

/* A connection whose address is known by now asks for its place. NULL, or why it gets none. connection->place is to be left at its end. */
const char *guard_connection(struct connection *c) __attribute__((warn_unused_result));

/* A head was understood: sets x->client, x->tls and x->id by what trusted proxies say. */
void guard_identify(struct exchange *x);
/* Status 0, or how to refuse. `*retry_s` is the time after which to try again, else 0. Before the site is known, and with it. */
struct http_verdict guard_request(struct exchange *x, unsigned *retry_s);
struct http_verdict guard_site(const struct exchange *x);

/* The body is waited for from here on, or not any more: time in which nobody wants it is not the client's. */
void guard_body_wanted(struct exchange *x, bool wanted);
/* More of it has come. */
struct http_verdict guard_body(struct exchange *x);

#endif
