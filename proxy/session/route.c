/*
 * Where a statement goes: DESIGN.md section 3. Rules in the order in which they win; the first that has an opinion decides.
 */
#include <string.h>

#include "base/pattern.h"
#include "proxy/session/named.h"
#include "proxy/session/pool.h"
#include "proxy/session/tracking.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* Digests of reads that turned out to write: a set that forgets by being overwritten. */
enum { LEARNED_SLOTS = 4096 };
static _Atomic uint64_t learned[LEARNED_SLOTS];
static _Atomic unsigned learned_count;

void route_learn_write(uint64_t digest)
{
	atomic_store_explicit(&learned[digest % LEARNED_SLOTS], digest, memory_order_relaxed);
	atomic_fetch_add_explicit(&learned_count, 1, memory_order_relaxed);
}

static bool is_learned_write(uint64_t digest)
{
	return atomic_load_explicit(&learned_count, memory_order_relaxed) &&
	       atomic_load_explicit(&learned[digest % LEARNED_SLOTS], memory_order_relaxed) == digest;
}

static const struct snapshot *snapshot_of(const struct turn *t)
{
	return t->client->worker->snapshot;
}

/* Each answer carries the rule that decided it, for explain.c: a constant, so it costs a store. */

static struct route_answer to_connection(struct backend *b, const char *why)
{
	return (struct route_answer){ .route = ROUTE_CONNECTION, .backend = b, .server = -1, .why = why };
}

static struct route_answer to_server(int index, const char *why)
{
	return (struct route_answer){ .route = ROUTE_SERVER, .server = index, .why = why };
}

static struct route_answer refuse(uint16_t code, const char *why)
{
	return (struct route_answer){ .route = ROUTE_REFUSE, .server = -1, .code = code, .why = why };
}

static bool primary_is_up(const struct snapshot *s)
{
	return s->primary >= 0 && s->servers[s->primary].health == HEALTH_UP;
}

static struct route_answer to_primary(const struct turn *t, const char *why)
{
	const struct snapshot *s = snapshot_of(t);

	if (primary_is_up(s))
		return to_server(s->primary, why);
	return (struct route_answer){ .route = ROUTE_PRIMARY_MISSING, .server = -1, .why = why };
}

/* ---- Reads ---- */

/* Routines have changed and were not read again yet. */
static bool catalog_is_old(const struct client *c)
{
	const struct snapshot *s = c->worker->snapshot;

	return atomic_load_explicit(&c->worker->shared->catalog_ticket, memory_order_relaxed) > s->catalog_ticket;
}

/* A name that the catalog does not know is a built-in. */
static bool functions_are_harmless(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;
	const struct snapshot *s = snapshot_of(t);

	if (m->facts & SQL_F_MANY_FUNCTIONS)
		return false;
	if (!(m->facts & SQL_F_FUNCTIONS))
		return true;
	/* Without the list of routines every name could be one. */
	if (!s->catalog_known || catalog_is_old(t->client))
		return false;
	for (int i = 0; i < m->function_count; i++) {
		const struct routine *r = snapshot_routine(s, t->text + m->functions[i].at, m->functions[i].len);

		if (r && (!r->harmless || (r->facts & SQL_F_READS_UVAR && t->client->has_uvars)))
			return false;
	}
	return true;
}

/* What a routine does to its connection, as the caller has to see it: of what is not known by value, only that it is there. */
static uint64_t traces_of(const struct routine *r)
{
	const uint64_t known = SQL_F_SETS_UVAR | SQL_F_SETS_LAST_ID | SQL_F_SEQUENCE | SQL_F_OPAQUE;
	const uint64_t unknown = SQL_F_SETS_SESSION | SQL_F_SETS_ROLE | SQL_F_UNTRACKED | SQL_F_PROFILING | SQL_F_CREATES_TEMP |
				 SQL_F_DROPS_TABLE | SQL_F_GET_LOCK | SQL_F_RELEASE_LOCK | SQL_F_RELEASE_ALL_LOCKS;

	return (r->facts & known) | (r->facts & unknown ? SQL_F_OPAQUE : 0);
}

/* The views that a statement mentions, of those that are suspect; any column or alias of the name counts. */
struct suspects {
	const struct snapshot *snapshot;
	bool reads_variables; /* the session has user variables */
	bool harmful;
	uint64_t traces;
};

