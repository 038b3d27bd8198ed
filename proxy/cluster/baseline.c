#include "proxy/cluster/baseline.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/cluster/flavour.h"
#include "proxy/cluster/preflight.h"

static const char *const level_words[] = {
	[REMARK_OK] = "fine",
	[REMARK_WARNING] = "warning",
	[REMARK_REFUSAL] = "fault",
	[REMARK_FAILURE] = "fault",
};

/* Replicas are told by having a link: there is no cluster watch here that would have judged. */
static bool has_link(struct actor *a)
{
	MYSQL_RES *result = line_query(&a->line, a->subject.flavour == SQL_MYSQL ? "SHOW REPLICA STATUS" : "SHOW SLAVE STATUS");
	bool found = result && mysql_num_rows(result) > 0;

	mysql_free_result(result);
	return found;
}

static void meet(struct operation *op, struct actor *a)
{
	const char *version;

	if (!line_open(&a->line, a->settings, &op->settings->monitor)) {
		report_add(op->report, REMARK_REFUSAL, "reach", a->settings->name, -1, "%s", a->line.error_text);
		return;
	}
	version = mysql_get_server_info(a->line.mysql);
	a->subject.flavour = flavour_from_version(version ? version : "");
	a->subject.version = flavour_version_number(version ? version : "");
	a->role = has_link(a) ? ROLE_REPLICA : ROLE_PRIMARY;
	report_add(op->report, REMARK_OK, "reach", a->settings->name, -1, "%s, %s", version ? version : "unknown version",
		   a->role == ROLE_REPLICA ? "a replica" : "replicates from nobody");
	preflight_server(op, a, a->role == ROLE_REPLICA);
}

static void prepare(struct operation *op, struct settings *settings, struct report *report,
		    const struct operation_request *request)
{
	op->settings = settings;
	op->report = report;
	op->request = request;
	for (size_t i = 0; i < settings->server_count && i < CLUSTER_MAX_SERVERS; i++) {
		struct actor *a = &op->actors[op->count++];

		line_init(&a->line);
		a->settings = &settings->servers[i];
		a->subject = (struct subject){ .line = &a->line, .name = settings->servers[i].name };
	}
}

static void find_primary(struct operation *op)
{
	unsigned found = 0;

	for (size_t i = 0; i < op->count; i++) {
		if (!op->actors[i].line.mysql || op->actors[i].role != ROLE_PRIMARY)
			continue;
		op->from = &op->actors[i];
		found++;
	}
	if (found == 1)
		return;
	op->from = NULL;
	report_add(op->report, REMARK_REFUSAL, "roles", "", -1, "%u of the servers replicate from nobody; one should, the primary", found);
}

static void check_all(struct operation *op)
{
	for (size_t i = 0; i < op->count; i++)
		meet(op, &op->actors[i]);
	find_primary(op);
	for (size_t i = 0; i < op->count && op->from; i++) {
		op->to = &op->actors[i];
		if (op->to != op->from && op->to->line.mysql)
			preflight_replica(op);
	}
}

static void print_report(const struct report *report, FILE *out)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct remark *r = &report->remarks[i];

		fprintf(out, "%-8s %-12s %s\n", level_words[r->level], r->server[0] ? r->server : "cluster", r->text);
	}
}

bool baseline_check(struct settings *settings, FILE *out)
{
	static const struct operation_request request = { .kind = OPERATION_PROMOTE };
	struct operation *op = calloc(1, sizeof(*op));
	struct report report = { 0 };
	bool fine;

	if (!op) {
		fputs("out of memory\n", out);
		return false;
	}
	mysql_library_init(0, NULL, NULL);
	prepare(op, settings, &report, &request);
	check_all(op);
	print_report(&report, out);
	fine = !report_has(&report, REMARK_REFUSAL);
	for (size_t i = 0; i < op->count; i++)
		line_fini(&op->actors[i].line);
	report_free(&report);
	free(op);
	return fine;
}
