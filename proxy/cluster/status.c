#include "proxy/cluster/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proxy/cluster/member.h"
#include "proxy/cluster/roles.h"

const char *server_role_name(enum server_role role)
{
	static const char *const names[] = {
		[ROLE_UNKNOWN] = "unknown",
		[ROLE_PRIMARY] = "primary",
		[ROLE_REPLICA] = "replica",
		[ROLE_STRAY] = "stray",
	};

	return names[role];
}

const char *server_health_name(enum server_health health)
{
	static const char *const names[] = {
		[HEALTH_UNKNOWN] = "unknown",
		[HEALTH_UP] = "up",
		[HEALTH_DOWN] = "down",
	};

	return names[health];
}

static const struct link_view *bad_link(const struct member *m)
{
	for (unsigned i = 0; i < m->seen.link_count; i++)
		if (!roles_link_is_sound(&m->seen.links[i]) || m->seen.links[i].sql == THREAD_STOPPED ||
		    m->seen.links[i].io != THREAD_RUNNING)
			return &m->seen.links[i];
	return NULL;
}

static const char *thread_word(enum thread_state state)
{
	return state == THREAD_RUNNING ? "runs" : state == THREAD_CONNECTING ? "is connecting" : "is stopped";
}

static void explain_link(const struct link_view *link, struct server_status *out)
{
	char io[40] = "", sql[40] = "";

	if (link->io_errno)
		snprintf(io, sizeof(io), " (error %u)", link->io_errno);
	if (link->sql_errno)
		snprintf(sql, sizeof(sql), " (error %u)", link->sql_errno);
	snprintf(out->trouble, sizeof(out->trouble), "replication: the receiving thread %s%s, the applying thread %s%s",
		 thread_word(link->io), io, thread_word(link->sql), sql);
	if (link->sql_errno)
		snprintf(out->advice, sizeof(out->advice), "SHOW SLAVE STATUS there tells the statement; mend it, then START SLAVE");
	else if (link->io == THREAD_CONNECTING)
		snprintf(out->advice, sizeof(out->advice), "can it reach %.200s:%u, and does its account still log in there?",
			 link->host, link->port);
	else
		snprintf(out->advice, sizeof(out->advice), "START SLAVE on it, unless somebody has stopped it for a reason");
}

static void explain_role(const struct member *m, struct server_status *out)
{
	if (m->role == ROLE_STRAY) {
		snprintf(out->trouble, sizeof(out->trouble), "neither the primary nor a replica of it: gets no statements");
		snprintf(out->advice, sizeof(out->advice), "tandemctl rejoin %s says whether it can become a replica", out->name);
	} else if (m->role == ROLE_UNKNOWN) {
		snprintf(out->trouble, sizeof(out->trouble), "its role is not known");
	}
}

/* A primary that was asked to wait for its replicas. */
static void explain_durability(const struct member *m, struct server_status *out)
{
	if (m->seen.semi_sync == SEMI_SYNC_DEGRADED) {
		snprintf(out->trouble, sizeof(out->trouble), "has stopped waiting for its replicas: what it acknowledges may be lost with it");
		snprintf(out->advice, sizeof(out->advice), "bring a replica back: it waits again by itself when one has caught up");
	} else if (!m->seen.terms.clients && m->seen.terms.waiting) {
		snprintf(out->trouble, sizeof(out->trouble), "%u writes wait, and no replica acknowledges them", m->seen.terms.waiting);
		snprintf(out->advice, sizeof(out->advice), "bring a replica back%s",
			 m->settings->monitor.durability == DURABILITY_STRICT ? ", or set durability = available and reload" : "");
	}
}

/* The first thing that is wrong with it. */
static void explain(const struct member *m, struct server_status *out)
{
	const struct link_view *link = m->role == ROLE_REPLICA ? bad_link(m) : NULL;

	if (m->health == HEALTH_DOWN) {
		snprintf(out->trouble, sizeof(out->trouble), "down: %.300s", m->trouble[0] ? m->trouble : "no answer");
		snprintf(out->advice, sizeof(out->advice), "start it, or see whether Tandem's host reaches %.200s", out->address);
	} else if (m->health == HEALTH_UNKNOWN) {
		snprintf(out->trouble, sizeof(out->trouble), "it has not answered yet");
	} else if (m->role == ROLE_UNKNOWN || m->role == ROLE_STRAY) {
		explain_role(m, out);
	} else if (link) {
		explain_link(link, out);
	} else if (m->role == ROLE_REPLICA && m->lagging) {
		snprintf(out->trouble, sizeof(out->trouble), "too far behind for reads (max_lag)");
		snprintf(out->advice, sizeof(out->advice), "it takes reads again when it has caught up");
	} else if (m->role == ROLE_PRIMARY && m->seen.semi_sync != SEMI_SYNC_OFF) {
		explain_durability(m, out);
	} else if (m->drained) {
		snprintf(out->trouble, sizeof(out->trouble), "drained: takes no reads");
		snprintf(out->advice, sizeof(out->advice), "tandemctl resume %s ends that", out->name);
	}
}

