#include "proxy/cluster/rejoin.h"

#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/events.h"
#include "proxy/cluster/quarantine.h"
#include "proxy/cluster/semisync.h"

enum {
	RETRY_MS = 5000,	 /* after an attempt that could not be made */
	CLONE_PATIENCE_MS = 120000, /* for a clone to answer once the command has ended */
	CLONE_PAUSE_MS = 200,
};

/* What this operation knows besides struct operation. op->from is the primary, op->to the server that comes back. */
struct homecoming {
	struct binlog_state mine, theirs;
	struct extra_range ranges[BINLOG_STATE_MAX];
	size_t range_count;
	struct extra extras[QUARANTINE_EXTRAS];
	size_t extra_count;
	uint64_t transactions; /* in ranges */
	char mysql_extra[POSITION_BYTES];
};

static struct homecoming *homecoming_of(struct operation *op)
{
	return op->own;
}

static bool is_mysql(const struct operation *op)
{
	return op->to->subject.flavour == SQL_MYSQL;
}

static bool refuse(struct operation *op, const char *text)
{
	report_add(op->report, REMARK_REFUSAL, "preflight", op->to ? op->to->subject.name : "", -1, "%s", text);
	snprintf(op->report->summary, sizeof(op->report->summary), "refused, nothing was touched: %s%s%.300s",
		 op->to ? op->to->subject.name : "", op->to ? ": " : "", text);
	return false;
}

/* ---- Preflight ---- */

static bool check_roles(struct operation *op)
{
	if (!op->request->server)
		return refuse(op, "which server? `tandemctl rejoin SERVER`");
	op->to = conduct_actor(op, op->request->server);
	if (!op->to)
		return refuse(op, "no server has that name");
	if (!op->from || op->from->health != HEALTH_UP)
		return refuse(op, "there is no primary that it could follow: `tandemctl failover` first");
	if (op->to == op->from)
		return refuse(op, "it is the primary");
	if (op->to->health == HEALTH_UP && op->to->role == ROLE_REPLICA)
		return refuse(op, "it is a replica of the primary already");
	return true;
}

static bool check_lines(struct operation *op)
{
	if (!conduct_open(op, op->from)) {
		refuse(op, op->from->line.error_text);
		return false;
	}
	/* One that a clone is to be made of need not run. */
	if (!conduct_open(op, op->to))
		return (op->settings->monitor.clone_command && !op->request->automatic) || refuse(op, op->to->line.error_text);
	if (op->to->subject.flavour != op->from->subject.flavour)
		return refuse(op, "it is another kind of server than the primary");
	return true;
}

/* ---- Comparing ---- */

/* The fork point of the promotion that took the role from it, when that is known. */
static struct gtid_set fork_of(struct operation *op)
{
	struct gtid_set set = { 0 };
	struct journal_entry entry;

	if (journal_init(&entry) && journal_load(op->settings->state_dir, &entry) && entry.state == JOURNAL_DONE &&
	    !strcmp(entry.from, op->to->subject.name) && !strcmp(entry.to, op->from->subject.name) && entry.fork &&
	    !gtid_parse(entry.fork, strlen(entry.fork), &set))
		set = (struct gtid_set){ 0 };
	journal_fini(&entry);
	return set;
}

static bool compare_mariadb(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);
	char mine[POSITION_BYTES], theirs[POSITION_BYTES];
	struct gtid_set fork = fork_of(op);

	if (!replication_history(&op->to->subject, mine))
		return conduct_fail_line(op, op->to, "what it has written cannot be read");
	if (!replication_history(&op->from->subject, theirs))
		return conduct_fail_line(op, op->from, "what it has written cannot be read");
	if (!binlog_state_parse(mine, &h->mine) || !binlog_state_parse(theirs, &h->theirs) || h->mine.lost || h->theirs.lost)
		return conduct_fail(op, op->to, "gtid_binlog_state is not understood");
	h->range_count = quarantine_compare(&h->mine, &h->theirs, &fork, op->to->server_id, h->ranges, BINLOG_STATE_MAX);
	h->transactions = 0;
	for (size_t i = 0; i < h->range_count; i++)
		h->transactions += h->ranges[i].to - h->ranges[i].from;
	return true;
}