static bool look_at_name(void *arg, const char *name, size_t len)
{
	struct suspects *found = arg;
	const struct routine *view = snapshot_view(found->snapshot, name, len);

	if (view) {
		found->harmful |= !view->harmless || (found->reads_variables && view->facts & SQL_F_READS_UVAR);
		found->traces |= traces_of(view);
	}
	return false;
}

/* Most clusters have no suspect views, and then no statement is looked through. */
static struct suspects suspects_in(const struct turn *t)
{
	struct suspects found = { .snapshot = snapshot_of(t), .reads_variables = t->client->has_uvars };

	if (found.snapshot->view_count && t->text)
		sql_mentions(&t->client->sql, t->text, t->text_len, look_at_name, &found);
	return found;
}

static bool views_are_harmless(const struct turn *t)
{
	return !(snapshot_of(t)->catalog_known && catalog_is_old(t->client)) && !suspects_in(t).harmful;
}

uint64_t route_function_traces(const struct turn *turn)
{
	const struct sql_meaning *m = turn->meaning;
	const struct snapshot *s = snapshot_of(turn);
	uint64_t traces = suspects_in(turn).traces;

	if (!(m->facts & SQL_F_FUNCTIONS) || !s->catalog_known)
		return traces;
	for (int i = 0; i < m->function_count; i++) {
		const struct routine *r = snapshot_routine(s, turn->text + m->functions[i].at, m->functions[i].len);

		if (r)
			traces |= traces_of(r);
		else if (catalog_is_old(turn->client)) /* it may have been created a moment ago */
			traces |= SQL_F_OPAQUE;
	}
	return traces;
}

bool route_only_reads(const struct turn *turn)
{
	return functions_are_harmless(turn) && views_are_harmless(turn) && !is_learned_write(turn->meaning->digest);
}

static bool has_temp_tables(const struct client *c)
{
	return c->pins && (c->pins->temp_tables || c->pins->opaque);
}

/* Most reads: nothing is special about them or their session. Asked first, for what comes behind it is long. */
static bool is_plain_read(const struct turn *t)
{
	const struct client *c = t->client;

	return !t->meaning->facts && !t->on_primary && !c->probe && !c->pins && !c->is_serializable && !c->reads_stay &&
	       !(t->statement && t->statement->servers_own) &&
	       !snapshot_of(t)->view_count && !catalog_is_old(c) && !atomic_load_explicit(&learned_count, memory_order_relaxed);
}

/* Why this read cannot run on a replica, whatever their positions; NULL: it can. */
static __attribute__((noinline)) const char *read_stays_why(const struct turn *t)
{
	const struct client *c = t->client;
	const uint64_t uvars = SQL_F_READS_UVAR | SQL_F_SETS_UVAR;

	if (t->on_primary)
		return "a replica has refused it";
	if (c->probe)
		return "an error has left the session's state unknown";
	if (has_temp_tables(c))
		return "the session has temporary tables";
	if (t->meaning->facts & uvars)
		return "user variables live on the connection that set them";
	if (t->meaning->facts & SQL_F_READS_LAST_ID && c->has_last_id)
		return "LAST_INSERT_ID() is known on the primary's connection";
	if (t->statement && t->statement->servers_own)
		return "it asks about the server itself";
	if (!t->rule && !functions_are_harmless(t))
		return "it calls a function that is not proven harmless";
	if (!t->rule && !views_are_harmless(t))
		return "it may read a view that is not proven harmless";
	if (is_learned_write(t->meaning->digest))
		return "it looks like a read, but a replica has found it to write";
	if (c->is_serializable)
		return "the isolation level is SERIALIZABLE";
	if (c->reads_stay)
		return "the session's settings or schema make its reads ask about the primary";
	return NULL;
}

static bool takes_reads(const struct snapshot *s, size_t i)
{
	return s->servers[i].role == ROLE_REPLICA && s->servers[i].health == HEALTH_UP && s->servers[i].takes_reads;
}

static bool rule_allows(const struct turn *t, size_t server)
{
	return !t->rule || t->rule->to.kind != RULE_SERVER || !strcmp(snapshot_of(t)->servers[server].settings->name, t->rule->to.server);
}

/* Among the replicas that are far enough: the one the session holds, unless it is much busier; else the least busy by weight, by turns where
 * they are equal. */
