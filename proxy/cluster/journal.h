/*
 * What an operation writes down before it touches anything, so that whoever comes next can finish or undo it: one row in the table
 * tandem.cluster, which replication carries to all servers, and a copy in state_dir for when the row cannot be written or read.
 */
#ifndef TANDEM_CLUSTER_JOURNAL_H
#define TANDEM_CLUSTER_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/cluster/replication.h"

enum journal_state {
	JOURNAL_NONE,	 /* nothing was ever written */
	JOURNAL_RUNNING, /* an operation is under way, or was when its Tandem ended */
	JOURNAL_DONE,	 /* `to` is the primary since `fork` */
	JOURNAL_UNDONE,	 /* `from` still is */
};

struct journal_entry {
	uint64_t epoch; /* grows with each operation */
	enum journal_state state;
	char operation[16]; /* operation_name() */
	char from[64];	    /* "" when there was no primary */
	char to[64];
	char *fork;   /* what the new primary had applied when it became writable; "" before. Owned */
	char *events; /* events that were enabled on `from`: quoted names, a line each. Owned */
	char by[128]; /* the Tandem that wrote it */
};

bool journal_init(struct journal_entry *entry) __attribute__((warn_unused_result));
void journal_fini(struct journal_entry *entry);
/* Replaces an owned text; keeps the old one when memory runs out. */
void journal_set(char **text, const char *value);

/* Makes the schema and the table where they are missing. False with the line's error: the account may not. */
bool journal_prepare(struct subject *s) CHECKED;
bool journal_write(struct subject *s, const struct journal_entry *entry) CHECKED;
/* Fills `entry` (from journal_init()) with the server's row; JOURNAL_NONE when it has none. False when it cannot be asked. */
bool journal_read(struct subject *s, struct journal_entry *entry) CHECKED;

/*
 * A second row: whether `primary` goes on without its replicas (degraded), and since which position. Does not touch the first one.
 * journal_is_degraded(): whether the server's row says so of `primary`; false too when it cannot be asked.
 */
bool journal_write_degraded(struct subject *s, const char *primary, bool is_degraded, const char *position) CHECKED;
bool journal_is_degraded(struct subject *s, const char *primary);

/* The copy: saved whole or not at all. */
bool journal_save(const char *state_dir, const struct journal_entry *entry) CHECKED;
bool journal_load(const char *state_dir, struct journal_entry *entry) CHECKED;

/* When a failover was last done by this Tandem or an earlier run of it, in ms before now; UINT64_MAX: not known, or another operation since. */
uint64_t journal_failover_age_ms(const char *state_dir);

/* Of two entries the one that is true now: the later epoch, and within one the later state. */
bool journal_is_newer(const struct journal_entry *a, const struct journal_entry *b);
void journal_copy(struct journal_entry *to, const struct journal_entry *from);
/* This Tandem, as its entries name it. */
void journal_signature(char by[128]);

#endif
