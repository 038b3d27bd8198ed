#include "proxy/session/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

#include "proxy/session/charset.h"

/* Belong to the server or to the schema, not to the session, though the server lists them as session variables. */
static const char *const not_state[] = {
	"character_set_database", "collation_database", "interactive_timeout", "max_relay_log_size",
	"max_user_connections",	  "net_buffer_length",	"server_id",	       "sql_slave_skip_counter",
	"wait_timeout", /* Tandem's own matter: see fit.c */
};

static bool is_state(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(not_state) / sizeof(not_state[0]); i++)
		if (strlen(not_state[i]) == len && !strncasecmp(not_state[i], name, len))
			return false;
	return strncasecmp(name, "session_track", 13) != 0;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static uint64_t hash_text(uint64_t seed, const char *text)
{
	return text ? XXH3_64bits_withSeed(text, strlen(text), seed) : XXH3_64bits_withSeed("\1", 2, seed);
}

static void rehash(struct state *s)
{
	uint64_t h = hash_text(hash_text(s->forgot ? 2 : 1, s->schema), s->role);

	for (uint32_t i = 0; i < s->count; i++)
		h = hash_text(hash_text(h, s->variables[i].name), s->variables[i].value);
	s->hash = h;
}

static struct state *copy_state(const struct state *from, uint32_t room)
{
	struct state *s = calloc(1, sizeof(*s));

	atomic_init(&s->refs, 1);
	s->variables = calloc((from ? from->count : 0) + room + 1, sizeof(*s->variables));
	if (!from)
		return s;
	s->base = from->base;
	s->awaits = from->awaits;
	s->schema = copy(from->schema);
	s->forgot = from->forgot;
	s->role = copy(from->role);
	for (uint32_t i = 0; i < from->count; i++) {
		const struct state_variable *v = &from->variables[i];

		s->variables[s->count++] = (struct state_variable){ copy(v->name), copy(v->value), v->is_number };
	}
	return s;
}

struct state *state_ref(struct state *state)
{
	atomic_fetch_add_explicit(&state->refs, 1, memory_order_relaxed);
	return state;
}

