#include "proxy/cluster/roles.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct judge {
	const struct role_view *views;
	size_t count;
	struct role_verdict *out;
	unsigned followers
		[CLUSTER_MAX_SERVERS]; /* servers that are up and replicate from this one */
	int newest; /* the server with the newest epoch, -1 when none has one */
	int behind, ahead; /* a writable server that lacks what another has received from it, and that one; -1 none */
	int stale;  /* a writable server that was away when that one became the primary, -1 none */
};

static bool is_up(const struct role_view *view)
{
	return view->health == HEALTH_UP && view->seen;
}

static bool is_local(const char *host)
{
	return !strcasecmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "::1");
}

/* "10.0.0.1:3306", "[::1]:3306" against what a replica calls its master. */
static bool address_is(const char *address, const char *host, unsigned port)
{
	const char *colon = address ? strrchr(address, ':') : NULL;
	char name[OBSERVED_HOST];
	size_t len;

	if (!colon || !strncmp(address, "unix:", 5) || strtoul(colon + 1, NULL, 10) != port)
		return false;
	len = (size_t)(colon - address);
	if (len >= 2 && address[0] == '[') {
		address++;
		len -= 2;
	}
	if (len >= sizeof(name))
		return false;
	memcpy(name, address, len);
	name[len] = '\0';
	return !strcasecmp(name, host) || (is_local(name) && is_local(host));
}

/* The configured server at the other end of a link. A server id is what the two told each other; the address is how an operator
 * happened to write it, and stands in only while the link has not been up since the replica started. */
static int link_source(const struct judge *j, size_t self, const struct link_view *link)
{
	for (size_t i = 0; i < j->count && link->master_server_id; i++)
		if (i != self && j->views[i].seen &&
		    j->views[i].seen->server_id == link->master_server_id)
			return (int)i;
	for (size_t i = 0; i < j->count; i++) {
		const struct role_view *v = &j->views[i];

		if (i != self && (address_is(v->replication_address, link->host, link->port) ||
				  address_is(v->address, link->host, link->port)))
			return (int)i;
	}
	return -1;
}

static void find_sources(struct judge *j)
{
	for (size_t i = 0; i < j->count; i++) {
		const struct observation *seen = j->views[i].seen;

		j->out->source[i] = -1;
		for (unsigned l = 0; seen && l < seen->link_count && j->out->source[i] < 0; l++)
			j->out->source[i] = link_source(j, i, &seen->links[l]);
		if (is_up(&j->views[i]) && j->out->source[i] >= 0)
			j->followers[j->out->source[i]]++;
	}
}

static bool is_writable(const struct judge *j, size_t i)
{
	return is_up(&j->views[i]) && !j->views[i].seen->read_only;
}

/* Part of a circle in which two servers replicate from each other. */
static bool in_ring(const struct judge *j, size_t i)
{
	int source = j->out->source[i];

	return source >= 0 && j->out->source[source] == (int)i;
}

static void find_newest(struct judge *j)
{
	j->newest = j->stale = j->behind = j->ahead = -1;
	for (size_t i = 0; i < j->count; i++)
		if (j->views[i].epoch && (j->newest < 0 || j->views[i].epoch > j->views[j->newest].epoch))
			j->newest = (int)i;
}

/* Unless it has the role here and now, or the one that is ahead has come to follow it: somebody has changed that by hand. */
static bool is_stale(struct judge *j, size_t i)
{
	if (j->newest < 0 || j->views[i].epoch >= j->views[j->newest].epoch || j->views[i].was == ROLE_PRIMARY ||
	    j->out->source[j->newest] == (int)i)
		return false;
	j->stale = (int)i;
	return true;
}

/* What a replica has received from it, it must have: positions grow, so it has to be looked at after the replica. */
static bool lacks(const struct judge *j, size_t i, size_t replica)
{
	const struct observation *seen = j->views[replica].seen;

	for (unsigned l = 0; l < seen->link_count; l++)
		if (!seen->links[l].io_position.lost && !gtid_covers(&j->views[i].seen->position, &seen->links[l].io_position))
			return true;
	return false;
}

/* Has it everything that its replicas have? False too when that cannot be told yet: what was seen of a replica before the server ended may be
 * less than it got from it (one that does not answer when it is asked anew cannot say), and what was seen of the server before the replica's
 * look may be less than it has. */