static bool compare_mysql(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);
	char mine[POSITION_BYTES], question[POSITION_BYTES + 64];

	if (!replication_history(&op->to->subject, mine))
		return conduct_fail_line(op, op->to, "what it has written cannot be read");
	snprintf(question, sizeof(question), "SELECT GTID_SUBTRACT('%s', @@global.gtid_executed)", mine);
	if (!conduct_ask(op->from, question, h->mysql_extra, sizeof(h->mysql_extra)))
		return conduct_fail_line(op, op->from, "what it has written cannot be read");
	h->transactions = h->mysql_extra[0] != '\0';
	return true;
}

static const char *const semi_sync_names[][2] = {
	[SQL_MARIADB] = { "rpl_semi_sync_master_enabled", "rpl_semi_sync_slave_enabled" },
	[SQL_MYSQL] = { "rpl_semi_sync_source_enabled", "rpl_semi_sync_replica_enabled" },
};

/* A replica that waits for acknowledgements of its own applies nothing when it has no replicas; and a commit that waits for one holds
 * read_only up. Where semi-sync is not known there is nothing to set. */
static void free_waiting_commits(struct operation *op)
{
	if (!line_say(&op->to->line, "SET GLOBAL %s = 0", semi_sync_names[op->to->subject.flavour][0]))
		log_debug(NULL, "server %s: %s", op->to->subject.name, op->to->line.error_text);
}

static void acknowledge(struct operation *op)
{
	if (semisync_is_on(op, op->from) &&
	    !line_say(&op->to->line, "SET GLOBAL %s = 1", semi_sync_names[op->to->subject.flavour][1]))
		log_warning(NULL, "server %s: it will not acknowledge what it receives: %s", op->to->subject.name, op->to->line.error_text);
}

/* Whoever is still connected there waits for what will not come, and a commit that waits for a replica holds read_only up. Cut off
 * before it is let go, so that nobody hears that it is stored. */
static bool end_connections(struct operation *op)
{
	char statement[512];
	MYSQL_RES *result;
	MYSQL_ROW row;
	unsigned ended = 0;

	snprintf(statement, sizeof(statement),
		 "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND USER NOT IN ('system user', "
		 "'event_scheduler', '%.100s', '%.100s') AND COMMAND NOT IN ('Daemon', 'Binlog Dump', 'Binlog Dump GTID')",
		 op->settings->monitor.user, op->settings->replication.user ? op->settings->replication.user : "");
	result = line_query(&op->to->line, statement);
	while (result && (row = mysql_fetch_row(result)))
		ended += line_say(&op->to->line, "KILL CONNECTION %s", row_text(row, 0));
	mysql_free_result(result);
	if (ended)
		log_info(NULL, "server %s: %u connections that were still open there are ended", op->to->subject.name, ended);
	return result != NULL;
}

/* Nothing is written there while it is judged, and what it received from another server and has not applied is not wanted. */
static bool quiet(struct operation *op)
{
	if (!end_connections(op))
		return conduct_fail_line(op, op->to, "its connections cannot be listed");
	free_waiting_commits(op);
	if (!replication_set_read_only(&op->to->subject))
		return conduct_fail_line(op, op->to, "it cannot be made read-only");
	if (!replication_stop(&op->to->subject))
		return conduct_fail_line(op, op->to, "its replication cannot be stopped");
	return conduct_note(op, op->to, "read-only");
}

/* What ran there while it was the primary must not run on a replica: whoever may write under read_only would make it differ. MySQL's
 * super_read_only stops them, and this as well. */
static bool stop_events(struct operation *op)
{
	char *events = is_mysql(op) ? NULL : events_list(&op->to->subject);
	unsigned off = 0;
	bool ok = !events || events_disable(&op->to->subject, events, &off);

	free(events);
	if (!ok)
		return conduct_fail_line(op, op->to, "its events cannot be disabled");
	return conduct_note(op, op->to, "%u event%s disabled", off, off == 1 ? "" : "s");
}

