/*
 * Text PREPAREs: named statements of a session. They live on its pinned connection; one that only reads may run on a replica too, where
 * the same PREPARE is repeated first.
 */
#ifndef TANDEM_SESSION_NAMED_H
#define TANDEM_SESSION_NAMED_H

#include "proxy/session/client.h"

struct named {
	struct named *next;
	char *name;	 /* lower case */
	char *prepare;	 /* a PREPARE statement that does it again */
	char *text;	 /* what it prepares */
	size_t len;	 /* of text */
	struct state *value; /* of the session at that moment */
	struct sql_meaning meaning; /* of `text` */
	struct backend *also_at;    /* the replica connection that has it as well */
};

/* A PREPARE or DEALLOCATE succeeded. False when the name was there (or not there) before, so that the count of names stays as it is. */
bool named_note(struct client *client, const struct sql_meaning *meaning, const char *text);
/* The named statement of an EXECUTE, when it is a read whose text is known and can run anywhere; NULL: only where it was prepared. */
struct named *named_read(struct client *client, const struct sql_meaning *meaning, const char *text);
/* NULL when there is none of that name. */
const struct named *named_find(struct client *client, const char *name, size_t len);
/* A connection has left the session. */
void named_forget_backend(struct client *client, const struct backend *backend);
void named_clear(struct client *client);

#endif
