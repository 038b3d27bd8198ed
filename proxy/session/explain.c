#include "proxy/session/explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "proxy/session/tracking.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

static void add_why(struct explanation *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_why(struct explanation *e, const char *format, ...)
{
	va_list args;

	if (e->why_count == EXPLAIN_WHY)
		return;
	va_start(args, format);
	vsnprintf(e->why[e->why_count++], EXPLAIN_SENTENCE, format, args);
	va_end(args);
}

/* ---- The statement ---- */

static void list_facts(uint64_t facts, char *out, size_t size)
{
	size_t len = 0;

	for (unsigned bit = 0; bit < 64; bit++) {
		const char *name = facts & UINT64_C(1) << bit ? sql_fact_name(bit) : NULL;

		if (name && len < size)
			len += (size_t)snprintf(out + len, size - len, "%s%s", len ? ", " : "", name);
	}
	for (char *at = out; *at; at++)
		if (*at == '_')
			*at = ' ';
}

static void describe_meaning(const struct turn *t, struct explanation *e)
{
	const struct sql_meaning *m = t->meaning;

	snprintf(e->class, sizeof(e->class), "%s", sql_verb_name(m->verb));
	snprintf(e->target, sizeof(e->target), "%s", sql_target_name(m->target));
	list_facts(m->facts, e->facts, sizeof(e->facts));
	e->digest = m->digest;
	e->parts = m->parts;
	sql_normalise(&t->client->sql, t->text, t->text_len, e->normalised, sizeof(e->normalised));
}

/* ---- What the decision went by ---- */

static void add_functions(const struct turn *t, struct explanation *e)
{
	const struct snapshot *s = t->client->worker->snapshot;

	if (t->meaning->facts & SQL_F_MANY_FUNCTIONS)
		add_why(e, "it calls more functions than Tandem looks at");
	else if (t->meaning->function_count && !s->catalog_known)
		add_why(e, "the list of stored functions has not been read: each name could be one");
	for (int i = 0; i < t->meaning->function_count; i++) {
		struct sql_span f = t->meaning->functions[i];
		const struct routine *r = s->catalog_known ? snapshot_routine(s, t->text + f.at, f.len) : NULL;

		if (r)
			add_why(e, "%s() is stored: %s", r->name,
				r->harmless ? "it only reads" : r->writes ? "it writes" : "it is not proven to only read");
	}
}

static void add_replica(const struct turn *t, const struct server_view *v, struct explanation *e)
{
	uint64_t lag = atomic_load(&v->server->lag_ms);
	char behind[40] = "";

	if (lag != UINT64_MAX)
		snprintf(behind, sizeof(behind), ", %llu ms behind", (unsigned long long)lag);
	if (v->health != HEALTH_UP)
		add_why(e, "%s: down", v->server->name);
	else if (!v->takes_reads)
		add_why(e, "%s: takes no reads now (drained, broken, or beyond max_lag)%s", v->server->name, behind);
	else if (!token_satisfied(t->client, v->server))
		add_why(e, "%s: has not applied what is wanted yet%s", v->server->name, behind);
	else
		add_why(e, "%s: far enough%s, %u connections", v->server->name, behind, atomic_load(&v->server->connections));
}

static void add_position(const struct turn *t, struct explanation *e)
{
	const struct snapshot *s = t->client->worker->snapshot;
	struct gtid_set want = { 0 };

	token_wanted(t->client, &want);
	if (want.lost)
		snprintf(e->wants, sizeof(e->wants), "unknown: only the primary has it for certain");
	else
		gtid_format(&want, e->wants, sizeof(e->wants));
	for (size_t i = 0; i < s->server_count; i++)
		if (s->servers[i].role == ROLE_REPLICA)
			add_replica(t, &s->servers[i], e);
}

static void add_missing_primary(const struct snapshot *s, struct explanation *e)
{
	if (s->primary < 0)
		add_why(e, "there is no primary: %s", s->primary_why ? s->primary_why : "the reason is not known");
	else if (s->gate == GATE_SHUT)
		add_why(e, "too few votes say whether writes may go to the primary");
	else if (s->gate != GATE_OPEN)
		add_why(e, "a promotion holds new writes for a moment");
	else
		add_why(e, "the primary, %s, does not answer", s->servers[s->primary].server->name);
	add_why(e, "it would wait up to primary_wait, %u ms", s->settings->proxy.primary_wait_ms);
}

static bool is_read(const struct turn *t)
{
	return t->meaning->target == SQL_TO_REPLICA;
}

static void describe_answer(struct turn *t, const struct route_answer *r, struct explanation *e)
{
	const struct snapshot *s = t->client->worker->snapshot;
	const char *server = r->route == ROUTE_SERVER ? s->servers[r->server].server->name : "";

	snprintf(e->server, sizeof(e->server), "%s", r->backend ? r->backend->server_name : server);
	e->refused = r->route == ROUTE_REFUSE;
	e->waits = r->route == ROUTE_PARK || r->route == ROUTE_PRIMARY_MISSING;
	if (r->why)
		add_why(e, "%s", r->why);
	if (r->route == ROUTE_PRIMARY_MISSING)
		add_missing_primary(s, e);
	if (r->route == ROUTE_PARK)
		add_why(e, "it would wait up to causal_wait, %u ms, and then go to the primary", s->settings->proxy.causal_wait_ms);
	if (is_read(t) && !t->client->trx) {
		add_functions(t, e);
		add_position(t, e);
	}
	if (e->parts > 1)
		add_why(e, "the packet has %u statements: one that is not a read makes it the primary's", e->parts);
}

/* ---- A session that is none ---- */

struct job {
	struct inbox_message message;
	const struct explain_request *request;
	struct explanation *out;
	bool ok;
	bool done;
	bool abandoned;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct explain_request own; /* copies: the asker may give up before the worker looks */
	struct explanation result;
};

/* The transaction is on the primary; without one it is where it was, so nowhere that can be named. */
static void open_transaction(struct client *c, struct backend *b)
{
	const struct snapshot *s = c->worker->snapshot;

	if (s->primary < 0)
		return;
	b->worker = c->worker;
	b->pool = c->worker->pools[s->primary];
	b->server_name = b->pool->server->name;
	c->trx = b;
	c->status |= SERVER_STATUS_IN_TRANS;
}

static bool set_up(struct client *c, struct worker *w, const struct explain_request *r)
{
	struct state *value = state_new(w->snapshot, -1, 0, r->schema);

	c->worker = w;
	c->status = SERVER_STATUS_AUTOCOMMIT;
	c->multi_statements = true;
	c->credentials = credentials_new(r->user ? r->user : "", r->user ? strlen(r->user) : 0);
	if (r->user && c->credentials)
		c->credentials->token = account_token(r->user, strlen(r->user));
	if (!value || !c->credentials)
		return false;
	client_set_value(c, value);
	state_unref(value);
	return true;
}

static bool explain_on(struct worker *w, const struct explain_request *r, struct explanation *e)
{
	struct client *c = calloc(1, sizeof(*c));
	struct turn *t = calloc(1, sizeof(*t));
	struct backend *b = calloc(1, sizeof(*b));
	bool ok = c && t && b && set_up(c, w, r);

	if (ok) {
		struct route_answer answer;

		t->client = c;
		t->text = r->text;
		t->text_len = r->len;
		t->meaning = &t->own;
		sql_classify(&c->sql, t->text, t->text_len, &t->own);
		if (r->in_transaction)
			open_transaction(c, b);
		answer = route_turn(t);
		describe_meaning(t, e);
		describe_answer(t, &answer, e);
	}
	if (c) {
		state_unref(c->value);
		credentials_unref(c->credentials);
	}
	free(b);
	free(t);
	free(c);
	return ok;
}

/* ---- On a worker ---- */

static void free_job(struct job *job)
{
	free((char *)job->own.text);
	free((char *)job->own.user);
	free((char *)job->own.schema);
	pthread_cond_destroy(&job->changed);
	pthread_mutex_destroy(&job->lock);
	free(job);
}

static void deliver(struct inbox_message *message, void *owner)
{
	struct job *job = (struct job *)message;
	bool abandoned;

	job->ok = explain_on(owner, &job->own, &job->result);
	pthread_mutex_lock(&job->lock);
	job->done = true;
	abandoned = job->abandoned;
	pthread_cond_signal(&job->changed);
	pthread_mutex_unlock(&job->lock);
	if (abandoned)
		free_job(job);
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static struct job *new_job(const struct explain_request *r)
{
	struct job *job = calloc(1, sizeof(*job));
	pthread_condattr_t attributes;

	if (!job)
		return NULL;
	job->message.deliver = deliver;
	job->own = (struct explain_request){
		.text = strndup(r->text, r->len), .len = r->len, .user = copy(r->user), .schema = copy(r->schema), .in_transaction = r->in_transaction
	};
	pthread_mutex_init(&job->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&job->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	if (job->own.text && (job->own.user || !r->user) && (job->own.schema || !r->schema))
		return job;
	free_job(job);
	return NULL;
}

bool explain_route(struct shared *shared, const struct explain_request *request, unsigned timeout_ms, struct explanation *out)
{
	struct job *job = new_job(request);
	uint64_t until = clock_ms() + timeout_ms;
	struct timespec end = { (time_t)(until / 1000), (long)(until % 1000 * 1000000) };
	bool done, ok = false;

	*out = (struct explanation){ 0 };
	if (!job)
		return false;
	inbox_post(&shared->workers[0].inbox, &job->message);
	pthread_mutex_lock(&job->lock);
	while (!job->done && pthread_cond_timedwait(&job->changed, &job->lock, &end) == 0)
		;
	done = job->done;
	job->abandoned = !done;
	pthread_mutex_unlock(&job->lock);
	if (!done)
		return false;
	ok = job->ok;
	*out = job->result;
	free_job(job);
	return ok;
}