static bool compare(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);

	if (!(is_mysql(op) ? compare_mysql(op) : compare_mariadb(op)))
		return false;
	if (!h->transactions)
		return conduct_note(op, op->to, "everything it has written is also on %s", op->from->subject.name);
	return conduct_note(op, op->to, "it has transactions that %s has not", op->from->subject.name);
}

static void list_extras(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);
	const char *name = op->to->subject.name;

	if (is_mysql(op)) {
		report_add(op->report, REMARK_WARNING, "extra", name, -1, "%.350s", h->mysql_extra);
		return;
	}
	h->extra_count = quarantine_list(&op->to->subject, h->ranges, h->range_count, h->extras, QUARANTINE_EXTRAS);
	for (size_t i = 0; i < h->extra_count; i++)
		report_add(op->report, REMARK_WARNING, "extra", name, -1, "%s: %s", h->extras[i].gtid,
			   h->extras[i].statement[0] ? h->extras[i].statement : "(row events)");
	if (h->extra_count < h->transactions)
		report_add(op->report, REMARK_WARNING, "extra", name, -1, "and %" PRIu64 " more", h->transactions - h->extra_count);
}

/* ---- Taking it in ---- */

/* As the other links of the cluster have it. */
static bool has_tls_link(const struct operation *op)
{
	bool tls = false;

	pthread_mutex_lock(&op->cluster->lock);
	for (size_t i = 0; i < op->count; i++)
		for (unsigned l = 0; l < op->actors[i].member->seen.link_count; l++)
			tls |= op->actors[i].member->seen.links[l].uses_tls;
	pthread_mutex_unlock(&op->cluster->lock);
	return tls;
}

static bool follow(struct operation *op)
{
	struct replication_source source;
	char host[256];

	acknowledge(op);
	conduct_source(op, op->from, &source, host);
	source.tls = has_tls_link(op);
	if (!replication_demote_to(&op->to->subject, &source))
		return conduct_fail_line(op, op->to, "it cannot be made a replica");
	return conduct_note(op, op->to, "replica of %s", op->from->subject.name);
}

/* The last transaction in common, per domain. */
static size_t common_position(const struct homecoming *h, char out[POSITION_BYTES])
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < h->mine.count; i++) {
		const struct binlog_mark *m = &h->mine.marks[i];
		struct binlog_mark best = { m->domain, 0, 0 };
		bool seen = false;

		for (size_t k = 0; k < i; k++)
			seen |= h->mine.marks[k].domain == m->domain;
		if (seen || !quarantine_common(&h->mine, &h->theirs, m->domain, &best))
			continue;
		len += (size_t)snprintf(out + len, POSITION_BYTES - len, "%s%u-%u-%" PRIu64, len ? "," : "", best.domain, best.server_id,
					best.sequence);
		if (len >= POSITION_BYTES)
			return 0;
	}
	return len;
}

/* The binlog goes with them: a replica could not go on beside numbers that are taken in it. */
static bool drop_extras(struct operation *op)
{
	char position[POSITION_BYTES];

	common_position(homecoming_of(op), position);
	if (!line_say(&op->to->line, "RESET MASTER") || !line_say(&op->to->line, "SET GLOBAL gtid_slave_pos = '%s'", position))
		return conduct_fail_line(op, op->to, "its binlog cannot be reset");
	return conduct_note(op, op->to, "its binlog is reset, and it goes on after %s", position);
}

static bool follow_from_common(struct operation *op)
{
	struct replication_source source;
	char host[256];

	acknowledge(op);
	conduct_source(op, op->from, &source, host);
	source.tls = has_tls_link(op);
	if (!replication_follow(&op->to->subject, &source))
		return conduct_fail_line(op, op->to, "it cannot be made a replica");
	return conduct_note(op, op->to, "replica of %s", op->from->subject.name);
}

static bool may_be_dropped(struct operation *op)
{
	const struct homecoming *h = op->own;

	for (size_t i = 0; i < h->extra_count; i++)
		if (h->extras[i].has_rows || !h->extras[i].is_harmless)
			return false;
	return !is_mysql(op) && h->extra_count == h->transactions;
}

