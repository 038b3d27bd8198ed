/*
 * Session state as a value: schema, role and the tracked variables that differ from the primary's defaults. Immutable and counted, so
 * that a client and its connections can share one, and "equal" is usually one pointer comparison.
 *
 * Everything is told relative to the primary's defaults: a replica whose own defaults differ starts from a state that says so.
 */
#ifndef TANDEM_SESSION_STATE_H
#define TANDEM_SESSION_STATE_H

#include "proxy/cluster/snapshot.h"
#include "proxy/wire/packet.h"

struct state_variable {
	char *name;
	char *value; /* as the server's tracker reports it; NULL is SQL NULL */
	bool is_number;
};

struct state {
	_Atomic unsigned refs;
	uint64_t hash;
	uint64_t base; /* of the defaults that the variables are told against: snapshot.defaults */
	uint64_t awaits; /* made when these defaults were known to be old: what it does not list it has from those that answer this ticket */
	char *schema; /* NULL: none selected */
	bool forgot;  /* collation_database is the server's, not the schema's: COM_RESET_CONNECTION keeps one and forgets the other */
	char *role;   /* the SET ROLE statement that was run, NULL: as after login */
	uint32_t count;
	struct state_variable *variables; /* sorted by name */
};

/* The state of a connection that has just logged in to server `server` (index in the snapshot; -1: a client's own start, which is the
 * primary's) with that collation number (0: the server's own) and schema. */
struct state *state_new(const struct snapshot *snapshot, int server, uint8_t charset, const char *schema);
struct state *state_ref(struct state *state);
void state_unref(struct state *state);
bool state_equal(const struct state *a, const struct state *b);

/* Each gives a new state (or another reference to the same one, when nothing changes). */
struct state *state_with_variable(struct state *state, const struct snapshot *snapshot, struct wire_bytes name,
				  struct wire_bytes value);
/* SET NAMES has given the client's and the results' sides this collation, too. */
struct state *state_with_names(struct state *state, const struct snapshot *snapshot, struct wire_bytes collation);
struct state *state_with_schema(struct state *state, const char *schema, size_t len);
/* After COM_RESET_CONNECTION, until the next USE. */
struct state *state_with_forgotten(struct state *state);
struct state *state_with_role(struct state *state, const char *role, size_t len);

/* The primary's defaults may have changed: states made from now on have those of the snapshot that answers the ticket. */
void state_expect_defaults(uint64_t ticket);
/* The same values told against the primary's defaults of another snapshot. `has_new`: whoever is in it has the new defaults already. */
struct state *state_rebase(const struct state *state, const struct snapshot *from, const struct snapshot *to, bool has_new);

/* A variable's value where it differs from the primary's default, else that default; "" when unknown. */
const char *state_get(const struct state *state, const struct snapshot *snapshot, const char *name);

/*
 * Appends "SET a=1,b='x'" (without the verb when nothing differs: then nothing is written and 0 returned) that takes a connection in
 * state `actual` on server `server` to `target`. Variables that the server does not know are left out. Replica connections keep their
 * read-only guard: tx_read_only is left alone there. Returns the number of assignments.
 */
unsigned state_put_set(struct wire_writer *w, const struct state *target, const struct state *actual, const struct snapshot *snapshot,
		       int server, bool is_replica);
/* What the classifier must know of a session in this state. */
struct sql_context state_sql_context(const struct state *state, const struct snapshot *snapshot, bool multi_statements);

#endif
