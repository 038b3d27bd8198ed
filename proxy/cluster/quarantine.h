/*
 * Has a returning server transactions of its own? Compared by what was written under each server id, since a position says only how
 * far the newest one is: two servers can stand at the same position with different data.
 *
 * MariaDB's gtid_binlog_state lists, for each domain and server id, the last sequence number written; numbers under one pair only grow.
 * So a server is clean when none of its pairs is beyond the new primary's own, and nothing in its binlog is beyond the fork point of
 * the promotion that it missed.
 */
#ifndef TANDEM_CLUSTER_QUARANTINE_H
#define TANDEM_CLUSTER_QUARANTINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/cluster/replication.h"

enum { BINLOG_STATE_MAX = 128, QUARANTINE_EXTRAS = 32, EXTRA_STATEMENT = 300 };

struct binlog_state {
	size_t count;
	bool lost; /* more pairs than fit */
	struct binlog_mark {
		uint32_t domain;
		uint32_t server_id;
		uint64_t sequence;
	} marks[BINLOG_STATE_MAX];
};

/* Parses gtid_binlog_state. False when it is none. */
bool binlog_state_parse(const char *text, struct binlog_state *out) __attribute__((warn_unused_result));

/* Transactions of one pair: from < sequence <= to. */
struct extra_range {
	uint32_t domain;
	uint32_t server_id;
	uint64_t from;
	uint64_t to;
};

/* Fills `out` with what `mine` has and `theirs` has not, or what was written under its `own_id` beyond `fork` (count 0: no fork point is
 * known). Returns how many ranges, at most `max`. */
size_t quarantine_compare(const struct binlog_state *mine, const struct binlog_state *theirs, const struct gtid_set *fork,
			  uint32_t own_id, struct extra_range *out, size_t max);
/* The last transaction of a domain that both have; false when there is none. */
bool quarantine_common(const struct binlog_state *mine, const struct binlog_state *theirs, uint32_t domain, struct binlog_mark *out);

/* One transaction that only the returning server has. */
struct extra {
	char gtid[64];
	char statement[EXTRA_STATEMENT]; /* its first statement, as far as the binlog tells */
	bool has_rows;	 /* row events */
	bool is_harmless; /* a statement that changes no data: FLUSH, ANALYZE and their like */
};

/* Reads the statements of the transactions in `ranges` from the server's binlog. Returns how many, at most `max`; 0 with the line's
 * error set when the binlog cannot be read. MariaDB. */
size_t quarantine_list(struct subject *server, const struct extra_range *ranges, size_t range_count, struct extra *out, size_t max);

#endif
