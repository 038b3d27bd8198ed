#include "proxy/cluster/operation.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/accord.h"
#include "proxy/cluster/conduct.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/failover.h"
#include "proxy/cluster/history.h"
#include "proxy/cluster/promote.h"
#include "proxy/cluster/recover.h"
#include "proxy/cluster/rejoin.h"

enum { MOMENT_MS = 10000, MOMENT_PAUSE_MS = 5 };

/* --- reports --- */

static struct remark *new_remark(struct report *report)
{
	size_t room = report->room ? 2 * report->room : 32;
	struct remark *grown;

	if (report->count < report->room)
		return &report->remarks[report->count++];
	grown = realloc(report->remarks, room * sizeof(*grown));
	if (!grown)
		return NULL;
	report->remarks = grown;
	report->room = room;
	return &report->remarks[report->count++];
}

static void tell(struct report *report)
{
	while (report->told < report->count) {
		size_t at = report->told++;

		if (report->added)
			report->added(report->added_owner, &report->remarks[at]);
	}
}

void report_add(struct report *report, enum remark_level level, const char *step, const char *server, double ms, const char *format, ...)
{
	struct remark *r = new_remark(report);
	va_list args;

	if (!r)
		return;
	r->level = level;
	r->ms = ms;
	snprintf(r->step, sizeof(r->step), "%s", step);
	snprintf(r->server, sizeof(r->server), "%s", server ? server : "");
	va_start(args, format);
	vsnprintf(r->text, sizeof(r->text), format, args);
	va_end(args);
	if (!report->is_held_back)
		tell(report);
}

void report_hold_back(struct report *report, bool hold)
{
	report->is_held_back = hold;
	if (!hold)
		tell(report);
}

bool report_has(const struct report *report, enum remark_level level)
{
	for (size_t i = 0; i < report->count; i++)
		if (report->remarks[i].level == level)
			return true;
	return false;
}

const char *report_failure(const struct report *report)
{
	for (size_t i = report->count; i-- > 0;)
		if (report->remarks[i].level == REMARK_FAILURE)
			return report->remarks[i].text;
	return "";
}

void report_free(struct report *report)
{
	free(report->remarks);
	memset(report, 0, sizeof(*report));
}

/* --- running one --- */

static const struct {
	const char *name;
	enum operation_result (*run)(struct operation *op); /* NULL: done elsewhere, or not yet */
} kinds[] = {
	[OPERATION_PROMOTE] = { "promote", promote_run },
	[OPERATION_FAILOVER] = { "failover", failover_run },
	[OPERATION_REJOIN] = { "rejoin", rejoin_run },
	[OPERATION_DRAIN] = { "drain", NULL },
	[OPERATION_RESUME] = { "resume", NULL },
};

const char *operation_name(enum operation_kind kind)
{
	return kinds[kind].name;
}

const char *operation_result_name(enum operation_result result)
{
	static const char *const names[] = {
		[OPERATION_DONE] = "done",
		[OPERATION_REFUSED] = "refused",
		[OPERATION_UNDONE] = "undone",
		[OPERATION_UNFINISHED] = "unfinished",
	};

	return names[result];
}

static enum operation_result refuse(struct report *report, const char *step, const char *text)
{
	report_add(report, REMARK_REFUSAL, step, "", -1, "%s", text);
	snprintf(report->summary, sizeof(report->summary), "refused, nothing was touched: %s", text);
	return OPERATION_REFUSED;
}

static void log_report(const char *what, const struct report *report)
{
	static const enum log_level levels[] = {
		[REMARK_OK] = LOG_LEVEL_DEBUG,
		[REMARK_WARNING] = LOG_LEVEL_WARNING,
		[REMARK_REFUSAL] = LOG_LEVEL_WARNING,
		[REMARK_FAILURE] = LOG_LEVEL_ERROR,
	};

	for (size_t i = 0; i < report->count; i++) {
		const struct remark *r = &report->remarks[i];

		if (log_enabled(levels[r->level]))
			log_write(levels[r->level], NULL, "%s: %s%s%s: %s", what, r->step, r->server[0] ? " " : "",
				  r->server, r->text);
	}
	if (report->summary[0])
		log_info(NULL, "%s: %s: %s", what, operation_result_name(report->result), report->summary);
}

/* What takes a moment only is waited for. */
static bool begin(struct cluster *cluster, const char *what, char busy[CONTROL_NAME])
{
	uint64_t end = clock_ms() + MOMENT_MS;

	while (!control_begin(cluster, what, busy)) {
		if (strcmp(busy, DURABILITY_GRIP) != 0 || clock_ms() >= end)
			return false;
		poll(NULL, 0, MOMENT_PAUSE_MS);
	}
	return true;
}

static enum operation_result run(struct cluster *cluster, const struct operation_request *request, struct report *report,
				 const char *what)
{
	struct operation *op = calloc(1, sizeof(*op));
	enum operation_result result = OPERATION_REFUSED;
	char busy[CONTROL_NAME], text[CONTROL_NAME + 64];

	if (!op)
		return refuse(report, "start", "out of memory");
	if (!begin(cluster, what, busy)) {
		snprintf(text, sizeof(text), "%s is under way: wait until it is over", busy);
		free(op);
		return refuse(report, "start", text);
	}
	if (conduct_init(op, cluster, request, report))
		result = kinds[request->kind].run(op);
	else
		refuse(report, "start", "out of memory");
	accord_end(op);
	conduct_fini(op);
	control_end(cluster);
	free(op);
	return result;
}

enum operation_result cluster_operate(struct cluster *cluster, const struct operation_request *request, struct report *report)
{
	char what[CONTROL_NAME];

	snprintf(what, sizeof(what), "%s%s%s", operation_name(request->kind), request->server ? " " : "",
		 request->server ? request->server : "");
	report->sql_ms = report->drain_ms = report->stall_ms = -1;
	if (!kinds[request->kind].run) {
		report->result = refuse(report, "start", "this version cannot do it yet");
		return report->result;
	}
	mysql_thread_init();
	report->result = run(cluster, request, report, what);
	mysql_thread_end();
	log_report(what, report);
	/* The other kinds tell their own story. */
	if (request->kind == OPERATION_PROMOTE && !request->dry_run && report->result != OPERATION_REFUSED)
		history_note(cluster->history, "promotion", request->server, "%s", report->summary);
	return report->result;
}

static bool recover_open(struct operation *op)
{
	char busy[CONTROL_NAME];
	bool judged;

	if (!recover_is_open(op))
		return true;
	if (!control_begin(op->cluster, "recovery", busy))
		return false;
	/* It may have been ended while the grip was another's. */
	judged = conduct_claim(op) && (!recover_is_open(op) || recover_run(op));
	log_report("recovery", op->report);
	control_end(op->cluster);
	return judged;
}

bool operation_recover(struct cluster *cluster)
{
	static const struct operation_request request = { .kind = OPERATION_PROMOTE };
	struct operation *op = calloc(1, sizeof(*op));
	struct report report = { 0 };
	bool judged;

	if (!op)
		return true;
	mysql_thread_init();
	judged = !conduct_init(op, cluster, &request, &report) || recover_open(op);
	conduct_fini(op);
	mysql_thread_end();
	report_free(&report);
	free(op);
	return judged;
}
