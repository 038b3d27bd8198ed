/*
 * What the end of a reply tells of the session: status flags, changed variables and schema, and the position of a write.
 */
#ifndef TANDEM_SESSION_TRACKING_H
#define TANDEM_SESSION_TRACKING_H

#include "proxy/session/client.h"
#include "proxy/wire/reply.h"

/* Brings session and connection up to what the server reports in this OK, and raises the tokens before the client hears of it. */
void tracking_adopt(struct client *client, struct backend *backend, const struct wire_ok *ok);
/* The same for a question of our own: what the connection was known to have already is no news of the session. */
void tracking_adopt_probe(struct client *client, struct backend *backend, const struct wire_ok *ok);
/* The same for one variable whose value was asked for. */
void tracking_adopt_value(struct client *client, struct backend *backend, const char *name, struct wire_bytes value);
/* What turn->reported holds of a variable's name (its own one, not that of an alias). */
uint64_t tracking_name_hash(const char *name);
/* Leaves of ok->track what the client would hear from a server with default settings; the new track data lies in `memory`. */
void tracking_filter(const struct client *client, struct wire_ok *ok, uint8_t *memory, size_t size);

/* The session's position: does this server's cover everything that the session must see? */
bool token_satisfied(const struct client *client, const struct server *server);
/* What it must see, as a value. */
void token_wanted(const struct client *client, struct gtid_set *out);
/* It has read rows there. What it reads elsewhere must not be older: see route_read(). */
void token_note_read(struct client *client, const struct backend *backend);
/* Everything seen so far is covered by `position`: the answer to an ASK. */
void token_learned(struct client *client, const struct gtid_set *position);

#endif
