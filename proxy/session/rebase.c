/*
 * The primary's defaults have changed, by SET GLOBAL or because it is another server: every state of this worker is told against them, and
 * sessions and connections keep the values that they have.
 */
#include <stdlib.h>

#include "proxy/session/freeze.h"
#include "proxy/session/named.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/worker.h"

/* Most sessions and connections share a few states; they shall share the new ones, too. */
enum { CACHED = 64 };

struct rebase {
	const struct snapshot *from, *to;
	struct {
		struct state *old, *new;
		bool has_new;
	} cached[CACHED];
	unsigned count;
};

/* Gives a reference. */
static struct state *rebased(struct rebase *r, struct state *old, bool has_new)
{
	struct state *s;

	for (unsigned i = 0; i < r->count; i++)
		if (r->cached[i].old == old && r->cached[i].has_new == has_new)
			return state_ref(r->cached[i].new);
	s = state_rebase(old, r->from, r->to, has_new);
	if (r->count < CACHED) {
		r->cached[r->count].old = state_ref(old); /* so that its address is not used again meanwhile */
		r->cached[r->count].has_new = has_new;
		r->cached[r->count++].new = state_ref(s);
	}
	return s;
}

static void rebase_place(struct rebase *r, struct state **place, uint64_t awaits)
{
	struct state *s;

	if (!*place)
		return;
	s = rebased(r, *place, awaits > r->from->variables_ticket);
	state_unref(*place);
	*place = s;
}

static void visit(void *arg, struct state **place)
{
	rebase_place(arg, place, 0);
}

static void rebase_client(struct rebase *r, struct client *c)
{
	rebase_place(r, &c->value, c->awaits);
	for (uint32_t i = 0; i < c->statements.count; i++)
		rebase_place(r, &c->statements.slots[i]->value, c->awaits);
	for (struct named *n = c->named; n; n = n->next)
		rebase_place(r, &n->value, c->awaits);
	replay_each_state(c, visit, r);
}

/* Does its session lose nothing when it is reset? */
static bool is_loose(const struct backend *b)
{
	return !b->client || (pool_can_steal(b) && !freeze_needed(b->client, b));
}

/* What was made or reset a moment ago may have the new values already: where that is possible connections are reset before their next use. */
static void rebase_list(struct rebase *r, struct backend_list *list)
{
	struct backend *b;

	TAILQ_FOREACH(b, list, link) {
		rebase_place(r, &b->value, b->awaits);
		b->guard_lost |= is_loose(b);
	}
}

static void rebase_pool(struct rebase *r, struct server_pool *pool)
{
	if (!pool)
		return;
	rebase_list(r, &pool->free);
	rebase_list(r, &pool->held);
	rebase_list(r, &pool->busy);
}

static void end_rebase(struct rebase *r)
{
	for (unsigned i = 0; i < r->count; i++) {
		state_unref(r->cached[i].old);
		state_unref(r->cached[i].new);
	}
}

void worker_rebase_client(struct worker *worker, const struct snapshot *before, struct client *client)
{
	struct rebase r = { .from = before, .to = worker->snapshot };

	rebase_client(&r, client);
	end_rebase(&r);
}

void worker_rebase(struct worker *worker, const struct snapshot *before)
{
	struct rebase r = { .from = before, .to = worker->snapshot };
	struct client *c;

	TAILQ_FOREACH(c, &worker->clients, link)
		rebase_client(&r, c);
	for (int i = 0; i < CLUSTER_MAX_SERVERS; i++) {
		rebase_pool(&r, worker->pools[i]);
		rebase_pool(&r, worker->old_pools[i]);
	}
	end_rebase(&r);
}
