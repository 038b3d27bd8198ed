#include "proxy/cluster/promote.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/accord.h"
#include "proxy/cluster/claim.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/events.h"
#include "proxy/cluster/preflight.h"
#include "proxy/cluster/quarantine.h"
#include "proxy/cluster/semisync.h"

enum {
	DRAIN_DEFAULT_MS = 10000,
	COUNT_PAUSE_MS = 5,    /* between two counts when nobody says that one changed */
	CATCH_UP_MS = 5000,    /* writes are held meanwhile */
	LATE_WRITERS_MS = 500,
	CONNECTED_MS = 3000,
	CONNECTED_PAUSE_MS = 5,
	AGAIN_TRIES = 3,
};

static double ms_between(uint64_t from_us, uint64_t to_us)
{
	return from_us && to_us > from_us ? (double)(to_us - from_us) / 1000.0 : -1;
}

/* --- before the point of no return --- */

/* The row comes before everything that touches traffic: it costs a commit on the primary, and an operation that ended right after
 * it has nothing to be undone. */
static bool write_row(struct operation *op)
{
	char *events = events_remember(&op->from->subject);

	op->has_row = journal_prepare(&op->from->subject);
	if (!events)
		return conduct_fail_line(op, op->from, "its events cannot be listed");
	free(op->entry.events);
	op->entry.events = events;
	events_recall_scheduler(events, op->scheduler);
	op->entry.state = JOURNAL_RUNNING;
	if (!journal_save(op->settings->state_dir, &op->entry) && !op->has_row)
		return conduct_fail(op, NULL, "%s: the journal cannot be written there", op->settings->state_dir);
	if (op->has_row && !journal_write(&op->from->subject, &op->entry))
		return conduct_fail_line(op, op->from, "tandem.cluster cannot be written");
	return conduct_note(op, op->from, "epoch %llu written %s", (unsigned long long)op->entry.epoch,
			    op->has_row ? "in tandem.cluster" : "in state_dir only");
}

static void undo_row(struct operation *op)
{
	op->entry.state = JOURNAL_UNDONE;
	if (op->has_row && (!conduct_reopen(op, op->from) || !journal_write(&op->from->subject, &op->entry)))
		conduct_note(op, op->from, "tandem.cluster still says it runs: %s", op->from->line.error_text);
	if (!journal_save(op->settings->state_dir, &op->entry))
		conduct_note(op, NULL, "the journal in state_dir still says it runs");
}

/* An event of a definer that read_only does not stop would write on the old primary as soon as its lock is off. */
static bool stop_events(struct operation *op)
{
	unsigned off = 0;

	if (!events_disable(&op->from->subject, op->entry.events, &off))
		return conduct_fail_line(op, op->from, "its events cannot be disabled");
	return conduct_note(op, op->from, "%u event%s disabled", off, off == 1 ? "" : "s");
}

static void restart_events(struct operation *op)
{
	unsigned on = 0;

	if (!conduct_reopen(op, op->from) || !events_enable(&op->from->subject, op->entry.events, &on))
		conduct_note(op, op->from, "its events are still disabled: %s", op->from->line.error_text);
}

/* After this nothing but the stop of commits itself is left for the fence. */
static bool prepare_lock(struct operation *op)
{
	op->locker = op->from->subject;
	op->locker.line = &op->lock_line;
	if (line_open(&op->lock_line, op->from->settings, &op->settings->monitor) &&
	    claim_take(&op->lock_line, op->from->subject.name, op->settings->cluster, CLAIM_FENCE) && replication_prepare_lock(&op->locker))
		return true;
	return conduct_fail(op, op->from, "it cannot be locked (is a backup running there?): %s", op->lock_line.error_text);
}

/* The server ends the lock with its connection. */
static void drop_lock(struct operation *op)
{
	line_close(&op->lock_line);
}

static bool await_peers(struct operation *op)
{
	return accord_clear(op, false);
}