/* ---- Cloning ---- */

static void tell_clone(void *owner, const char *text)
{
	struct operation *op = owner;

	report_add(op->report, REMARK_OK, "clone", op->to->subject.name, -1, "%s", text);
	log_info(NULL, "clone of %s: %s", op->to->subject.name, text);
}

static char *clone_facts(const struct operation *op)
{
	json_t *facts = json_pack("{s:s, s:s, s:s, s:s, s:s}", "operation", "clone", "server", op->to->subject.name, "address",
				  op->to->settings->address, "source", op->from->subject.name, "source_address", op->from->settings->address);
	char *text = facts ? json_dumps(facts, JSON_COMPACT) : NULL;

	json_decref(facts);
	return text;
}

static bool await_clone(struct operation *op)
{
	uint64_t end = clock_ms() + CLONE_PATIENCE_MS;

	line_close(&op->to->line);
	while (!conduct_open(op, op->to)) {
		if (clock_ms() > end || control_is_stopping(op->cluster))
			return conduct_fail_line(op, op->to, "it does not answer after the clone");
		poll(NULL, 0, CLONE_PAUSE_MS);
	}
	return true;
}

static bool make_anew(struct operation *op)
{
	char *facts = clone_facts(op);
	struct hook_run run = { .input = facts ? facts : "{}", .line = tell_clone, .owner = op, .stop = &op->cluster->stopping };
	enum hook_outcome outcome = hook_command(op->settings->monitor.clone_command, &run);

	free(facts);
	if (outcome != HOOK_DONE)
		return conduct_fail(op, op->to, "clone_command failed: %s", run.why);
	return await_clone(op) && conduct_note(op, op->to, "clone_command done");
}

static bool compare_again(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);

	if (!compare(op))
		return false;
	return !h->transactions || conduct_fail(op, op->to, "it has transactions that %s has not", op->from->subject.name);
}

/* ---- The whole ---- */

/* Compared once before anything is touched: a transaction that still waits for its acknowledgement is dropped by the server itself when
 * it is restarted with init_rpl_role = SLAVE, but no more once it was let go. */
static const struct step judging[] = { { "compare", compare, NULL } };
static const struct step joining[] = {
	{ "quiet", quiet, NULL },
	{ "compare", compare_again, NULL },
	{ "events", stop_events, NULL },
	{ "follow", follow, NULL },
};
static const struct step dropping[] = {
	{ "quiet", quiet, NULL },
	{ "drop", drop_extras, NULL },
	{ "events", stop_events, NULL },
	{ "follow", follow_from_common, NULL },
};
static const struct step cloning[] = {
	{ "clone", make_anew, NULL },
	{ "quiet", quiet, NULL },
	{ "compare", compare_again, NULL },
	{ "events", stop_events, NULL },
	{ "follow", follow, NULL },
};

#define RUN(op, steps) conduct_run(op, steps, sizeof(steps) / sizeof(*(steps)))

static enum operation_result sum_up(struct operation *op, bool done)
{
	struct report *r = op->report;
	const char *name = op->to->subject.name;

	if (!done) {
		snprintf(r->summary, sizeof(r->summary), "%s is not back: %.250s", name, report_failure(r));
		return OPERATION_UNDONE;
	}
	snprintf(r->summary, sizeof(r->summary), "%s is a replica of %s again", name, op->from->subject.name);
	history_note(op->cluster->history, "rejoin", name, "replica of %s again", op->from->subject.name);
	return OPERATION_DONE;
}

/* Nobody is to write there, if that can be had without letting anything go. */
static void close_to_writers(struct operation *op)
{
	if (op->to->line.mysql && !replication_set_read_only(&op->to->subject))
		report_add(op->report, REMARK_WARNING, "quarantine", op->to->subject.name, -1, "it is not read-only: %s",
			   op->to->line.error_text);
}

