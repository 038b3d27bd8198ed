/*
 * Prepared statements. A client has its own numbers; a backend prepares on first use and keeps what it prepared under a key of text and
 * everything that the meaning of the text depends on at prepare time.
 */
#ifndef TANDEM_SESSION_STATEMENT_H
#define TANDEM_SESSION_STATEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/session/state.h"
#include "sql/sql.h"

struct backend;

enum { STATEMENT_ALIGN = 64 };

/* One of a client's. What every execution looks at stands in its first two lines of the cache. */
struct statement {
	uint32_t refs; /* the table's, and those of records of transactions */
	uint32_t id; /* the client's number, from 1 */
	uint64_t key[2];
	uint32_t found_at;	   /* the slot where it was found last, on whatever connection: looked at first */
	uint32_t len;
	char *text;
	struct backend *opened;	   /* where its cursor is open or its long data went; NULL */
	uint8_t *types; /* 2 bytes a parameter, as last bound; NULL: never */
	uint64_t types_hash;
	uint16_t params;
	uint16_t columns;
	bool cursor;		   /* a cursor is open there */
	bool long_data;
	bool servers_own; /* prepared while mysql or its like was the schema: bare names mean the server's own tables */
	struct sql_meaning meaning; /* all of it is for few statements */
	struct state *value; /* of the session when it was prepared: schema and sql_mode of that moment go with the statement */
};

/* A client's table. Numbers are not used twice. */
struct statement_table {
	struct statement **slots;
	uint32_t count;
	uint32_t size;
	uint32_t next_id;
	uint32_t last_id; /* the last prepared: -1 in an EXECUTE means it */
};
struct statement *statement_add(struct statement_table *table, const char *text, size_t len, const struct sql_meaning *meaning,
				struct state *value, const struct snapshot *snapshot);
struct statement *statement_find(const struct statement_table *table, uint32_t id);
void statement_remove(struct statement_table *table, struct statement *statement);
/* For those who need it beyond its close. */
struct statement *statement_ref(struct statement *statement);
void statement_unref(struct statement *statement);
void statement_table_fini(struct statement_table *table);

/* What a backend has prepared. */
struct prepared {
	uint64_t key[2];
	uint32_t id;	    /* the server's; 0 while the prepare is under way */
	bool used;	    /* the slot holds something */
	uint64_t types_hash; /* of the types last bound on it; 0 none */
	struct statement *holder; /* a client statement with an open cursor or long data on it: not to be shared */
	uint64_t last_use;
};
struct statement_cache {
	struct prepared *slots;
	uint32_t size;
	uint32_t count;
	uint64_t clock;
};
enum { PREPARED_NONE = UINT32_MAX };
/* The slot for `statement` on this cache, PREPARED_NONE when it is not prepared there. */
uint32_t prepared_find(struct statement_cache *cache, struct statement *statement);
/* A slot for a new one. When `budget` are held, the least recently used one without a holder is given, with its server id in *evicted
 * (0: none) for a COM_STMT_CLOSE. */
uint32_t prepared_add(struct statement_cache *cache, const uint64_t key[2], uint32_t budget, uint32_t *evicted);
/* The least recently used one that can go; PREPARED_NONE when there is none. */
uint32_t prepared_oldest(const struct statement_cache *cache);
void prepared_drop(struct statement_cache *cache, uint32_t slot);
/* The connection was reset: nothing is prepared on it any more. */
void prepared_clear(struct statement_cache *cache);
void prepared_fini(struct statement_cache *cache);

#endif
