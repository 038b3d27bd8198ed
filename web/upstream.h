/*
 * A named group of servers that answer requests: which of them is next, which to leave alone for a while, who waits for one. Shared by all
 * workers under one lock, held for a few hundred instructions: a ratio of weights, a limit and a fair queue are only true when they count
 * everybody. It outlives reloads of the settings: what is under way and what an administrator has set stays.
 */
#ifndef TANDEM_WEB_UPSTREAM_H
#define TANDEM_WEB_UPSTREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/inbox.h"
#include "web/settings.h"

struct upstream;

enum { UPSTREAM_SERVERS_MAX = 64, UPSTREAM_WEIGHT_MAX = 256, UPSTREAM_WHY = 128, UPSTREAM_MARK = 17 };

/* Counted; what is written here never changes. What changes is upstream.c's, under the lock. */
struct upstream_server {
	_Atomic unsigned refs;
	char *name; /* as in the settings */
	struct sockaddr_storage address;
	socklen_t address_len;
	char mark[UPSTREAM_MARK]; /* what a sticky cookie calls it: says nothing about its address */
	_Atomic uint64_t generation; /* moves on when it went down: connections kept from before are not used any more */
	struct upstream_server_state *state;
};

struct upstream_server *upstream_server_ref(struct upstream_server *server);
void upstream_server_unref(struct upstream_server *server);

/* NULL with a reason: an address that is none, or a weight that is. Made with one reference. */
struct upstream *upstream_new(const struct web_upstream *settings, char *why, size_t why_size);
struct upstream *upstream_ref(struct upstream *upstream);
void upstream_unref(struct upstream *upstream);
const char *upstream_name(const struct upstream *upstream);

/*
 * A reload: `upstream` goes on with the servers and rules of `fresh`, which was made from the new settings and is of no use afterwards but to
 * be let go. Servers of the same name and address keep what is known of them; a weight that was set by command stays unless the settings' changed.
 */
void upstream_update(struct upstream *upstream, struct upstream *fresh);

/* ---- Taking a server for a request ---- */

struct upstream_wish {
	uint64_t tried;	  /* servers that are left out, a bit each */
	const char *mark; /* of the server that the client belongs to; NULL: none */
	size_t mark_len;
};

/* A place in the queue. Made by upstream_take(). */
struct upstream_ticket;
/* The place's turn has come: `server` is taken for the owner. On the owner's thread; the ticket is gone. */
typedef void (*upstream_granted)(void *owner, struct upstream_server *server);

struct upstream_waiter {
	struct inbox *inbox; /* of the owner's thread */
	upstream_granted granted;
	void *owner;
};

enum upstream_taken {
	UPSTREAM_TAKEN,	    /* *server, referenced; upstream_give() when the request is over */
	UPSTREAM_WAITS,	    /* *ticket: all are at their limit, the waiter is told */
	UPSTREAM_FULL,	    /* and so is the queue */
	UPSTREAM_NONE_LEFT, /* all that there are have been tried */
	UPSTREAM_CLOSED,    /* none may be used: drained or set down */
};

/*
 * Servers that are up come first, then backups; when none of both is left, those that are down are tried: one may be back. A server that was
 * taken is in wish->tried afterwards.
 */
enum upstream_taken upstream_take(struct upstream *upstream, struct upstream_wish *wish, const struct upstream_waiter *waiter,
				  struct upstream_server **server, struct upstream_ticket **ticket);
/* The owner waits no longer. On its own thread. */
void upstream_ticket_drop(struct upstream_ticket *ticket);
/* Of a server got by a ticket: its bit for wish->tried. */
uint64_t upstream_bit(struct upstream *upstream, const struct upstream_server *server);

enum upstream_outcome {
	UPSTREAM_SERVED,      /* it answered, whatever it said */
	UPSTREAM_FAILED,      /* it hung up, said nothing or nonsense: `fails` of these and it is down for a while */
	UPSTREAM_UNREACHABLE, /* it did not take the connection: down at once */
	UPSTREAM_NEITHER,     /* the client went first */
};
/* The request is over; takes the reference. `why` is for the failures. */
void upstream_give(struct upstream *upstream, struct upstream_server *server, enum upstream_outcome outcome, const char *why);

/* ---- Idle connections to servers, kept by workers: one count for all ---- */

/* True: one more may be kept; it was counted. */
bool upstream_keep(struct upstream *upstream, unsigned limit);
void upstream_unkeep(struct upstream *upstream);

/* ---- What is known, and what an administrator or a health check says ---- */

enum upstream_order {
	UPSTREAM_IN_USE,
	UPSTREAM_DRAINING, /* only clients that belong to it come there */
	UPSTREAM_OUT,	   /* nobody does */
};

struct upstream_view {
	const char *upstream;
	const char *name;
	unsigned weight, settings_weight;
	bool backup;
	enum upstream_order order;
	bool up;
	unsigned active;
	unsigned max_connections; /* 0: no limit */
	unsigned waiting;	  /* for any of the upstream */
	uint64_t requests, failures;
	const char *why; /* it is down, or was last; "" */
};
/* Calls `see` for each server, under the lock: it copies. */
void upstream_look(struct upstream *upstream, void (*see)(void *arg, const struct upstream_view *view), void *arg);

/* False: there is no such server. */
bool upstream_set_weight(struct upstream *upstream, const char *server, unsigned weight);
bool upstream_set_order(struct upstream *upstream, const char *server, enum upstream_order order);

/* The servers, referenced; returns how many. */
size_t upstream_servers(struct upstream *upstream, struct upstream_server *out[UPSTREAM_SERVERS_MAX]);
/* What a health check found. After `fall` bad ones in a row a server is down, after `rise` good ones up. */
void upstream_checked(struct upstream *upstream, struct upstream_server *server, bool good, const char *why);

#endif
