/*
 * A named group of servers that answer requests: which of them is next, and which to leave alone for a while. Shared by all workers, without
 * a lock: the order of smooth weighted round-robin is worked out once, and a counter walks along it.
 */
#ifndef TANDEM_WEB_UPSTREAM_H
#define TANDEM_WEB_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "web/settings.h"

struct upstream_server {
	char *name; /* as in the settings */
	unsigned weight;
	bool backup; /* only when no other is left */
	struct sockaddr_storage address;
	socklen_t address_len;
	_Atomic uint64_t down_until_ms; /* it refused a connection: others first until then */
	_Atomic unsigned active;	/* requests with it now */
};

struct upstream {
	const struct web_upstream *settings;
	size_t server_count;
	struct upstream_server *servers;
	size_t order_count;
	uint16_t *order; /* indices into servers, weights spread evenly */
	_Atomic size_t next;
};

/* NULL with a reason: an address that is none, or a weight that is. */
struct upstream *upstream_new(const struct web_upstream *settings, char *why, size_t why_size);
void upstream_free(struct upstream *upstream);

/*
 * The next server, leaving out those in `tried` (a bit each; at most 64 servers). Servers that are down are taken only when all are, backups
 * only when no other is up. NULL: all have been tried. The caller counts `active`.
 */
struct upstream_server *upstream_pick(struct upstream *upstream, uint64_t tried, uint64_t now_ms);
void upstream_failed(struct upstream_server *server, uint64_t now_ms);

#endif
