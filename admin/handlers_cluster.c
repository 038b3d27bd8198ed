/* Commands about servers: how they are, what happened, and taking one out of service. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/handlers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/nearest.h"
#include "proxy/cluster/history.h"
#include "proxy/cluster/status.h"
#include "proxy/session/worker.h"

enum { EVENTS_SHOWN = 20, EVENTS_IN_STATUS = 5, FOLLOW_MS = 200 };

static bool is_liked(const struct call *call, const char *name)
{
	return !call->request->like || like_matches(call->request->like, name);
}

static const char *none_if_empty(const char *text)
{
	return text[0] ? text : NULL;
}

/* What people call the version, without the prefix for old clients. */
static const char *version_of(const struct server_status *s)
{
	return none_if_empty(strncmp(s->version, "5.5.5-", 6) ? s->version : s->version + 6);
}

/* ---- Servers ---- */

static const struct column server_columns[] = {
	{ "server", CELL_TEXT, 0 },	     { "role", CELL_TEXT, 0 },	   { "health", CELL_TEXT, 0 }, { "reads", CELL_TEXT, 0 },
	{ "lag_ms", CELL_MS, 0 },	     { "source", CELL_TEXT, 0 },   { "connections", CELL_INTEGER, 0 },
	{ "limit", CELL_INTEGER, 0 },	     { "address", CELL_TEXT, 0 },  { "trouble", CELL_TEXT, 0 },
};

static const struct column detail_columns[] = {
	{ "server", CELL_TEXT, 0 },	    { "version", CELL_TEXT, 0 },	{ "read_only", CELL_BOOL, 0 },
	{ "weight", CELL_INTEGER, 0 },	    { "statements_read", CELL_INTEGER, 0 }, { "statements_written", CELL_INTEGER, 0 },
	{ "failed_connections", CELL_INTEGER, 0 }, { "position", CELL_TEXT, 0 },
};

static const char *reads_word(const struct server_status *s)
{
	if (s->drained)
		return "drained";
	if (s->role == ROLE_PRIMARY)
		return s->takes_reads ? "if no replica" : "no";
	return s->takes_reads ? "yes" : "no";
}

static void add_server(struct answer *a, struct table *t, const struct server_status *s)
{
	table_row(a, t);
	table_text(t, s->name);
	table_text(t, server_role_name(s->role));
	table_text(t, server_health_name(s->health));
	table_text(t, reads_word(s));
	table_ms(t, (double)s->lag_ms);
	table_text(t, none_if_empty(s->source));
	table_integer(t, s->connections);
	table_integer(t, s->connection_limit);
	table_text(t, s->address);
	table_text(t, none_if_empty(s->trouble));
	table_end_row(a, t);
}

static void add_servers(struct call *call, const struct cluster_status *status)
{
	struct table *t = ANSWER_TABLE(call->answer, "servers", TABLE_ROWS, server_columns);

	t->empty = "No server.";
	for (size_t i = 0; i < status->count; i++)
		if (is_liked(call, status->servers[i].name))
			add_server(call->answer, t, &status->servers[i]);
}

static void add_detail(struct answer *a, struct table *t, const struct server_status *s)
{
	table_row(a, t);
	table_text(t, s->name);
	table_text(t, version_of(s));
	if (s->is_seen)
		table_bool(t, s->read_only);
	else
		table_null(t);
	table_integer(t, s->weight);
	table_integer(t, (int64_t)s->reads);
	table_integer(t, (int64_t)s->writes);
	table_integer(t, (int64_t)s->errors);
	table_text(t, none_if_empty(s->position));
	table_end_row(a, t);
}

/* A status is too large for the stack of a client's thread to hold twice. */
static struct cluster_status *read_status(struct call *call)
{
	struct cluster_status *status = malloc(sizeof(*status));

	if (status)
		cluster_status(call_cluster(call), status);
	else
		answer_end(call->answer, ANSWER_FAILED, NULL, "out of memory");
	return status;
}

void handle_servers(struct call *call)
{
	struct cluster_status *status = read_status(call);
	struct table *t;

	if (!status)
		return;
	add_servers(call, status);
	if (request_has(call->request, "long")) {
		t = ANSWER_TABLE(call->answer, "details", TABLE_ROWS, detail_columns);
		for (size_t i = 0; i < status->count; i++)
			if (is_liked(call, status->servers[i].name))
				add_detail(call->answer, t, &status->servers[i]);
	}
	free(status);
}

/* ---- Events ---- */

static const struct column event_columns[] = {
	{ "number", CELL_INTEGER, 6 }, { "time", CELL_TIME, 12 }, { "kind", CELL_TEXT, 10 },
	{ "server", CELL_TEXT, 8 },    { "event", CELL_TEXT, 0 },
};

