/* Commands about clients and their statements. */
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "admin/handlers.h"
#include "proxy/session/explain.h"
#include "proxy/session/sessions.h"

enum { WORKER_MS = 3000 }; /* how long workers may take to answer */

static const struct column session_columns[] = {
	{ "id", CELL_INTEGER, 0 },  { "user", CELL_TEXT, 0 },	    { "client", CELL_TEXT, 0 }, { "schema", CELL_TEXT, 0 },
	{ "state", CELL_TEXT, 0 },  { "since_ms", CELL_MS, 0 },	    { "servers", CELL_TEXT, 0 }, { "transaction", CELL_TEXT, 0 },
	{ "pinned_by", CELL_TEXT, 0 }, { "worker", CELL_INTEGER, 0 }, { "statement", CELL_TEXT, 0 },
};

static const char *none_if_empty(const char *text)
{
	return text[0] ? text : NULL;
}

static bool is_wanted(const struct request *r, const struct session_view *v)
{
	const char *user = request_text(r, "user");

	return (!user || !strcmp(user, v->user)) && (!r->like || like_matches(r->like, v->user)) && (!request_has(r, "busy") || v->is_busy);
}

static void add_session(struct answer *a, struct table *t, const struct session_view *v)
{
	table_row(a, t);
	table_integer(t, v->id);
	table_text(t, none_if_empty(v->user));
	table_text(t, v->client);
	table_text(t, none_if_empty(v->schema));
	table_text(t, v->state);
	table_ms(t, (double)v->state_ms);
	table_text(t, none_if_empty(v->servers));
	table_text(t, none_if_empty(v->transaction));
	table_text(t, none_if_empty(v->pins));
	table_integer(t, v->worker);
	table_text(t, none_if_empty(v->statement));
	table_end_row(a, t);
}

void handle_sessions(struct call *call)
{
	struct table *t = ANSWER_TABLE(call->answer, "sessions", TABLE_ROWS, session_columns);
	size_t count;
	struct session_view *views = sessions_collect(call_shared(call), WORKER_MS, &count);

	t->empty = "No client is connected.";
	if (!views && count) {
		answer_end(call->answer, ANSWER_FAILED, NULL, "the workers do not answer, or memory ran out");
		return;
	}
	if (count)
		t->empty = "No such client is connected.";
	for (size_t i = 0; i < count; i++)
		if (is_wanted(call->request, &views[i]))
			add_session(call->answer, t, &views[i]);
	free(views);
}

/* ---- Explain ---- */

static const struct column route_columns[] = {
	{ "goes_to", CELL_TEXT, 0 },   { "waits", CELL_BOOL, 0 },	{ "because", CELL_TEXT, 0 }, { "class", CELL_TEXT, 0 },
	{ "by_meaning", CELL_TEXT, 0 }, { "facts", CELL_TEXT, 0 },	{ "wants", CELL_TEXT, 0 },   { "digest", CELL_TEXT, 0 },
	{ "normalised", CELL_TEXT, 0 },
};

static const struct column why_columns[] = { { "rule", CELL_TEXT, 0 } };

static void add_route(struct answer *a, const struct explanation *e)
{
	struct table *t = ANSWER_TABLE(a, "route", TABLE_FACTS, route_columns);

	table_row(a, t);
	table_text(t, e->refused ? "refused" : e->server[0] ? e->server : "no server now");
	table_bool(t, e->waits);
	table_text(t, e->why_count ? e->why[0] : NULL);
	table_text(t, e->class);
	table_text(t, e->target);
	table_text(t, none_if_empty(e->facts));
	table_text(t, none_if_empty(e->wants));
	table_textf(t, "%016" PRIx64, e->digest);
	table_text(t, e->normalised);
	table_end_row(a, t);
}

static void add_rules(struct answer *a, const struct explanation *e)
{
	struct table *t = ANSWER_TABLE(a, "looked_at", TABLE_LINES, why_columns);

	t->title = "What was looked at:";
	for (unsigned i = 1; i < e->why_count; i++) {
		table_row(a, t);
		table_text(t, e->why[i]);
		table_end_row(a, t);
	}
}

void handle_explain(struct call *call)
{
	const char *text = request_text(call->request, "SQL");
	struct explain_request request = {
		.text = text,
		.len = strlen(text),
		.user = request_text(call->request, "user"),
		.schema = request_text(call->request, "schema"),
		.in_transaction = request_has(call->request, "in-transaction"),
	};
	struct explanation *e = malloc(sizeof(*e));

	if (e && explain_route(call_shared(call), &request, WORKER_MS, e)) {
		add_route(call->answer, e);
		add_rules(call->answer, e);
	} else {
		answer_end(call->answer, ANSWER_FAILED, NULL, "the worker does not answer, or memory ran out");
	}
	free(e);
}

void handle_digests(struct call *call)
{
	answer_end(call->answer, ANSWER_REFUSED, "explain tells the digest of a statement; the servers' performance_schema counts them",
		   "this version keeps no statistics of statements");
}
