/*
 * How two Tandems speak: who they are is proven by HMAC-SHA256 over a secret both have and fresh random numbers of both, and every message
 * afterwards carries such a proof with its number. Nothing is encrypted: there are server names and positions in it, no data and no passwords.
 *
 *   acceptor -> connector   magic (16), nonce A (32)
 *   connector -> acceptor   magic, nonce B, its name (64, zero padded), proof over (label, A, B, name)
 *   acceptor -> connector   its name (64), proof over (another label, A, B, name)
 *   both, afterwards        length (4, big endian), proof over (key from A and B, direction, number, text), text: a JSON object
 *
 * Blocking calls with a time-out. Whatever arrives before the proof has a fixed length, so that garbage costs nothing.
 */
#ifndef TANDEM_CLUSTER_PEER_WIRE_H
#define TANDEM_CLUSTER_PEER_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	PEER_NAME = 64,
	PEER_PROOF = 32,
	PEER_TEXT_MAX = 65536, /* of one message */
};

struct peer_link {
	int fd; /* -1: closed. Owned */
	bool is_acceptor;
	unsigned char key[PEER_PROOF];
	uint64_t sent, received; /* messages */
};

enum peer_greeting {
	PEER_GREETED,
	PEER_GONE,    /* closed, silent, or broken */
	PEER_STRANGE, /* speaks something else */
	PEER_WRONG_SECRET,
};

/* The handshake over a fresh connection; `name` is told, `theirs` is filled. Takes fd over in any case, closes it unless PEER_GREETED.
 * The acceptor does not prove itself to a name for which `is_known` says no: the outcome then is PEER_STRANGE, with `theirs` filled. */
enum peer_greeting peer_connected(struct peer_link *link, int fd, const char *secret, const char *name, char theirs[PEER_NAME]);
enum peer_greeting peer_accepted(struct peer_link *link, int fd, const char *secret, const char *name, char theirs[PEER_NAME],
				 bool (*is_known)(void *owner, const char *name), void *owner);

/* False: the link is closed then. */
bool peer_send(struct peer_link *link, const json_t *message) __attribute__((warn_unused_result));
/* To be freed with json_decref(); NULL: closed, silent for longer than `timeout_ms`, or not proven, and the link is closed. */
json_t *peer_receive(struct peer_link *link, int timeout_ms) __attribute__((warn_unused_result));
void peer_close(struct peer_link *link);

#endif
