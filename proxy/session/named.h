/*
 * Text PREPAREs: named statements of a session. Where their text is known they hold it nowhere: what they execute goes where it belongs, and
 * there the same PREPARE is repeated first, in the schema and sql_mode of its time. One of a text that only the server knows (FROM @variable)
 * keeps the session on its connection.
 */
#ifndef TANDEM_SESSION_NAMED_H
#define TANDEM_SESSION_NAMED_H

#include "proxy/session/client.h"

enum { NAMED_STATEMENT_BYTES = 320 }; /* PREPARE or DEALLOCATE of a name of 64 characters */

struct named {
	struct named *next;
	char *name;	 /* lower case */
	char *prepare;	 /* a PREPARE statement that does it again */
	char *text;	 /* what it prepares; NULL: not known */
	size_t len;	 /* of text */
	struct state *value; /* of the session at that moment */
	struct sql_meaning meaning; /* of `text` */
	/* It can be executed only where it was prepared: its text is not known, or assigns user variables, which preparing it again would give
	 * another character set. */
	bool is_fixed;
	struct backend *at, *also_at; /* connections that have it */
};

/* May this PREPARE touch user variables? A server gives the variables that the text assigns another character set when it prepares it. */
bool named_sets_variables(const struct client *client, const struct sql_meaning *meaning, const char *text);
/* A PREPARE or DEALLOCATE succeeded on this connection. False: memory ran out, and it is not known here. */
bool named_note(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text);
/* A PREPARE of this text failed: what had the name is gone. */
void named_note_failure(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text);
/* How many can be executed only where they were prepared. */
uint16_t named_fixed(const struct client *client);
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