static bool add_event(struct answer *a, struct table *t, const struct history_event *e)
{
	table_row(a, t);
	table_integer(t, (int64_t)e->number);
	table_time(t, e->time_ms);
	table_text(t, e->kind);
	table_text(t, none_if_empty(e->server));
	table_text(t, e->text);
	return table_end_row(a, t);
}

/* Adds up to `max` events behind *after; false when nobody listens any more. */
static bool add_events(struct call *call, struct table *t, uint64_t *after, size_t max)
{
	struct history_event *events = calloc(max, sizeof(*events));
	size_t count = events ? history_read(cluster_history(call_cluster(call)), *after, events, max) : 0;
	bool ok = true;

	for (size_t i = 0; i < count && ok; i++)
		ok = add_event(call->answer, t, &events[i]);
	if (count)
		*after = events[count - 1].number;
	call->answer->no_memory |= !events;
	free(events);
	return ok;
}

/* Rows that have been shown are not kept: following goes on for days. */
static void follow(struct call *call, struct table *t, uint64_t after)
{
	do
		table_clear(t);
	while (channel_wait(call->channel, FOLLOW_MS) && add_events(call, t, &after, HISTORY_KEPT));
}

void handle_events(struct call *call)
{
	struct table *t = ANSWER_TABLE(call->answer, "events", TABLE_ROWS, event_columns);
	uint64_t last = request_number(call->request, "last"), after = 0;

	t->empty = "Nothing has happened yet.";
	if (!request_has(call->request, "last"))
		last = EVENTS_SHOWN;
	if (request_has(call->request, "follow") && !call->channel) {
		answer_end(call->answer, ANSWER_USAGE, NULL, "--follow is for tandemctl: here, ask again");
		return;
	}
	if (last && !add_events(call, t, &after, last < HISTORY_KEPT ? (size_t)last : HISTORY_KEPT))
		return;
	if (request_has(call->request, "follow"))
		follow(call, t, after);
}

/* ---- Status ---- */

static const struct column status_columns[] = {
	{ "primary", CELL_TEXT, 0 },  { "writes", CELL_TEXT, 0 },     { "operation", CELL_TEXT, 0 }, { "replicas", CELL_TEXT, 0 },
	{ "clients", CELL_INTEGER, 0 }, { "workers", CELL_INTEGER, 0 }, { "version", CELL_TEXT, 0 },   { "up_ms", CELL_MS, 0 },
	{ "settings", CELL_TEXT, 0 }, { "leader", CELL_TEXT, 0 },     { "votes", CELL_TEXT, 0 },	    { "lease_ms", CELL_INTEGER, 0 },
	{ "epoch", CELL_INTEGER, 0 },
};

static const struct column peer_columns[] = {
	{ "peer", CELL_TEXT, 0 },    { "address", CELL_TEXT, 0 }, { "state", CELL_TEXT, 0 },
	{ "primary", CELL_TEXT, 0 }, { "epoch", CELL_INTEGER, 0 },
};

static const struct column problem_columns[] = {
	{ "server", CELL_TEXT, 0 },
	{ "problem", CELL_TEXT, 0 },
	{ "advice", CELL_TEXT, 0 },
};

static const char *writes_word(const struct cluster_status *s)
{
	if (s->votes.writes_wait)
		return "wait: this Tandem reaches too few votes";
	if (s->gate != GATE_OPEN)
		return "wait a moment: a promotion is under way";
	if (s->primary >= 0 && s->servers[s->primary].health == HEALTH_UP)
		return "go to the primary";
	return "wait for a primary";
}

static void add_replica_count(struct table *t, const struct cluster_status *s)
{
	unsigned all = 0, good = 0;

	for (size_t i = 0; i < s->count; i++) {
		if ((int)i == s->primary)
			continue;
		all++;
		good += s->servers[i].role == ROLE_REPLICA && s->servers[i].takes_reads;
	}
	table_textf(t, "%u of %u take%s reads", good, all, all == 1 ? "s" : "");
}

static const char *leader_of(const struct cluster_status *s)
{
	for (size_t i = 0; i < s->peer_count; i++)
		if (s->peers[i].is_connected && s->peers[i].leads)
			return s->peers[i].name;
	return s->votes.is_leader ? "this Tandem" : s->votes.other_leads ? "another Tandem" : "nobody";
}

