/*
 * A worker's connection to a server of an upstream: made for a request, or kept from one before. Whoever has it is told by its io's handler;
 * kept ones wait with the worker, and are let go when they are old, when the server hangs up, or when it was found to be down.
 */
#ifndef TANDEM_WEB_UPSTREAM_LINK_H
#define TANDEM_WEB_UPSTREAM_LINK_H

#include "web/upstream.h"
#include "web/worker.h"

struct upstream_link {
	struct io io;
	struct web_worker *worker;
	struct upstream *upstream;
	struct upstream_server *server;
	uint64_t generation; /* the server's, when it was made */
	bool was_kept;	     /* the server may have hung up meanwhile */
	struct web_timer timer;
	TAILQ_ENTRY(upstream_link) entry; /* of the worker's, while it is kept */
};

/* Starts to connect; the handler's `ready` or `ended` follows. NULL: no socket or memory, errno tells. */
struct upstream_link *upstream_link_open(struct web_worker *worker, struct upstream *upstream, struct upstream_server *server,
					 const struct io_handler *handler, void *owner);
/* One that was kept, or NULL. */
struct upstream_link *upstream_link_take(struct web_worker *worker, struct upstream_server *server, const struct io_handler *handler,
					 void *owner);
/* Nothing is under way on it: keeps it if there are fewer than `limit` of the upstream's in all workers, else closes it. */
void upstream_link_keep(struct upstream_link *l, unsigned limit);
/* Closes; its memory stays until the end of the loop turn. */
void upstream_link_close(struct upstream_link *l);
/* Closes all that are kept: the worker ends. */
void upstream_links_close(struct web_worker *worker);

#endif
