#include "proxy/cluster/conduct.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/claim.h"
#include "proxy/cluster/vote.h"

enum { LINE_PATIENCE_S = 4 /* longer than the second that locks are waited for */ };

/* --- the servers --- */

static void fill_actor(struct operation *op, struct actor *a, struct member *m)
{
	line_init(&a->line);
	a->line.patience_s = LINE_PATIENCE_S;
	a->member = m;
	a->settings = &op->settings->servers[m->settings_index];
	a->role = m->role;
	a->health = m->health;
	a->source = m->source;
	a->server_id = m->seen.server_id;
	a->lag_ms = atomic_load(&m->server->lag_ms);
	a->subject = (struct subject){
		.line = &a->line,
		.name = m->server->name,
		.flavour = m->seen.flavour,
		.version = m->seen.version,
	};
}

bool conduct_init(struct operation *op, struct cluster *cluster, const struct operation_request *request, struct report *report)
{
	memset(op, 0, sizeof(*op));
	op->cluster = cluster;
	op->request = request;
	op->report = report;
	line_init(&op->lock_line);
	op->lock_line.patience_s = LINE_PATIENCE_S;
	pthread_mutex_lock(&cluster->lock);
	op->settings = settings_ref(cluster->settings);
	op->count = cluster->member_count;
	for (size_t i = 0; i < op->count; i++)
		fill_actor(op, &op->actors[i], cluster->members[i]);
	if (cluster->primary >= 0)
		op->from = &op->actors[cluster->primary];
	pthread_mutex_unlock(&cluster->lock);
	return journal_init(&op->entry);
}

void conduct_fini(struct operation *op)
{
	for (size_t i = 0; i < op->count; i++)
		line_fini(&op->actors[i].line);
	line_fini(&op->lock_line);
	journal_fini(&op->entry);
	settings_unref(op->settings);
}

struct actor *conduct_actor(struct operation *op, const char *name)
{
	for (size_t i = 0; name && i < op->count; i++)
		if (!strcmp(op->actors[i].subject.name, name))
			return &op->actors[i];
	return NULL;
}

static bool claim(struct operation *op, struct actor *a)
{
	return claim_clear(&a->line, a->subject.name, op->settings->cluster, CLAIM_FENCE) &&
	       claim_take(&a->line, a->subject.name, op->settings->cluster, CLAIM_OPERATION);
}

/* Whoever leads now may have ended what this Tandem has begun, and changed the servers since. */
static bool may_go_on(struct operation *op, struct actor *a)
{
	if (!op->has_claim || votes_stand(op->cluster))
		return true;
	line_set_error(&a->line, "this Tandem does not lead any more; whoever does ends what was begun");
	return false;
}

bool conduct_claim(struct operation *op)
{
	op->has_claim = true;
	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];

		if (!a->line.mysql || claim(op, a))
			continue;
		conduct_fail_line(op, a, "an operation of another Tandem cannot be ended there");
		line_close(&a->line);
		if (a == op->from || a == op->to)
			return false;
		log_warning(NULL, "server %s: %s", a->subject.name, op->note);
	}
	return true;
}

bool conduct_open(struct operation *op, struct actor *actor)
{
	if (actor->line.mysql)
		return true;
	if (!may_go_on(op, actor))
		return false;
	actor->is_open = line_open(&actor->line, actor->settings, &op->settings->monitor);
	if (actor->is_open && op->has_claim && !claim(op, actor))
		line_close(&actor->line);
	return actor->line.mysql != NULL;
}

bool conduct_reopen(struct operation *op, struct actor *actor)
{
	if (!may_go_on(op, actor))
		return false;
	if (actor->line.mysql && mysql_ping(actor->line.mysql) == 0)
		return true;
	line_close(&actor->line);
	return conduct_open(op, actor);
}

void conduct_open_all(struct operation *op)
{
	for (size_t i = 0; i < op->count; i++)
		if (op->actors[i].health == HEALTH_UP && !conduct_open(op, &op->actors[i]))
			log_debug(NULL, "operation: no line to %s: %s", op->actors[i].subject.name,
				  op->actors[i].line.error_text);
}

/* --- words --- */

