/* From what the monitors brought to roles, lag and who takes reads. */
#include "proxy/cluster/member.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/lease.h"
#include "proxy/cluster/roles.h"

static const char *role_word(enum server_role role)
{
	switch (role) {
	case ROLE_PRIMARY:
		return "primary";
	case ROLE_REPLICA:
		return "replica";
	case ROLE_STRAY:
		return "stray: neither the primary nor a replica of it, gets no traffic";
	case ROLE_UNKNOWN:
		break;
	}
	return "unknown";
}

static uint64_t epoch_of(const struct member *m)
{
	uint64_t written = m->has_seen ? m->seen.row_epoch : 0;
	uint64_t remembered = strcmp(m->cluster->remembered, m->server->name) ? 0 : m->cluster->remembered_epoch;

	return written > remembered ? written : remembered;
}

/* Whoever leads says that another server is the primary: this one has lost the role where that was decided. */
static enum server_role role_before(const struct member *m)
{
	uint32_t heard = m->cluster->heard_id;

	return heard && m->role == ROLE_PRIMARY && m->has_seen && m->seen.server_id != heard ? ROLE_STRAY : m->role;
}

static struct role_view view_of(const struct member *m)
{
	const struct server_settings *own = &m->settings->servers[m->settings_index];
	bool is_heard = m->cluster->heard_id && m->has_seen && m->seen.server_id == m->cluster->heard_id;

	return (struct role_view){
		.name = m->server->name,
		.address = own->address,
		.replication_address = own->replication_address,
		.health = m->health,
		.seen = m->has_seen ? &m->seen : NULL,
		.was = role_before(m),
		.trouble = m->trouble[0] ? m->trouble : NULL,
		.epoch = is_heard ? UINT64_MAX : epoch_of(m),
		.is_unproven = m->is_unproven && !is_heard,
		.unproven_ms = m->unproven_ms,
		.looked_ms = m->look_started_ms,
		.asked_ms = m->failed_ms > m->look_started_ms ? m->failed_ms : m->look_started_ms,
		.heard_ms = m->heard_ms,
	};
}

/* A role once held and not taken by another is not left for not knowing: pooled connections survive a doubt, not a change. */
static void set_role(struct member *m, enum server_role role, const struct cluster *c)
{
	if (m->role == role)
		return;
	m->role = role;
	m->cluster->changed = true;
	if (role == ROLE_UNKNOWN)
		return;
	if (m->last_role != ROLE_UNKNOWN && m->last_role != role)
		m->epoch++;
	m->last_role = role;
	m->is_unproven &= role != ROLE_REPLICA;
	if (role == ROLE_REPLICA && m->source >= 0)
		history_note(c->history, "role", m->server->name, "replica of %s", c->members[m->source]->server->name);
	else
		history_note(c->history, "role", m->server->name, "%s", role_word(role));
}

/* Another server than before: what was received and acknowledged under the last one is no measure any more. */
static void forget_last_primary(struct cluster *c)
{
	const struct gtid_set none = { 0 };
	struct member *primary = c->members[c->primary];

	if (c->last_primary == primary)
		return;
	c->last_primary = primary;
	gtid_board_reset(&primary->server->acknowledged, &none);
	for (size_t i = 0; i < c->member_count; i++)
		c->members[i]->received_before = none;
}

static void set_primary(struct cluster *c, const struct role_verdict *verdict)
{
	if (c->primary == verdict->primary && !strcmp(c->primary_why, verdict->why))
		return;
	c->changed = true;
	snprintf(c->primary_why, sizeof(c->primary_why), "%s", verdict->why);
	if (verdict->pending)
		log_debug(NULL, "no primary yet: %s", verdict->why);
	else if (verdict->primary < 0)
		history_note(c->history, "no primary", "", "no primary: %s", verdict->why);
	else
		history_note(c->history, "primary", "", "primary is %s", c->members[verdict->primary]->server->name);
	if (c->primary == verdict->primary)
		return;
	c->primary = verdict->primary;
	if (c->primary < 0)
		return;
	forget_last_primary(c);
	lag_clear(&c->marks);
	lag_note(&c->marks, &c->members[c->primary]->seen.position,
		 c->members[c->primary]->heard_ms);
	/* Its tables are the truth from here on. */
	atomic_fetch_add(&c->account_job.asked, 1);
	atomic_fetch_add(&c->catalog_job.asked, 1);
}

static const struct link_view *broken_link(const struct member *m)
{
	for (unsigned i = 0; i < m->seen.link_count; i++)
		if (!roles_link_is_sound(&m->seen.links[i]))
			return &m->seen.links[i];
	return NULL;
}

static void log_broken(struct member *m, const struct link_view *link)
{
	if (link && !m->logged_broken)
		log_warning(NULL, "server %s: replication is broken, error %u: no reads there",
			    m->server->name, link->sql_errno ? link->sql_errno : link->io_errno);
	else if (!link && m->logged_broken)
		log_info(NULL, "server %s: replication works again", m->server->name);
	m->logged_broken = link != NULL;
}

static uint64_t behind(const struct member *m)
{
	uint64_t longest = 0;

	for (unsigned i = 0; i < m->seen.link_count; i++)
		if (m->seen.links[i].behind_ms != UINT64_MAX &&
		    m->seen.links[i].behind_ms > longest)
			longest = m->seen.links[i].behind_ms;
	return longest;
}

