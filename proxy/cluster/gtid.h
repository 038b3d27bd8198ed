/*
 * GTID positions. MariaDB: per replication domain the highest sequence number. MySQL: per source UUID the highest transaction number
 * (the UUID is folded to a 32-bit domain number by the registry), which is enough while replicas preserve commit order.
 *
 * A gtid_board is a position that only grows and that any thread may read and raise without a lock.
 */
#ifndef TANDEM_CLUSTER_GTID_H
#define TANDEM_CLUSTER_GTID_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GTID_MAX_DOMAINS = 8 };

/* A plain value. Domains are in no particular order; count 0 is "nothing needed". `lost`: more domains than fit, or unknown; nothing
 * satisfies it but the primary. */
struct gtid_set {
	uint8_t count;
	bool lost;
	struct gtid_point {
		uint32_t domain;
		uint64_t sequence;
	} points[GTID_MAX_DOMAINS];
};

/* Parses "0-1-100,1-2-7" (MariaDB) or "uuid:1-5:7,uuid:1-3" (MySQL: highest number per uuid). Empty text is the empty set. */
bool gtid_parse(const char *text, size_t len, struct gtid_set *out) __attribute__((warn_unused_result));
/* Raises `to` to cover `with`. */
void gtid_merge(struct gtid_set *to, const struct gtid_set *with);
/* True when `have` is at or beyond `want` in each of want's domains. */
bool gtid_covers(const struct gtid_set *have, const struct gtid_set *want);
/* Lowers `set` to `bound` in each domain; domains that `bound` lacks are dropped. True when that changed something. */
bool gtid_clamp(struct gtid_set *set, const struct gtid_set *bound);
/* MariaDB text "0-0-100,1-0-7" (server id 0: only domain and sequence count). Returns its length; cut at size - 1. */
size_t gtid_format(const struct gtid_set *set, char *out, size_t size);
/* MySQL text "uuid:1-100,uuid:1-7" of a set that came from MySQL text; domains of unknown origin are left out. */
size_t gtid_format_mysql(const struct gtid_set *set, char *out, size_t size);

struct gtid_board {
	_Atomic uint32_t count;
	_Atomic bool lost;
	_Atomic uint64_t generation; /* grows with each raise: cheap "anything new?" */
	struct {
		_Atomic uint64_t key; /* domain + 1, 0 while free */
		_Atomic uint64_t sequence;
	} slots[GTID_MAX_DOMAINS];
};
void gtid_board_raise(struct gtid_board *board, const struct gtid_set *set);
void gtid_board_read(const struct gtid_board *board, struct gtid_set *out);
bool gtid_board_covers(const struct gtid_board *board, const struct gtid_set *want);
/* Sets it to exactly `set`: a server was restarted or re-cloned. */
void gtid_board_reset(struct gtid_board *board, const struct gtid_set *set);

#endif
