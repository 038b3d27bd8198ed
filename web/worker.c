#include "web/worker.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/settings.h"
#include "web/condition.h"
#include "web/connection.h"
#include "web/upstream_link.h"

enum { TICK_MS = 250, LINGER_MS = 2000, KEPT_MS = 30000 };

/* ---- What the room lives by ---- */

struct web_config *web_config_ref(struct web_config *config)
{
	atomic_fetch_add_explicit(&config->refs, 1, memory_order_relaxed);
	return config;
}

void web_config_unref(struct web_config *config)
{
	if (!config || atomic_fetch_sub_explicit(&config->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; config->site_tls && i < config->web->site_count; i++)
		SSL_CTX_free(config->site_tls[i]);
	free(config->site_tls);
	for (size_t i = 0; config->upstreams && i < config->web->upstream_count; i++)
		upstream_unref(config->upstreams[i]);
	free(config->upstreams);
	SSL_CTX_free(config->tls);
	settings_unref(config->settings);
	free(config);
}

struct upstream *web_config_upstream(const struct web_config *config, const char *name)
{
	for (size_t i = 0; i < config->web->upstream_count; i++)
		if (!strcmp(config->web->upstreams[i].name, name))
			return config->upstreams[i];
	abort(); /* the settings were checked */
}

/* ---- Time ---- */

static uint32_t timeout(const struct web_worker *worker, enum web_wait wait)
{
	const struct web_settings *web = worker->config->web;

	switch (wait) {
	case WAIT_REQUEST: return web->idle_timeout_ms;
	case WAIT_HEAD: return web->header_timeout_ms;
	case WAIT_BODY: return web->body_timeout_ms;
	case WAIT_SEND: return web->send_timeout_ms;
	case WAIT_LINGER: return LINGER_MS;
	case WAIT_KEPT: return KEPT_MS;
	case WAIT_QUEUE: return web->queue_timeout_ms;
	case WAIT_TUNNEL: return web->tunnel_timeout_ms;
	case WAIT_CONNECT: return web->connect_timeout_ms;
	case WAIT_UPSTREAM: return web->upstream_timeout_ms;
	case WAIT_NOTHING:
	case WEB_WAITS: break;
	}
	return UINT32_MAX;
}

void web_timer_init(struct web_timer *timer, void (*over)(struct web_timer *timer))
{
	*timer = (struct web_timer){ .over = over };
}

void web_timer_set(struct web_worker *worker, struct web_timer *timer, enum web_wait wait)
{
	if (timer->wait != WAIT_NOTHING)
		TAILQ_REMOVE(&worker->waits[timer->wait], timer, link);
	timer->wait = wait;
	if (wait == WAIT_NOTHING)
		return;
	timer->deadline_ms = worker->now_ms + timeout(worker, wait);
	TAILQ_INSERT_TAIL(&worker->waits[wait], timer, link);
}

static void check_deadlines(struct web_worker *w)
{
	struct web_timer *timer;

	for (int wait = WAIT_NOTHING + 1; wait < WEB_WAITS; wait++)
		while ((timer = TAILQ_FIRST(&w->waits[wait])) && timer->deadline_ms <= w->now_ms) {
			timer->was = timer->wait;
			web_timer_set(w, timer, WAIT_NOTHING);
			timer->over(timer);
		}
}

static void note_time(struct web_worker *w)
{
	time_t now = time(NULL);
	char date[HTTP_DATE_BYTES];

	w->now_ms = clock_ms();
	if (now == w->now_s)
		return;
	w->now_s = now;
	http_date_put(now, date);
	snprintf(w->standing, sizeof(w->standing), "Date: %s\r\n", date);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct web_worker *w = arg;

	(void)fd, (void)what;
	note_time(w);
	check_deadlines(w);
	if (w->log)
		access_log_flush(w->log, &w->lines);
}

/* ---- The dead ---- */

struct freed_later {
	SLIST_ENTRY(freed_later) link;
	void *memory;
};

void web_worker_free_later(struct web_worker *worker, void *memory)
{
	struct freed_later *f = malloc(sizeof(*f));

	if (!f)
		abort();
	f->memory = memory;
	SLIST_INSERT_HEAD(&worker->freed, f, link);
	event_active(worker->reaper, EV_TIMEOUT, 0);
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
	struct web_worker *w = arg;
	struct freed_later *f;
	struct connection *c;

	(void)fd, (void)what;
	while ((c = TAILQ_FIRST(&w->dead))) {
		TAILQ_REMOVE(&w->dead, c, link);
		free(c);
	}
	while ((f = SLIST_FIRST(&w->freed))) {
		SLIST_REMOVE_HEAD(&w->freed, link);
		free(f->memory);
		free(f);
	}
}

void web_worker_bury(struct web_worker *worker, struct connection *connection)
{
	TAILQ_INSERT_TAIL(&worker->dead, connection, link);
	event_active(worker->reaper, EV_TIMEOUT, 0);
}

/* ---- Messages ---- */

struct message {
	struct inbox_message base;
	struct web_config *config;
	int fd;
	bool tls;
	struct address peer;
};

static void post(struct web_worker *w, const struct message *content, void (*deliver)(struct inbox_message *, void *))
{
	struct message *m = malloc(sizeof(*m));

	if (!m) {
		log_error(NULL, "out of memory for a message to web worker %u", w->number);
		abort();
	}
	*m = *content;
	m->base.deliver = deliver;
	inbox_post(&w->inbox, &m->base);
}

static void deliver_client(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;
	struct web_worker *w = owner;

	atomic_fetch_sub_explicit(&w->client_count, 1, memory_order_relaxed); /* counted at hand-over, so that they are spread evenly */
	if (w->draining)
		close(m->fd);
	if (w->draining || !connection_new(w, m->fd, &m->peer, m->tls))
		atomic_fetch_sub_explicit(w->clients, 1, memory_order_relaxed);
	free(m);
}

static void deliver_config(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;
	struct web_worker *w = owner;

	roots_close(&w->roots);
	web_config_unref(w->config);
	w->config = m->config;
	free(m);
}

static void deliver_drain(struct inbox_message *message, void *owner)
{
	struct web_worker *w = owner;
	struct connection *c, *next;

	w->draining = true;
	/* One that is closed stays in memory until the end of the loop turn. */
	for (c = TAILQ_FIRST(&w->connections); c; c = next) {
		next = TAILQ_NEXT(c, link);
		connection_drain(c);
	}
	free(message);
}

static void deliver_stop(struct inbox_message *message, void *owner)
{
	struct web_worker *w = owner;
	struct connection *c;

	w->draining = true;
	while ((c = TAILQ_FIRST(&w->connections)))
		connection_close(c, "stopping");
	upstream_links_close(w);
	event_base_loopbreak(w->base);
	free(message);
}

void web_worker_post_client(struct web_worker *worker, int fd, const struct address *peer, bool tls)
{
	struct message m = { .fd = fd, .tls = tls, .peer = *peer };

	atomic_fetch_add_explicit(&worker->client_count, 1, memory_order_relaxed);
	post(worker, &m, deliver_client);
}

void web_worker_post_config(struct web_worker *worker, struct web_config *config)
{
	post(worker, &(struct message){ .config = web_config_ref(config) }, deliver_config);
}

void web_worker_post_drain(struct web_worker *worker)
{
	post(worker, &(struct message){ 0 }, deliver_drain);
}

/* ---- Life ---- */

static void *run(void *arg)
{
	event_base_dispatch(((struct web_worker *)arg)->base);
	return NULL;
}

/* A base of one thread: nothing in it is locked. */
static struct event_base *new_base(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config && !event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK))
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	return base;
}

