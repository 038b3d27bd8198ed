#include "proxy/cluster/lease.h"

#include <string.h>

static bool is_fresh(const struct lease_paper *p, const struct lease_terms *t)
{
	return p->asked_ms && t->now_ms < p->asked_ms + LEASE_OWN_MS(t->lease_ms);
}

/* Whoever has this vote wants writes to go where this Tandem would send them. */
static bool agrees(const struct lease_paper *p, const struct lease_terms *t)
{
	if (p->mine && t->is_changing)
		return true;
	return (p->mine || p->taken) && t->primary_id && p->primary_id == t->primary_id;
}

/* The time at which the `rank`-th newest of those that agree was asked; 0 when there are not as many. */
static uint64_t agreed_since(const struct lease_paper *papers, size_t count, const struct lease_terms *t, unsigned rank)
{
	uint64_t best = 0;

	for (size_t i = 0; i < count; i++) {
		unsigned as_new = 0;

		if (!agrees(&papers[i], t))
			continue;
		for (size_t k = 0; k < count; k++)
			as_new += agrees(&papers[k], t) && papers[k].asked_ms >= papers[i].asked_ms;
		if (as_new >= rank && papers[i].asked_ms > best)
			best = papers[i].asked_ms;
	}
	return best;
}

static uint32_t said_by_half(const struct lease_paper *papers, size_t count, const struct lease_terms *t, unsigned half)
{
	for (size_t i = 0; i < count; i++) {
		unsigned same = 0;

		if (!papers[i].primary_id)
			continue;
		for (size_t k = 0; k < count; k++)
			same += is_fresh(&papers[k], t) && papers[k].primary_id == papers[i].primary_id;
		if (same >= half)
			return papers[i].primary_id;
	}
	return 0;
}

void lease_take_count(const struct lease_paper *papers, size_t count, const struct lease_terms *terms, struct lease_count *out)
{
	uint64_t since;

	memset(out, 0, sizeof(*out));
	out->voters = (unsigned)count;
	out->majority = (unsigned)count / 2 + 1;
	out->half = (unsigned)(count + 1) / 2;
	for (size_t i = 0; i < count; i++) {
		if (!is_fresh(&papers[i], terms))
			continue;
		out->answered++;
		out->mine += papers[i].mine;
		out->taken += papers[i].taken;
		out->open += !papers[i].mine && !papers[i].taken;
	}
	out->primary_id = said_by_half(papers, count, terms, out->half);
	since = agreed_since(papers, count, terms, out->half);
	if (since && terms->now_ms < since + LEASE_OWN_MS(terms->lease_ms))
		out->writes_until_ms = since + LEASE_OWN_MS(terms->lease_ms);
}

unsigned lease_needed(const struct lease_count *count, bool dead, bool force)
{
	if (force)
		return count->answered ? count->answered : 1;
	return dead && count->voters == 2 ? 1 : count->majority;
}