/* Until the workers have taken over the gate and nothing that writes is in flight, here and at the peers, or the deadline. */
static bool wait_clear(struct operation *op, enum gate gate, struct gate_count *count)
{
	for (;;) {
		bool peers_clear;
		uint64_t now;

		if (!accord_hold(op, gate, &peers_clear))
			return false;
		if (control_count(op->cluster, count) && !count->open_writes && peers_clear)
			return true;
		now = clock_ms();
		if (now >= op->deadline_ms || control_is_stopping(op->cluster))
			return false;
		control_wait_moved(op->cluster, COUNT_PAUSE_MS);
	}
}

/* Under the hold transactions go on, so that those that have written can end. One that had only read may begin to write just after it was
 * counted: so no such write is let out any more, those under way end, and the second count holds. */
static bool hold(struct operation *op)
{
	static const enum gate gates[] = { GATE_HOLD, GATE_SEALED };
	struct gate_count count = { 0 };

	report_hold_back(op->report, true);
	op->hold_us = clock_us();
	op->deadline_ms = clock_ms() + (op->request->timeout_ms ? op->request->timeout_ms : DRAIN_DEFAULT_MS);
	for (size_t i = 0; i < sizeof(gates) / sizeof(*gates); i++) {
		control_set_gate(op->cluster, gates[i]);
		if (wait_clear(op, gates[i], &count))
			continue;
		return op->note[0] ? false : conduct_fail(op, op->from,
					    count.adopted ? "%u transactions that have written did not end in time: --timeout "
							    "gives them longer"
							  : "the workers did not take over the hold in time (%u)",
					    count.open_writes);
	}
	op->drained_us = clock_us();
	return conduct_note(op, NULL, "%u statements wait", count.held);
}

static void undo_hold(struct operation *op)
{
	control_set_gate(op->cluster, GATE_OPEN);
	report_hold_back(op->report, false);
}

/* Under the lock whoever has written without Tandem cannot commit; read_only alone would not stop READ ONLY ADMIN, and once the lock
 * is off such a transaction would make the old primary differ. So they are ended, and those that wait for the lock with them. `ended`: how
 * many were told to. */
static bool end_other_writers(struct operation *op, bool tell, unsigned *ended)
{
	static const char question[] =
		"SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0"
		" AND trx_mysql_thread_id NOT IN (0, CONNECTION_ID())"
		" UNION SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND IN ('Query', 'Execute', 'Killed')"
		" AND (STATE LIKE 'Waiting for % lock' OR STATE LIKE 'Waiting for commit%') AND ID <> CONNECTION_ID()";
	MYSQL_RES *result = line_query(&op->from->line, question);
	bool ok = result != NULL;
	MYSQL_ROW row;

	*ended = 0;
	while (ok && (row = mysql_fetch_row(result))) {
		if (line_say(&op->from->line, "KILL CONNECTION %s", row_text(row, 0))) {
			if (tell)
				log_info(NULL, "server %s: connection %s has written or waits to write past the fence: ended",
					 op->from->subject.name, row_text(row, 0));
			++*ended;
		} else {
			ok = !line_error_is_loss(&op->from->line);
		}
	}
	mysql_free_result(result);
	return ok;
}

/* A statement that had begun before the fence, of a Tandem that is not reached or of somebody else, may not have come to its first change when
 * the others were ended. By now it waits to commit. They must be gone before the lock is: one that is only told to end may still get it. */
static void end_late_writers(struct operation *op)
{
	uint64_t until = clock_ms() + LATE_WRITERS_MS;
	bool tell = true;
	unsigned ended;

	for (; conduct_reopen(op, op->from) && end_other_writers(op, tell, &ended) && ended && clock_ms() < until; tell = false)
		poll(NULL, 0, 1);
}

static bool read_fork(struct operation *op)
{
	char again[POSITION_BYTES];

	if (!replication_binlog_position(&op->from->subject, op->fork) ||
	    !replication_binlog_position(&op->from->subject, again))
		return conduct_fail_line(op, op->from, "its position cannot be read");
	if (strcmp(op->fork, again) != 0)
		return conduct_fail(op, op->from, "it still writes under the fence (%s, then %s)", op->fork, again);
	return true;
}

