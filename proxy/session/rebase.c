/*
 * The primary's defaults have changed, by SET GLOBAL or because it is another server: every state of this worker is told against them, and
 * sessions and connections keep the values that they have.
 */
#include <stdlib.h>

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
	} cached[CACHED];
	unsigned count;
};

/* Gives a reference. */
static struct state *rebased(struct rebase *r, struct state *old)
{
	struct state *s;

	for (unsigned i = 0; i < r->count; i++)
		if (r->cached[i].old == old)
			return state_ref(r->cached[i].new);
	s = state_rebase(old, r->from, r->to);
	if (r->count < CACHED) {
		r->cached[r->count].old = state_ref(old); /* so that its address is not used again meanwhile */
		r->cached[r->count++].new = state_ref(s);
	}
	return s;
}

static void rebase_place(struct rebase *r, struct state **place)
{
	struct state *s;

	if (!*place)
		return;
	s = rebased(r, *place);
	state_unref(*place);
	*place = s;
}

static void visit(void *arg, struct state **place)
{
	rebase_place(arg, place);
}

static void rebase_client(struct rebase *r, struct client *c)
{
	rebase_place(r, &c->value);
	for (uint32_t i = 0; i < c->statements.count; i++)
		rebase_place(r, &c->statements.slots[i]->value);
	for (struct named *n = c->named; n; n = n->next)
		rebase_place(r, &n->value);
	replay_each_state(c, visit, r);
}

static void rebase_list(struct rebase *r, struct backend_list *list)
{
	struct backend *b;

	TAILQ_FOREACH(b, list, link)
		rebase_place(r, &b->value);
}

/* Nobody's connections are reset before their next use: what was reset a moment ago may have the new values already. */
static void rebase_pool(struct rebase *r, struct server_pool *pool)
{
	struct backend *b;

	if (!pool)
		return;
	TAILQ_FOREACH(b, &pool->free, link)
		b->guard_lost = true;
	rebase_list(r, &pool->free);
	rebase_list(r, &pool->held);
	rebase_list(r, &pool->busy);
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
	for (unsigned i = 0; i < r.count; i++) {
		state_unref(r.cached[i].old);
		state_unref(r.cached[i].new);
	}
}