static bool add_events(struct web_worker *w)
{
	static const struct timeval tick = { 0, TICK_MS * 1000 };

	w->ticker = event_new(w->base, -1, EV_PERSIST, on_tick, w);
	w->reaper = event_new(w->base, -1, 0, on_reap, w);
	return w->ticker && w->reaper && !event_add(w->ticker, &tick);
}

bool web_worker_init(struct web_worker *worker, unsigned number, struct web_config *config, _Atomic unsigned *clients,
		     struct access_log *log, struct limit_table *limits)
{
	*worker = (struct web_worker){ .number = number, .config = web_config_ref(config), .clients = clients, .log = log,
				       .limits = limits };
	if (RAND_bytes((unsigned char *)&worker->next_id, sizeof(worker->next_id)) != 1)
		return false;
	for (int i = 0; i < WEB_WAITS; i++)
		TAILQ_INIT(&worker->waits[i]);
	TAILQ_INIT(&worker->connections);
	TAILQ_INIT(&worker->links);
	TAILQ_INIT(&worker->dead);
	worker->inbox.fd = -1;
	note_time(worker);
	worker->base = new_base();
	return worker->base && io_loop_init(&worker->loop, worker->base) && inbox_init(&worker->inbox, &worker->loop.poller, worker) &&
	       add_events(worker);
}

bool web_worker_start(struct web_worker *worker)
{
	worker->started = pthread_create(&worker->thread, NULL, run, worker) == 0;
	return worker->started;
}

void web_worker_fini(struct web_worker *worker)
{
	if (worker->started) {
		post(worker, &(struct message){ 0 }, deliver_stop);
		pthread_join(worker->thread, NULL);
	}
	if (worker->inbox.fd >= 0)
		inbox_fini(&worker->inbox);
	if (worker->base)
		on_reap(-1, 0, worker);
	if (worker->log)
		access_log_flush(worker->log, &worker->lines);
	if (worker->ticker)
		event_free(worker->ticker);
	if (worker->reaper)
		event_free(worker->reaper);
	io_loop_fini(&worker->loop);
	if (worker->base)
		event_base_free(worker->base);
	buf_fini(&worker->fields);
	roots_close(&worker->roots);
	web_config_unref(worker->config);
}
