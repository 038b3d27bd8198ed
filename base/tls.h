/*
 * TLS contexts: the server's own certificate (made at first start when none is given), client contexts for backends,
 * fingerprints. Passwords and keys are wiped here too.
 */
#ifndef TANDEM_BASE_TLS_H
#define TANDEM_BASE_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_mode { TLS_OFF, TLS_PREFERRED, TLS_REQUIRED, TLS_VERIFY_CA, TLS_VERIFY_FULL };

/*
 * A server context from PEM files. With both paths NULL a self-signed certificate is read from
 * `state_dir`/tandem-cert.pem and tandem-key.pem, and made there first (mode 0600, EC P-256, 10 years) if missing.
 * NULL on failure with a one-line reason in `why`. Free with SSL_CTX_free.
 */
SSL_CTX *tls_server_context(const char *certificate, const char *key, const char *state_dir, char *why, size_t why_size);
/* A client context; `ca` may be NULL (system CAs when mode verifies). certificate and key may be NULL. */
SSL_CTX *tls_client_context(enum tls_mode mode, const char *ca, const char *certificate, const char *key, char *why,
			    size_t why_size);
/* SHA-256 of the DER certificate of a server context. */
bool tls_fingerprint(SSL_CTX *ctx, uint8_t out[32]);
/* True when the context's certificate is self-signed, so that clients need the proof in the login OK. */
bool tls_is_self_signed(SSL_CTX *ctx);

/* Overwrites a secret in a way the compiler keeps. */
void secret_wipe(void *bytes, size_t len);
/* Compares in constant time. */
bool secret_equal(const void *a, const void *b, size_t len);

#endif