static bool is_proven(struct judge *j, size_t i)
{
	const struct role_view *v = &j->views[i];

	if (!v->is_unproven || v->seen->position.lost)
		return true;
	for (size_t r = 0; r < j->count; r++) {
		const struct role_view *replica = &j->views[r];

		if (j->out->source[r] != (int)i)
			continue;
		if (replica->asked_ms < v->unproven_ms) {
			j->out->again = (int)r;
			return false;
		}
		if (!is_up(replica) || !lacks(j, i, r))
			continue;
		if (v->looked_ms < replica->heard_ms) {
			j->out->again = (int)i;
			return false;
		}
		j->behind = (int)i;
		j->ahead = (int)r;
		return false;
	}
	return true;
}

/* Fills `list` with the servers that could be the primary. */
static size_t find_candidates(struct judge *j, size_t list[CLUSTER_MAX_SERVERS])
{
	size_t n = 0;

	for (size_t i = 0; i < j->count; i++)
		if (is_writable(j, i) && j->out->source[i] < 0 && !is_stale(j, i) && is_proven(j, i))
			list[n++] = i;
	if (n)
		return n;
	for (size_t i = 0; i < j->count; i++)
		if (is_writable(j, i) && in_ring(j, i))
			list[n++] = i;
	return n;
}

__attribute__((format(printf, 2, 3))) static int none(struct judge *j, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(j->out->why, sizeof(j->out->why), format, args);
	va_end(args);
	return -1;
}

/* The server that had the role, or, at start, the one the others say they replicate from; it is not in force now. */
static int former_primary(const struct judge *j)
{
	int found = -1;

	for (size_t i = 0; i < j->count; i++)
		if (j->views[i].was == ROLE_PRIMARY)
			return (int)i;
	for (size_t i = 0; i < j->count; i++) {
		if (!j->followers[i] || j->out->source[i] >= 0)
			continue;
		if (found >= 0)
			return -1;
		found = (int)i;
	}
	return found;
}

static const char *unknown_server(const struct judge *j)
{
	for (size_t i = 0; i < j->count; i++)
		if (j->views[i].health == HEALTH_UNKNOWN)
			return j->views[i].name;
	return NULL;
}

/* One writable server that nobody replicates from. Alone it is the primary; beside a primary that is merely down it is so only if
 * it was its replica until somebody promoted it: anything else would be a stray that happens to be writable. */
static bool may_stand_alone(struct judge *j, size_t i, int former)
{
	/* Or when it is written down that it took over. */
	if (former < 0 || former == (int)i || (int)i == j->newest || j->views[i].was == ROLE_REPLICA ||
	    j->views[i].was == ROLE_PRIMARY)
		return true;
	none(j, "%s is writable but nobody replicates from it, and the primary %s is %s",
	     j->views[i].name, j->views[former].name,
	     is_up(&j->views[former]) ? "read-only" : "down");
	return false;
}

static int two_writable(struct judge *j, const size_t *list, size_t n, bool followed)
{
	size_t len = 0;
	char names[256] = "";

	for (size_t i = 0; i < n && len < sizeof(names); i++)
		if (!followed || j->followers[list[i]])
			len += (size_t)snprintf(names + len, sizeof(names) - len, "%s%s",
						len ? " and " : "", j->views[list[i]].name);
	return none(j, "%s are writable and %s: make all but one read-only replicas", names,
		    followed ? "are all replicated from" : "neither replicates from another");
}

/* The primary in force, when no other writable server had been its replica: a server that was never part of the cluster does not
 * contest the role by being switched on. */
static bool is_uncontested(const struct judge *j, const size_t *list, size_t n, int former)
{
	bool listed = false;

	if (former < 0 || j->views[former].was != ROLE_PRIMARY)
		return false;
	for (size_t i = 0; i < n; i++) {
		if ((int)list[i] == former)
			listed = true;
		else if (j->views[list[i]].was == ROLE_REPLICA)
			return false;
	}
	return listed;
}

/* Servers that lost their place while they were away, whoever follows them still. */
static bool is_only_contested_by_strays(struct judge *j, const size_t *list, size_t n, int former)
{
	bool listed = false;

	if (former < 0 || j->views[former].was != ROLE_PRIMARY)
		return false;
	for (size_t i = 0; i < n; i++) {
		if ((int)list[i] == former)
			listed = true;
		else if (j->views[list[i]].was != ROLE_STRAY)
			return false;
	}
	return listed;
}

static int choose_among(struct judge *j, const size_t *list, size_t n, int former)
{
	size_t followed = 0;
	size_t best = 0;

	if (is_only_contested_by_strays(j, list, n, former))
		return former;
	for (size_t i = 0; i < n; i++) {
		if (!j->followers[list[i]])
			continue;
		followed++;
		best = list[i];
	}
	if (followed == 1)
		return (int)best;
	if (!followed && is_uncontested(j, list, n, former))
		return former;
	if (n > 1)
		return two_writable(j, list, n, followed > 0);
	return may_stand_alone(j, list[0], former) ? (int)list[0] : -1;
}