static bool fence(struct operation *op)
{
	struct subject *from = &op->from->subject;
	unsigned ended;

	op->fence_us = clock_us();
	if (!replication_set_read_only(from))
		return conduct_fail_line(op, op->from, "it cannot be made read-only (a long statement runs there?)");
	if (!replication_lock(&op->locker))
		return conduct_fail(op, op->from, "it cannot be locked (a long statement runs there?): %s", op->lock_line.error_text);
	if (!end_other_writers(op, true, &ended))
		return conduct_fail_line(op, op->from, "what writes there cannot be ended");
	return read_fork(op) && conduct_note(op, op->from, "read-only and locked at %s", op->fork);
}

static void undo_fence(struct operation *op)
{
	drop_lock(op);
	for (int i = 0; i < AGAIN_TRIES; i++) {
		struct subject *from = &op->from->subject;

		if (conduct_reopen(op, op->from) && replication_set_writable(from))
			return;
	}
	log_error(NULL, "server %s: it is the primary, and cannot be made writable again: %s; SET GLOBAL read_only = 0 there",
		  op->from->subject.name, op->from->line.error_text);
	conduct_note(op, op->from, "it cannot be made writable again: %s", op->from->line.error_text);
}

static bool catch_up(struct operation *op)
{
	if (!replication_wait_applied(&op->to->subject, op->fork, CATCH_UP_MS))
		return conduct_fail_line(op, op->to, "it did not get as far as the primary");
	return true;
}

static bool stop_link(struct operation *op)
{
	if (!replication_stop(&op->to->subject))
		return conduct_fail_line(op, op->to, "its replication cannot be stopped");
	return semisync_switch(op, op->to, true) || conduct_fail_line(op, op->to, "semi-synchronous replication cannot be turned on");
}

static void restart_link(struct operation *op)
{
	if (!conduct_reopen(op, op->to) || !semisync_switch(op, op->to, false) || !replication_start(&op->to->subject))
		conduct_note(op, op->to, "its replication cannot be started: %s", op->to->line.error_text);
}

/* When the answer is lost it has to be asked: nothing may be undone on a guess. */
static bool is_writable_now(struct operation *op)
{
	char value[16];

	for (int i = 0; i < AGAIN_TRIES; i++)
		if (conduct_reopen(op, op->to) && conduct_ask(op->to, "SELECT @@global.read_only", value, sizeof(value)))
			return !strcmp(value, "0");
	return false;
}

static bool reopen(struct operation *op)
{
	char error[sizeof(op->to->line.error_text)];

	if (!op->is_recovery && !accord_stands(op))
		return false;
	if (!replication_set_writable(&op->to->subject)) {
		memcpy(error, op->to->line.error_text, sizeof(error));
		if (!is_writable_now(op))
			return conduct_fail(op, op->to, "it cannot be made writable: %s", error);
	}
	op->writable_us = clock_us();
	return conduct_note(op, op->to, "writable");
}

static void undo_reopen(struct operation *op)
{
	(void)op; /* it failed, so the server is as it was: reopen() has looked */
}

static const struct step before[] = {
	{ "row", write_row, undo_row },
	{ "semi-sync", semisync_prepare, semisync_restore },
	{ "events off", stop_events, restart_events },
	{ "prepare", prepare_lock, drop_lock },
	{ "peers", await_peers, NULL },
	{ "hold", hold, undo_hold },
	{ "fence", fence, undo_fence },
	{ "catch-up", catch_up, NULL },
	{ "stop", stop_link, restart_link },
	{ "reopen", reopen, undo_reopen },
};

/* --- after it: each step is done whatever becomes of the others --- */

static bool release(struct operation *op)
{
	if (!accord_stands(op))
		return false;
	control_adopt(op->cluster, op->to->member, NULL);
	accord_release(op, "");
	op->released_us = clock_us();
	return conduct_note(op, op->to, "primary, and writes go on there");
}

