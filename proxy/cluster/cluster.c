/*
 * The coordinator: takes what the monitors brought, judges, tells watchers and monitors what to do, and publishes. One thread; the
 * functions that any thread may call leave a mark and wake it.
 */
#include "proxy/cluster/member.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/journal.h"
#include "proxy/cluster/operation.h"
#include "proxy/cluster/peer.h"
#include "proxy/cluster/sentry.h"
#include "proxy/cluster/vote.h"

enum { LONGEST_SLEEP_MS = 1000, RECOVERY_PAUSE_MS = 500, RECOVERY_LOOK_MS = 50 };

void cluster_wake(struct cluster *cluster)
{
	uint64_t one = 1;

	while (write(cluster->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static struct member *member_of(struct server *server)
{
	return (struct member *)((char *)server->watcher - offsetof(struct member, watcher));
}

/* Members. */

static struct server *new_server(const struct server_settings *settings)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	atomic_init(&server->refs, 1);
	atomic_init(&server->lag_ms, UINT64_MAX);
	server->name = strdup(settings->name);
	server->address_text = strdup(settings->address);
	if (server->name && server->address_text)
		return server;
	server_unref(server);
	return NULL;
}

static struct member *new_member(struct cluster *c, struct settings *settings, size_t index)
{
	struct member *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->server = new_server(&settings->servers[index]);
	if (!m->server) {
		free(m);
		return NULL;
	}
	m->cluster = c;
	m->settings = settings_ref(settings);
	m->settings_index = index;
	m->source = -1;
	m->epoch = 1;
	m->is_unproven = true;
	m->server->watcher = &m->watcher;
	if (member_start(m))
		return m;
	log_error(NULL, "server %s: no thread for its monitor: %s", m->server->name,
		  strerror(errno));
	settings_unref(m->settings);
	server_unref(m->server);
	free(m);
	return NULL;
}

static void free_member(struct member *m)
{
	settings_unref(m->settings);
	variables_free(m->variables);
	free(m->events);
	server_unref(m->server);
	free(m);
}

static bool is_same_server(const struct member *m, const struct server_settings *settings)
{
	return !strcmp(m->server->name, settings->name) &&
	       !strcmp(m->server->address_text, settings->address);
}

static struct member *take_member(struct member **members, size_t count,
				  const struct server_settings *settings)
{
	for (size_t i = 0; i < count; i++) {
		struct member *m = members[i];

		if (m && is_same_server(m, settings)) {
			members[i] = NULL;
			return m;
		}
	}
	return NULL;
}

static void follow_settings(struct member *m, struct settings *settings, size_t index)
{
	struct settings *before = m->settings;

	m->settings = settings_ref(settings);
	m->settings_index = index;
	settings_unref(before);
	member_wake(m);
}

/* Adopts cluster->next_settings: members that stay go on, new ones start, the others are told to stop. Locked. */
static void adopt_settings(struct cluster *c)
{
	struct settings *next = c->next_settings;
	struct member *before[CLUSTER_MAX_SERVERS];
	size_t before_count = c->member_count;
	struct member *primary = c->primary >= 0 ? c->members[c->primary] : NULL;

	memcpy(before, c->members, sizeof(before));
	c->next_settings = NULL;
	c->member_count = 0;
	c->primary = -1;
	for (size_t i = 0; i < next->server_count && i < CLUSTER_MAX_SERVERS; i++) {
		struct member *m = take_member(before, before_count, &next->servers[i]);

		if (m)
			follow_settings(m, next, i);
		else
			m = new_member(c, next, i);
		if (!m)
			continue;
		if (m == primary)
			c->primary = (int)c->member_count;
		c->members[c->member_count++] = m;
	}
	for (size_t i = 0; i < before_count; i++) {
		if (!before[i])
			continue;
		log_info(NULL, "server %s: removed", before[i]->server->name);
		watcher_arm(&before[i]->watcher, false, SQL_MARIADB, next, 0);
		member_tell_to_stop(before[i]);
		before[i]->next = c->leaving;
		c->leaving = before[i];
	}
	hooks_reload(c->hooks, next);
	settings_unref(c->settings);
	c->settings = next;
	c->changed = true;
}

/* Joins members that have come to their end, outside the lock. */
static void bury_finished(struct cluster *c)
{
	struct member **at;
	struct member *done = NULL;

	pthread_mutex_lock(&c->lock);
	for (at = &c->leaving; *at;) {
		struct member *m = *at;

		if (!m->finished) {
			at = &m->next;
			continue;
		}
		*at = m->next;
		m->next = done;
		done = m;
	}
	pthread_mutex_unlock(&c->lock);
	while (done) {
		struct member *m = done;

		done = m->next;
		member_join(m);
		pthread_mutex_lock(&c->lock);
		m->next = c->graveyard;
		c->graveyard = m;
		pthread_mutex_unlock(&c->lock);
	}
}

/* The coordinator's duties, in order. All locked. */

static void expire_silent(struct cluster *c, uint64_t now)
{
	for (size_t i = 0; i < c->member_count; i++) {
		struct member *m = c->members[i];
		char why[64];

		if (!m->due_ms || now < m->due_ms)
			continue;
		snprintf(why, sizeof(why), "no answer for %llu ms",
			 (unsigned long long)(m->heard_ms ? now - m->heard_ms : 0));
		member_set_down(m, m->heard_ms ? why : "no answer");
		line_cut(&m->line);
	}
}

/* The primary; while there is none, and nothing is known yet, any server that answers. */
static struct member *table_source(const struct cluster *c, bool known)
{
	if (c->primary >= 0 && c->members[c->primary]->health == HEALTH_UP)
		return c->members[c->primary];
	for (size_t i = 0; i < c->member_count; i++)
		known |= c->members[i]->health == HEALTH_UNKNOWN;
	for (size_t i = 0; i < c->member_count && !known; i++)
		if (c->members[i]->health == HEALTH_UP && c->members[i]->role == ROLE_REPLICA)
			return c->members[i];
	return NULL;
}

static void give_task(struct member *m, unsigned task)
{
	m->tasks |= task;
	member_wake(m);
}

static void run_job(struct cluster *c, struct job *job, unsigned task, bool known, uint64_t now)
{
	struct member *source = table_source(c, known);
	uint64_t asked = atomic_load(&job->asked);

	/* The reader went down or away with the task undone. */
	if (job->reader && job->reader != source)
		job->reader = NULL;
	if (asked == job->served || job->reader ||
	    now < job->last_start_ms + CLUSTER_REFRESH_GAP_MS)
		return;
	if (!source && !known)
		return;
	job->last_start_ms = now;
	if (!source) {
		/* Nobody to ask: who waits for the answer gets what is known. It is read again when a primary appears. */
		job->served = asked;
		c->changed = true;
		return;
	}
	job->started = asked;
	job->reader = source;
	give_task(source, task);
}

static void schedule(struct cluster *c, uint64_t now)
{
	run_job(c, &c->account_job, TASK_ACCOUNTS, c->accounts_known, now);
	run_job(c, &c->catalog_job, TASK_CATALOG, c->catalog != NULL, now);
	if (atomic_load(&c->variables_asked) != c->variables_given) {
		c->variables_given = atomic_load(&c->variables_asked);
		for (size_t i = 0; i < c->member_count; i++)
			if (c->members[i]->health == HEALTH_UP)
				give_task(c->members[i], TASK_VARIABLES);
	}
	if (now < c->next_check_ms)
		return;
	c->next_check_ms = now + CLUSTER_CHECK_MS;
	if (c->primary >= 0 && c->members[c->primary]->health == HEALTH_UP)
		give_task(c->members[c->primary], TASK_CATALOG_CHECK | TASK_ACCOUNTS_CHECK);
	if (now < c->next_refresh_ms)
		return;
	if (c->next_refresh_ms)
		atomic_fetch_add(&c->variables_asked, 1);
	c->next_refresh_ms = now + CLUSTER_VARIABLES_MS;
}

static void arm_watchers(struct cluster *c)
{
	for (size_t i = 0; i < c->member_count; i++) {
		struct member *m = c->members[i];
		bool arm = m->health == HEALTH_UP && m->role == ROLE_REPLICA;

		if (m->armed == arm && m->armed_settings == m->settings)
			continue;
		m->armed = arm;
		m->armed_settings = m->settings;
		watcher_arm(&m->watcher, arm, m->seen.flavour, m->settings, m->settings_index);
	}
}

static int sleep_ms(const struct cluster *c, uint64_t now)
{
	uint64_t until = now + LONGEST_SLEEP_MS;

	for (size_t i = 0; i < c->member_count; i++)
		if (c->members[i]->due_ms && c->members[i]->due_ms < until)
			until = c->members[i]->due_ms;
	if (atomic_load(&c->account_job.asked) != c->account_job.served &&
	    now + CLUSTER_REFRESH_GAP_MS < until)
		until = now + CLUSTER_REFRESH_GAP_MS;
	return until > now ? (int)(until - now) : 0;
}

static void wait_for_news(struct cluster *c, int timeout_ms)
{
	struct pollfd fd = { .fd = c->wake_fd, .events = POLLIN };
	uint64_t count;

	if (poll(&fd, 1, timeout_ms) > 0)
		while (read(c->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
			;
}

/* One round. Gives the snapshot to publish, NULL when nothing changed; `*timeout_ms` is when to look again. False: the end. */
static bool round_of(struct cluster *c, struct snapshot **out, int *timeout_ms)
{
	uint64_t now = clock_ms();
	bool go;

	*out = NULL;
	pthread_mutex_lock(&c->lock);
	go = !c->stop;
	if (go && c->next_settings && !c->operating[0])
		adopt_settings(c);
	if (go) {
		expire_silent(c, now);
		cluster_judge(c);
		schedule(c, now);
		arm_watchers(c);
	}
	if (go && c->changed) {
		c->changed = false;
		*out = cluster_make_snapshot(c);
	}
	*timeout_ms = sleep_ms(c, now);
	pthread_mutex_unlock(&c->lock);
	return go;
}

static void publish(struct cluster *c, struct snapshot *snapshot)
{
	if (!snapshot)
		return;
	c->listener.publish(c->owner, snapshot);
	votes_wake(c);
	snapshot_unref(snapshot);
}

static bool is_stopping(struct cluster *c)
{
	bool stop;

	pthread_mutex_lock(&c->lock);
	stop = c->stop;
	pthread_mutex_unlock(&c->lock);
	return stop;
}

/* What an earlier run left open is ended as soon as everybody has been asked once, or when those it needs are back. */
static void *recover(void *arg)
{
	struct cluster *c = arg;
	bool said = false;

	while (votes_is_leader(c) && !operation_recover(c) && !is_stopping(c)) {
		if (!said)
			log_error(NULL, "an operation of an earlier run was not ended, and a server that is needed to end it does "
					"not answer");
		said = true;
		for (int i = 0; i < RECOVERY_PAUSE_MS / RECOVERY_LOOK_MS && !is_stopping(c); i++)
			poll(NULL, 0, RECOVERY_LOOK_MS);
	}
	atomic_store(&c->recovery_over, true);
	return NULL;
}

static bool all_asked(struct cluster *c)
{
	bool asked = true;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->member_count; i++)
		asked = asked && c->members[i]->health != HEALTH_UNKNOWN;
	pthread_mutex_unlock(&c->lock);
	return asked;
}

/* At the start, and whenever this Tandem has become the leader: the one before it may have died in the middle of something. */
static void start_recovery(struct cluster *c)
{
	unsigned term;
	bool has_lease;

	pthread_mutex_lock(&c->lock);
	has_lease = c->has_lease;
	pthread_mutex_unlock(&c->lock);
	term = has_lease ? votes_terms(c) : 0;
	if ((c->recovery_tried && c->recovery_term == term) || !votes_is_leader(c) || !all_asked(c))
		return;
	if (c->recovery_started) {
		if (!atomic_load(&c->recovery_over))
			return;
		pthread_join(c->recovery, NULL);
	}
	c->recovery_tried = true;
	c->recovery_term = term;
	atomic_store(&c->recovery_over, false);
	c->recovery_started = pthread_create(&c->recovery, NULL, recover, c) == 0;
	if (!c->recovery_started)
		log_error(NULL, "cluster watch: no thread to look for operations that were not ended");
}

static void *coordinate(void *arg)
{
	struct cluster *c = arg;
	struct snapshot *snapshot;
	int timeout_ms;

	while (round_of(c, &snapshot, &timeout_ms)) {
		publish(c, snapshot);
		start_recovery(c);
		bury_finished(c);
		log_flush();
		sentry_wake(c);
		wait_for_news(c, timeout_ms);
	}
	return NULL;
}

static void free_cluster(struct cluster *c)
{
	for (size_t i = 0; i < c->member_count; i++)
		free_member(c->members[i]);
	while (c->graveyard) {
		struct member *m = c->graveyard;

		c->graveyard = m->next;
		free_member(m);
	}
	hooks_stop(c->hooks);
	history_free(c->history);
	accounts_free(c->accounts, c->account_count);
	catalog_free(c->catalog);
	if (c->next_settings)
		settings_unref(c->next_settings);
	settings_unref(c->settings);
	pthread_cond_destroy(&c->idle);
	pthread_mutex_destroy(&c->lock);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	if (c->gate_fd >= 0)
		close(c->gate_fd);
	free(c);
}

/* All monitors and watchers end; the coordinator is not running. */
static void stop_members(struct cluster *c)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->member_count; i++)
		member_tell_to_stop(c->members[i]);
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < c->member_count; i++)
		member_join(c->members[i]);
	while (c->leaving) {
		struct member *m = c->leaving;

		c->leaving = m->next;
		member_join(m);
		m->next = c->graveyard;
		c->graveyard = m;
	}
}

