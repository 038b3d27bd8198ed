#include "proxy/cluster/failover.h"

#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/accord.h"
#include "proxy/cluster/candidate.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/events.h"
#include "proxy/cluster/flavour.h"
#include "proxy/cluster/preflight.h"
#include "proxy/cluster/promote.h"
#include "proxy/cluster/semisync.h"
#include "proxy/cluster/sentry.h"

enum {
	APPLY_DEFAULT_MS = 60000,
	APPLIER_START_MS = 500, /* an applying thread that cannot go on says so by then */
	LOOK_PAUSE_MS = 5,
	WORKERS_MS = 1000,
	UNFIT_BYTES = 200,
};

/* What this operation knows besides struct operation, by actor. */
struct takeover {
	struct observation seen[CLUSTER_MAX_SERVERS];
	struct gtid_set received_before[CLUSTER_MAX_SERVERS];
	bool was_seen[CLUSTER_MAX_SERVERS]; /* since this Tandem began */
	char unfit[CLUSTER_MAX_SERVERS][UNFIT_BYTES];
	bool is_replica[CLUSTER_MAX_SERVERS];
	bool receiver_stopped[CLUSTER_MAX_SERVERS];
	struct candidate_terms terms;
	bool is_back; /* the former primary answers again, read-only */
	uint64_t loss;
	char why[400];
	char received[POSITION_BYTES]; /* of the chosen one */
	uint64_t begun_us;
};

static struct takeover *takeover_of(struct operation *op)
{
	return op->own;
}

static bool is_mysql(const struct actor *a)
{
	return a->subject.flavour == SQL_MYSQL;
}

/* ---- Who there is ---- */

/* What ran on the primary while it lived; of one that this Tandem has not seen alive, what the last operation wrote down. */
static void recall_events(struct operation *op)
{
	struct journal_entry entry;

	pthread_mutex_lock(&op->cluster->lock);
	if (op->from->member->events)
		journal_set(&op->entry.events, op->from->member->events);
	pthread_mutex_unlock(&op->cluster->lock);
	if (!op->entry.events[0] && journal_init(&entry)) {
		if (journal_load(op->settings->state_dir, &entry))
			journal_set(&op->entry.events, entry.events);
		journal_fini(&entry);
	}
	events_recall_scheduler(op->entry.events, op->scheduler);
}

/* An earlier run of this Tandem, which had seen the primary alive, had begun. */
static bool was_begun(const struct operation *op)
{
	struct journal_entry entry;
	bool begun = journal_init(&entry) && journal_load(op->settings->state_dir, &entry) && entry.state == JOURNAL_RUNNING &&
		     !strcmp(entry.operation, operation_name(OPERATION_FAILOVER)) && !strcmp(entry.from, op->from->subject.name);

	journal_fini(&entry);
	return begun;
}

/* The server that has the role while it is down. Fills what the terms need of it. */
static bool find_former(struct operation *op)
{
	struct cluster *c = op->cluster;
	struct takeover *t = takeover_of(op);

	pthread_mutex_lock(&c->lock);
	op->from = c->root >= 0 ? &op->actors[c->root] : NULL;
	if (op->from) {
		gtid_board_read(&op->from->member->server->acknowledged, &t->terms.acknowledged);
		t->terms.unseen = !op->from->member->has_seen;
		t->is_back = op->from->member->seen.read_only && !op->from->member->seen.link_count;
		t->terms.degraded = op->from->member->seen.semi_sync == SEMI_SYNC_DEGRADED;
	}
	for (size_t i = 0; i < op->count; i++) {
		t->received_before[i] = op->actors[i].member->received_before;
		t->was_seen[i] = op->actors[i].member->has_seen;
		t->is_replica[i] = op->from && op->actors[i].role == ROLE_REPLICA && op->actors[i].source == (int)(op->from - op->actors);
	}
	pthread_mutex_unlock(&c->lock);
	if (op->from && t->terms.unseen)
		t->terms.unseen = !was_begun(op);
	t->terms.max_loss = op->settings->monitor.max_loss;
	t->terms.force = op->request->force;
	t->terms.wanted = op->request->server;
	return op->from != NULL;
}

