#include "proxy/cluster/recover.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "proxy/cluster/events.h"
#include "proxy/cluster/promote.h"
#include "proxy/cluster/semisync.h"

static bool link_runs(struct actor *a)
{
	MYSQL_RES *result = line_query(&a->line, a->subject.flavour == SQL_MYSQL ? "SHOW REPLICA STATUS" : "SHOW SLAVE STATUS");
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;
	int column = row ? result_column(result, "Slave_IO_Running", "Replica_IO_Running") : -1;
	bool runs = column >= 0 && strcmp(row_text(row, (unsigned)column), "No") != 0;

	mysql_free_result(result);
	return runs;
}

/* The newest of what the servers and the copy say. False: nothing is left open. */
bool recover_is_open(struct operation *op)
{
	struct journal_entry one;

	conduct_open_all(op);
	if (!journal_init(&one)) {
		journal_fini(&one);
		return false;
	}
	if (journal_load(op->settings->state_dir, &one))
		journal_copy(&op->entry, &one);
	for (size_t i = 0; i < op->count; i++)
		if (op->actors[i].line.mysql && journal_read(&op->actors[i].subject, &one) &&
		    journal_is_newer(&one, &op->entry)) {
			journal_copy(&op->entry, &one);
			op->has_row = true;
		}
	journal_fini(&one);
	return op->entry.state == JOURNAL_RUNNING && !strcmp(op->entry.operation, "promote");
}

static void finish(struct operation *op)
{
	unsigned failed;

	/* Nothing has been written on `from` since the fence, so its position is the fork, unless it replicates already. */
	snprintf(op->fork, sizeof(op->fork), "%s", op->entry.fork);
	if (!op->fork[0] && (!op->from->line.mysql || !replication_binlog_position(&op->from->subject, op->fork)))
		op->fork[0] = '\0';
	op->has_row = journal_prepare(&op->to->subject);
	for (size_t i = 0; i < op->count; i++)
		if (&op->actors[i] != op->from && &op->actors[i] != op->to && op->actors[i].line.mysql) {
			op->actors[i].role = ROLE_REPLICA;
			op->actors[i].source = (int)(op->from - op->actors);
		}
	failed = promote_finish(op);
	log_warning(NULL, "the promotion of %s that an earlier run began is finished%s", op->entry.to,
		    failed ? ", but for what the lines above say" : "");
}

static bool read_position(struct actor *a, struct gtid_set *out)
{
	char text[POSITION_BYTES];

	return replication_applied_position(&a->subject, text) && gtid_parse(text, strlen(text), out);
}

/* The old primary may have crashed meanwhile and lost what replicas have: then it must not be opened. The replica is asked first: what
 * is written in between can only be more on the primary. */
static bool is_ahead(struct operation *op, struct actor *a)
{
	struct gtid_set has, from;

	return a != op->from && a->line.mysql && a->role != ROLE_STRAY && read_position(a, &has) && read_position(op->from, &from) &&
	       !gtid_covers(&from, &has);
}

static bool undo(struct operation *op)
{
	struct gtid_set from;

	if (!conduct_reopen(op, op->from) || !read_position(op->from, &from))
		return false;
	for (size_t i = 0; i < op->count; i++)
		if (is_ahead(op, &op->actors[i])) {
			log_error(NULL, "a promotion of %s over %s was not ended, and %s has more than %s: it is not opened for writes",
				  op->entry.to, op->entry.from, op->actors[i].subject.name, op->entry.from);
			return true;
		}
	op->has_row = journal_prepare(&op->from->subject);
	promote_undo(op);
	log_warning(NULL, "the promotion of %s that an earlier run began is undone: %s is the primary as before", op->entry.to,
		    op->entry.from);
	return true;
}

/* A candidate whose own settings do not say read_only is writable after a restart, too. But then its link runs, or it lacks what the
 * primary has: a promotion makes a server writable only with its link stopped and when it has everything. */
static bool was_made_writable(struct operation *op)
{
	char written[POSITION_BYTES], applied[POSITION_BYTES];
	struct gtid_set want, have;

	if (link_runs(op->to))
		return false;
	if (!op->from->line.mysql || !replication_binlog_position(&op->from->subject, written))
		return true;
	return replication_applied_position(&op->to->subject, applied) && gtid_parse(written, strlen(written), &want) &&
	       gtid_parse(applied, strlen(applied), &have) && gtid_covers(&have, &want);
}

/* The cluster may have been changed by hand since. With the candidate writable nobody else may be; without, the old primary may. */
static bool somebody_else_writes(struct operation *op, bool candidate_writes)
{
	char value[16];

	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];

		if (a == op->to || (a == op->from && !candidate_writes) || !a->line.mysql)
			continue;
		if (!conduct_ask(a, "SELECT @@global.read_only", value, sizeof(value)) || !strcmp(value, "0"))
			return true;
	}
	return false;
}

bool recover_run(struct operation *op)
{
	char value[16];
	bool is_promoted;

	op->is_recovery = true;
	op->from = conduct_actor(op, op->entry.from);
	op->to = conduct_actor(op, op->entry.to);
	if (!op->from || !op->to) {
		log_error(NULL, "a promotion of %s over %s was not ended, and one of them is not configured any more", op->entry.to,
			  op->entry.from);
		return true;
	}
	if (!conduct_reopen(op, op->to) ||
	    !conduct_ask(op->to, "SELECT @@global.read_only", value, sizeof(value)))
		return false;
	events_recall_scheduler(op->entry.events, op->scheduler);
	if (op->from->line.mysql)
		semisync_recall(op);
	is_promoted = !strcmp(value, "0");
	if (is_promoted && !was_made_writable(op)) {
		if (!replication_set_read_only(&op->to->subject))
			return false;
		is_promoted = false;
	}
	if (somebody_else_writes(op, is_promoted)) {
		log_error(NULL, "a promotion of %s over %s was not ended, and another server is writable meanwhile: nothing is done",
			  op->entry.to, op->entry.from);
		return true;
	}
	if (!is_promoted)
		return undo(op);
	finish(op);
	return true;
}