static struct cluster *new_cluster(struct settings *settings,
				   const struct cluster_listener *listener, void *owner)
{
	struct cluster *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->listener = *listener;
	c->owner = owner;
	c->settings = settings_ref(settings);
	c->history = history_new();
	c->hooks = c->history ? hooks_start(c->history, settings) : NULL;
	c->primary = -1;
	c->root = -1;
	atomic_init(&c->account_job.asked, 1);
	atomic_init(&c->catalog_job.asked, 1);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->idle, NULL);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->gate_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return c;
}

static bool add_members(struct cluster *c)
{
	bool ok = true;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; ok && i < c->settings->server_count && i < CLUSTER_MAX_SERVERS; i++) {
		struct member *m = new_member(c, c->settings, i);

		ok = m != NULL;
		if (m)
			c->members[c->member_count++] = m;
	}
	pthread_mutex_unlock(&c->lock);
	return ok;
}

/* What an earlier run left in state_dir: who is the primary since the last operation, and who was away then and has to be judged. */
static void recall_last_operation(struct cluster *c)
{
	struct journal_entry entry;

	if (journal_init(&entry) && journal_load(c->settings->state_dir, &entry) && entry.state == JOURNAL_DONE) {
		c->remembered_epoch = entry.epoch;
		snprintf(c->remembered, sizeof(c->remembered), "%s", entry.to);
		for (size_t i = 0; i < c->member_count; i++)
			c->members[i]->is_astray = !strcmp(c->members[i]->server->name, entry.from);
	}
	journal_fini(&entry);
}