static const struct link_view *link_of(const struct takeover *t, size_t i)
{
	return t->seen[i].link_count ? &t->seen[i].links[0] : NULL;
}

/* What a replica will have when everything it can keep is applied. */
static struct gtid_set received_by(const struct takeover *t, size_t i)
{
	const struct link_view *link = link_of(t, i);
	struct gtid_set set = t->seen[i].position;

	if (link && (link->io != THREAD_STOPPED || link->sql != THREAD_STOPPED || t->receiver_stopped[i]))
		gtid_merge(&set, &link->io_position);
	return set;
}

static void judge_fitness(struct operation *op, size_t i)
{
	struct takeover *t = takeover_of(op);
	struct actor *a = &op->actors[i];
	const struct link_view *link = link_of(t, i);
	char *unfit = t->unfit[i];
	char value[16];

	unfit[0] = '\0';
	if (!link)
		snprintf(unfit, UNFIT_BYTES, "replicates from nobody");
	else if (t->seen[i].link_count > 1)
		snprintf(unfit, UNFIT_BYTES, "replicates from several servers");
	else if (!link->uses_gtid)
		snprintf(unfit, UNFIT_BYTES, "replicates by file and position, not by GTID");
	else if (link->sql == THREAD_STOPPED && link->sql_errno)
		snprintf(unfit, UNFIT_BYTES, "cannot apply what it received, error %u: repair it and START SLAVE SQL_THREAD", link->sql_errno);
	else if (conduct_ask(a, is_mysql(a) ? "SELECT @@global.log_replica_updates" : "SELECT @@global.log_slave_updates", value,
			     sizeof(value)) &&
		 !strcmp(value, "0"))
		snprintf(unfit, UNFIT_BYTES, "does not log what it replicates (log_slave_updates)");
}

/* A fresh look at one replica; false when it cannot be asked. */
static bool look_at(struct operation *op, size_t i)
{
	struct takeover *t = takeover_of(op);
	struct actor *a = &op->actors[i];

	t->seen[i].flavour = a->subject.flavour;
	t->seen[i].version = a->subject.version;
	if (conduct_open(op, a) && observe_state(&a->line, &t->seen[i])) {
		judge_fitness(op, i);
		/* Who saw the primary alive knows that better than a row. */
		t->terms.degraded |= t->terms.unseen && journal_is_degraded(&a->subject, op->from->subject.name);
		return true;
	}
	snprintf(t->unfit[i], UNFIT_BYTES, "does not answer: %.150s", a->line.error_text);
	return false;
}

static void look_at_all(struct operation *op)
{
	struct takeover *t = takeover_of(op);

	for (size_t i = 0; i < op->count; i++)
		if (t->is_replica[i])
			look_at(op, i);
}

/* Sets op->to, or explains in t->why. */
static bool choose_candidate(struct operation *op)
{
	struct takeover *t = takeover_of(op);
	struct candidate list[CLUSTER_MAX_SERVERS];
	size_t index[CLUSTER_MAX_SERVERS], n = 0;
	struct candidate_choice choice;

	for (size_t i = 0; i < op->count; i++) {
		if (!t->is_replica[i])
			continue;
		list[n] = (struct candidate){ op->actors[i].subject.name, t->unfit[i][0] ? t->unfit[i] : NULL,
					      op->actors[i].settings->promote, received_by(t, i), t->received_before[i] };
		index[n++] = i;
	}
	candidate_choose(list, n, &t->terms, &choice);
	memcpy(t->why, choice.why, sizeof(t->why));
	t->loss = choice.loss;
	/* cppcheck-suppress uninitvar ; one is chosen only of those listed above */
	op->to = choice.index >= 0 ? &op->actors[index[choice.index]] : NULL;
	op->link_tls = op->to && t->seen[index[choice.index]].links[0].uses_tls;
	return op->to != NULL;
}

