/*
 * The arithmetic of the authentication plugins. All buffers are caller-owned; nothing is kept. Secrets on the stack are wiped.
 * Source: MariaDB KB "Authentication Plugins" pages, MySQL manual "Caching SHA-2 Pluggable Authentication".
 */
#ifndef TANDEM_WIRE_AUTH_H
#define TANDEM_WIRE_AUTH_H

#include "proxy/wire/packet.h"
#include "proxy/wire/protocol.h"

/* mysql_native_password. stage1 = SHA1(password), stored = SHA1(stage1). */
void auth_native_stage1(const char *password, size_t len, uint8_t stage1[20]);
void auth_native_stored(const uint8_t stage1[20], uint8_t stored[20]);
/* token = stage1 XOR SHA1(scramble, stored) */
void auth_native_token(const uint8_t stage1[20], const uint8_t scramble[WIRE_SCRAMBLE_BYTES], uint8_t token[20]);
/* Checks a client's token against the stored hash in constant time; on success gives stage1, which is enough to log in
 * to any server that has the same stored hash. */
bool auth_native_check(const uint8_t stored[20], const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const uint8_t *token,
		       size_t token_len, uint8_t stage1[20]);
/* "*0123...": 40 hex digits behind a star, as in mysql.global_priv. */
bool auth_native_parse(const char *text, size_t len, uint8_t stored[20]);

/* caching_sha2_password, fast path: XOR(SHA256(p), SHA256(SHA256(SHA256(p)), scramble)). */
void auth_sha2_token(const char *password, size_t len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES], uint8_t token[32]);
bool auth_sha2_check(const char *password, size_t len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const uint8_t *token,
		     size_t token_len);
/* Full path without TLS: the password and its NUL, XORed with the scramble and encrypted (RSA-OAEP, SHA-1) with the server's
 * public key in PEM. Returns the length written or 0. */
size_t auth_sha2_encrypt(const char *password, size_t len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES], const char *pem,
			 size_t pem_len, uint8_t *out, size_t out_size);

/* client_ed25519 (MariaDB): signs a 32-byte nonce with the key derived from the password; 64 bytes. Not RFC 8032's seed
 * expansion of a 32-byte seed but of the password's SHA-512, so OpenSSL's Ed25519 cannot be used directly. */
bool auth_ed25519_sign(const char *password, size_t len, const uint8_t nonce[32], uint8_t signature[64]);
/* Verifies against the stored public key (32 bytes; 43 characters of base64 without padding in mysql.global_priv). */
bool auth_ed25519_check(const uint8_t public_key[32], const uint8_t nonce[32], const uint8_t *signature, size_t signature_len);
bool auth_ed25519_parse(const char *text, size_t len, uint8_t public_key[32]);
/* The public key that belongs to a password, for [user] sections. */
bool auth_ed25519_public(const char *password, size_t len, uint8_t public_key[32]);

/*
 * The proof that lets MariaDB clients from 11.4 on trust a self-signed certificate: the info of the login's OK is 0x01 and
 * the upper-case hex of SHA256(stored hash, scramble, certificate fingerprint). `stored` is the plugin's own stored hash (native:
 * the 20 bytes). out takes 1 + 64 bytes.
 */
void auth_tls_proof(const uint8_t *stored, size_t stored_len, const uint8_t scramble[WIRE_SCRAMBLE_BYTES],
		    const uint8_t fingerprint[32], uint8_t out[65]);

/* 20 random bytes, none of them NUL or '$'. False when the random source fails. */
bool auth_scramble(uint8_t scramble[WIRE_SCRAMBLE_BYTES]) __attribute__((warn_unused_result));

#endif
