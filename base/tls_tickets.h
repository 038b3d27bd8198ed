/*
 * The keys of session tickets, by which clients come back without a whole handshake: one set for all contexts and threads that should know each
 * other's clients, also across a reload, which makes new contexts. A key seals tickets for 12 hours and opens them for 12 more.
 */
#ifndef TANDEM_BASE_TLS_TICKETS_H
#define TANDEM_BASE_TLS_TICKETS_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct tls_tickets;

/* NULL: no memory or no randomness. Free it when no context that uses it is left. */
struct tls_tickets *tls_tickets_new(void);
void tls_tickets_free(struct tls_tickets *tickets);
/* A context that chooses another by the client's name, and those that it chooses, all need it. False: memory. */
bool tls_tickets_use(struct tls_tickets *tickets, SSL_CTX *ctx) __attribute__((warn_unused_result));
/* Begins a new key now; the one in use before opens its tickets still. Done by itself when its time has come. False: no randomness. */
bool tls_tickets_renew(struct tls_tickets *tickets);

#endif