struct cluster *cluster_start(struct settings *settings, const struct cluster_listener *listener,
			      void *owner)
{
	struct cluster *c;
	struct snapshot *first;
	int error;

	mysql_library_init(0, NULL, NULL);
	c = new_cluster(settings, listener, owner);
	if (!c || !c->history || !c->hooks || c->wake_fd < 0 || c->gate_fd < 0) {
		log_error(NULL, "cluster watch: %s", strerror(errno));
		goto failed;
	}
	if (!add_members(c))
		goto failed;
	pthread_mutex_lock(&c->lock);
	recall_last_operation(c);
	c->has_lease = settings->peer_count || settings->witness_count;
	first = cluster_make_snapshot(c);
	pthread_mutex_unlock(&c->lock);
	publish(c, first);
	if (!peers_start(c, settings))
		goto failed;
	if (!votes_start(c) || !sentry_start(c)) {
		log_error(NULL, "cluster watch: no thread: %s", strerror(errno));
		goto failed;
	}
	error = pthread_create(&c->thread, NULL, coordinate, c);
	if (!error)
		return c;
	sentry_stop(c);
	log_error(NULL, "cluster watch: no thread: %s", strerror(error));
failed:
	if (c) {
		peers_stop(c);
		votes_stop(c);
		stop_members(c);
		free_cluster(c);
	}
	return NULL;
}