static bool unlock(struct operation *op)
{
	char now[POSITION_BYTES];

	if (op->lock_line.mysql) {
		end_late_writers(op);
		if (!replication_unlock(&op->locker))
			line_close(&op->lock_line);
	}
	/* From here on the old primary's position moves; the fork must not be lost with this process. */
	journal_set(&op->entry.fork, op->fork);
	if (!op->is_recovery && !journal_save(op->settings->state_dir, &op->entry))
		log_warning(NULL, "the fork point %s is not in the journal", op->fork);
	if (!conduct_reopen(op, op->from) || !replication_binlog_position(&op->from->subject, now))
		return conduct_fail_line(op, op->from, "the old primary cannot be unlocked");
	if (!op->is_recovery && strcmp(now, op->fork) != 0)
		return conduct_fail(op, op->from, "somebody wrote past the fence: it is at %s and the fork is %s", now, op->fork);
	return true;
}

static bool follows(struct actor *a, const struct replication_source *source)
{
	MYSQL_RES *result = line_query(&a->line, a->subject.flavour == SQL_MYSQL ? "SHOW REPLICA STATUS" : "SHOW SLAVE STATUS");
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;
	int host = row ? result_column(result, "Master_Host", "Source_Host") : -1;
	int port = row ? result_column(result, "Master_Port", "Source_Port") : -1;
	bool yes = host >= 0 && port >= 0 && !strcmp(row_text(row, (unsigned)host), source->host) &&
		   row_number(row, (unsigned)port) == source->port;

	mysql_free_result(result);
	return yes;
}

/* The other replicas keep whatever kind of link they have: TLS or not is what the one of the new primary was. */
static void source_for(struct operation *op, struct replication_source *source, char host[256])
{
	conduct_source(op, op->to, source, host);
	source->tls = op->link_tls;
}

static bool demote(struct operation *op)
{
	struct replication_source source;
	char host[256];
	struct subject *from = &op->from->subject;

	source_for(op, &source, host);
	if (!conduct_reopen(op, op->from))
		return conduct_fail_line(op, op->from, "the old primary cannot be reached; it has to re-join");
	if (!semisync_switch(op, op->from, false))
		return conduct_fail_line(op, op->from, "semi-synchronous replication cannot be turned off");
	if (op->is_recovery && follows(op->from, &source))
		return replication_start(from) || conduct_fail_line(op, op->from, "START SLAVE");
	if (!replication_demote_to(from, &source))
		return conduct_fail_line(op, op->from, "it cannot be made a replica");
	return conduct_note(op, op->from, "replica of %s", op->to->subject.name);
}

static bool forget(struct operation *op)
{
	struct subject *to = &op->to->subject;

	if (op->is_recovery && !replication_stop(to))
		return conduct_fail_line(op, op->to, "STOP SLAVE");
	/* Everything that somebody waits for is done. */
	report_hold_back(op->report, false);
	return replication_forget(to) || conduct_fail_line(op, op->to, "its old link cannot be removed");
}

static bool is_other_replica(const struct operation *op, const struct actor *a)
{
	return a != op->from && a != op->to && a->role == ROLE_REPLICA && a->source >= 0 &&
	       &op->actors[a->source] == op->from;
}

static bool follow_one(struct operation *op, struct actor *a, const struct replication_source *source)
{
	if (!conduct_reopen(op, a))
		return false;
	if (follows(a, source))
		return replication_start(&a->subject);
	return replication_follow(&a->subject, source);
}

static bool lead_others(struct operation *op)
{
	struct replication_source source;
	char host[256];
	unsigned led = 0;
	bool ok = true;

	source_for(op, &source, host);
	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];

		if (!is_other_replica(op, a))
			continue;
		if (follow_one(op, a, &source))
			led++;
		else
			ok = conduct_fail_line(op, a, "it does not follow the new primary");
	}
	return ok && conduct_note(op, NULL, "%u other replica%s", led, led == 1 ? "" : "s");
}

