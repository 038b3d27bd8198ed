#include "proxy/cluster/candidate.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void say(struct candidate_choice *out, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(out->why, sizeof(out->why), format, args);
	va_end(args);
}

static uint64_t sequence_of(const struct gtid_set *set, uint32_t domain)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->points[i].domain == domain)
			return set->points[i].sequence;
	return 0;
}

uint64_t candidate_loss(const struct gtid_set *want, const struct gtid_set *have)
{
	uint64_t sum = 0;

	if (want->lost || have->lost)
		return UINT64_MAX;
	for (unsigned i = 0; i < want->count; i++) {
		uint64_t has = sequence_of(have, want->points[i].domain);

		if (want->points[i].sequence > has)
			sum += want->points[i].sequence - has;
	}
	return sum;
}

/* Lower is better. */
static int rank_of(const struct candidate *c)
{
	return c->promote == PROMOTE_PREFER ? 0 : 1;
}

/* Positions of several domains that do not contain each other: the one that lacks less is ahead. */
static bool is_better(const struct candidate *a, const struct candidate *b)
{
	uint64_t a_lacks = candidate_loss(&b->received, &a->received);
	uint64_t b_lacks = candidate_loss(&a->received, &b->received);

	if (a_lacks != b_lacks)
		return a_lacks < b_lacks;
	return rank_of(a) < rank_of(b);
}

static bool is_allowed(const struct candidate *c, const struct candidate_terms *terms)
{
	if (c->unfit)
		return false;
	if (terms->wanted)
		return !strcmp(c->name, terms->wanted);
	return c->promote != PROMOTE_NEVER;
}

static int best_of(const struct candidate *list, size_t count, const struct candidate_terms *terms)
{
	int best = -1;

	for (size_t i = 0; i < count; i++)
		if (is_allowed(&list[i], terms) && (best < 0 || is_better(&list[i], &list[best])))
			best = (int)i;
	return best;
}

static void explain_nobody(const struct candidate *list, size_t count, const struct candidate_terms *terms,
			   struct candidate_choice *out)
{
	size_t len = 0;

	say(out, "%s", terms->wanted ? "no such replica" : "there is no replica that could take over");
	for (size_t i = 0; i < count && len < sizeof(out->why); i++) {
		const char *reason = list[i].unfit ? list[i].unfit : "has promote = never";

		if (terms->wanted && strcmp(list[i].name, terms->wanted))
			continue;
		len += (size_t)snprintf(out->why + len, sizeof(out->why) - len, "%s%s %s", len ? "; " : "", list[i].name, reason);
	}
}

/* A server that is up and has what the chosen one has not: it would be left with transactions of its own. */
static const char *server_ahead_of(const struct candidate *list, size_t count, int chosen)
{
	for (size_t i = 0; i < count; i++)
		if ((int)i != chosen && !list[i].unfit && candidate_loss(&list[i].received, &list[chosen].received))
			return list[i].name;
	return NULL;
}

static bool is_refused(const struct candidate *list, size_t count, const struct candidate_terms *terms, struct candidate_choice *out)
{
	const struct candidate *c = &list[out->index];
	uint64_t thrown_away = candidate_loss(&c->received_before, &c->received);
	const char *ahead = server_ahead_of(list, count, out->index);

	if (terms->force)
		return false;
	if (out->loss > terms->max_loss)
		say(out, "%s, the most advanced, lacks %llu transactions that clients were told are stored; max_loss is %u. Bring the old "
			 "primary back, or accept the loss with `tandemctl failover --force`",
		    c->name, (unsigned long long)out->loss, terms->max_loss);
	else if (thrown_away > terms->max_loss)
		say(out, "%s restarted and has lost %llu received transactions that it had not applied; max_loss is %u. Bring the old "
			 "primary back, or accept the loss with `tandemctl failover --force`",
		    c->name, (unsigned long long)thrown_away, terms->max_loss);
	else if (terms->degraded && !terms->max_loss)
		say(out, "the primary had stopped waiting for its replicas before it died, so what %s has may not be all; max_loss is 0. "
			 "Bring the old primary back, or accept the risk with `tandemctl failover --force`",
		    c->name);
	else if (terms->unseen && !terms->max_loss)
		say(out, "this Tandem has not seen the primary alive, so whether %s has all that clients were told of is not known; max_loss is 0. "
			 "Bring the old primary back, or accept the risk with `tandemctl failover --force`",
		    c->name);
	else if (ahead)
		say(out, "%s has transactions that %s lacks: promote that one, or set its `promote` to other than never", ahead, c->name);
	else
		return false;
	return true;
}

void candidate_choose(const struct candidate *list, size_t count, const struct candidate_terms *terms, struct candidate_choice *out)
{
	memset(out, 0, sizeof(*out));
	out->index = best_of(list, count, terms);
	if (out->index < 0) {
		explain_nobody(list, count, terms, out);
		return;
	}
	out->loss = candidate_loss(&terms->acknowledged, &list[out->index].received);
	if (is_refused(list, count, terms, out))
		out->index = -1;
	else
		say(out, "%s has received most%s", list[out->index].name,
		    list[out->index].promote == PROMOTE_PREFER ? " and is preferred" : "");
}
