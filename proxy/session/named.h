/*
 * Text PREPAREs: named statements of a session. They hold it on the connection where they were prepared, but what they execute may belong
 * elsewhere: a read on a replica, a write on the primary when the PREPARE was inside of a READ ONLY block. There the same PREPARE is repeated
 * first, in the schema and sql_mode of its time.
 */
#ifndef TANDEM_SESSION_NAMED_H
#define TANDEM_SESSION_NAMED_H

#include "proxy/session/client.h"

struct named {
	struct named *next;
	char *name;	 /* lower case */
	char *prepare;	 /* a PREPARE statement that does it again */
	char *text;	 /* what it prepares; NULL: not known, so it can be executed only where it was prepared */
	size_t len;	 /* of text */
	struct state *value; /* of the session at that moment */
	struct sql_meaning meaning; /* of `text` */
	struct backend *at, *also_at; /* connections that have it */
};

/* A PREPARE or DEALLOCATE succeeded on this connection. False when the name was there (or not there) before, so that the count of names stays
 * as it is. */
bool named_note(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text);
/* A PREPARE of this text failed: what had the name is gone. True when there was one. */
bool named_note_failure(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text);
/* Is the EXECUTE of it, as `meaning` has it, a read that can run anywhere? */
bool named_is_read(const struct client *client, const struct named *named, const struct sql_meaning *meaning);
/* NULL when there is none of that name. */
struct named *named_find(struct client *client, const char *name, size_t len);
bool named_is_at(const struct named *named, const struct backend *backend);
/* It is being prepared there as well; or that has failed. */
void named_add_place(struct named *named, struct backend *backend);
void named_drop_place(struct named *named, const struct backend *backend);
/* A connection has left the session, or was reset. */
void named_forget_backend(struct client *client, const struct backend *backend);
void named_clear(struct client *client);

#endif
