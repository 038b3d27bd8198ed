/*
 * Bytes of a client that are not commands of their own: the rest of a command too long to be collected, or the file of a LOCAL INFILE.
 * They go to the turn's connection as they come, with back-pressure.
 */
#ifndef TANDEM_SESSION_UPLOAD_H
#define TANDEM_SESSION_UPLOAD_H

#include "proxy/session/client.h"

/* The first `len` bytes of a long command are at hand; the rest will be an upload. */
void upload_begin_long(struct client *client, const uint8_t *bytes, size_t len);
/* True when its bytes may be sent on (or dropped) now: the beginning has been sent. */
bool upload_can_flow(const struct client *client);
/* Passes bytes on. Returns how many belonged to the upload; the rest is the next command. */
size_t upload_bytes(struct client *client, uint8_t *bytes, size_t len);
/* Its connection is gone or has answered early: what still comes is read and forgotten. */
void upload_skip(struct client *client);
/* Takes what waits in client->in. */
void upload_flow(struct client *client);

#endif
