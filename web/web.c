#include "web/web.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/listen.h"
#include "base/log.h"
#include "base/tls.h"
#include "base/tls_staple.h"
#include "base/tls_tickets.h"
#include "proxy/settings.h"
#include "web/limit.h"
#include "web/health.h"
#include "web/upstream.h"
#include "web/worker.h"

enum { ACCEPT_BATCH = 64 };

struct port {
	struct log_subject subject;
	struct web *web;
	const char *address;
	struct event *event;
	struct listen_socket at;
	bool tls;
};

struct web {
	struct settings *settings; /* those started with: their listeners stay */
	struct app_room *apps;
	struct web_config *config;
	pthread_mutex_t config_lock; /* of the pointer, against readers that are not workers */
	struct health *health;	     /* NULL: no server is checked */
	struct access_log *log;
	struct limit_table *limits;
	struct tls_tickets *tickets; /* outlive the contexts of each reload */
	struct web_worker *workers;
	unsigned worker_count;
	_Atomic unsigned clients;
	_Atomic unsigned max_clients;
	/* The accepting thread. */
	struct event_base *base;
	struct poller poller;
	struct inbox inbox;
	pthread_t thread;
	bool started;
	int spare_fd; /* given up for a moment to turn a client away when there are no more files */
	size_t port_count;
	struct port *ports;
};

bool web_is_wanted(const struct settings *settings)
{
	const struct web_settings *web = web_settings_of(settings);

	return web && (web->listen_count || web->listen_tls_count);
}

/* ---- Certificates ---- */

/* Of a TLS connection: the certificate of the site that the client named. Unknown names get the first one; the request's Host decides. */
static int on_server_name(SSL *ssl, int *alert, void *arg)
{
	const struct web_config *config = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const struct web_site *site = name ? web_find_site(config->web, name, strlen(name)) : NULL;

	(void)alert;
	if (site && config->site_tls[site - config->web->sites])
		SSL_set_SSL_CTX(ssl, config->site_tls[site - config->web->sites]);
	return SSL_TLSEXT_ERR_OK;
}

