/*
 * How much one address may ask: requests in a time, connections at once. One table for all workers, of a fixed size and without locks, since
 * the connections of one address are spread over all of them and a share per worker would be no limit: what is known of an address is two words,
 * each changed by compare and swap.
 *
 * An IPv6 address counts as its /64, which is what one customer has at the least. Two addresses that share an entry (one chance in 2^48 for
 * those of one line) share its limits; the hash has a secret, so nobody can look for such a pair.
 */
#ifndef TANDEM_WEB_LIMIT_H
#define TANDEM_WEB_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"

struct limit_table;
struct limit_entry;

/* An empty one; NULL when memory or randomness ran out. `lines` is a power of 2: how many lines of 4 entries; 0 for the usual. */
struct limit_table *limit_table_new(unsigned lines);
void limit_table_free(struct limit_table *table);

/*
 * One request of an address at `now_us`: 0 when it may be answered, else the microseconds until the next one may. `per_second` on average,
 * `burst` at once; a refused request costs nothing. An unknown address may always.
 */
uint64_t limit_take_request(struct limit_table *table, const struct address *address, unsigned per_second, unsigned burst, uint64_t now_us);

/*
 * One connection more of an address. False when it has `max` already. `*out` is what limit_leave() needs at its end; NULL when it is not
 * counted: an unknown address, or no room in the table among addresses that all have connections.
 */
bool limit_enter(struct limit_table *table, const struct address *address, unsigned max, struct limit_entry **out)
	__attribute__((warn_unused_result));
/* NULL is allowed. */
void limit_leave(struct limit_entry *entry);

#endif
