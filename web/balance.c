#include "web/balance.h"

/* Each turn everybody gains its weight, the richest is next and pays what all have gained. */
static int pick_smoothly(struct balance_entry *entries, size_t count)
{
	int64_t total = 0;
	int best = -1;

	for (size_t i = 0; i < count; i++) {
		if (!entries[i].usable)
			continue;
		entries[i].credit += entries[i].weight;
		total += entries[i].weight;
		if (best < 0 || entries[i].credit > entries[best].credit)
			best = (int)i;
	}
	if (best >= 0)
		entries[best].credit -= total;
	return best;
}

/* The load that one more request would be, compared without dividing. */
static int compare_load(const struct balance_entry *a, const struct balance_entry *b)
{
	uint64_t left = ((uint64_t)a->active + 1) * b->weight, right = ((uint64_t)b->active + 1) * a->weight;

	return left < right ? -1 : left > right;
}

/* Leaves only those with the least load usable. */
static void keep_least(struct balance_entry *entries, size_t count)
{
	const struct balance_entry *least = NULL;

	for (size_t i = 0; i < count; i++)
		if (entries[i].usable && (!least || compare_load(&entries[i], least) < 0))
			least = &entries[i];
	for (size_t i = 0; i < count; i++)
		entries[i].usable = entries[i].usable && compare_load(&entries[i], least) == 0;
}

int balance_pick(enum balance_rule rule, struct balance_entry *entries, size_t count)
{
	if (rule == BALANCE_LEAST_CONNECTIONS)
		keep_least(entries, count);
	return pick_smoothly(entries, count);
}

unsigned balance_weight(unsigned weight, uint64_t up_ms, uint32_t slow_start_ms)
{
	uint64_t full = (uint64_t)weight * BALANCE_FULL_WEIGHT, part;

	if (up_ms >= slow_start_ms)
		return (unsigned)full;
	part = full * up_ms / slow_start_ms;
	return part ? (unsigned)part : 1;
}