static bool is_connected(struct actor *a)
{
	MYSQL_RES *result = line_query(&a->line, a->subject.flavour == SQL_MYSQL ? "SHOW REPLICA STATUS" : "SHOW SLAVE STATUS");
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;
	int column = row ? result_column(result, "Slave_IO_Running", "Replica_IO_Running") : -1;
	bool yes = column >= 0 && !strcmp(row_text(row, (unsigned)column), "Yes");

	mysql_free_result(result);
	return yes;
}

static bool wait_connected(struct operation *op, struct actor *a)
{
	uint64_t end = clock_ms() + CONNECTED_MS;

	while (!is_connected(a)) {
		if (!a->line.mysql || line_error_is_loss(&a->line) || clock_ms() >= end || control_is_stopping(op->cluster))
			return false;
		poll(NULL, 0, CONNECTED_PAUSE_MS);
	}
	return true;
}

/* Until then a server still names the id of the one it replicated from before, and the next look would take it for that one's. */
static bool see_connected(struct operation *op)
{
	bool ok = true;

	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];

		if ((a == op->from || is_other_replica(op, a)) && !wait_connected(op, a))
			ok = conduct_fail(op, a, "its link to the new primary does not come up: SHOW SLAVE STATUS there says why");
	}
	return ok;
}

static bool start_events(struct operation *op)
{
	unsigned on = 0;

	if (!events_enable(&op->to->subject, op->entry.events, &on))
		return conduct_fail_line(op, op->to, "its events cannot be enabled");
	return conduct_note(op, op->to, "%u event%s enabled", on, on == 1 ? "" : "s");
}

static bool move_scheduler(struct operation *op)
{
	char now[16];

	if (!op->scheduler[0] || !events_scheduler(&op->to->subject, now) || !strcmp(now, op->scheduler))
		return true;
	if (!strcmp(now, "DISABLED") || !strcmp(op->scheduler, "DISABLED"))
		return conduct_note(op, op->to, "event_scheduler is %s there and was %s on %s", now, op->scheduler,
				    op->from->subject.name);
	if (!events_set_scheduler(&op->to->subject, op->scheduler))
		return conduct_fail(op, op->to, "event_scheduler is not carried over: SET GLOBAL event_scheduler = %s there (%s)",
				    op->scheduler, op->to->line.error_text);
	return conduct_note(op, op->to, "event_scheduler = %s", op->scheduler);
}

/* A thread that served a server which follows another now would make that server wait when it comes back soon. */
static bool end_dumps(struct operation *op)
{
	if (!conduct_reopen(op, op->from) || !replication_end_dumps(&op->from->subject, op->settings->replication.user))
		return conduct_fail_line(op, op->from, "its idle dump threads cannot be ended");
	return true;
}

static bool has_extras(struct operation *op, char *mine, const char *theirs, char *first, size_t size)
{
	struct binlog_state a, b;
	struct extra_range range;
	struct gtid_set fork;

	if (!binlog_state_parse(mine, &a) || !binlog_state_parse(theirs, &b) || !gtid_parse(op->fork, strlen(op->fork), &fork))
		return false;
	if (!quarantine_compare(&a, &b, &fork, op->from->server_id, &range, 1))
		return false;
	snprintf(first, size, "%u-%u-%llu", range.domain, range.server_id, (unsigned long long)range.to);
	return true;
}

/* Who may write under read_only and came back when the lock was off has made the old primary differ: nothing stops him, so at least it
 * is seen at once and not by a replication that breaks some day. */
static bool compare(struct operation *op)
{
	char mine[POSITION_BYTES], theirs[POSITION_BYTES], first[64];

	if (op->from->subject.flavour == SQL_MYSQL)
		return true; /* super_read_only stops everybody */
	if (!conduct_reopen(op, op->from) || !replication_history(&op->from->subject, mine))
		return conduct_fail_line(op, op->from, "its transactions cannot be read");
	if (!replication_history(&op->to->subject, theirs))
		return conduct_fail_line(op, op->to, "its transactions cannot be read");
	if (has_extras(op, mine, theirs, first, sizeof(first)))
		return conduct_fail(op, op->from,
				    "somebody with READ ONLY ADMIN has written there past the fence (up to %s): it differs now and has to "
				    "re-join",
				    first);
	return true;
}