/* Without [peer] and [witness] sections nobody votes until something is to be decided. */
static void add_votes(struct table *t, const struct cluster_status *s)
{
	if (!s->votes.is_held) {
		table_text(t, NULL);
		table_text(t, NULL);
		table_null(t);
		return;
	}
	table_text(t, leader_of(s));
	table_textf(t, "%u of %u (%s)", s->votes.mine, s->votes.voters, s->votes.text);
	table_integer(t, s->votes.lease_left_ms);
}

static void add_facts(struct call *call, const struct cluster_status *s)
{
	struct table *t = ANSWER_TABLE(call->answer, "status", TABLE_FACTS, status_columns);
	const struct shared *shared = call_shared(call);

	table_row(call->answer, t);
	table_text(t, s->primary >= 0 ? s->servers[s->primary].name : NULL);
	table_text(t, writes_word(s));
	table_text(t, none_if_empty(s->operation));
	add_replica_count(t, s);
	table_integer(t, atomic_load(&shared->clients));
	table_integer(t, shared->worker_count);
	table_text(t, call->admin->host.version);
	table_ms(t, (double)(clock_ms() - call->admin->host.started_ms));
	table_text(t, call->admin->host.settings_path);
	add_votes(t, s);
	table_integer(t, (int64_t)s->epoch);
	table_end_row(call->answer, t);
}

static void add_peers(struct call *call, const struct cluster_status *s)
{
	struct table *t;

	if (!s->peer_count)
		return;
	t = ANSWER_TABLE(call->answer, "peers", TABLE_ROWS, peer_columns);
	t->title = "Other Tandems:";
	for (size_t i = 0; i < s->peer_count; i++) {
		const struct peer_view *p = &s->peers[i];

		table_row(call->answer, t);
		table_text(t, p->name);
		table_text(t, p->address);
		table_text(t, !p->is_connected ? "does not answer" : p->leads ? "leads" : "follows");
		table_text(t, none_if_empty(p->primary));
		table_integer(t, (int64_t)p->epoch);
		table_end_row(call->answer, t);
	}
}

static void add_problem(struct answer *a, struct table *t, const char *server, const char *problem, const char *advice)
{
	table_row(a, t);
	table_text(t, server);
	table_text(t, problem);
	table_text(t, none_if_empty(advice));
	table_end_row(a, t);
}

static void add_problems(struct call *call, const struct cluster_status *s)
{
	struct table *t = ANSWER_TABLE(call->answer, "problems", TABLE_ROWS, problem_columns);

	t->title = "What is wrong:";
	if (s->primary < 0)
		add_problem(call->answer, t, NULL, s->why, "");
	if (s->stranger[0])
		add_problem(call->answer, t, NULL, s->stranger, "");
	for (size_t i = 0; i < s->count; i++)
		if (s->servers[i].trouble[0])
			add_problem(call->answer, t, s->servers[i].name, s->servers[i].trouble, s->servers[i].advice);
	for (size_t i = 0; i < s->peer_count; i++)
		if (s->peers[i].trouble[0])
			add_problem(call->answer, t, s->peers[i].name, s->peers[i].trouble, "");
}

void handle_status(struct call *call)
{
	struct cluster_status *status = read_status(call);
	struct history_event last;
	uint64_t after = 0;
	struct table *t;

	if (!status)
		return;
	add_facts(call, status);
	add_servers(call, status);
	add_peers(call, status);
	add_problems(call, status);
	t = ANSWER_TABLE(call->answer, "events", TABLE_ROWS, event_columns);
	t->title = "Last events:";
	if (history_read(cluster_history(call_cluster(call)), 0, &last, 1) && last.number > EVENTS_IN_STATUS)
		after = last.number - EVENTS_IN_STATUS;
	add_events(call, t, &after, EVENTS_IN_STATUS);
	free(status);
}

/* ---- Drain and resume ---- */

static void set_drained(struct call *call, bool drained)
{
	const char *name = request_text(call->request, "SERVER");
	char why[300];

	if (!cluster_set_drained(call_cluster(call), name, drained, why, sizeof(why))) {
		answer_end(call->answer, ANSWER_REFUSED, NULL, "refused, nothing was changed: %s", why);
		return;
	}
	log_info(NULL, "admin: %s %s, by %s", drained ? "drain" : "resume", name, call->from);
	history_note(cluster_history(call_cluster(call)), "drain", name, "%s by command", drained ? "drained" : "resumed");
	if (drained)
		answer_end(call->answer, ANSWER_DONE, NULL, "%s takes no more reads; its connections are closed as their statements end.", name);
	else
		answer_end(call->answer, ANSWER_DONE, NULL, "%s takes reads again.", name);
}

void handle_drain(struct call *call)
{
	set_drained(call, true);
}

void handle_resume(struct call *call)
{
	set_drained(call, false);
}