static int on_protocols(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	const struct web_config *config = arg;
	unsigned skip = config->web->http2 ? 0 : 3;

	(void)ssl;
	if (SSL_select_next_proto((unsigned char **)out, out_len, ours + skip, sizeof(ours) - 1 - skip, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	return SSL_TLSEXT_ERR_OK;
}

static bool staple(SSL_CTX *ctx, const struct web_site *site, char *why, size_t why_size)
{
	bool is_stale = false;

	if (!site->ocsp)
		return true;
	if (!tls_staple(ctx, site->ocsp, &is_stale, why, why_size))
		return false;
	if (is_stale)
		log_warning(NULL, "[site %s] ocsp %s: its time is over, browsers do not get it: fetch a new one and reload", site->host, site->ocsp);
	return true;
}

static bool load_site(struct web_config *config, struct tls_tickets *tickets, size_t i, char *why, size_t why_size)
{
	const struct web_site *site = &config->web->sites[i];
	char what[256];

	if (!site->certificate)
		return true;
	config->site_tls[i] = tls_server_context(site->certificate, site->key, NULL, what, sizeof(what));
	if (!config->site_tls[i] || !staple(config->site_tls[i], site, what, sizeof(what))) {
		snprintf(why, why_size, "[site %s] %s", site->host, what);
		return false;
	}
	/* The one in force when the protocol is chosen. */
	SSL_CTX_set_alpn_select_cb(config->site_tls[i], on_protocols, config);
	return tls_tickets_use(tickets, config->site_tls[i]);
}

static bool load_certificates(struct web_config *config, struct tls_tickets *tickets, char *why, size_t why_size)
{
	config->site_tls = calloc(config->web->site_count + 1, sizeof(SSL_CTX *));
	if (!config->site_tls)
		return false;
	for (size_t i = 0; i < config->web->site_count; i++)
		if (!load_site(config, tickets, i, why, why_size))
			return false;
	/* What a client gets that names no site, or one without a certificate. */
	config->tls = tls_server_context(NULL, NULL, config->settings->state_dir, why, why_size);
	if (!config->tls || !tls_tickets_use(tickets, config->tls))
		return false;
	SSL_CTX_set_tlsext_servername_callback(config->tls, on_server_name);
	SSL_CTX_set_tlsext_servername_arg(config->tls, config);
	SSL_CTX_set_alpn_select_cb(config->tls, on_protocols, config);
	return true;
}

static bool load_upstreams(struct web_config *config, char *why, size_t why_size)
{
	char what[256];

	config->upstreams = calloc(config->web->upstream_count + 1, sizeof(struct upstream *));
	if (!config->upstreams)
		return false;
	for (size_t i = 0; i < config->web->upstream_count; i++) {
		config->upstreams[i] = upstream_new(&config->web->upstreams[i], what, sizeof(what));
		if (!config->upstreams[i]) {
			snprintf(why, why_size, "[upstream %s] server %s", config->web->upstreams[i].name, what);
			return false;
		}
	}
	return true;
}

static struct web_config *load_config(const struct web *web, struct settings *settings, char *why, size_t why_size)
{
	struct web_config *config = calloc(1, sizeof(*config));

	snprintf(why, why_size, "out of memory");
	if (!config)
		return NULL;
	atomic_init(&config->refs, 1);
	config->settings = settings_ref(settings);
	config->web = web_settings_of(settings);
	config->apps = web->apps;
	if (!load_upstreams(config, why, why_size) ||
	    (config->web->listen_tls_count && !load_certificates(config, web->tickets, why, why_size))) {
		web_config_unref(config);
		return NULL;
	}
	return config;
}

/* ---- Accepting ---- */

static struct web_worker *least_loaded(struct web *web)
{
	struct web_worker *best = &web->workers[0];

	for (unsigned i = 1; i < web->worker_count; i++)
		if (atomic_load_explicit(&web->workers[i].client_count, memory_order_relaxed) <
		    atomic_load_explicit(&best->client_count, memory_order_relaxed))
			best = &web->workers[i];
	return best;
}

/* Without a word: behind a load balancer that is the sign to try another. */
static void out_of_files(struct port *p)
{
	int fd;

	log_warning(&p->subject, "out of file descriptors: raise LimitNOFILE or ulimit -n; clients are turned away");
	close(p->web->spare_fd);
	fd = accept4(p->at.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		close(fd);
	p->web->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static bool accept_one(struct port *p)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	struct web *web = p->web;
	unsigned limit = atomic_load_explicit(&web->max_clients, memory_order_relaxed);
	int fd = accept4(p->at.fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct address from;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			out_of_files(p);
		return errno == ECONNABORTED || errno == EINTR;
	}
	if (limit && atomic_load_explicit(&web->clients, memory_order_relaxed) >= limit) {
		close(fd);
		return true;
	}
	atomic_fetch_add_explicit(&web->clients, 1, memory_order_relaxed);
	address_of_peer(&peer, &from);
	web_worker_post_client(least_loaded(web), fd, &from, p->tls);
	return true;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	for (int i = 0; i < ACCEPT_BATCH && accept_one(arg); i++)
		;
}

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct port *p = (const struct port *)((const char *)subject - offsetof(struct port, subject));

	snprintf(out, size, "web listener %s", p->address);
}

static bool open_port(struct web *web, struct port *p, const char *address, bool tls, char *why, size_t why_size)
{
	char what[256];

	*p = (struct port){ { describe }, .web = web, .address = address, .tls = tls, .at = { .fd = -1 } };
	if (!listen_open(&p->at, address, 0777, what, sizeof(what))) {
		snprintf(why, why_size, "web.listen%s %s: %s", tls ? "_tls" : "", address, what);
		return false;
	}
	p->event = event_new(web->base, p->at.fd, EV_READ | EV_PERSIST, on_accept, p);
	return p->event && !event_add(p->event, NULL);
}

static bool open_ports(struct web *web, char *why, size_t why_size)
{
	const struct web_settings *s = web->config->web;

	web->ports = calloc(s->listen_count + s->listen_tls_count, sizeof(*web->ports));
	if (!web->ports)
		return false;
	for (size_t i = 0; i < s->listen_count + s->listen_tls_count; i++) {
		bool tls = i >= s->listen_count;
		const char *address = tls ? s->listen_tls[i - s->listen_count] : s->listen[i];

		if (!open_port(web, &web->ports[web->port_count++], address, tls, why, why_size))
			return false;
	}
	return true;
}

static void close_ports(struct web *web)
{
	for (size_t i = 0; i < web->port_count; i++) {
		if (web->ports[i].event)
			event_free(web->ports[i].event);
		listen_close(&web->ports[i].at);
	}
	web->port_count = 0;
}

/* ---- Life ---- */

static void *accept_all(void *arg)
{
	event_base_dispatch(((struct web *)arg)->base);
	return NULL;
}

static bool start_workers(struct web *web)
{
	unsigned count = web->settings->threads;

	if (!count)
		count = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
	web->workers = calloc(count, sizeof(*web->workers));
	if (!web->workers)
		return false;
	while (web->worker_count < count) {
		struct web_worker *w = &web->workers[web->worker_count];

		if (!web_worker_init(w, web->worker_count++, web->config, &web->clients, web->log, web->limits) || !web_worker_start(w))
			return false;
	}
	return true;
}

static bool open_log(struct web *web, char *why, size_t why_size)
{
	const char *path = web->config->web->access_log;

	web->log = access_log_open(path);
	if (!web->log)
		snprintf(why, why_size, "[web] access_log %s: %s", path ? path : "", strerror(errno));
	return web->log != NULL;
}

static bool start_health(struct web *web, struct web_config *config)
{
	if (!health_is_wanted(config))
		return true;
	web->health = health_start(config);
	if (!web->health)
		log_error(NULL, "web: health checks cannot be started: out of memory or threads");
	return web->health != NULL;
}

static bool start(struct web *web, char *why, size_t why_size)
{
	web->tickets = tls_tickets_new();
	if (!web->tickets)
		return false;
	web->config = load_config(web, web->settings, why, why_size);
	if (!web->config || !open_log(web, why, why_size))
		return false;
	snprintf(why, why_size, "the web cannot be started: out of memory or threads");
	web->max_clients = web->config->web->max_clients;
	web->limits = limit_table_new(0);
	web->base = event_base_new();
	if (!web->limits || !web->base || !poller_init(&web->poller, web->base) || !inbox_init(&web->inbox, &web->poller, web) || !start_workers(web) || !open_ports(web, why, why_size) ||
	    !start_health(web, web->config))
		return false;
	web->started = pthread_create(&web->thread, NULL, accept_all, web) == 0;
	return web->started;
}

struct web *web_start(struct settings *settings, struct app_room *apps, char *why, size_t why_size)
{
	struct web *web = calloc(1, sizeof(*web));

	if (!web)
		return NULL;
	web->inbox.fd = -1;
	pthread_mutex_init(&web->config_lock, NULL);
	web->settings = settings_ref(settings);
	web->apps = apps;
	web->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (start(web, why, why_size))
		return web;
	web_stop(web);
	return NULL;
}

/* What is known of servers, and what was set by command, outlives a reload. Before a worker has seen `config`. */
static void adopt_upstreams(struct web_config *config, const struct web_config *old)
{
	for (size_t i = 0; i < config->web->upstream_count; i++)
		for (size_t k = 0; k < old->web->upstream_count; k++) {
			const struct web_upstream *now = &config->web->upstreams[i], *then = &old->web->upstreams[k];

			if (strcmp(now->name, then->name) || now->protocol != then->protocol)
				continue;
			upstream_update(old->upstreams[k], config->upstreams[i]);
			upstream_unref(config->upstreams[i]);
			config->upstreams[i] = upstream_ref(old->upstreams[k]);
		}
}

bool web_reload(struct web *web, struct settings *settings, char *why, size_t why_size)
{
	struct web_config *config = load_config(web, settings, why, why_size);

	if (!config)
		return false;
	if (!access_log_reopen(web->log, config->web->access_log)) {
		snprintf(why, why_size, "[web] access_log %s: %s: make its directory writable for Tandem, or change the setting",
			 config->web->access_log, strerror(errno));
		web_config_unref(config);
		return false;
	}
	adopt_upstreams(config, web->config);
	web->max_clients = config->web->max_clients;
	for (unsigned i = 0; i < web->worker_count; i++)
		web_worker_post_config(&web->workers[i], config);
	if (web->health)
		health_reload(web->health, config);
	else
		start_health(web, config);
	pthread_mutex_lock(&web->config_lock);
	web_config_unref(web->config);
	web->config = config;
	pthread_mutex_unlock(&web->config_lock);
	return true;
}

struct web_config *web_config_now(struct web *web)
{
	struct web_config *config;

	if (!web)
		return NULL;
	pthread_mutex_lock(&web->config_lock);
	config = web_config_ref(web->config);
	pthread_mutex_unlock(&web->config_lock);
	return config;
}

static void deliver_close(struct inbox_message *message, void *owner)
{
	close_ports(owner);
	free(message);
}

static void deliver_stop(struct inbox_message *message, void *owner)
{
	struct web *web = owner;

	close_ports(web);
	event_base_loopbreak(web->base);
	free(message);
}

static void tell(struct web *web, void (*deliver)(struct inbox_message *, void *))
{
	struct inbox_message *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->deliver = deliver;
	inbox_post(&web->inbox, m);
}

void web_drain(struct web *web)
{
	tell(web, deliver_close);
	for (unsigned i = 0; i < web->worker_count; i++)
		web_worker_post_drain(&web->workers[i]);
}

bool web_drained(const struct web *web)
{
	return atomic_load(&web->clients) == 0;
}

void web_stop(struct web *web)
{
	if (!web)
		return;
	if (web->started) {
		tell(web, deliver_stop);
		pthread_join(web->thread, NULL);
	}
	close_ports(web);
	health_stop(web->health);
	for (unsigned i = 0; i < web->worker_count; i++)
		web_worker_fini(&web->workers[i]);
	free(web->workers);
	free(web->ports);
	if (web->inbox.fd >= 0)
		inbox_fini(&web->inbox);
	if (web->base)
		event_base_free(web->base);
	if (web->spare_fd >= 0)
		close(web->spare_fd);
	access_log_close(web->log);
	limit_table_free(web->limits);
	web_config_unref(web->config);
	tls_tickets_free(web->tickets);
	settings_unref(web->settings);
	pthread_mutex_destroy(&web->config_lock);
	free(web);
}