static void name_source(const struct cluster *c, const struct member *m, struct server_status *out)
{
	if (m->source >= 0)
		snprintf(out->source, sizeof(out->source), "%s", c->members[m->source]->server->name);
	else if (m->seen.link_count)
		snprintf(out->source, sizeof(out->source), "%s:%u", m->seen.links[0].host, m->seen.links[0].port);
}

static void describe(const struct cluster *c, const struct member *m, struct server_status *out)
{
	struct server *s = m->server;
	uint64_t lag = atomic_load(&s->lag_ms);
	struct gtid_set applied;

	snprintf(out->name, sizeof(out->name), "%s", s->name);
	snprintf(out->address, sizeof(out->address), "%s", s->address_text);
	snprintf(out->version, sizeof(out->version), "%s", m->has_seen ? m->seen.version_text : "");
	out->role = m->role;
	out->health = m->health;
	out->drained = m->drained;
	out->takes_reads = m->takes_reads;
	out->read_only = m->seen.read_only;
	out->is_seen = m->has_seen;
	out->lag_ms = m->role == ROLE_REPLICA && lag != UINT64_MAX ? (int64_t)lag : -1;
	out->weight = m->settings->servers[m->settings_index].weight;
	out->connections = atomic_load(&s->connections);
	out->connection_limit = member_connection_limit(m);
	out->reads = atomic_load(&s->reads);
	out->writes = atomic_load(&s->writes);
	out->errors = atomic_load(&s->errors);
	gtid_board_read(&s->applied, &applied);
	if (m->seen.flavour == SQL_MYSQL)
		gtid_format_mysql(&applied, out->position, sizeof(out->position));
	else
		gtid_format(&applied, out->position, sizeof(out->position));
	name_source(c, m, out);
	explain(m, out);
}

void cluster_status(struct cluster *cluster, struct cluster_status *out)
{
	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&cluster->lock);
	out->count = cluster->member_count;
	out->primary = cluster->primary;
	out->gate = cluster->gate;
	snprintf(out->operation, sizeof(out->operation), "%s", cluster->operating);
	if (out->primary < 0)
		snprintf(out->why, sizeof(out->why), "%s", cluster->primary_why[0] ? cluster->primary_why : "no server has answered yet");
	for (size_t i = 0; i < cluster->member_count; i++)
		describe(cluster, cluster->members[i], &out->servers[i]);
	out->epoch = cluster_epoch(cluster);
	memcpy(out->stranger, cluster->stranger, sizeof(out->stranger));
	pthread_mutex_unlock(&cluster->lock);
	votes_status(cluster, &out->votes);
	out->peer_count = peers_status(cluster, out->peers);
}

/* ---- Drain ---- */

static struct member *find_member(struct cluster *c, const char *name)
{
	for (size_t i = 0; i < c->member_count; i++)
		if (!strcmp(c->members[i]->server->name, name))
			return c->members[i];
	return NULL;
}

/* Older connections than the new epoch are stale: workers let go of them at the next opportunity. */
static bool set_drained(struct cluster *c, const char *name, bool drained, char *why, size_t size)
{
	struct member *m = find_member(c, name);

	if (!m)
		snprintf(why, size, "there is no [server %s] in the settings", name);
	else if (drained && m->role == ROLE_PRIMARY)
		snprintf(why, size, "%s is the primary: promote another server first", name);
	else if (m->drained == drained)
		snprintf(why, size, "%s is %s", name, drained ? "drained already" : "not drained");
	else {
		m->drained = drained;
		m->epoch += drained;
		c->changed = true;
		return true;
	}
	return false;
}

bool cluster_set_drained(struct cluster *cluster, const char *name, bool drained, char *why, size_t why_size)
{
	bool ok;

	pthread_mutex_lock(&cluster->lock);
	ok = set_drained(cluster, name, drained, why, why_size);
	pthread_mutex_unlock(&cluster->lock);
	if (!ok)
		return false;
	log_info(NULL, "server %s: %s", name, drained ? "drained by command: takes no reads" : "resumed by command");
	cluster_wake(cluster);
	return true;
}