/* ---- Preflight ---- */

static bool refuse(struct operation *op, const struct actor *a, const char *text)
{
	report_add(op->report, REMARK_REFUSAL, "preflight", a ? a->subject.name : "", -1, "%s", text);
	snprintf(op->report->summary, sizeof(op->report->summary), "refused, nothing was touched: %.300s", text);
	return false;
}

/* A person who asks right after the crash need not ask twice. */
static void await_verdict(struct operation *op, struct evidence_verdict *out)
{
	uint64_t end = clock_ms() + 2 * (uint64_t)op->settings->monitor.failover_patience_ms;

	for (;;) {
		sentry_judge(op->cluster, out);
		if (out->kind != EVIDENCE_WAIT || out->again_ms > end || clock_ms() >= end || control_is_stopping(op->cluster))
			return;
		poll(NULL, 0, LOOK_PAUSE_MS);
	}
}

static bool check_evidence(struct operation *op)
{
	struct evidence_verdict verdict;

	if (op->request->force) {
		report_add(op->report, REMARK_WARNING, "preflight", op->from->subject.name, -1,
			   "forced: whether it is really gone was not looked at");
		return true;
	}
	await_verdict(op, &verdict);
	if (verdict.kind == EVIDENCE_ALIVE)
		return refuse(op, op->from, "it is the primary and answers: `tandemctl promote` is for that");
	if (verdict.kind != EVIDENCE_DEAD)
		return refuse(op, op->from, verdict.why);
	report_add(op->report, REMARK_OK, "preflight", op->from->subject.name, -1, "%s", verdict.why);
	return true;
}

/* A server that knows more than the one that came back; NULL with an empty op->note: none, otherwise why that cannot be told. */
static const struct actor *find_ahead(struct operation *op, const struct gtid_set *has)
{
	const struct takeover *t = op->own;

	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];
		struct gtid_set received = received_by(t, i);

		if (a == op->from)
			continue;
		if (!t->was_seen[i])
			conduct_note(op, a, "%s has not answered since this Tandem began, and may have more than %s", a->subject.name,
				     op->from->subject.name);
		else if (t->is_replica[i] && candidate_loss(a->line.mysql ? &received : &t->received_before[i], has)) {
			if (a->line.mysql)
				return a;
			conduct_note(op, a, "%s does not answer, and had received more than %s has", a->subject.name, op->from->subject.name);
		}
	}
	return NULL;
}

/* The primary restarted before anybody took over from it. If it has everything that others and clients know of it goes on, which loses
 * nothing; if a replica is ahead (a crash may cost a server its last transactions) that one takes over. Never unseen. */
static bool check_return(struct operation *op, bool *reopens)
{
	struct takeover *t = takeover_of(op);
	struct observation *own = &t->seen[op->from - op->actors];
	const struct actor *ahead;

	own->flavour = op->from->subject.flavour;
	own->version = op->from->subject.version;
	if (!conduct_open(op, op->from) || !observe_state(&op->from->line, own))
		return refuse(op, op->from, op->from->line.error_text);
	op->note[0] = '\0';
	ahead = find_ahead(op, &own->position);
	*reopens = !ahead && !candidate_loss(&t->terms.acknowledged, &own->position);
	if (*reopens && op->note[0] && !op->request->force)
		return refuse(op, op->from, op->note);
	report_add(op->report, *reopens ? REMARK_OK : REMARK_WARNING, "preflight", op->from->subject.name, -1,
		   "it is back, read-only, and %s%s%s", *reopens ? "nobody knows more than it" : "lacks transactions that others know of",
		   ahead ? ": ahead is " : "", ahead ? ahead->subject.name : "");
	t->terms.unseen = false;
	return true;
}

