/*
 * OCSP stapling: the certificate authority's word that a certificate is not revoked, from a file that somebody else keeps fresh, is given to
 * clients that ask for it in the handshake (RFC 6066 section 8). Nothing is fetched here.
 */
#ifndef TANDEM_BASE_TLS_STAPLE_H
#define TANDEM_BASE_TLS_STAPLE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * The DER file's response goes with the context's certificate from here on, until the time that it names is over. False with a one-line reason
 * when the file holds none, or one about another certificate. `*is_stale` tells that its time is over already: it is not given to anybody.
 */
bool tls_staple(SSL_CTX *ctx, const char *file, bool *is_stale, char *why, size_t why_size) __attribute__((warn_unused_result));

#endif
