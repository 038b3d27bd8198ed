#include "proxy/cluster/sentry.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/durability.h"
#include "proxy/cluster/journal.h"
#include "proxy/cluster/operation.h"
#include "proxy/cluster/rejoin.h"
#include "proxy/cluster/stranger.h"
#include "proxy/cluster/vote.h"

enum {
	PROBE_CONNECT_MS = 100,
	PROBE_GREETING_MS = 50, /* a server that lives greets; one behind a forwarder that has lost it is hung up on */
	IDLE_MS = 1000,
	ASLEEP_MS = 1000, /* woken so much later than asked for */
	FIRST_RETRY_MS = 1000, /* after a failover that was refused or undone */
	LONGEST_RETRY_MS = 10000,
	PLAN_RETRY_MS = 60000, /* what a person was told stays true for a while; each look keeps other operations out */
};

struct sentry {
	pthread_t thread;
	int wake_fd;
	_Atomic bool stop;
	/* The thread's own. */
	enum evidence_kind said; /* of the verdict last told */
	char told[400];		 /* the last failover that could not be, as told */
	_Atomic uint64_t awake_ms; /* this process stood still until then, or began: silence before that is its own */
	uint64_t retry_ms, pause_ms; /* no other attempt before; and how long after that */
	uint64_t last_failover_ms; /* 0: none yet */
	enum failover_mode mode;   /* of the settings, as last looked at */
	struct durability_watch durability;
};

/* ---- Evidence ---- */

/* A primary that is down, as the coordinator sees it. */
struct scene {
	struct evidence evidence;
	struct evidence_replica replicas[CLUSTER_MAX_SERVERS];
	struct sockaddr_storage address;
	socklen_t address_len;
	char address_text[280]; /* as the settings have it */
	size_t answering; /* servers */
	size_t servers;
};

static void add_replica(struct scene *s, const struct member *m)
{
	const struct link_view *link = m->seen.link_count ? &m->seen.links[0] : NULL;

	s->replicas[s->evidence.count++] = (struct evidence_replica){
		.name = m->server->name,
		.up = m->health == HEALTH_UP,
		.looked_ms = m->look_started_ms,
		.io = link ? link->io : THREAD_STOPPED,
		.heard_ms = m->source_heard_ms,
		.heartbeat_ms = link ? link->heartbeat_ms : 0,
	};
}

/* Whoever was not listening has heard nothing. */
static uint64_t heard_ms(const struct cluster *c, const struct member *root)
{
	uint64_t awake_ms = c->sentry ? atomic_load(&c->sentry->awake_ms) : 0;

	return root->heard_ms > awake_ms ? root->heard_ms : awake_ms;
}

/* False: nobody has the role. Names stay valid as long as the cluster: members are never freed before it. */
static bool take_scene(struct cluster *c, struct scene *s)
{
	struct member *root;

	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&c->lock);
	root = c->root >= 0 ? c->members[c->root] : NULL;
	if (root) {
		s->evidence = (struct evidence){
			.now_ms = clock_ms(),
			.patience_ms = c->settings->monitor.failover_patience_ms,
			.primary = root->server->name,
			.up = root->health != HEALTH_DOWN,
			.heard_ms = heard_ms(c, root),
			.lost_ms = root->lost_ms,
			.replicas = s->replicas,
		};
		s->address = root->server->address;
		s->address_len = root->server->address_len;
		snprintf(s->address_text, sizeof(s->address_text), "%s", root->server->address_text);
	}
	s->servers = c->member_count;
	for (size_t i = 0; root && i < c->member_count; i++) {
		s->answering += c->members[i]->health == HEALTH_UP;
		if (c->members[i]->role == ROLE_REPLICA && c->members[i]->source == c->root)
			add_replica(s, c->members[i]);
	}
	pthread_mutex_unlock(&c->lock);
	s->evidence.majority = 2 * s->answering > s->servers || votes_has_majority(c);
	return root != NULL;
}

static bool is_refusal(int error)
{
	return error == ECONNREFUSED || error == ECONNRESET || error == ENOENT;
}