static bool check_presence(struct operation *op, bool *reopens)
{
	if (op->from->health != HEALTH_UP)
		return check_evidence(op);
	if (!takeover_of(op)->is_back)
		return refuse(op, op->from, "it answers, and is writable: use `tandemctl promote`");
	look_at_all(op);
	return check_return(op, reopens);
}

static bool check(struct operation *op)
{
	bool reopens = false;

	if (!find_former(op))
		return refuse(op, NULL, "no server is known to have been the primary");
	if (!check_presence(op, &reopens))
		return false;
	if (reopens) {
		op->to = op->from;
		return true;
	}
	look_at_all(op);
	if (!choose_candidate(op))
		return refuse(op, op->from, takeover_of(op)->why);
	report_add(op->report, REMARK_OK, "preflight", op->to->subject.name, -1, "%s; %" PRIu64 " acknowledged transactions would be lost",
		   takeover_of(op)->why, takeover_of(op)->loss);
	preflight_begin_entry(op);
	return true;
}

/* ---- Steps before the point of no return ---- */

/* So that the next run goes on where this one was ended. */
static bool begin_journal(struct operation *op)
{
	recall_events(op);
	op->entry.state = JOURNAL_RUNNING;
	if (!journal_save(op->settings->state_dir, &op->entry))
		return conduct_note(op, NULL, "the journal in %.200s cannot be written", op->settings->state_dir);
	return true;
}

/* They see the same primary gone, and hold what would be sent to it, or to another. What they told their clients counts as a loss, too. */
/* Until every worker has heard of it, which takes a millisecond: one that does not must not hold up the others for ever. */
static void await_workers(struct operation *op)
{
	uint64_t end = clock_ms() + WORKERS_MS;
	struct gate_count count;

	while (!control_count(op->cluster, &count) && clock_ms() < end)
		control_wait_moved(op->cluster, LOOK_PAUSE_MS);
}

/* From here on no client is told of a write that the old primary still answers: what is chosen is measured against what was told before. The
 * gate stays closed until every worker has clamped its tokens: one that did it later would clamp what another has written meanwhile. */
static bool hold_answers(struct operation *op)
{
	bool ok;

	control_set_gate(op->cluster, GATE_TAKEOVER);
	await_workers(op);
	ok = accord_clear(op, true);
	gtid_board_read(&op->from->member->server->acknowledged, &takeover_of(op)->terms.acknowledged);
	return ok;
}

static void log_fence_line(void *owner, const char *text)
{
	log_info(NULL, "fence_command for %s: %s", (const char *)owner, text);
}

static char *fence_facts(const struct operation *op)
{
	json_t *facts = json_pack("{s:s, s:s, s:s, s:s}", "operation", "failover", "server", op->from->subject.name, "address",
				  op->from->settings->address, "successor", op->to->subject.name);
	char *text = facts ? json_dumps(facts, JSON_COMPACT) : NULL;

	json_decref(facts);
	return text;
}

static bool fence(struct operation *op)
{
	const struct monitor_settings *m = &op->settings->monitor;
	struct hook_run run = { .timeout_ms = m->hook_timeout_ms, .line = log_fence_line, .owner = (void *)op->from->subject.name };
	char *facts;
	enum hook_outcome outcome;

	if (!m->fence_command)
		return conduct_note(op, op->from, "no fence_command");
	facts = fence_facts(op);
	run.input = facts ? facts : "{}";
	outcome = hook_command(m->fence_command, &run);
	free(facts);
	if (outcome == HOOK_DONE)
		return conduct_note(op, op->from, "fence_command done");
	if (m->fence == FENCE_BEST_EFFORT)
		return conduct_note(op, op->from, "fence_command failed (%s), and fence = best_effort", run.why);
	return conduct_fail(op, op->from, "fence_command failed (%s), and fence = required", run.why);
}

