/*
 * The connection phase, both ways: Tandem as server towards clients, as client towards backends. Nothing here keeps state;
 * who is at which step is the session's business.
 * Source: MariaDB KB "Connecting" (Initial Handshake Packet, Handshake Response Packet, SSLRequest, Authentication Switch
 * Request), MySQL Internals "Protocol::HandshakeV10".
 */
#ifndef TANDEM_WIRE_HANDSHAKE_H
#define TANDEM_WIRE_HANDSHAKE_H

#include "proxy/wire/packet.h"
#include "proxy/wire/protocol.h"

struct wire_greeting {
	struct wire_bytes server_version; /* as sent, with MariaDB's "5.5.5-" prefix if it is there */
	uint32_t connection_id;
	uint64_t capabilities; /* both halves and, when CLIENT_LONG_PASSWORD is clear, MariaDB's extended word */
	uint8_t charset;
	uint16_t status;
	uint8_t scramble[WIRE_SCRAMBLE_BYTES];
	struct wire_bytes plugin; /* empty when not given */
};

/* Parses a greeting payload. False when malformed or not protocol version 10. */
bool wire_parse_greeting(const uint8_t *payload, size_t len, struct wire_greeting *out) __attribute__((warn_unused_result));
/* (Without CLIENT_SECURE_CONNECTION a greeting counts as malformed: no supported server sends one.)
 * Writes a whole greeting packet with sequence 0. */
void wire_put_greeting(struct wire_writer *w, const struct wire_greeting *greeting);

struct wire_login {
	uint64_t capabilities;
	uint32_t max_packet;
	uint8_t charset; /* low byte of the collation id */
	struct wire_bytes user;
	struct wire_bytes auth; /* the plugin's first answer */
	struct wire_bytes schema;
	struct wire_bytes plugin;
	struct wire_bytes attributes; /* the key/value pairs, without their length */
};

/* True when the payload is a TLS request (32 bytes, CLIENT_SSL set): only capabilities, max_packet and charset are filled. */
bool wire_parse_tls_request(const uint8_t *payload, size_t len, struct wire_login *out);
/* Parses a HandshakeResponse41; `offered` are the capabilities that the greeting had (fields are read by the intersection).
 * out->capabilities is that intersection. */
bool wire_parse_login(const uint8_t *payload, size_t len, uint64_t offered, struct wire_login *out)
	__attribute__((warn_unused_result));
/* Whole packets. */
void wire_put_tls_request(struct wire_writer *w, const struct wire_login *login, uint8_t seq);
void wire_put_login(struct wire_writer *w, const struct wire_login *login, uint8_t seq);

struct wire_auth_switch {
	struct wire_bytes plugin;
	struct wire_bytes data; /* scramble, without a trailing NUL */
};
bool wire_parse_auth_switch(const uint8_t *payload, size_t len, struct wire_auth_switch *out)
	__attribute__((warn_unused_result));
void wire_put_auth_switch(struct wire_writer *w, const char *plugin, const uint8_t *scramble, size_t scramble_len,
			  uint8_t seq);
/* 0x01 and data: AuthMoreData. */
void wire_put_auth_more(struct wire_writer *w, const void *data, size_t len, uint8_t seq);

/* COM_CHANGE_USER, command byte included. The same fields as a login; capabilities are those agreed at login. The schema is always
 * there (empty: none). The put variant writes a whole packet with sequence 0. */
bool wire_parse_change_user(const uint8_t *payload, size_t len, uint64_t capabilities, struct wire_login *out)
	__attribute__((warn_unused_result));
void wire_put_change_user(struct wire_writer *w, const struct wire_login *login);

/* key/value pairs of connection attributes: appends one pair to a writer that holds them */
void wire_put_attribute(struct wire_writer *w, const char *key, const void *value, size_t value_len);
/* Finds a pair by key; empty when absent. */
struct wire_bytes wire_find_attribute(struct wire_bytes attributes, const char *key);

#endif