static bool finish_row(struct operation *op)
{
	op->entry.state = JOURNAL_DONE;
	journal_set(&op->entry.fork, op->fork);
	if (!journal_save(op->settings->state_dir, &op->entry) && !op->has_row)
		return conduct_fail(op, NULL, "the journal in state_dir still says it runs");
	if (op->has_row && !journal_write(&op->to->subject, &op->entry))
		return conduct_fail_line(op, op->to, "tandem.cluster still says it runs");
	return true;
}

static const struct step after[] = {
	{ "release", release, NULL },	{ "unlock", unlock, NULL },	{ "demote", demote, NULL },
	{ "others", lead_others, NULL },  { "connected", see_connected, NULL }, { "forget", forget, NULL },
	{ "events", start_events, NULL },
	{ "scheduler", move_scheduler, NULL }, { "dumps", end_dumps, NULL }, { "compare", compare, NULL },
	{ "finish", finish_row, NULL },
};

/* --- the whole --- */

static void measure(struct operation *op)
{
	struct report *r = op->report;

	r->drain_ms = ms_between(op->hold_us, op->drained_us);
	r->sql_ms = ms_between(op->fence_us, op->writable_us);
	r->stall_ms = ms_between(op->hold_us, op->released_us);
}

static enum operation_result refuse(struct operation *op)
{
	for (size_t i = 0; i < op->report->count; i++) {
		const struct remark *r = &op->report->remarks[i];

		if (r->level != REMARK_REFUSAL)
			continue;
		snprintf(op->report->summary, sizeof(op->report->summary), "refused, nothing was touched: %s%s%.300s",
			 r->server, r->server[0] ? ": " : "", r->text);
		break;
	}
	return OPERATION_REFUSED;
}

static enum operation_result plan(struct operation *op)
{
	snprintf(op->report->summary, sizeof(op->report->summary), "%s would take over from %s; nothing was touched",
		 op->to->subject.name, op->from->subject.name);
	for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++)
		report_add(op->report, REMARK_OK, before[i].name, "", -1, "would be done");
	for (size_t i = 0; i < sizeof(after) / sizeof(*after); i++)
		report_add(op->report, REMARK_OK, after[i].name, "", -1, "would be done");
	return OPERATION_DONE;
}

static enum operation_result sum_up(struct operation *op, unsigned failed)
{
	measure(op);
	snprintf(op->report->summary, sizeof(op->report->summary), "%s is the primary (%s was)%s", op->to->subject.name,
		 op->from->subject.name, failed ? "; not all of the rest could be done: see the report" : "");
	return failed ? OPERATION_UNFINISHED : OPERATION_DONE;
}

enum operation_result promote_run(struct operation *op)
{
	if (!preflight_promote(op))
		return refuse(op);
	if (op->request->dry_run)
		return plan(op);
	if (!accord_begin(op))
		return OPERATION_REFUSED;
	if (!conduct_run(op, before, sizeof(before) / sizeof(*before))) {
		snprintf(op->report->summary, sizeof(op->report->summary), "undone, %s is still the primary: %.200s",
			 op->from->subject.name, report_failure(op->report));
		return OPERATION_UNDONE;
	}
	return sum_up(op, conduct_run_all(op, after, sizeof(after) / sizeof(*after)));
}

/* --- for recovery and failover --- */

unsigned promote_finish(struct operation *op)
{
	return conduct_run_all(op, after, sizeof(after) / sizeof(*after));
}

void promote_undo(struct operation *op)
{
	restart_link(op);
	undo_fence(op);
	restart_events(op);
	undo_row(op);
}

bool promote_reopen(struct operation *op)
{
	return reopen(op);
}

bool promote_lead_others(struct operation *op)
{
	return lead_others(op);
}

bool promote_forget(struct operation *op)
{
	return forget(op);
}

bool promote_start_events(struct operation *op)
{
	return start_events(op);
}

bool promote_move_scheduler(struct operation *op)
{
	return move_scheduler(op);
}

bool promote_finish_row(struct operation *op)
{
	return finish_row(op);
}