/* Until the applying thread runs, or says why not. */
static bool await_applier(struct operation *op, size_t i)
{
	uint64_t end = clock_ms() + APPLIER_START_MS;
	const struct link_view *link;

	do {
		poll(NULL, 0, LOOK_PAUSE_MS);
		if (!look_at(op, i))
			return false;
		link = link_of(takeover_of(op), i);
	} while (link && link->sql != THREAD_RUNNING && !link->sql_errno && clock_ms() < end);
	return link && link->sql == THREAD_RUNNING;
}

/* While the receiver still tries to connect: with both threads stopped a start would empty the relay log. */
static bool start_appliers(struct operation *op)
{
	struct takeover *t = takeover_of(op);
	unsigned started = 0;

	for (size_t i = 0; i < op->count; i++) {
		const struct link_view *link = t->is_replica[i] && !t->unfit[i][0] ? link_of(t, i) : NULL;

		if (!link || link->sql != THREAD_STOPPED || link->io == THREAD_STOPPED)
			continue;
		if (replication_start_applier(&op->actors[i].subject) && await_applier(op, i))
			started++;
		else if (!t->unfit[i][0])
			snprintf(t->unfit[i], UNFIT_BYTES, "does not apply what it received: %.150s", op->actors[i].line.error_text);
	}
	return conduct_note(op, NULL, "%u started", started);
}

/* A semi-synchronous replica tells its primary that it goes, and waits seconds for one that is silent: all at the same time. */
struct stopping {
	pthread_t thread;
	bool started;
	bool done;
	struct actor *actor;
	char patience[16]; /* its rpl_semi_sync_slave_kill_conn_timeout, "" when it has none */
};

static void *stop_receiver(void *arg)
{
	struct stopping *s = arg;

	mysql_thread_init();
	s->done = replication_stop_receiver(&s->actor->subject);
	mysql_thread_end();
	return NULL;
}

static void begin_stopping(struct stopping *s, struct actor *actor)
{
	if (is_mysql(actor) ||
	    !conduct_ask(actor, "SELECT @@global.rpl_semi_sync_slave_kill_conn_timeout", s->patience, sizeof(s->patience)) ||
	    !line_say(&actor->line, "SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = 1"))
		s->patience[0] = '\0';
	s->actor = actor;
	s->started = pthread_create(&s->thread, NULL, stop_receiver, s) == 0;
	if (!s->started)
		s->done = replication_stop_receiver(&actor->subject);
}

static void end_stopping(struct stopping *s)
{
	if (s->started)
		pthread_join(s->thread, NULL);
	if (s->patience[0] && s->done && !line_say(&s->actor->line, "SET GLOBAL rpl_semi_sync_slave_kill_conn_timeout = %s", s->patience))
		log_debug(NULL, "server %s: %s", s->actor->subject.name, s->actor->line.error_text);
}

/* One whose applying thread stands would lose its relay log: it is left as it is, and cannot be chosen. */
static bool stop_receivers(struct operation *op)
{
	struct takeover *t = takeover_of(op);
	struct stopping stopping[CLUSTER_MAX_SERVERS] = { 0 };
	unsigned stopped = 0;

	for (size_t i = 0; i < op->count; i++) {
		const struct link_view *link = t->is_replica[i] && !t->unfit[i][0] ? link_of(t, i) : NULL;

		if (link && link->sql == THREAD_RUNNING && link->io != THREAD_STOPPED)
			begin_stopping(&stopping[i], &op->actors[i]);
	}
	for (size_t i = 0; i < op->count; i++) {
		if (stopping[i].actor)
			end_stopping(&stopping[i]);
		t->receiver_stopped[i] = stopping[i].done;
		stopped += stopping[i].done;
		if (stopping[i].actor && !stopping[i].done)
			snprintf(t->unfit[i], UNFIT_BYTES, "cannot stop receiving: %.150s", op->actors[i].line.error_text);
	}
	return conduct_note(op, NULL, "%u stopped", stopped);
}

