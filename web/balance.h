/*
 * Which of several servers gets the next request, by their weights. Pure: the caller says who may be taken, and holds whatever lock the
 * entries need.
 */
#ifndef TANDEM_WEB_BALANCE_H
#define TANDEM_WEB_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum balance_rule {
	BALANCE_ROUND_ROBIN,	   /* smooth and weighted */
	BALANCE_LEAST_CONNECTIONS, /* the fewest requests under way per weight; among equals the above */
};

enum { BALANCE_FULL_WEIGHT = 100 }; /* what a weight of 1 is in balance_entry.weight */

struct balance_entry {
	bool usable;	 /* may be taken this time */
	unsigned weight; /* see balance_weight(); above 0 where usable */
	unsigned active; /* requests under way */
	int64_t credit;	 /* the balance's own, kept from call to call; 0 at first */
};

/*
 * The index of the one to take, -1 when none is usable. Over any run of calls with the same usable entries each is taken in proportion to
 * its weight, off by less than one, and never in bursts: smooth weighted round-robin.
 */
int balance_pick(enum balance_rule rule, struct balance_entry *entries, size_t count);

/*
 * A server's weight (1 and more) in the entries' units, `up_ms` after it came back: it grows from next to nothing to the whole within
 * `slow_start_ms`. 0: whole at once.
 */
unsigned balance_weight(unsigned weight, uint64_t up_ms, uint32_t slow_start_ms);

#endif