void state_unref(struct state *state)
{
	if (!state || atomic_fetch_sub_explicit(&state->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (uint32_t i = 0; i < state->count; i++) {
		free(state->variables[i].name);
		free(state->variables[i].value);
	}
	free(state->variables);
	free(state->schema);
	free(state->role);
	free(state);
}

static uint32_t find(const struct state *s, const char *name, bool *found)
{
	uint32_t low = 0, high = s->count;

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		int order = strcmp(s->variables[mid].name, name);

		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*found = false;
	return low;
}

/* Takes ownership of nothing; a value equal to the primary's default is left out of the list. */
static void assign(struct state *s, const struct tracked_variable *v, const char *value)
{
	bool found;
	uint32_t at = find(s, v->name, &found);

	if (same_text(value, v->primary_value)) {
		if (!found)
			return;
		free(s->variables[at].name);
		free(s->variables[at].value);
		memmove(&s->variables[at], &s->variables[at + 1], (s->count - at - 1) * sizeof(*s->variables));
		s->count--;
		return;
	}
	if (found) {
		free(s->variables[at].value);
		s->variables[at].value = copy(value);
		return;
	}
	memmove(&s->variables[at + 1], &s->variables[at], (s->count - at) * sizeof(*s->variables));
	s->variables[at] = (struct state_variable){ copy(v->name), copy(value), v->is_number };
	s->count++;
}

/* The client's and the results' character sets have collations, too, which are no variables: SET NAMES and the login give them both the same,
 * naming a character set alone gives it its default. Metadata shows that of the results, and that of the client is the parameters' of prepared
 * statements. NULL: the default of the character set. */
static const struct tracked_variable client_collation = { .name = (char *)"client_collation" };
static const struct tracked_variable results_collation = { .name = (char *)"results_collation" };

static void assign_collation(struct state *s, const struct tracked_variable *whose, const char *collation)
{
	const struct charset *cs = NULL;
	const char *end = collation ? strchr(collation, '_') : NULL;

	if (end)
		cs = charset_default(collation, (size_t)(end - collation));
	/* cppcheck-suppress nullPointer ; without a collation there is no character set */
	assign(s, whose, cs && !strcmp(cs->collation, collation) ? NULL : collation);
}

static void assign_both_collations(struct state *s, const char *collation)
{
	assign_collation(s, &client_collation, collation);
	assign_collation(s, &results_collation, collation);
}

static void assign_named(struct state *s, const struct snapshot *snapshot, const char *name, const char *value)
{
	const struct tracked_variable *v = snapshot_variable(snapshot, name, strlen(name));

	if (v)
		assign(s, v, value);
}

/* From 11.2 on the default collation of a character set is the server's to choose: "utf8mb3=utf8mb3_uca1400_ai_ci,...". */
static bool chosen_collation(const struct snapshot *snapshot, const struct charset *cs, char *out, size_t size)
{
	static const char name[] = "character_set_collations";
	const struct tracked_variable *v = snapshot_variable(snapshot, name, sizeof(name) - 1);
	size_t len = strlen(cs->name);

	for (const char *at = v && cs->is_default ? v->primary_value : NULL; at && *at; at += strcspn(at, ","), at += *at == ',') {
		if (strncmp(at, cs->name, len) || at[len] != '=')
			continue;
		snprintf(out, size, "%.*s", (int)strcspn(at + len + 1, ","), at + len + 1);
		return true;
	}
	return false;
}

/* The login's collation number sets four variables. Servers before 10.6 call utf8mb3 "utf8". */
static void assign_charset(struct state *s, const struct snapshot *snapshot, uint8_t number)
{
	const struct charset *cs = charset_by_id(number);
	const char *name, *collation;
	char other[64];

	if (!cs)
		return;
	name = cs->name;
	collation = cs->collation;
	if (snapshot->primary >= 0 && snapshot->servers[snapshot->primary].version < 100600 && !strcmp(name, "utf8mb3")) {
		name = "utf8";
		snprintf(other, sizeof(other), "utf8%s", collation + strlen("utf8mb3"));
		collation = other;
	} else if (chosen_collation(snapshot, cs, other, sizeof(other))) {
		collation = other;
	}
	assign_named(s, snapshot, "character_set_client", name);
	assign_named(s, snapshot, "character_set_connection", name);
	assign_named(s, snapshot, "character_set_results", name);
	assign_named(s, snapshot, "collation_connection", collation);
	assign_both_collations(s, collation);
}

static void assign_server_defaults(struct state *s, const struct snapshot *snapshot, int server)
{
	for (size_t i = 0; i < snapshot->variable_count; i++) {
		const struct tracked_variable *v = &snapshot->variables[i];

		if (v->exists[server] && !v->same_default[server] && is_state(v->name, strlen(v->name)))
			assign(s, v, v->server_value[server]);
	}
}

/* The newest ticket of cluster_refresh_variables(). */
static _Atomic uint64_t expected;

void state_expect_defaults(uint64_t ticket)
{
	uint64_t seen = atomic_load(&expected);

	while (seen < ticket && !atomic_compare_exchange_weak(&expected, &seen, ticket))
		;
}

static uint64_t newer_than(const struct snapshot *snapshot)
{
	uint64_t ticket = atomic_load_explicit(&expected, memory_order_relaxed);

	return ticket > snapshot->variables_ticket ? ticket : 0;
}

struct state *state_new(const struct snapshot *snapshot, int server, uint8_t charset, const char *schema)
{
	struct state *s = copy_state(NULL, (uint32_t)snapshot->variable_count);
	struct state_variable *fit;

	s->schema = copy(schema);
	s->base = snapshot->defaults;
	s->awaits = newer_than(snapshot);
	if (server >= 0)
		assign_server_defaults(s, snapshot, server);
	assign_charset(s, snapshot, charset);
	rehash(s);
	fit = realloc(s->variables, (s->count + 1) * sizeof(*fit));
	if (fit)
		s->variables = fit;
	return s;
}

bool state_equal(const struct state *a, const struct state *b)
{
	return a == b || (a->hash == b->hash && a->count == b->count);
}

struct state *state_with_variable(struct state *state, const struct snapshot *snapshot, struct wire_bytes name,
				  struct wire_bytes value)
{
	const struct tracked_variable *v = snapshot_variable(snapshot, (const char *)name.data, name.len);
	struct state *s;
	char *text;

	if (!v || v->is_part || !is_state((const char *)name.data, name.len))
		return state_ref(state);
	if (v->stands_for) /* an alias: two names of one value must not be restored one after the other */
		v = snapshot_variable(snapshot, v->stands_for, strlen(v->stands_for));
	text = strndup((const char *)value.data, value.len);
	if (!value.len && !strcmp(v->name, "character_set_results")) {
		free(text);
		text = NULL; /* the tracker has no other way to say NULL */
	}
	s = copy_state(state, 1);
	assign(s, v, text);
	if (!strcmp(v->name, "character_set_results"))
		assign_collation(s, &results_collation, NULL);
	else if (!strcmp(v->name, "character_set_client"))
		assign_collation(s, &client_collation, NULL);
	rehash(s);
	free(text);
	return s;
}

/* What differs from no default any more is left out, what has come to differ is written down. Where servers keep values of their own the
 * default is not told of anybody: nobody could be given it back. */
struct state *state_rebase(const struct state *state, const struct snapshot *from, const struct snapshot *to, bool has_new)
{
	struct state *s = copy_state(state, (uint32_t)to->variable_count);

	s->base = to->defaults;
	for (size_t i = 0; i < to->variable_count; i++) {
		const struct tracked_variable *v = &to->variables[i];
		const struct tracked_variable *old = snapshot_variable(from, v->name, strlen(v->name));
		bool found;
		uint32_t at = find(state, v->name, &found);

		if (old && !v->stands_for && is_state(v->name, strlen(v->name)) && (found || !(v->keeps_own || has_new)))
			assign(s, v, found ? state->variables[at].value : old->primary_value);
	}
	rehash(s);
	return s;
}

/* "SET NAMES x COLLATE x_y, character_set_results = z": the results have another one by then. */
static bool is_of(const struct state *s, const struct snapshot *snapshot, const char *side, const char *collation)
{
	const char *charset = state_get(s, snapshot, side);
	size_t len = strlen(charset);

	return len && !strncmp(collation, charset, len) && (collation[len] == '_' || !collation[len]);
}

struct state *state_with_names(struct state *state, const struct snapshot *snapshot, struct wire_bytes collation)
{
	struct state *s = copy_state(state, 2);
	char *text = strndup((const char *)collation.data, collation.len);

	if (is_of(s, snapshot, "character_set_client", text))
		assign_collation(s, &client_collation, text);
	if (is_of(s, snapshot, "character_set_results", text))
		assign_collation(s, &results_collation, text);
	rehash(s);
	free(text);
	return s;
}

struct state *state_with_schema(struct state *state, const char *schema, size_t len)
{
	struct state *s;

	if (!state->forgot && (schema ? state->schema && strlen(state->schema) == len && !memcmp(state->schema, schema, len) : !state->schema))
		return state_ref(state);
	s = copy_state(state, 0);
	free(s->schema);
	s->schema = schema ? strndup(schema, len) : NULL;
	s->forgot = false;
	rehash(s);
	return s;
}

struct state *state_with_forgotten(struct state *state)
{
	struct state *s;

	if (!state->schema || state->forgot)
		return state_ref(state);
	s = copy_state(state, 0);
	s->forgot = true;
	rehash(s);
	return s;
}

struct state *state_with_role(struct state *state, const char *role, size_t len)
{
	struct state *s = copy_state(state, 0);

	free(s->role);
	s->role = role ? strndup(role, len) : NULL;
	rehash(s);
	return s;
}

const char *state_get(const struct state *state, const struct snapshot *snapshot, const char *name)
{
	const struct tracked_variable *v;
	bool found;
	uint32_t at = find(state, name, &found);

	if (found)
		return state->variables[at].value ? state->variables[at].value : "";
	v = snapshot_variable(snapshot, name, strlen(name));
	return v && v->primary_value ? v->primary_value : "";
}

/* ---- Differences ---- */

static bool is_guard(const char *name)
{
	return !strcmp(name, "tx_read_only") || !strcmp(name, "transaction_read_only");
}

static bool is_charset(const char *name)
{
	return !strcmp(name, "character_set_client") || !strcmp(name, "character_set_connection") || !strcmp(name, "character_set_results") ||
	       !strcmp(name, "collation_connection");
}

struct diff {
	struct wire_writer *w;
	const struct snapshot *snapshot;
	int server;
	bool is_replica;
	bool backslash; /* backslash is an escape on the connection as it is now */
	bool names;	      /* the four character set variables are written as one SET NAMES */
	bool charset_differs; /* one of them does */
	bool join_size;	      /* max_join_size is written */
	unsigned count;
};

static void put_text(struct wire_writer *w, const char *text)
{
	wire_put_bytes(w, text, strlen(text));
}

static void put_quoted(struct wire_writer *w, const char *text, bool backslash)
{
	wire_put_u8(w, '\'');
	for (; *text; text++) {
		if (*text == '\'' || (*text == '\\' && backslash))
			wire_put_u8(w, (uint8_t)*text);
		wire_put_u8(w, (uint8_t)*text);
	}
	wire_put_u8(w, '\'');
}

static void put_assignment(struct diff *d, const char *name, const char *value)
{
	const struct tracked_variable *v = snapshot_variable(d->snapshot, name, strlen(name));

	d->charset_differs |= d->names && (!strcmp(name, results_collation.name) || !strcmp(name, client_collation.name));
	if (!v || !v->exists[d->server] || (d->is_replica && is_guard(name)))
		return;
	if (d->names && is_charset(name)) {
		d->charset_differs = true;
		return;
	}
	d->join_size |= !strcmp(name, "max_join_size");
	d->count++;
	put_text(d->w, d->count == 1 ? "SET " : ",");
	put_text(d->w, name);
	wire_put_u8(d->w, '=');
	if (!value || (!*value && v->empty_is_null))
		put_text(d->w, "NULL");
	else if (v->is_number || (v->default_is_bare && !strcmp(value, "DEFAULT")))
		put_text(d->w, value);
	else
		put_quoted(d->w, value, d->backslash);
}

static const char *default_of(const struct snapshot *snapshot, const char *name)
{
	const struct tracked_variable *v = snapshot_variable(snapshot, name, strlen(name));

	return v ? v->primary_value : NULL;
}

/* Both lists are sorted: one merge finds what differs. */
static void walk_difference(struct diff *d, const struct state *target, const struct state *actual)
{
	uint32_t i = 0, j = 0;

	while (i < target->count || j < actual->count) {
		const struct state_variable *t = i < target->count ? &target->variables[i] : NULL;
		const struct state_variable *a = j < actual->count ? &actual->variables[j] : NULL;
		int order = !t ? 1 : !a ? -1 : strcmp(t->name, a->name);

		if (a && order > 0)
			put_assignment(d, a->name, default_of(d->snapshot, a->name));
		else if (t && (!a || order < 0 || !same_text(t->value, a->value)))
			put_assignment(d, t->name, t->value);
		i += order <= 0;
		j += order >= 0;
	}
}

static void put_setting(struct diff *d, const char *name, const char *value)
{
	put_text(d->w, name);
	put_text(d->w, value);
}

/* SET NAMES gives the client's and the results' sides the collation too, which single assignments do not. They differ only where one of
 * them was named alone since, and then that one has its default: NAMES says the other. What is different is set behind it. */
static void put_names(struct diff *d, const struct state *target)
{
	const char *client = state_get(target, d->snapshot, "character_set_client");
	const char *charset = state_get(target, d->snapshot, "character_set_connection");
	const char *connection = state_get(target, d->snapshot, "collation_connection");
	const char *results = state_get(target, d->snapshot, "character_set_results");
	const char *clients = state_get(target, d->snapshot, client_collation.name);
	const char *collation = state_get(target, d->snapshot, results_collation.name);
	bool by_client = *clients && strcmp(clients, collation);
	const char *names = by_client ? client : results;

	if (by_client)
		collation = clients;
	put_text(d->w, d->count++ ? "," : "SET ");
	put_setting(d, "NAMES ", names);
	if (*collation)
		put_setting(d, " COLLATE ", collation);
	if (by_client)
		put_setting(d, ",character_set_results=", *results ? results : "NULL");
	else if (strcmp(client, results) || strcmp(clients, collation))
		put_setting(d, ",character_set_client=", client);
	if (*connection && (strcmp(charset, names) || strcmp(connection, collation)))
		put_setting(d, ",collation_connection=", connection);
}

unsigned state_put_set(struct wire_writer *w, const struct state *target, const struct state *actual, const struct snapshot *snapshot,
		       int server, bool is_replica)
{
	bool backslash = !strstr(state_get(actual, snapshot, "sql_mode"), "NO_BACKSLASH_ESCAPES");
	struct diff d = { .w = w, .snapshot = snapshot, .server = server, .is_replica = is_replica, .backslash = backslash };

	d.names = *state_get(target, snapshot, "character_set_results") || *state_get(target, snapshot, client_collation.name);
	walk_difference(&d, target, actual);
	if (d.join_size) /* setting it sets this one too, which no tracker reports */
		put_assignment(&d, "sql_big_selects", state_get(target, snapshot, "sql_big_selects"));
	if (d.charset_differs)
		put_names(&d, target);
	return d.count;
}

struct sql_context state_sql_context(const struct state *state, const struct snapshot *snapshot, bool multi_statements)
{
	const char *mode = state_get(state, snapshot, "sql_mode");
	const char *charset = state_get(state, snapshot, "character_set_client");
	int primary = snapshot->primary >= 0 ? snapshot->primary : 0;

	return (struct sql_context){
		.flavour = snapshot->servers[primary].flavour,
		.version = snapshot->servers[primary].version ? snapshot->servers[primary].version : 101100,
		.charset = sql_charset_of(charset, strlen(charset)),
		.utf8 = !strncmp(charset, "utf8", 4),
		.ansi_quotes = strstr(mode, "ANSI_QUOTES") != NULL,
		.no_backslash_escapes = strstr(mode, "NO_BACKSLASH_ESCAPES") != NULL,
		.oracle = strstr(mode, "ORACLE") != NULL,
		.multi_statements = multi_statements,
	};
}
