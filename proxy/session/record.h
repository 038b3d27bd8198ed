/*
 * What a transaction has said and heard: its statements, one behind the other in one piece of memory, each with the hash of its reply.
 * No I/O and no knowledge of connections; replay.c fills and reads it.
 */
#ifndef TANDEM_SESSION_RECORD_H
#define TANDEM_SESSION_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/session/statement.h"

struct record {
	uint8_t *bytes;
	size_t len;
	size_t size;
	unsigned count;
};

struct record_entry {
	struct statement *statement; /* of a binary EXECUTE; the record holds a reference. NULL: text */
	uint64_t hash;		     /* of the reply */
	uint32_t len;		     /* of the packet */
	uint8_t packet[];	     /* header and payload, as the client sent it; an EXECUTE always with its parameters' types */
};

/* Appends. False when memory ran out or `limit` bytes would be passed: the record is then as before. */
bool record_add(struct record *record, struct statement *statement, const uint8_t *packet, size_t len, uint64_t hash, size_t limit)
	__attribute__((warn_unused_result));
/* The entry at offset `at` (0 the first), NULL at the end; *next is the offset of the one behind it. */
const struct record_entry *record_at(const struct record *record, size_t at, size_t *next);
/* Forgets all entries. Memory of up to `keep` bytes stays for the next. */
void record_clear(struct record *record, size_t keep);

#endif
