/*
 * How far a replica is behind, without writing anything: the primary's position is noted with the time of each look, and a replica is
 * as old as the oldest mark it has not reached.
 */
#ifndef TANDEM_CLUSTER_LAG_H
#define TANDEM_CLUSTER_LAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/cluster/gtid.h"

enum { LAG_MARKS = 256 };

struct lag_ring {
	size_t count;
	size_t newest; /* index of the last one written */
	struct lag_mark {
		struct gtid_set position;
		uint64_t at_ms;
	} marks[LAG_MARKS];
};

void lag_clear(struct lag_ring *ring);
/* The primary was at `position` at `now_ms`. A position already noted is not noted again: what counts is when it was first seen. */
void lag_note(struct lag_ring *ring, const struct gtid_set *position, uint64_t now_ms);
/* The lag of a replica that had reached `applied` at `at_ms`: 0 when it covers the newest mark of before; UINT64_MAX when there is no
 * mark at all. `*is_bound` is set when no mark is reached: then the lag is at least this. */
uint64_t lag_of(const struct lag_ring *ring, const struct gtid_set *applied, uint64_t at_ms,
		bool *is_bound);

#endif