static int choose_replica(const struct turn *t, bool *any)
{
	const struct client *c = t->client;
	const struct snapshot *s = snapshot_of(t);
	int best = -1;
	double best_load = 0;

	*any = false;
	if (++c->worker->rotation >= s->server_count)
		c->worker->rotation = 0;
	for (size_t n = 0, i = c->worker->rotation; n < s->server_count; n++, i = i + 1 < s->server_count ? i + 1 : 0) {
		struct server_pool *pool = c->worker->pools[i];
		double load;

		if (!takes_reads(s, i) || (t->avoid & 1u << i) || !rule_allows(t, i))
			continue;
		*any = true;
		if (!token_satisfied(c, s->servers[i].server))
			continue;
		load = (pool->in_use + 0.1 * pool->sessions + 1.0) / (s->servers[i].settings->weight ? s->servers[i].settings->weight : 0.001);
		if (client_backend_at(c, pool))
			load *= 0.5;
		if (c->read_at == pool->server) /* to leave it costs a question */
			load *= 0.5;
		if (best < 0 || load < best_load) {
			best = (int)i;
			best_load = load;
		}
	}
	return best;
}

/* Worth waiting: some replica is behind by less than the time that a read may be parked. With no primary there is nowhere else to go. */
static bool worth_parking(const struct turn *t)
{
	const struct snapshot *s = snapshot_of(t);

	if (!primary_is_up(s))
		return true;
	for (size_t i = 0; i < s->server_count; i++)
		if (takes_reads(s, i) &&
		    atomic_load_explicit(&s->servers[i].server->lag_ms, memory_order_relaxed) <= s->settings->proxy.causal_wait_ms)
			return true;
	return false;
}

static int index_of(const struct snapshot *s, const struct server *server)
{
	for (size_t i = 0; i < s->server_count; i++)
		if (s->servers[i].server == server)
			return (int)i;
	return -1;
}

static bool can_be_asked(const struct backend *b)
{
	return b && b->state == BACKEND_READY && !b->freezing && !b->retire && !b->broken;
}

/* Another replica than that of the session's last read may be behind what it has shown, which need not be anybody's acknowledged write. What
 * it has now covers that, and takes a question to know; where none can be asked the session stays, or reads on the primary. With none there
 * it waits for one for as long as a write would: the replica may be about to become it. */
static struct route_answer route_elsewhere(struct turn *t, int replica)
{
	struct client *c = t->client;
	const struct snapshot *s = snapshot_of(t);
	int last = index_of(s, c->read_at);
	struct backend *b = last >= 0 && s->servers[last].health == HEALTH_UP ? client_backend_at(c, c->worker->pools[last]) : NULL;

	if (can_be_asked(b))
		return (struct route_answer){ .route = ROUTE_ASK, .backend = b, .server = -1,
					      .why = "how far the replica was that the session has read on before is not known" };
	if (last >= 0 && takes_reads(s, (size_t)last) && !(t->avoid & 1u << last) && rule_allows(t, (size_t)last) &&
	    token_satisfied(c, s->servers[last].server))
		return to_server(last, "a read: on the replica that the session has read on before");
	if (primary_is_up(s))
		return to_primary(t, "what the session has seen on another replica is not known");
	if (!t->waited_for_position)
		return (struct route_answer){ .route = ROUTE_PARK, .server = -1,
					      .why = "what the session has seen on another replica is not known, and there is no primary now" };
	return to_server(replica, "a read: the replica that the session has read on before is gone, and there is no primary now");
}

static struct route_answer route_read(struct turn *t)
{
	struct client *c = t->client;
	const char *stays = is_plain_read(t) ? NULL : read_stays_why(t);
	bool any;
	int replica;

	if (stays)
		return to_primary(t, stays);
	if (c->token_unknown && primary_is_up(snapshot_of(t)) && snapshot_of(t)->settings->proxy.read_your_writes != RYW_OFF) {
		struct backend *b = client_backend_at(c, c->worker->pools[snapshot_of(t)->primary]);

		if (!b)
			return to_primary(t, "the session has read on the primary, and how far that was is not known");
		return (struct route_answer){ .route = ROUTE_ASK, .backend = b, .server = -1 };
	}
	replica = choose_replica(t, &any);
	if (replica >= 0 && c->read_at && c->read_at != snapshot_of(t)->servers[replica].server &&
	    snapshot_of(t)->settings->proxy.read_your_writes != RYW_OFF)
		return route_elsewhere(t, replica);
	if (replica >= 0)
		return to_server(replica, t->rule ? t->rule->why : "a read: this replica has the account's last write and is the least busy");
	if (!any)
		return to_primary(t, "a read, but no replica takes reads");
	if (t->waited_for_position || !worth_parking(t))
		return to_primary(t, "a read, but no replica has the account's last write, nor will have it within causal_wait");
	return (struct route_answer){ .route = ROUTE_PARK, .server = -1, .why = "a read: no replica has the account's last write yet" };
}

