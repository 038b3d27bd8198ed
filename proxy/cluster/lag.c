#include "proxy/cluster/lag.h"

void lag_clear(struct lag_ring *ring)
{
	ring->count = 0;
	ring->newest = 0;
}

void lag_note(struct lag_ring *ring, const struct gtid_set *position, uint64_t now_ms)
{
	if (ring->count && gtid_covers(&ring->marks[ring->newest].position, position))
		return;
	ring->newest = ring->count ? (ring->newest + 1) % LAG_MARKS : 0;
	ring->marks[ring->newest].position = *position;
	ring->marks[ring->newest].at_ms = now_ms;
	if (ring->count < LAG_MARKS)
		ring->count++;
}

uint64_t lag_of(const struct lag_ring *ring, const struct gtid_set *applied, uint64_t at_ms,
		bool *is_bound)
{
	uint64_t missing_since = UINT64_MAX;

	*is_bound = false;
	if (!ring->count)
		return UINT64_MAX;
	for (size_t back = 0; back < ring->count; back++) {
		const struct lag_mark *mark =
			&ring->marks[(ring->newest + LAG_MARKS - back) % LAG_MARKS];

		if (gtid_covers(applied, &mark->position))
			return missing_since < at_ms ? at_ms - missing_since : 0;
		/* Noted after the replica was looked at, it says nothing about it. */
		missing_since = mark->at_ms;
	}
	*is_bound = true;
	return missing_since < at_ms ? at_ms - missing_since : 0;
}