void cluster_stop(struct cluster *cluster)
{
	if (!cluster)
		return;
	pthread_mutex_lock(&cluster->lock);
	cluster->stop = true;
	atomic_store(&cluster->stopping, true);
	cluster_wake(cluster);
	peers_hang_up(cluster);
	/* An operation goes back or finishes first; it needs the members. */
	while (cluster->operating[0])
		pthread_cond_wait(&cluster->idle, &cluster->lock);
	pthread_mutex_unlock(&cluster->lock);
	pthread_join(cluster->thread, NULL); /* it wakes the sentry */
	sentry_stop(cluster);
	if (cluster->recovery_started)
		pthread_join(cluster->recovery, NULL);
	peers_stop(cluster);
	votes_stop(cluster);
	stop_members(cluster);
	free_cluster(cluster);
}

void cluster_reload(struct cluster *cluster, struct settings *settings)
{
	struct settings *skipped;

	pthread_mutex_lock(&cluster->lock);
	skipped = cluster->next_settings;
	cluster->next_settings = settings_ref(settings);
	pthread_mutex_unlock(&cluster->lock);
	if (skipped)
		settings_unref(skipped);
	cluster_wake(cluster);
}

struct history *cluster_history(struct cluster *cluster)
{
	return cluster->history;
}

void cluster_want(struct cluster *cluster, struct server *server, const struct gtid_set *want)
{
	(void)cluster;
	watcher_want(server->watcher, want);
}

void cluster_suspect(struct cluster *cluster, struct server *server)
{
	struct member *m = member_of(server);

	(void)cluster;
	if (!atomic_exchange(&m->suspect, true))
		member_wake(m);
}

uint64_t cluster_refresh_accounts(struct cluster *cluster)
{
	uint64_t ticket = atomic_fetch_add(&cluster->account_job.asked, 1) + 1;

	cluster_wake(cluster);
	return ticket;
}

uint64_t cluster_refresh_catalog(struct cluster *cluster)
{
	uint64_t ticket = atomic_fetch_add(&cluster->catalog_job.asked, 1) + 1;

	cluster_wake(cluster);
	return ticket;
}

uint64_t cluster_refresh_variables(struct cluster *cluster)
{
	uint64_t ticket = atomic_fetch_add(&cluster->variables_asked, 1) + 1;

	cluster_wake(cluster);
	return ticket;
}