/* Hung up on without a greeting. */
static bool is_reset(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;
	ssize_t n;

	if (poll(&p, 1, PROBE_GREETING_MS) <= 0)
		return false;
	n = recv(fd, &byte, 1, MSG_DONTWAIT);
	return n == 0 || (n < 0 && is_refusal(errno));
}

/* A server that has not been reached since the start is known by name only. */
static void find_address(struct scene *s)
{
	static const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	char host[sizeof(s->address_text)];
	char *colon;

	snprintf(host, sizeof(host), "%s", s->address_text);
	colon = strrchr(host, ':');
	if (s->address_len || !colon || !strncmp(host, "unix:", 5))
		return;
	*colon = '\0';
	if (host[0] == '[' && colon > host + 1)
		colon[-1] = '\0';
	if (getaddrinfo(host[0] == '[' ? host + 1 : host, colon + 1, &hints, &found) || !found)
		return;
	memcpy(&s->address, found->ai_addr, found->ai_addrlen);
	s->address_len = found->ai_addrlen;
	freeaddrinfo(found);
}

/* Does the primary's own address refuse connections now? */
static bool is_refused(const struct scene *s)
{
	int fd = s->address_len ? socket(s->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	bool refused = false;
	int error = 0;

	if (fd < 0)
		return false;
	if (connect(fd, (const struct sockaddr *)&s->address, s->address_len) && errno != EINPROGRESS)
		refused = is_refusal(errno);
	else if (poll(&p, 1, PROBE_CONNECT_MS) > 0 && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len))
		refused = error ? is_refusal(error) : is_reset(fd);
	close(fd);
	return refused;
}

static void have_replicas_looked_at(struct cluster *c)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->member_count; i++)
		if ((int)i != c->root && c->members[i]->health == HEALTH_UP && !atomic_exchange(&c->members[i]->suspect, true))
			member_wake(c->members[i]);
	pthread_mutex_unlock(&c->lock);
}

void sentry_judge(struct cluster *cluster, struct evidence_verdict *out)
{
	struct scene scene;

	if (!take_scene(cluster, &scene)) {
		*out = (struct evidence_verdict){ .kind = EVIDENCE_ALIVE };
		return;
	}
	if (!scene.evidence.up) {
		find_address(&scene);
		scene.evidence.refused = is_refused(&scene);
	}
	evidence_judge(&scene.evidence, out);
	if (out->kind == EVIDENCE_WAIT || out->kind == EVIDENCE_UNPROVEN)
		have_replicas_looked_at(cluster);
}

/* ---- What was found ---- */

/* Links that Tandem has made have all of this; those of a cluster that it found are told of, and left as they are: a link cannot be changed
 * without stopping it. */
static void tell_link(struct cluster *c, const struct member *m, const struct link_view *link, uint32_t patience_ms)
{
	uint32_t wanted_ms = patience_ms / 5;

	if (!link->uses_gtid)
		log_warning(NULL, "server %s: its link has no GTIDs, so it cannot be promoted: CHANGE MASTER TO MASTER_USE_GTID = slave_pos",
			    m->server->name);
	if (!link->heartbeat_ms || link->heartbeat_ms > 2 * wanted_ms)
		log_warning(NULL,
			    "server %s: heartbeats of its link come every %.1f s: for up to %.0f s it cannot be told whether it hears a silent "
			    "%s. Tandem would set MASTER_HEARTBEAT_PERIOD = %.1f",
			    m->server->name, link->heartbeat_ms / 1000.0, 2 * link->heartbeat_ms / 1000.0,
			    c->members[c->primary]->server->name, wanted_ms / 1000.0);
	if (link->retry_ms > 10000)
		log_warning(NULL, "server %s: its link tries to connect every %u s only. Tandem would set MASTER_CONNECT_RETRY = 1",
			    m->server->name, link->retry_ms / 1000);
}

static void tell_votes(struct cluster *c)
{
	if (c->settings->monitor.failover == FAILOVER_AUTO && c->member_count == 2 && !c->settings->witness_count && !c->votes_told)
		log_warning(NULL, "failover = auto with two servers acts on refused connections only: a primary that merely falls silent is waited "
				  "for, since it may be Tandem that is cut off. A third server decides, or a [witness]");
	c->votes_told = true;
}