static void write_note(struct operation *op, const struct actor *about, const char *format, va_list args)
{
	op->note_server = about ? about->subject.name : "";
	vsnprintf(op->note, sizeof(op->note), format, args);
}

bool conduct_note(struct operation *op, const struct actor *about, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_note(op, about, format, args);
	va_end(args);
	return true;
}

bool conduct_fail(struct operation *op, const struct actor *about, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_note(op, about, format, args);
	va_end(args);
	return false;
}

bool conduct_fail_line(struct operation *op, const struct actor *actor, const char *doing)
{
	return conduct_fail(op, actor, "%s: %s", doing,
			    actor->line.error ? actor->line.error_text : "the time for it was over");
}

/* --- statements --- */

bool conduct_ask(struct actor *actor, const char *question, char *out, size_t size)
{
	MYSQL_RES *result = line_query(&actor->line, question);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	out[0] = '\0';
	if (row)
		snprintf(out, size, "%s", row_text(row, 0));
	mysql_free_result(result);
	return row != NULL;
}

void conduct_source(const struct operation *op, const struct actor *actor, struct replication_source *out, char host[256])
{
	const char *address = actor->settings->replication_address ? actor->settings->replication_address
								   : actor->settings->address;
	const char *colon = strrchr(address, ':');
	size_t len = colon ? (size_t)(colon - address) : strlen(address);

	if (len >= 2 && address[0] == '[') {
		address++;
		len -= 2;
	}
	snprintf(host, 256, "%.*s", (int)(len < 255 ? len : 255), address);
	*out = (struct replication_source){
		.host = host,
		.port = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 3306,
		.user = op->settings->replication.user,
		.password = op->settings->replication.password ? op->settings->replication.password : "",
		.heartbeat_ms = op->settings->monitor.failover_patience_ms / 5,
	};
}

/* --- steps --- */

/*
 * For tests, in checked builds only: TANDEM_FAULT=kill:STEP ends the daemon without ceremony once STEP is done;
 * TANDEM_FAULT=pause:STEP:FILE makes it wait after STEP until FILE is there.
 */
#ifdef TANDEM_CHECKED
static void fault_point(const char *step)
{
	const char *fault = getenv("TANDEM_FAULT");
	const char *name = fault ? strchr(fault, ':') : NULL;
	size_t len = name ? strcspn(name + 1, ":") : 0;

	if (!len || strlen(step) != len || strncmp(name + 1, step, len))
		return;
	if (!strncmp(fault, "kill:", 5))
		kill(getpid(), SIGKILL);
	log_info(NULL, "fault point: paused after %s", step);
	while (name[1 + len] && access(name + 2 + len, F_OK))
		usleep(1000);
}
#else
static void fault_point(const char *step)
{
	(void)step;
}
#endif

static bool run_step(struct operation *op, const struct step *step)
{
	uint64_t start = clock_us();
	bool ok;

	op->note[0] = '\0';
	op->note_server = "";
	ok = step->run(op);
	report_add(op->report, ok ? REMARK_OK : REMARK_FAILURE, step->name, op->note_server,
		   (double)(clock_us() - start) / 1000.0, "%s", op->note[0] ? op->note : "done");
	if (ok)
		fault_point(step->name);
	return ok;
}

static void undo_step(struct operation *op, const struct step *step)
{
	uint64_t start = clock_us();

	if (!step->undo)
		return;
	op->note[0] = '\0';
	op->note_server = "";
	step->undo(op);
	report_add(op->report, REMARK_OK, step->name, op->note_server, (double)(clock_us() - start) / 1000.0,
		   "undone%s%s", op->note[0] ? ": " : "", op->note);
}

bool conduct_run(struct operation *op, const struct step *steps, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (run_step(op, &steps[i]))
			continue;
		for (size_t k = i + 1; k-- > 0;)
			undo_step(op, &steps[k]);
		return false;
	}
	return true;
}

unsigned conduct_run_all(struct operation *op, const struct step *steps, size_t count)
{
	unsigned failed = 0;

	for (size_t i = 0; i < count; i++)
		failed += !run_step(op, &steps[i]);
	return failed;
}
