/* The snapshot of this moment, built whole from the members and tables. */
#include "proxy/cluster/member.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Connections Tandem leaves to others: people, monitors, replicas. */
unsigned member_connection_limit(const struct member *m)
{
	unsigned own = m->settings->servers[m->settings_index].max_connections;
	unsigned max = m->has_seen ? m->seen.max_connections : 0;
	unsigned reserve = max / 20 > 5 ? max / 20 : 5;
	unsigned limit = max > reserve ? max - reserve : max ? 1 : 0;

	if (own && (!limit || own < limit))
		return own;
	return limit;
}

static void fill_view(struct server_view *view, const struct member *m)
{
	view->server = server_ref(m->server);
	view->settings = &m->settings->servers[m->settings_index];
	view->role = m->role;
	view->health = m->health;
	view->takes_reads = m->takes_reads;
	view->connection_limit = member_connection_limit(m);
	view->flavour = m->seen.flavour;
	view->version = m->seen.version;
	snprintf(view->version_text, sizeof(view->version_text), "%s", m->seen.version_text);
	view->capabilities = m->seen.capabilities;
	view->epoch = m->epoch;
}

/* The server whose defaults, accounts and names are the cluster's: the primary, or the one that was it, or any that was seen. */
static int reference_member(const struct cluster *c)
{
	if (c->primary >= 0)
		return c->primary;
	if (c->root >= 0 && c->members[c->root]->has_seen)
		return c->root;
	for (size_t i = 0; i < c->member_count; i++)
		if (c->members[i]->variables)
			return (int)i;
	return -1;
}

static void fill_accounts(struct snapshot *s, const struct cluster *c)
{
	struct account_origin origins[CLUSTER_MAX_SERVERS];
	size_t n = 0;

	s->accounts = accounts_copy(c->accounts, c->account_count);
	s->account_count = s->accounts ? c->account_count : 0;
	s->accounts_known = c->accounts_known;
	s->accounts_ticket = c->account_job.served;
	for (size_t i = 0; i < c->member_count; i++) {
		const struct observation *seen = &c->members[i]->seen;

		if (!c->members[i]->has_seen)
			continue;
		memcpy(origins[n].name, seen->own_name, sizeof(origins[n].name));
		memcpy(origins[n].ip, seen->own_ip, sizeof(origins[n].ip));
		n++;
	}
	accounts_judge_fit(s->accounts, s->account_count, origins, n);
}

static void fill_reference(struct snapshot *s, const struct cluster *c, int reference)
{
	struct variable_list *lists[CLUSTER_MAX_SERVERS] = { NULL };
	const struct observation *seen = &c->members[reference]->seen;

	for (size_t i = 0; i < c->member_count; i++)
		lists[i] = c->members[i]->variables;
	variables_build(s, lists, (size_t)reference, seen->flavour);
	s->default_collation_id = seen->collation;
	s->skip_name_resolve = seen->skip_name_resolve;
}

uint64_t cluster_epoch(const struct cluster *cluster)
{
	uint64_t epoch = cluster->remembered_epoch;

	for (size_t i = 0; i < cluster->member_count; i++)
		if (cluster->members[i]->has_seen && cluster->members[i]->seen.row_epoch > epoch)
			epoch = cluster->members[i]->seen.row_epoch;
	return epoch;
}

/* Votes say whether writes may go where the roles say. Without a primary they may go nowhere: what is open on the last one, which may be fenced
 * by another Tandem, would be committed there only. */
static enum gate gate_of(const struct cluster *c)
{
	bool may_write = !c->has_lease || (c->primary >= 0 && c->members[c->primary]->seen.server_id == c->lease_id);

	return may_write || c->gate == GATE_TAKEOVER ? c->gate : GATE_SHUT;
}

struct snapshot *cluster_make_snapshot(struct cluster *cluster)
{
	struct snapshot *s = calloc(1, sizeof(*s));
	int reference = reference_member(cluster);

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->number = ++cluster->number;
	s->settings = settings_ref(cluster->settings);
	s->primary = cluster->primary;
	s->gate = gate_of(cluster);
	s->writes_until_ms = cluster->has_lease ? &cluster->writes_until_ms : NULL;
	if (!cluster->gate_number)
		cluster->gate_number = s->number;
	s->fork_number = cluster->fork_number;
	s->fork = cluster->fork;
	if (s->primary < 0)
		s->primary_why = strdup(cluster->primary_why[0] ? cluster->primary_why
								: "no server has been asked yet");
	s->server_count = cluster->member_count;
	for (size_t i = 0; i < cluster->member_count; i++)
		fill_view(&s->servers[i], cluster->members[i]);
	if (reference >= 0)
		fill_reference(s, cluster, reference);
	fill_accounts(s, cluster);
	catalog_build(s, cluster->catalog);
	s->catalog_ticket = cluster->catalog_job.served;
	s->variables_ticket = cluster->variables_served;
	return s;
}