static void restart_receivers(struct operation *op)
{
	struct takeover *t = takeover_of(op);

	for (size_t i = 0; i < op->count; i++)
		if (t->receiver_stopped[i] && (!conduct_reopen(op, &op->actors[i]) || !replication_start(&op->actors[i].subject)))
			conduct_note(op, &op->actors[i], "its replication cannot be started: %s", op->actors[i].line.error_text);
}

/* Nobody receives any more: now the choice is final. */
static bool choose(struct operation *op)
{
	struct takeover *t = takeover_of(op);

	look_at_all(op);
	if (!choose_candidate(op))
		return conduct_fail(op, op->from, "%s", t->why);
	snprintf(op->entry.to, sizeof(op->entry.to), "%s", op->to->subject.name);
	return conduct_note(op, op->to, "%s; %" PRIu64 " acknowledged transactions are lost", t->why, t->loss);
}

static bool apply(struct operation *op)
{
	struct takeover *t = takeover_of(op);
	struct subject *to = &op->to->subject;

	if (!replication_received_position(to, t->received))
		return conduct_fail_line(op, op->to, "what it has received cannot be read");
	if (link_of(t, (size_t)(op->to - op->actors))->sql != THREAD_RUNNING)
		return conduct_note(op, op->to, "its applying thread stands, with nothing that could be kept");
	if (!replication_wait_applied(to, t->received, op->request->timeout_ms ? op->request->timeout_ms : APPLY_DEFAULT_MS))
		return conduct_fail_line(op, op->to, "it has not applied all it received");
	return conduct_note(op, op->to, "all applied, %s", t->received);
}

static unsigned count_followers(const struct operation *op)
{
	const struct takeover *t = op->own;
	unsigned n = 0;

	for (size_t i = 0; i < op->count; i++)
		n += t->is_replica[i] && &op->actors[i] != op->to && op->actors[i].line.mysql;
	return n;
}

static bool set_semi_sync(struct operation *op)
{
	return semisync_take_over(op, count_followers(op));
}

static bool stop_link(struct operation *op)
{
	return replication_stop(&op->to->subject) || conduct_fail_line(op, op->to, "STOP SLAVE");
}

/* The fork point: beyond it a returning server has transactions of its own. */
static bool read_fork(struct operation *op)
{
	if (!replication_applied_position(&op->to->subject, op->fork))
		return conduct_fail_line(op, op->to, "its position cannot be read");
	op->entry.state = JOURNAL_RUNNING;
	journal_set(&op->entry.fork, op->fork);
	if (!journal_save(op->settings->state_dir, &op->entry))
		log_warning(NULL, "failover: the journal in %s cannot be written", op->settings->state_dir);
	return conduct_note(op, op->to, "%s", op->fork);
}

static const struct step before[] = {
	{ "journal", begin_journal, NULL },
	{ "answers", hold_answers, NULL },
	{ "fence", fence, NULL },
	{ "appliers", start_appliers, NULL },
	{ "receivers", stop_receivers, restart_receivers },
	{ "choose", choose, NULL },
	{ "catch-up", apply, NULL },
	{ "semi-sync", set_semi_sync, NULL },
	{ "stop", stop_link, NULL },
	{ "fork", read_fork, NULL },
	{ "reopen", promote_reopen, NULL },
};

/* ---- After it ---- */

static bool release(struct operation *op)
{
	struct gtid_set fork;

	if (!accord_stands(op))
		return false;
	if (!gtid_parse(op->fork, strlen(op->fork), &fork))
		fork = (struct gtid_set){ .lost = true };
	control_adopt(op->cluster, op->to->member, &fork);
	await_workers(op);
	control_set_gate(op->cluster, GATE_OPEN);
	accord_release(op, op->fork);
	op->released_us = clock_us();
	return conduct_note(op, op->to, "primary");
}

static bool prepare_row(struct operation *op)
{
	op->has_row = journal_prepare(&op->to->subject);
	if (!op->has_row)
		return conduct_note(op, op->to, "tandem.cluster cannot be written (%s): the journal is in state_dir only",
				    op->to->line.error_text);
	return true;
}