/* ---- Others ---- */

static struct backend *held_connection(const struct client *c)
{
	const struct snapshot *s = c->worker->snapshot;
	struct backend *b = s->primary >= 0 ? client_backend_at(c, c->worker->pools[s->primary]) : NULL;

	return b;
}

/* What it may ask for anywhere in a block is taken along to a replica (freeze.c), if it can be written down. */
static bool needs_values(const struct client *c)
{
	return c->has_uvars && (c->uvars_fixed || c->sql.flavour == SQL_MYSQL);
}

/* SET, USE, SET NAMES, PREPARE: true errors at once, on what the session holds, else the primary's, else a replica's. */
static struct route_answer route_held(struct turn *t)
{
	struct client *c = t->client;
	const struct snapshot *s = snapshot_of(t);
	struct backend *b = held_connection(c);
	bool any;
	int replica;

	if (t->meaning->facts & SQL_F_ONESHOT_READ_ONLY && !client_is_pinned(c) && !needs_values(c) && c->status & SERVER_STATUS_AUTOCOMMIT)
		return route_read(t); /* the transaction that it is for will run there */
	if (b)
		return to_connection(b, "it changes the session: on the connection it holds");
	if (t->on_primary || primary_is_up(s) ||
	    t->meaning->facts & (SQL_F_SETS_GLOBAL | SQL_F_SETS_UVAR | SQL_F_UNTRACKED | SQL_F_SET_TRANSACTION_SESSION | SQL_F_SETS_ROLE))
		return to_primary(t, "it changes the session: run at once, on the primary");
	replica = choose_replica(t, &any);
	return replica >= 0 ? to_server(replica, "it changes the session, and there is no primary now") :
			      to_primary(t, "it changes the session, and no server is left");
}

static bool opens_read_only_block(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;
	const struct client *c = t->client;
	bool begins = m->facts & SQL_F_OPENS_TRX && m->facts & SQL_F_TRX_READ_ONLY;
	bool plain_begin = m->verb == SQL_BEGIN && !(m->facts & SQL_F_TRX_READ_WRITE);

	if (has_temp_tables(c) || needs_values(c) || t->meaning->facts & SQL_F_MULTI || client_pins_all(c))
		return false;
	if (begins)
		return true;
	return plain_begin && c->is_read_only;
}

/* The block goes where a read would go; on_primary and tokens are heeded. */
static struct route_answer route_block(struct turn *t)
{
	return route_read(t);
}

static struct route_answer route_to_named(const struct turn *t)
{
	const struct snapshot *s = snapshot_of(t);
	struct sql_span name = t->meaning->hint_server;

	for (size_t i = 0; i < s->server_count; i++)
		if (strlen(s->servers[i].settings->name) == name.len &&
		    !memcmp(s->servers[i].settings->name, t->text + name.at, name.len))
			return s->servers[i].health == HEALTH_UP ? to_server((int)i, "a hint names the server") :
								   refuse(ER_UNKNOWN_ERROR, "the server that the hint names is down");
	return refuse(ER_UNKNOWN_ERROR, "the hint names a server that is not in the settings");
}

static struct route_answer route_by_hint(struct turn *t)
{
	bool any;
	int replica;

	if (t->meaning->hint == SQL_HINT_PRIMARY || t->on_primary)
		return to_primary(t, "a hint says primary");
	if (t->meaning->hint == SQL_HINT_SERVER)
		return route_to_named(t);
	replica = choose_replica(t, &any);
	return replica >= 0 ? to_server(replica, "a hint says replica") : to_primary(t, "a hint says replica, but none is fit");
}

/* ---- Rules ---- */

static bool is_same(const char *wanted, const char *have)
{
	return !wanted || (have && !strcmp(wanted, have));
}

static const struct rule_settings *find_rule(const struct turn *t)
{
	const struct settings *s = snapshot_of(t)->settings;
	const struct client *c = t->client;

	for (size_t i = 0; t->text && i < s->rule_count; i++) {
		const struct rule_settings *r = &s->rules[i];

		if (is_same(r->user, c->credentials->user) && is_same(r->schema, c->value->schema) &&
		    (!r->digest || r->digest == t->meaning->digest) && (!r->text || pattern_matches(r->text, t->text, t->text_len)))
			return r;
	}
	return NULL;
}