/* Once for each replica, and again when it was restarted. */
static void tell_findings(struct cluster *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->primary >= 0)
		tell_votes(c);
	for (size_t i = 0; i < c->member_count && c->primary >= 0; i++) {
		struct member *m = c->members[i];
		bool follows = m->role == ROLE_REPLICA && m->health == HEALTH_UP && m->seen.link_count;

		if (follows && !m->link_told)
			tell_link(c, m, &m->seen.links[0], c->settings->monitor.failover_patience_ms);
		m->link_told = follows;
	}
	pthread_mutex_unlock(&c->lock);
}

/* ---- Acting ---- */

static bool is_operating(struct cluster *c, struct monitor_settings *out)
{
	bool operating;

	pthread_mutex_lock(&c->lock);
	operating = c->operating[0] || c->stop;
	*out = c->settings->monitor;
	pthread_mutex_unlock(&c->lock);
	return operating;
}

static void tell_verdict(struct cluster *c, const struct evidence_verdict *verdict)
{
	struct sentry *s = c->sentry;

	if (s->said == verdict->kind)
		return;
	if (verdict->kind == EVIDENCE_CUT || verdict->kind == EVIDENCE_UNPROVEN)
		history_note(c->history, "cut", "", "%s", verdict->why);
	else if (verdict->kind == EVIDENCE_DEAD)
		log_warning(NULL, "%s", verdict->why);
	else if (verdict->kind == EVIDENCE_WAIT)
		log_info(NULL, "%s", verdict->why);
	s->said = verdict->kind;
}

/* A refusal is told once, not each time it is found again. */
static void tell_failure(struct cluster *c, const struct report *report)
{
	struct sentry *s = c->sentry;

	if (!strcmp(s->told, report->summary))
		return;
	memcpy(s->told, report->summary, sizeof(s->told));
	history_note(c->history, "failover", "", "no failover: %.300s", report->summary);
}

static void put_off(struct sentry *s)
{
	s->pause_ms = s->pause_ms ? 2 * s->pause_ms : FIRST_RETRY_MS;
	if (s->pause_ms > LONGEST_RETRY_MS)
		s->pause_ms = LONGEST_RETRY_MS;
	s->retry_ms = clock_ms() + s->pause_ms;
}

static void fail_over(struct cluster *c, bool dry_run)
{
	struct operation_request request = { .kind = OPERATION_FAILOVER, .dry_run = dry_run };
	struct sentry *s = c->sentry;
	struct report report = { 0 };
	enum operation_result result = cluster_operate(c, &request, &report);

	put_off(s);
	if (result == OPERATION_REFUSED || result == OPERATION_UNDONE) {
		tell_failure(c, &report);
	} else if (!dry_run) {
		s->last_failover_ms = clock_ms();
		s->pause_ms = s->retry_ms = 0;
		s->told[0] = '\0';
	} else {
		s->retry_ms = clock_ms() + PLAN_RETRY_MS;
	}
	if (dry_run && result == OPERATION_DONE && strcmp(s->told, report.summary) != 0) {
		memcpy(s->told, report.summary, sizeof(s->told));
		history_note(c->history, "failover", "", "failover = manual: %.250s. `tandemctl failover` does it", report.summary);
	}
	report_free(&report);
}

static bool is_held_down(struct cluster *c, const struct monitor_settings *m)
{
	struct sentry *s = c->sentry;
	uint64_t until = s->last_failover_ms + m->failover_holddown_ms;
	uint64_t now = clock_ms();
	struct report report = { 0 };

	if (!s->last_failover_ms || now >= until)
		return false;
	snprintf(report.summary, sizeof(report.summary), "the last one was less than failover_holddown ago; `tandemctl failover` does not wait");
	tell_failure(c, &report);
	return true;
}

/* The primary restarted, and its own settings keep it read-only until somebody has compared it with its replicas. One that a person made
 * read-only is left alone. */
static bool is_back(struct cluster *c)
{
	bool back;

	pthread_mutex_lock(&c->lock);
	back = c->primary < 0 && c->root >= 0 && c->members[c->root]->health == HEALTH_UP && c->members[c->root]->came_back;
	pthread_mutex_unlock(&c->lock);
	return back;
}

