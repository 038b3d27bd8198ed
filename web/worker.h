/*
 * A web worker: one thread, one event base, the connections it was given. It adopts new settings between loop turns; requests under way go on
 * with the ones they began with.
 */
#ifndef TANDEM_WEB_WORKER_H
#define TANDEM_WEB_WORKER_H

#include <event2/event.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/buf.h"
#include "base/inbox.h"
#include "base/io.h"
#include "web/access_log.h"
#include "web/roots.h"
#include "web/settings.h"

/* What the room lives by at one moment: shared by workers and requests, counted. */
struct web_config {
	_Atomic unsigned refs;
	struct settings *settings; /* holds `web` */
	const struct web_settings *web;
	SSL_CTX *tls; /* of the TLS listeners; chooses a site's certificate by SNI. NULL: no such listener */
	SSL_CTX **site_tls; /* per site */
	struct upstream **upstreams; /* in the order of the settings */
	struct app_room *apps; /* the daemon's */
};
struct web_config *web_config_ref(struct web_config *config);
void web_config_unref(struct web_config *config);
/* By name; the settings have none that is not there. */
struct upstream *web_config_upstream(const struct web_config *config, const char *name);

/* What somebody waits for; each wait has one time-out, so that a list in order of arrival is in order of deadline. */
enum web_wait {
	WAIT_NOTHING,  /* no time runs, or somebody else's does; what zero bytes are */
	WAIT_REQUEST,  /* between requests */
	WAIT_HEAD,     /* the rest of a head, or of a TLS handshake */
	WAIT_BODY,     /* the request's */
	WAIT_SEND,     /* the client takes the answer */
	WAIT_LINGER,   /* the client hangs up */
	WAIT_KEPT,     /* a connection to an upstream server is needed again */
	WAIT_QUEUE,    /* an upstream server is free */
	WAIT_CONNECT,  /* it takes the connection */
	WAIT_UPSTREAM, /* it says something */
	WAIT_TUNNEL,   /* somebody says something */
	WEB_WAITS,
};

/* Part of what waits: a connection, an exchange. Looked at four times a second, so that one costs no system call. */
struct web_timer {
	TAILQ_ENTRY(web_timer) link;
	enum web_wait wait;
	enum web_wait was; /* for `over`: what the time was for */
	uint64_t deadline_ms;
	void (*over)(struct web_timer *timer); /* off its list by then; may free what it is part of */
};

void web_timer_init(struct web_timer *timer, void (*over)(struct web_timer *timer));
struct web_worker;
/* Starts the wait's time anew. WAIT_NOTHING takes it off its list, which must come before it is freed. */
void web_timer_set(struct web_worker *worker, struct web_timer *timer, enum web_wait wait);

TAILQ_HEAD(web_timer_list, web_timer);
TAILQ_HEAD(connection_list, connection);
TAILQ_HEAD(upstream_link_list, upstream_link);
struct freed_later;

struct web_worker {
	unsigned number;
	pthread_t thread;
	bool started;
	struct event_base *base;
	struct io_loop loop;
	struct inbox inbox;
	struct event *ticker;
	struct event *reaper;
	struct web_config *config;
	struct web_timer_list waits[WEB_WAITS]; /* in order of deadline */
	struct connection_list connections;
	struct upstream_link_list links; /* to upstream servers, idle; the last used first */
	struct connection_list dead; /* freed at the end of the loop turn */
	SLIST_HEAD(, freed_later) freed; /* likewise */
	_Atomic unsigned *clients;   /* of all workers */
	_Atomic unsigned client_count;
	struct access_log *log; /* shared */
	struct log_lines lines; /* this worker's, on their way there */
	struct limit_table *limits; /* of all workers */
	uint64_t next_id;	/* of a request; begins anywhere */
	struct buf fields;	/* of the answer being begun */
	struct roots roots;
	uint64_t now_ms;	/* refreshed each tick */
	time_t now_s;		/* wall clock, for Date */
	char standing[80];	/* the field of every answer: Date, as of this second */
	bool draining;
};

bool web_worker_init(struct web_worker *worker, unsigned number, struct web_config *config, _Atomic unsigned *clients,
		     struct access_log *log, struct limit_table *limits) __attribute__((warn_unused_result));
bool web_worker_start(struct web_worker *worker) __attribute__((warn_unused_result));
/* Ends the thread if it runs, and frees everything. */
void web_worker_fini(struct web_worker *worker);

/* Any thread: */
/* Takes the socket. `tls`: it came to a TLS listener. */
void web_worker_post_client(struct web_worker *worker, int fd, const struct address *peer, bool tls);
void web_worker_post_config(struct web_worker *worker, struct web_config *config);
/* Idle connections are closed now, the others when they have been answered. */
void web_worker_post_drain(struct web_worker *worker);

/* The worker's own thread: */
/* Frees it at the end of the loop turn. */
void web_worker_bury(struct web_worker *worker, struct connection *connection);
/* free() at the end of the loop turn, for what a callback below may still look at. */
void web_worker_free_later(struct web_worker *worker, void *memory);

#endif
