#include "web/upstream_link.h"

#include <stdlib.h>

static const struct io_handler kept_handler;

/* ---- Life ---- */

static void close_kept(struct upstream_link *l)
{
	TAILQ_REMOVE(&l->worker->links, l, entry);
	upstream_unkeep(l->upstream);
	upstream_link_close(l);
}

static void too_old(struct web_timer *timer)
{
	close_kept((struct upstream_link *)((char *)timer - offsetof(struct upstream_link, timer)));
}

struct upstream_link *upstream_link_open(struct web_worker *worker, struct upstream *upstream, struct upstream_server *server,
					 const struct io_handler *handler, void *owner)
{
	struct upstream_link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	if (!io_connect(&l->io, &worker->loop, (const struct sockaddr *)&server->address, server->address_len, handler, owner)) {
		free(l);
		return NULL;
	}
	l->worker = worker;
	l->upstream = upstream_ref(upstream);
	l->server = upstream_server_ref(server);
	l->generation = atomic_load_explicit(&server->generation, memory_order_relaxed);
	web_timer_init(&l->timer, too_old);
	return l;
}

void upstream_link_close(struct upstream_link *l)
{
	web_timer_set(l->worker, &l->timer, WAIT_NOTHING);
	io_close(&l->io);
	upstream_server_unref(l->server);
	upstream_unref(l->upstream);
	web_worker_free_later(l->worker, l);
}

/* ---- Kept ---- */

static bool is_current(const struct upstream_link *l)
{
	return l->generation == atomic_load_explicit(&l->server->generation, memory_order_relaxed);
}

/* Newest first: what is not needed grows old and goes. */
struct upstream_link *upstream_link_take(struct web_worker *worker, struct upstream_server *server, const struct io_handler *handler,
					 void *owner)
{
	struct upstream_link *l, *next;

	for (l = TAILQ_FIRST(&worker->links); l; l = next) {
		next = TAILQ_NEXT(l, entry);
		if (l->server != server)
			continue;
		if (!is_current(l)) {
			close_kept(l);
			continue;
		}
		TAILQ_REMOVE(&worker->links, l, entry);
		upstream_unkeep(l->upstream);
		web_timer_set(worker, &l->timer, WAIT_NOTHING);
		l->was_kept = true;
		l->io.handler = handler;
		l->io.owner = owner;
		return l;
	}
	return NULL;
}

void upstream_link_keep(struct upstream_link *l, unsigned limit)
{
	if (l->worker->draining || l->io.state != IO_OPEN || io_unsent(&l->io) || !is_current(l) || !upstream_keep(l->upstream, limit)) {
		upstream_link_close(l);
		return;
	}
	l->io.handler = &kept_handler;
	l->io.owner = l;
	TAILQ_INSERT_HEAD(&l->worker->links, l, entry);
	web_timer_set(l->worker, &l->timer, WAIT_KEPT);
	io_resume(&l->io);
}

void upstream_links_close(struct web_worker *worker)
{
	struct upstream_link *l;

	while ((l = TAILQ_FIRST(&worker->links)))
		close_kept(l);
}

/* Nobody asked: an answer to nothing must never meet the next request. */
static void unasked(void *owner, uint8_t *bytes, size_t len)
{
	(void)bytes, (void)len;
	close_kept(owner);
}

static void hung_up(void *owner, enum io_end why)
{
	(void)why;
	close_kept(owner);
}

static void nothing(void *owner)
{
	(void)owner;
}

static const struct io_handler kept_handler = { unasked, nothing, nothing, hung_up };