static const struct step after[] = {
	{ "release", release, NULL },
	{ "others", promote_lead_others, NULL },
	{ "forget", promote_forget, NULL },
	{ "events", promote_start_events, NULL },
	{ "scheduler", promote_move_scheduler, NULL },
	{ "row", prepare_row, NULL },
	{ "finish", promote_finish_row, NULL },
};

/* ---- The whole ---- */

static enum operation_result plan(struct operation *op)
{
	for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++)
		report_add(op->report, REMARK_OK, before[i].name, "", -1, "would be done");
	for (size_t i = 0; i < sizeof(after) / sizeof(*after); i++)
		report_add(op->report, REMARK_OK, after[i].name, "", -1, "would be done");
	snprintf(op->report->summary, sizeof(op->report->summary), "%s would take over from %s; nothing was touched", op->to->subject.name,
		 op->from->subject.name);
	return OPERATION_DONE;
}

static void tell_history(struct operation *op, double ms)
{
	struct takeover *t = takeover_of(op);

	history_note(op->cluster->history, "failover", op->to->subject.name, "took over from %s in %.0f ms; fork point %.200s",
		     op->from->subject.name, ms, op->fork);
	if (t->loss)
		history_note(op->cluster->history, "loss", op->to->subject.name, "%" PRIu64 " transactions that clients were told of are lost",
			     t->loss);
}

static enum operation_result undone(struct operation *op)
{
	snprintf(op->report->summary, sizeof(op->report->summary), "undone, there is still no primary: %.250s", report_failure(op->report));
	return OPERATION_UNDONE;
}

static enum operation_result take_over(struct operation *op)
{
	struct takeover *t = takeover_of(op);
	unsigned failed;

	t->begun_us = clock_us();
	if (!conduct_run(op, before, sizeof(before) / sizeof(*before)))
		return undone(op);
	failed = conduct_run_all(op, after, sizeof(after) / sizeof(*after));
	op->report->sql_ms = (double)(op->writable_us - t->begun_us) / 1000.0;
	tell_history(op, (double)(op->released_us - t->begun_us) / 1000.0);
	snprintf(op->report->summary, sizeof(op->report->summary), "%s is the primary (%s was); %" PRIu64 " acknowledged transactions lost%s",
		 op->to->subject.name, op->from->subject.name, t->loss,
		 failed ? "; not all of the rest could be done: see the report" : "");
	return failed ? OPERATION_UNFINISHED : OPERATION_DONE;
}

/* The former primary goes on: its replicas follow it as before. */
static const struct step reopening[] = {
	{ "semi-sync", set_semi_sync, NULL },
	{ "reopen", promote_reopen, NULL },
};

static enum operation_result reopen(struct operation *op)
{
	const char *name = op->from->subject.name;
	struct report *r = op->report;

	if (op->request->dry_run) {
		snprintf(r->summary, sizeof(r->summary), "%s is back with everything that others know of, and would be made writable again; "
							 "nothing was touched",
			 name);
		return OPERATION_DONE;
	}
	if (!conduct_run(op, reopening, sizeof(reopening) / sizeof(*reopening)))
		return undone(op);
	history_note(op->cluster->history, "failover", name, "is back with everything that others know of, and writable again");
	snprintf(r->summary, sizeof(r->summary), "%s is the primary again; nothing was lost", name);
	return OPERATION_DONE;
}

enum operation_result failover_run(struct operation *op)
{
	enum operation_result result = OPERATION_REFUSED;
	struct takeover *t = calloc(1, sizeof(*t));

	if (!t) {
		refuse(op, NULL, "out of memory");
		return OPERATION_REFUSED;
	}
	op->own = t;
	if (check(op) && (op->request->dry_run || accord_begin(op)))
		result = op->to == op->from ? reopen(op) : op->request->dry_run ? plan(op) : take_over(op);
	op->own = NULL;
	free(t);
	return result;
}
