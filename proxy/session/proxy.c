#include "proxy/session/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/readiness.h"
#include "proxy/session/gate.h"
#include "proxy/session/listener.h"
#include "proxy/session/worker.h"

struct proxy {
	struct shared shared;
	struct settings *settings;
	struct listener *listener;
	unsigned running; /* workers whose thread was started */
	pthread_mutex_t lock;
	pthread_cond_t first; /* the cluster's first snapshot has come */
	struct snapshot *snapshot;
	uint64_t fork_number; /* the last promotion for which the tokens of accounts were cut */
	bool workers_ready;
};

/* ---- From the cluster ---- */

/* Once for each promotion, before any worker knows the new primary. */
static void cut_tokens(struct proxy *p, const struct snapshot *snapshot)
{
	unsigned cut;

	if (snapshot->fork_number == p->fork_number)
		return;
	p->fork_number = snapshot->fork_number;
	cut = account_tokens_clamp(&snapshot->fork);
	if (cut)
		log_warning(NULL, "promotion %llu: %u accounts had been acknowledged writes that the new primary does not have: they are lost",
			    (unsigned long long)snapshot->fork_number, cut);
}

static void on_publish(void *owner, struct snapshot *snapshot)
{
	struct proxy *p = owner;

	pthread_mutex_lock(&p->lock);
	cut_tokens(p, snapshot);
	if (p->snapshot)
		snapshot_unref(p->snapshot);
	p->snapshot = snapshot_ref(snapshot);
	readiness_set(UNREADY_NO_PRIMARY, snapshot->primary < 0);
	pthread_cond_signal(&p->first);
	for (unsigned i = 0; p->workers_ready && i < p->shared.worker_count; i++)
		worker_post_snapshot(&p->shared.workers[i], snapshot);
	pthread_mutex_unlock(&p->lock);
}

static void on_moved(void *owner, struct server *server)
{
	struct proxy *p = owner;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; p->workers_ready && i < p->shared.worker_count; i++)
		worker_post_moved(&p->shared.workers[i], server);
	pthread_mutex_unlock(&p->lock);
}

static void on_count(void *owner, uint64_t number, struct gate_count *out)
{
	struct proxy *p = owner;

	pthread_mutex_lock(&p->lock);
	if (p->workers_ready)
		gate_sum(&p->shared, number, out);
	else
		*out = (struct gate_count){ .adopted = true };
	pthread_mutex_unlock(&p->lock);
}

static const struct cluster_listener cluster_listener = { .publish = on_publish, .moved = on_moved, .count = on_count };

/* ---- Start ---- */

static bool start_tls(struct proxy *p, char *why, size_t why_size)
{
	const struct proxy_settings *s = &p->settings->proxy;

	if (s->tls == TLS_OFF)
		return true;
	p->shared.client_tls = tls_server_context(s->tls_certificate, s->tls_key, p->settings->state_dir, why, why_size);
	if (!p->shared.client_tls)
		return false;
	p->shared.self_signed = tls_is_self_signed(p->shared.client_tls);
	return tls_fingerprint(p->shared.client_tls, p->shared.fingerprint);
}

static bool start_cluster(struct proxy *p, char *why, size_t why_size)
{
	p->shared.cluster = cluster_start(p->settings, &cluster_listener, p);
	if (!p->shared.cluster) {
		snprintf(why, why_size, "the cluster watch cannot be started");
		return false;
	}
	pthread_mutex_lock(&p->lock);
	while (!p->snapshot)
		pthread_cond_wait(&p->first, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return true;
}

static bool start_workers(struct proxy *p, char *why, size_t why_size)
{
	bool ok = true;

	pthread_mutex_lock(&p->lock);
	for (unsigned i = 0; i < p->shared.worker_count && ok; i++)
		ok = worker_init(&p->shared.workers[i], &p->shared, i, p->snapshot);
	p->workers_ready = ok;
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->shared.worker_count && ok; i++) {
		ok = pthread_create(&p->shared.workers[i].thread, NULL, worker_run, &p->shared.workers[i]) == 0;
		p->running += ok;
	}
	if (!ok)
		snprintf(why, why_size, "cannot start %u worker threads", p->shared.worker_count);
	return ok;
}

