/* Commands about the upstream servers of the web. */
#include <stdlib.h>
#include <string.h>

#include "admin/handlers.h"
#include "web/upstream.h"
#include "web/web.h"
#include "web/worker.h"

static const struct column columns[] = {
	{ "upstream", CELL_TEXT, 0 },	{ "server", CELL_TEXT, 0 },  { "state", CELL_TEXT, 0 },	   { "weight", CELL_INTEGER, 0 },
	{ "backup", CELL_BOOL, 0 },	{ "active", CELL_INTEGER, 0 }, { "limit", CELL_INTEGER, 0 }, { "waiting", CELL_INTEGER, 0 },
	{ "requests", CELL_INTEGER, 0 }, { "failures", CELL_INTEGER, 0 }, { "last_failure", CELL_TEXT, 0 },
};

static const char no_web[] = "no web listener runs: [web] listen is not set";

/* NULL with an answer given. */
static struct web_config *config_of(const struct call *call)
{
	const struct admin_host *host = &call->admin->host;
	struct web_config *config = host->web ? web_config_now(atomic_load(host->web)) : NULL;

	if (!config)
		answer_end(call->answer, ANSWER_REFUSED, NULL, "%s", no_web);
	return config;
}

static const char *state_of(const struct upstream_view *v)
{
	switch (v->order) {
	case UPSTREAM_DRAINING: return "draining";
	case UPSTREAM_OUT: return "set down";
	case UPSTREAM_IN_USE: break;
	}
	return v->up ? "up" : "down";
}

struct look {
	struct call *call;
	struct table *table;
};

static void add_server(void *arg, const struct upstream_view *v)
{
	const struct look *look = arg;
	struct answer *a = look->call->answer;
	struct table *t = look->table;

	table_row(a, t);
	table_text(t, v->upstream);
	table_text(t, v->name);
	table_text(t, state_of(v));
	table_integer(t, v->weight);
	table_bool(t, v->backup);
	table_integer(t, v->active);
	if (v->max_connections)
		table_integer(t, v->max_connections);
	else
		table_null(t);
	table_integer(t, v->waiting);
	table_integer(t, (int64_t)v->requests);
	table_integer(t, (int64_t)v->failures);
	table_text(t, v->why[0] ? v->why : NULL);
	table_end_row(a, t);
}

static bool is_wanted(const struct request *r, const char *name)
{
	const char *only = request_text(r, "UPSTREAM");

	return (!only || !strcmp(only, name)) && (!r->like || like_matches(r->like, name));
}

void handle_upstreams(struct call *call)
{
	struct web_config *config = config_of(call);
	struct look look = { call, NULL };

	if (!config)
		return;
	look.table = ANSWER_TABLE(call->answer, "upstreams", TABLE_ROWS, columns);
	look.table->empty = "There is no such upstream.";
	for (size_t i = 0; i < config->web->upstream_count; i++)
		if (is_wanted(call->request, config->web->upstreams[i].name))
			upstream_look(config->upstreams[i], add_server, &look);
	web_config_unref(config);
}

static struct upstream *find_upstream(const struct web_config *config, const char *name)
{
	for (size_t i = 0; i < config->web->upstream_count; i++)
		if (!strcmp(config->web->upstreams[i].name, name))
			return config->upstreams[i];
	return NULL;
}

/* What a command may say of a server besides its weight. */
static const struct {
	const char *option;
	enum upstream_order order;
} orders[] = { { "drain", UPSTREAM_DRAINING }, { "up", UPSTREAM_IN_USE }, { "down", UPSTREAM_OUT } };

enum { ORDERS = sizeof(orders) / sizeof(orders[0]) };

/* False with an answer given. */
static bool makes_sense(const struct call *call)
{
	const struct request *r = call->request;
	unsigned given = 0;

	for (size_t i = 0; i < ORDERS; i++)
		given += request_has(r, orders[i].option);
	if (given > 1)
		answer_end(call->answer, ANSWER_USAGE, NULL, "drain, up and down exclude each other");
	else if (!given && !request_has(r, "weight"))
		answer_end(call->answer, ANSWER_USAGE, NULL, "say what to change: weight, drain, up or down");
	else if (!request_has(r, "server"))
		answer_end(call->answer, ANSWER_USAGE, NULL, "say which server: SERVER 127.0.0.1:9000");
	else if (request_has(r, "weight") && (request_number(r, "weight") < 1 || request_number(r, "weight") > UPSTREAM_WEIGHT_MAX))
		answer_end(call->answer, ANSWER_USAGE, "drain keeps new clients away", "a weight is 1 to %d", UPSTREAM_WEIGHT_MAX);
	else
		return true;
	return false;
}

static bool apply(struct upstream *upstream, const struct request *r)
{
	const char *server = request_text(r, "server");
	bool found = true;

	if (request_has(r, "weight"))
		found = upstream_set_weight(upstream, server, (unsigned)request_number(r, "weight"));
	for (size_t i = 0; i < ORDERS; i++)
		if (request_has(r, orders[i].option))
			found = upstream_set_order(upstream, server, orders[i].order);
	return found;
}

void handle_upstream(struct call *call)
{
	const char *name = request_text(call->request, "UPSTREAM");
	struct web_config *config = makes_sense(call) ? config_of(call) : NULL;
	struct upstream *upstream;

	if (!config)
		return;
	upstream = find_upstream(config, name);
	if (!upstream)
		answer_end(call->answer, ANSWER_REFUSED, "upstreams lists them", "there is no upstream %.60s", name);
	else if (!apply(upstream, call->request))
		answer_end(call->answer, ANSWER_REFUSED, "upstreams lists them, as the settings name them", "upstream %s has no server %.80s", name,
			   request_text(call->request, "server"));
	else
		answer_end(call->answer, ANSWER_DONE, NULL, "%s of upstream %s is changed, until Tandem restarts.",
			   request_text(call->request, "server"), name);
	web_config_unref(config);
}
