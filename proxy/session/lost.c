#include "proxy/session/lost.h"

#include "proxy/session/pool.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* Part of a result is with the client: it can be had from nowhere else. */
static bool is_passing(const struct backend *b)
{
	const struct turn *t = b->client ? b->client->turn : NULL;

	return t && t->backend == b && t->passed;
}

/* The loss of one may change what is behind it in the list: each look begins at its head. */
static struct backend *first_to_lose(const struct backend_list *list, bool deposed)
{
	struct backend *b;

	TAILQ_FOREACH(b, list, link)
		if (deposed || !is_passing(b))
			return b;
	return NULL;
}

static void lose_all(struct backend_list *list, bool deposed)
{
	struct backend *b;

	while ((b = first_to_lose(list, deposed)))
		backend_lost(b, "its server does not answer", 0, NULL, NULL);
}

static void leave_server(struct server_pool *pool, bool deposed)
{
	lose_all(&pool->busy, deposed);
	lose_all(&pool->free, deposed);
	lose_all(&pool->held, deposed);
}

/* It was the primary until another took over without it: whatever it still answers is no part of the cluster's history. */
static bool is_deposed(const struct server_view *before, const struct server_view *now, bool another)
{
	return before->role == ROLE_PRIMARY && (another || now->role == ROLE_STRAY);
}

static const struct server_view *view_in(const struct snapshot *s, const struct server *server)
{
	for (size_t i = 0; i < s->server_count; i++)
		if (s->servers[i].server == server)
			return &s->servers[i];
	return NULL;
}

void lost_adopt(struct worker *worker, const struct snapshot *before)
{
	const struct snapshot *s = worker->snapshot;

	for (size_t i = 0; i < s->server_count; i++) {
		const struct server_view *was = view_in(before, s->servers[i].server);
		bool deposed;

		if (!was || s->servers[i].health != HEALTH_DOWN || (int)i == s->primary || s->servers[i].role == ROLE_PRIMARY)
			continue;
		deposed = is_deposed(was, &s->servers[i], s->primary >= 0);
		if (deposed || was->health != HEALTH_DOWN)
			leave_server(worker->pools[i], deposed);
	}
}