static int explain_nobody(struct judge *j)
{
	for (size_t i = 0; i < j->count; i++)
		if (is_up(&j->views[i]))
			return none(j, "no server is writable");
	if (!j->count)
		return none(j, "no server is configured");
	return none(j, "no server is up; %s: %s", j->views[0].name,
		    j->views[0].trouble ? j->views[0].trouble : "not reached yet");
}

static int explain_none(struct judge *j, int former)
{
	const struct role_view *v = former >= 0 ? &j->views[former] : NULL;

	if (j->stale >= 0)
		return none(j, "%s is writable, but %s became the primary while it was away, and is %s", j->views[j->stale].name,
			    j->views[j->newest].name, is_up(&j->views[j->newest]) ? "not writable" : "down");
	if (j->behind >= 0)
		return none(j, "%s is writable but lacks what %s has received from it, as after a crash: it is not used. SET GLOBAL read_only = 1 "
			       "there, then `tandemctl failover` has %s take over; if %s is right as it is, make %s anew from it",
			    j->views[j->behind].name, j->views[j->ahead].name, j->views[j->ahead].name, j->views[j->behind].name,
			    j->views[j->ahead].name);
	if (!v)
		return explain_nobody(j);
	if (!is_up(v))
		return none(j, "%s is down: %s", v->name,
			    v->trouble ? v->trouble : "not reached yet");
	if (v->seen->read_only)
		return none(j, "%s is read-only: `tandemctl failover` compares it with its replicas and opens it, or has one take over", v->name);
	return none(j, "%s replicates from %s, and no other server is writable", v->name,
		    j->out->source[former] >= 0 ? j->views[j->out->source[former]].name
						: "another server");
}

static int none_yet(struct judge *j, const char *unknown)
{
	j->out->pending = true;
	return none(j, "%s has not been asked yet", unknown);
}

static int choose_primary(struct judge *j, int former)
{
	size_t list[CLUSTER_MAX_SERVERS];
	size_t n = find_candidates(j, list);
	const char *unknown = unknown_server(j);

	/* At start a verdict waits until each server has answered or is known not to; a primary in force needs no new proof. */
	if (unknown && (former < 0 || j->views[former].was != ROLE_PRIMARY))
		return none_yet(j, unknown);
	if (!n && j->out->again >= 0) {
		j->out->pending = true;
		return none(j, "a server that was started is compared with its replicas: %s is looked at once more", j->views[j->out->again].name);
	}
	if (!n)
		return explain_none(j, former);
	return choose_among(j, list, n, former);
}

/* True when the chain of sources from `i` ends at `root`. */
static bool leads_to(const struct judge *j, size_t i, int root)
{
	int at = (int)i;

	for (size_t step = 0; step < j->count; step++) {
		at = j->out->source[at];
		if (at < 0)
			return false;
		if (at == root)
			return true;
	}
	return false;
}

static enum server_role role_of(const struct judge *j, size_t i)
{
	int root = j->out->root;

	if ((int)i == root)
		return ROLE_PRIMARY;
	if (!is_up(&j->views[i]))
		return j->views[i].was == ROLE_PRIMARY ? ROLE_UNKNOWN : j->views[i].was;
	if (root >= 0)
		return leads_to(j, i, root) ? ROLE_REPLICA : ROLE_STRAY;
	return j->out->source[i] >= 0 && !in_ring(j, i) ? ROLE_REPLICA : ROLE_UNKNOWN;
}

void roles_judge(const struct role_view *views, size_t count, struct role_verdict *out)
{
	struct judge j = { .views = views, .count = count, .out = out };
	int former;

	memset(out, 0, sizeof(*out));
	out->again = -1;
	find_sources(&j);
	find_newest(&j);
	former = former_primary(&j);
	out->primary = choose_primary(&j, former);
	out->root = out->primary;
	/* Down or fenced it keeps the role: nobody else has it, and its replicas stay its replicas. One that follows another
	 * server, or is contested, does not. */
	if (out->root < 0 && !out->pending && former >= 0 && out->source[former] < 0 &&
	    (!is_up(&views[former]) || views[former].seen->read_only))
		out->root = former;
	for (size_t i = 0; i < count; i++)
		out->roles[i] = role_of(&j, i);
}

bool roles_link_is_sound(const struct link_view *link)
{
	if (link->sql == THREAD_STOPPED && link->sql_errno)
		return false;
	return link->io != THREAD_STOPPED || !link->io_errno;
}