/* A rule that names the primary, by its role or its name, is for every statement. */
static bool rule_says_primary(const struct turn *t)
{
	const struct snapshot *s = snapshot_of(t);
	const struct rule_target *to = &t->rule->to;

	return to->kind == RULE_PRIMARY ||
	       (to->kind == RULE_SERVER && s->primary >= 0 && !strcmp(s->servers[s->primary].settings->name, to->server));
}

/* What was known on the primary may have come along to a replica, with a READ ONLY block: there nothing is written. */
static bool suits(const struct turn *t, const struct backend *knows)
{
	return !knows->is_replica || t->meaning->target != SQL_TO_PRIMARY;
}

/* Connections that the session cannot leave, whatever the statement. */
static __attribute__((noinline)) struct backend *bound_to(struct turn *t)
{
	struct client *c = t->client;
	uint64_t facts = t->meaning->facts;

	if (c->trx)
		return c->trx;
	if (t->statement && t->statement->opened)
		return t->statement->opened;
	if (client_pins_all(c) && (c->pins->oneshot.set || suits(t, c->pinned)))
		return c->pinned;
	if (facts & SQL_F_READS_LAST_ID && c->last_id_at)
		return suits(t, c->last_id_at) ? c->last_id_at : NULL; /* else it is brought along */
	if (facts & SQL_F_READS_LAST_ID && c->last_id)
		return NULL; /* frozen: any connection of the primary's is given it */
	if (facts & SQL_F_READS_LAST && !(facts & SQL_F_MULTI && t->meaning->target == SQL_TO_PRIMARY)) {
		struct backend *knows = diagnose_where(t);

		knows = knows ? knows : c->last;
		if (knows && suits(t, knows))
			return knows;
	}
	if (c->probe && t->meaning->target != SQL_TO_PRIMARY)
		return c->probe;
	if (t->named && !t->is_read && t->named->at && !t->named->at->is_replica)
		return t->named->at;
	if (t->meaning->verb == SQL_EXECUTE || t->meaning->verb == SQL_DEALLOCATE)
		return c->pinned;
	return NULL;
}

/* Nothing binds it to a connection, and nothing but its target says where it goes. */
static bool is_unbound(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;
	const struct client *c = t->client;

	return !m->facts && m->hint == SQL_HINT_NONE && m->target == SQL_TO_REPLICA && !c->trx && !c->pins && !c->probe &&
	       !(t->statement && t->statement->opened) && c->status & SERVER_STATUS_AUTOCOMMIT && !t->rule && !snapshot_of(t)->settings->rule_count;
}

static __attribute__((noinline)) struct route_answer route_bound(struct turn *turn)
{
	struct client *c = turn->client;
	struct backend *bound = bound_to(turn);

	if (bound)
		return to_connection(bound, bound == c->trx ? "a transaction is open there" :
						      "the session cannot leave the connection: pins, or what its last statement left there");
	if (turn->meaning->facts & SQL_F_READS_LAST_ID && c->last_id_lost)
		return refuse(ER_CONNECTION_KILLED, "LAST_INSERT_ID() was lost with the connection that knew it");
	if (client_awaits_oneshot(c))
		return to_primary(turn, "SET TRANSACTION is said again in front of it");
	if (turn->meaning->hint != SQL_HINT_NONE)
		return route_by_hint(turn);
	turn->rule = snapshot_of(turn)->settings->rule_count ? find_rule(turn) : NULL;
	if (turn->rule && rule_says_primary(turn))
		return to_primary(turn, turn->rule->why);
	if (!(c->status & SERVER_STATUS_AUTOCOMMIT) && turn->task == TASK_COMMAND)
		return c->is_read_only && !has_temp_tables(c) && !needs_values(c) ? route_block(turn) :
											 to_primary(turn, "autocommit is off");
	if (opens_read_only_block(turn))
		return route_block(turn);
	if (turn->meaning->facts & SQL_F_OPENS_TRX)
		return to_primary(turn, "it opens a transaction that may write");
	switch (turn->meaning->target) {
	case SQL_TO_REPLICA:
		return route_read(turn);
	case SQL_TO_HELD:
		return route_held(turn);
	case SQL_TO_LAST:
	case SQL_TO_ROLE:
		return to_primary(turn, "it asks about the session's own connection, which is the primary's");
	default:
		return to_primary(turn, "it writes, locks, or is not known to be harmless");
	}
}

struct route_answer route_turn(struct turn *turn)
{
	return is_unbound(turn) ? route_read(turn) : route_bound(turn);
}
