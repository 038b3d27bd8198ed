/* Commands that change who the primary is. The cluster does it, one at a time; here it is asked, and its report handed on as it grows. */
#include <string.h>

#include "admin/handlers.h"
#include "base/log.h"
#include "proxy/cluster/operation.h"

static const struct column remark_columns[] = {
	{ "level", CELL_TEXT, 7 }, { "step", CELL_TEXT, 10 }, { "server", CELL_TEXT, 8 }, { "took_ms", CELL_MS, 8 }, { "remark", CELL_TEXT, 0 },
};

static const struct column figure_columns[] = {
	{ "sql_ms", CELL_MS, 0 },
	{ "drain_ms", CELL_MS, 0 },
	{ "stall_ms", CELL_MS, 0 },
};

struct listener {
	struct answer *answer;
	struct table *table;
};

static const char *level_word(enum remark_level level)
{
	static const char *const words[] = {
		[REMARK_OK] = "ok",
		[REMARK_WARNING] = "warning",
		[REMARK_REFUSAL] = "refused",
		[REMARK_FAILURE] = "failed",
	};

	return words[level];
}

/* Called as the operation goes. When nobody listens any more it goes on all the same. */
static void on_remark(void *owner, const struct remark *remark)
{
	struct listener *l = owner;

	table_row(l->answer, l->table);
	table_text(l->table, level_word(remark->level));
	table_text(l->table, remark->step);
	table_text(l->table, remark->server[0] ? remark->server : NULL);
	table_ms(l->table, remark->ms);
	table_text(l->table, remark->text);
	table_end_row(l->answer, l->table);
}

static void add_figures(struct answer *a, const struct report *report)
{
	struct table *t;

	if (report->sql_ms < 0 && report->drain_ms < 0 && report->stall_ms < 0)
		return;
	t = ANSWER_TABLE(a, "figures", TABLE_FACTS, figure_columns);
	table_row(a, t);
	table_ms(t, report->sql_ms);
	table_ms(t, report->drain_ms);
	table_ms(t, report->stall_ms);
	table_end_row(a, t);
}

static enum answer_result result_of(enum operation_result result)
{
	switch (result) {
	case OPERATION_DONE:
		return ANSWER_DONE;
	case OPERATION_REFUSED:
	case OPERATION_UNDONE:
		return ANSWER_REFUSED;
	default:
		return ANSWER_FAILED;
	}
}

static void operate(struct call *call, enum operation_kind kind)
{
	const struct request *r = call->request;
	struct table *t = ANSWER_TABLE(call->answer, "remarks", TABLE_ROWS, remark_columns);
	struct listener listener = { call->answer, t };
	struct report report = { .added = on_remark, .added_owner = &listener };
	struct operation_request operation = {
		.kind = kind,
		.server = request_text(r, "SERVER"),
		.dry_run = request_has(r, "dry-run"),
		.force = request_has(r, "force"),
		.accept = request_has(r, "accept"),
		.timeout_ms = (uint32_t)request_number(r, "timeout"),
	};

	log_info(NULL, "admin: %s %s%s, by %s", operation_name(kind), operation.server ? operation.server : "(the best)",
		 operation.dry_run ? " (dry run)" : "", call->from);
	cluster_operate(call_cluster(call), &operation, &report);
	add_figures(call->answer, &report);
	answer_end(call->answer, result_of(report.result), NULL, "%s", report.summary);
	report_free(&report);
}

void handle_promote(struct call *call)
{
	operate(call, OPERATION_PROMOTE);
}

void handle_failover(struct call *call)
{
	operate(call, OPERATION_FAILOVER);
}

void handle_rejoin(struct call *call)
{
	operate(call, OPERATION_REJOIN);
}