static unsigned thread_count(const struct settings *settings)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned count = settings->threads ? settings->threads : cores > 0 ? (unsigned)cores : 1;

	return count < PLACEMENT_MAX_WORKERS ? count : PLACEMENT_MAX_WORKERS;
}

struct proxy *proxy_start(struct settings *settings, char *why, size_t why_size)
{
	struct proxy *p = calloc(1, sizeof(*p));

	snprintf(why, why_size, "out of memory");
	if (!p)
		return NULL;
	p->settings = settings_ref(settings);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->first, NULL);
	p->shared.worker_count = thread_count(settings);
	p->shared.worker_load = settings->proxy.worker_load;
	p->shared.workers = calloc(p->shared.worker_count, sizeof(*p->shared.workers));
	if (p->shared.workers && start_tls(p, why, why_size) && (p->listener = listener_open(settings, &p->shared, why, why_size)) &&
	    start_cluster(p, why, why_size) && start_workers(p, why, why_size) && listener_start(p->listener))
		return p;
	proxy_stop(p);
	return NULL;
}

/* ---- Reload, drain, stop ---- */

static bool same_listeners(const struct proxy_settings *a, const struct proxy_settings *b)
{
	if (a->listen_count != b->listen_count)
		return false;
	for (size_t i = 0; i < a->listen_count; i++)
		if (strcmp(a->listen[i], b->listen[i]))
			return false;
	return true;
}

bool proxy_can_reload(const struct proxy *proxy, const struct settings *settings, char *why, size_t why_size)
{
	if (!same_listeners(&proxy->settings->proxy, &settings->proxy)) {
		snprintf(why, why_size, "[proxy] listen needs a restart");
		return false;
	}
	if (thread_count(settings) != proxy->shared.worker_count) {
		snprintf(why, why_size, "[tandem] threads needs a restart");
		return false;
	}
	return true;
}

void proxy_reload(struct proxy *proxy, struct settings *settings)
{
	settings_unref(proxy->settings);
	proxy->settings = settings_ref(settings);
	listener_set_limit(proxy->listener, settings->proxy.max_clients);
	atomic_store(&proxy->shared.worker_load, settings->proxy.worker_load);
	cluster_reload(proxy->shared.cluster, settings);
}

bool proxy_reloaded(struct proxy *proxy)
{
	bool done;

	pthread_mutex_lock(&proxy->lock);
	done = proxy->snapshot->settings == proxy->settings;
	for (unsigned i = 0; i < proxy->shared.worker_count; i++)
		done = done && atomic_load(&proxy->shared.workers[i].adopted) >= proxy->snapshot->number;
	pthread_mutex_unlock(&proxy->lock);
	return done;
}

struct shared *proxy_shared(struct proxy *proxy)
{
	return &proxy->shared;
}

void proxy_drain(struct proxy *proxy)
{
	atomic_store(&proxy->shared.draining, true);
	listener_stop(proxy->listener);
	for (unsigned i = 0; i < proxy->shared.worker_count; i++)
		worker_post_drain(&proxy->shared.workers[i]);
}

bool proxy_drained(struct proxy *proxy)
{
	return atomic_load(&proxy->shared.clients) == 0;
}

void proxy_stop(struct proxy *proxy)
{
	struct proxy *p = proxy;

	if (p->listener)
		listener_stop(p->listener);
	for (unsigned i = 0; i < p->running; i++)
		worker_post_stop(&p->shared.workers[i]);
	for (unsigned i = 0; i < p->running; i++)
		pthread_join(p->shared.workers[i].thread, NULL); /* NOLINT: who runs has memory */
	pthread_mutex_lock(&p->lock);
	p->workers_ready = false; /* the cluster may publish once more while it stops */
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; p->shared.workers && i < p->shared.worker_count; i++)
		worker_fini(&p->shared.workers[i]);
	if (p->shared.cluster)
		cluster_stop(p->shared.cluster);
	if (p->listener)
		listener_free(p->listener);
	if (p->snapshot)
		snapshot_unref(p->snapshot);
	SSL_CTX_free(p->shared.client_tls);
	account_tokens_free();
	settings_unref(p->settings);
	pthread_cond_destroy(&p->first);
	pthread_mutex_destroy(&p->lock);
	free(p->shared.workers);
	free(p);
}