static enum operation_result quarantine(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);
	struct report *r = op->report;
	const char *name = op->to->subject.name;
	char first[100] = "";

	if (h->range_count)
		snprintf(first, sizeof(first), ", beginning with %u-%u-%" PRIu64, h->ranges[0].domain, h->ranges[0].server_id,
			 h->ranges[0].from + 1);
	if (op->request->accept)
		refuse(op, is_mysql(op) ? "it has transactions of its own, which cannot be looked into on MySQL: clone it"
					: "not all of its own transactions are known to change no data: only FLUSH, ANALYZE and their "
					  "like may be dropped. Clone it");
	snprintf(r->summary, sizeof(r->summary),
		 "%s has %" PRIu64 " transactions of its own%s: it stays out. `tandemctl rejoin %.64s` %s", name, h->transactions, first,
		 name,
		 op->settings->monitor.clone_command ? "makes it anew" : "makes it anew once [monitor] clone_command is set");
	close_to_writers(op);
	report_add(r, REMARK_REFUSAL, "quarantine", name, -1, "%s", r->summary);
	history_note(op->cluster->history, "quarantine", name, "%s", r->summary);
	return OPERATION_REFUSED;
}

static enum operation_result judge(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);

	if (op->to->line.mysql) {
		if (!RUN(op, judging))
			return sum_up(op, false);
		if (!h->transactions)
			return sum_up(op, RUN(op, joining));
		list_extras(op);
		if (op->request->accept && may_be_dropped(op))
			return sum_up(op, RUN(op, dropping));
	}
	if (!op->request->automatic && !op->request->accept && op->settings->monitor.clone_command)
		return sum_up(op, RUN(op, cloning));
	return quarantine(op);
}

static enum operation_result plan(struct operation *op)
{
	struct homecoming *h = homecoming_of(op);
	bool known = op->to->line.mysql && compare(op);

	if (known && h->transactions)
		list_extras(op);
	snprintf(op->report->summary, sizeof(op->report->summary), "%s would %s; nothing was touched", op->to->subject.name,
		 known && !h->transactions		       ? "follow the primary again"
		 : op->settings->monitor.clone_command ? "be made anew by clone_command"
						       : "stay out");
	return OPERATION_DONE;
}

enum operation_result rejoin_run(struct operation *op)
{
	enum operation_result result = OPERATION_REFUSED;
	struct homecoming *h = calloc(1, sizeof(*h));

	op->own = h;
	if (!h)
		refuse(op, "out of memory");
	else if (check_roles(op) && check_lines(op))
		result = op->request->dry_run ? plan(op) : judge(op);
	op->own = NULL;
	free(h);
	return result;
}

/* ---- Those that come back by themselves ---- */

/* The next one to be judged: its name, false when there is none. A quarantined one is judged again when it was restarted. */
static bool next_returned(struct cluster *c, char name[64])
{
	uint64_t now = clock_ms();
	bool found = false;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; !found && i < c->member_count && c->primary >= 0; i++) {
		struct member *m = c->members[i];

		if (m->role == ROLE_REPLICA && m->health == HEALTH_UP && m->source == c->primary)
			m->is_astray = false;
		if (!m->is_astray || m->role != ROLE_STRAY || m->health != HEALTH_UP || now < m->rejoin_ms ||
		    m->judged_epoch == m->epoch)
			continue;
		found = true;
		m->rejoin_ms = now + RETRY_MS;
		snprintf(name, 64, "%s", m->server->name);
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

/* A refusal is a judgement: it holds until the server was restarted. */
static void note_judged(struct cluster *c, const char *name)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < c->member_count; i++)
		if (!strcmp(c->members[i]->server->name, name))
			c->members[i]->judged_epoch = c->members[i]->epoch;
	pthread_mutex_unlock(&c->lock);
}

void rejoin_returned(struct cluster *cluster)
{
	char name[64];

	while (next_returned(cluster, name)) {
		struct operation_request request = { .kind = OPERATION_REJOIN, .server = name, .automatic = true };
		struct report report = { 0 };

		if (cluster_operate(cluster, &request, &report) == OPERATION_REFUSED)
			note_judged(cluster, name);
		report_free(&report);
	}
}