static uint64_t measure_lag(const struct cluster *c, const struct member *m)
{
	bool is_bound;
	uint64_t lag = lag_of(&c->marks, &m->seen.position, m->heard_ms, &is_bound);

	/* Further behind than Tandem has been looking: the server's own estimate may know more. */
	if (is_bound && behind(m) > lag)
		lag = behind(m);
	return lag;
}

static bool judge_replica(struct cluster *c, struct member *m)
{
	const struct link_view *broken = broken_link(m);
	uint32_t max_lag = c->settings->proxy.max_lag_ms;
	uint64_t lag;

	log_broken(m, broken);
	if (broken) {
		atomic_store(&m->server->lag_ms, UINT64_MAX);
		return false;
	}
	/* Without a primary nobody can get further: who was good stays so, and its lag says what it last was. */
	if (c->primary < 0)
		return !m->lagging;
	lag = measure_lag(c, m);
	atomic_store(&m->server->lag_ms, lag);
	m->lagging = max_lag && lag > max_lag;
	return !m->lagging;
}

static bool judge_reads(struct cluster *c, struct member *m)
{
	if (m->health != HEALTH_UP)
		return false;
	if (m->role == ROLE_PRIMARY) {
		m->drained = false;
		atomic_store(&m->server->lag_ms, 0);
		return true;
	}
	return m->role == ROLE_REPLICA && judge_replica(c, m) && !m->drained;
}

static void set_reads(struct member *m, bool takes)
{
	if (m->takes_reads == takes)
		return;
	m->takes_reads = takes;
	m->cluster->changed = true;
	if (m->health != HEALTH_UP || m->role != ROLE_REPLICA)
		return;
	if (takes)
		log_info(NULL, "server %s: takes reads", m->server->name);
	else if (m->lagging)
		log_warning(NULL, "server %s: too far behind, takes no reads until it catches up",
			    m->server->name);
}

/* Another Tandem has changed the primary, and this one was not told how: it was cut off. What its clients have seen beyond the new primary, as
 * that was when it was first seen writable, was lost. (Told of it, it has the fork point itself; see control_adopt().) */
static void cut_tokens(struct cluster *c, const struct member *before)
{
	const struct member *now = c->members[c->primary];

	if (!c->has_lease || !before || before == now)
		return;
	c->fork = now->seen.position;
	c->fork_number++;
	c->changed = true;
}

static void judge_roles(struct cluster *cluster)
{
	const struct member *before = cluster->last_primary;
	struct role_view views[CLUSTER_MAX_SERVERS];
	struct role_verdict verdict;

	for (size_t i = 0; i < cluster->member_count; i++)
		views[i] = view_of(cluster->members[i]);
	roles_judge(views, cluster->member_count, &verdict);
	cluster->root = verdict.root;
	for (size_t i = 0; i < cluster->member_count; i++) {
		cluster->members[i]->source = verdict.source[i];
		set_role(cluster->members[i], verdict.roles[i], cluster);
	}
	set_primary(cluster, &verdict);
	if (cluster->primary >= 0) {
		cluster->members[cluster->primary]->is_unproven = false;
		cut_tokens(cluster, before);
	}
	if (verdict.again >= 0 && !atomic_exchange(&cluster->members[verdict.again]->suspect, true))
		member_wake(cluster->members[verdict.again]);
}

void cluster_judge(struct cluster *cluster)
{
	/* In the middle of an operation the servers show a state that nobody is meant to act on. */
	if (!cluster->operating[0])
		judge_roles(cluster);
	for (size_t i = 0; i < cluster->member_count; i++)
		set_reads(cluster->members[i], judge_reads(cluster, cluster->members[i]));
}

void cluster_enthrone(struct cluster *cluster, struct member *primary)
{
	struct role_verdict verdict = { .primary = -1 };

	for (size_t i = 0; i < cluster->member_count; i++)
		if (cluster->members[i] == primary)
			verdict.primary = (int)i;
	cluster->root = verdict.primary;
	cluster->lease_id = cluster->trusted_id = primary->seen.server_id;
	cluster->trusted_until_ms = clock_ms() + LEASE_OWN_MS(cluster->settings->monitor.lease_ms);
	if (cluster->trusted_until_ms > atomic_load(&cluster->writes_until_ms))
		atomic_store(&cluster->writes_until_ms, cluster->trusted_until_ms);
	for (size_t i = 0; i < cluster->member_count; i++) {
		struct member *m = cluster->members[i];

		/* One that is away when the role is given to another has to be judged before it may be anything. */
		m->source = m == primary ? -1 : verdict.primary;
		if (m == primary)
			set_role(m, ROLE_PRIMARY, cluster);
		else if (m->role == ROLE_PRIMARY || m->role == ROLE_REPLICA)
			set_role(m, m->role == ROLE_PRIMARY && (m->health != HEALTH_UP || m->came_back) ? ROLE_STRAY : ROLE_REPLICA, cluster);
		m->is_astray |= m != primary && m->role != ROLE_UNKNOWN;
		m->rejoin_ms = m->judged_epoch = 0;
	}
	set_primary(cluster, &verdict);
	primary->is_unproven = false;
	for (size_t i = 0; i < cluster->member_count; i++)
		set_reads(cluster->members[i], judge_reads(cluster, cluster->members[i]));
}