static void act_on_death(struct cluster *c, const struct monitor_settings *settings)
{
	if (settings->failover == FAILOVER_MANUAL)
		fail_over(c, true);
	else if (!is_held_down(c, settings))
		fail_over(c, false);
}

/* One round. Gives when to look again. */
static uint64_t stand_guard(struct cluster *c)
{
	struct sentry *s = c->sentry;
	struct evidence_verdict verdict;
	struct monitor_settings settings;
	uint64_t now = clock_ms();

	if (is_operating(c, &settings))
		return now + IDLE_MS;
	if (s->mode != settings.failover)
		s->retry_ms = s->pause_ms = 0;
	s->mode = settings.failover;
	stranger_look(c);
	sentry_judge(c, &verdict);
	tell_verdict(c, &verdict);
	/* What is seen is told by all, but only one Tandem acts on it. */
	if (!votes_is_leader(c))
		return now + IDLE_MS;
	if (verdict.kind != EVIDENCE_ALIVE && verdict.kind != EVIDENCE_DEAD)
		return verdict.again_ms;
	if (verdict.kind == EVIDENCE_DEAD && now >= s->retry_ms)
		act_on_death(c, &settings);
	if (verdict.kind == EVIDENCE_ALIVE && is_back(c)) {
		if (now >= s->retry_ms)
			fail_over(c, settings.failover == FAILOVER_MANUAL);
	} else if (verdict.kind == EVIDENCE_ALIVE) {
		s->retry_ms = s->pause_ms = 0;
		s->told[0] = '\0';
		tell_findings(c);
		rejoin_returned(c);
		durability_keep(c, &s->durability);
	}
	return now + IDLE_MS;
}

/* A process that was stopped, or whose machine was, wakes to a primary that seems to have been silent all the while. */
static void note_awakening(struct sentry *s, uint64_t due_ms)
{
	uint64_t now = clock_ms();

	if (now < due_ms + ASLEEP_MS)
		return;
	log_warning(NULL, "this process has stood still for %llu ms: the silence of others is counted from now on",
		    (unsigned long long)(now - due_ms));
	atomic_store(&s->awake_ms, now);
}

static void sleep_until(struct sentry *s, uint64_t until_ms)
{
	struct pollfd fd = { .fd = s->wake_fd, .events = POLLIN };
	uint64_t now = clock_ms(), count;
	int timeout = until_ms <= now ? 1 : until_ms - now > IDLE_MS ? IDLE_MS : (int)(until_ms - now);
	int n;

	n = poll(&fd, 1, timeout);
	note_awakening(s, now + (uint64_t)timeout);
	if (n > 0)
		while (read(s->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
			;
}

static void *run_sentry(void *arg)
{
	struct cluster *c = arg;

	while (!atomic_load(&c->sentry->stop))
		sleep_until(c->sentry, stand_guard(c));
	return NULL;
}

bool sentry_start(struct cluster *cluster)
{
	struct sentry *s = calloc(1, sizeof(*s));
	uint64_t age_ms;
	int error;

	if (!s)
		return false;
	atomic_init(&s->awake_ms, clock_ms());
	age_ms = journal_failover_age_ms(cluster->settings->state_dir);
	if (age_ms < clock_ms())
		s->last_failover_ms = clock_ms() - age_ms;
	cluster->sentry = s;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = s->wake_fd < 0 ? errno : pthread_create(&s->thread, NULL, run_sentry, cluster);
	if (!error)
		return true;
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	free(s);
	cluster->sentry = NULL;
	errno = error;
	return false;
}

void sentry_wake(struct cluster *cluster)
{
	uint64_t one = 1;

	if (cluster->sentry)
		while (write(cluster->sentry->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
}

void sentry_stop(struct cluster *cluster)
{
	struct sentry *s = cluster->sentry;

	if (!s)
		return;
	atomic_store(&s->stop, true);
	sentry_wake(cluster);
	pthread_join(s->thread, NULL);
	close(s->wake_fd);
	free(s);
	cluster->sentry = NULL;
}
