/*
 * Questions of Tandem's own about the session, asked on one of its connections while its statement waits: how far a server is, what SET NAMES
 * has set, what a SET did, and the COMMIT of a READ ONLY block that another transaction ends.
 */
#include "proxy/session/turn.h"

#include <string.h>

#include "proxy/session/charset.h"
#include "proxy/session/freeze.h"
#include "proxy/session/pool.h"
#include "proxy/session/tracking.h"
#include "proxy/session/worker.h"

bool turn_ask(struct turn *turn, struct backend *backend, enum capture_what what, const char *query)
{
	buf_fini(&backend->captured);
	/* The query is a SELECT, and FOUND_ROWS() then its. */
	if (turn->client->found_at == backend && turn->client->found_rows_there && !freeze_begin(backend))
		return false;
	turn->wait = WAIT_CAPTURE;
	turn->capture = (uint8_t)what;
	turn->captured_from = backend;
	client_forget_diagnostics(turn->client, backend);
	return backend_command(backend, EXPECT_CAPTURE, COM_QUERY, query, strlen(query));
}

void turn_ask_position(struct turn *turn, struct backend *backend)
{
	const struct snapshot *s = turn->client->worker->snapshot;
	bool mysql = s->servers[backend->pool->index].flavour == SQL_MYSQL;

	if (!turn_ask(turn, backend, CAPTURE_ASK, mysql ? "SELECT @@global.gtid_executed" : "SELECT @@global.gtid_current_pos"))
		backend_lost(backend, "cannot send", 0, NULL, NULL);
}

static bool first_value(struct backend *b, struct wire_bytes *value)
{
	struct wire_reader at;
	struct captured_row row;
	unsigned columns;

	if (!captured_first(&b->captured, &at, &columns) || !columns || !captured_next(&at, columns, &row))
		return false;
	*value = row.columns[0];
	return true;
}

static void position_came(struct turn *t, struct backend *b)
{
	struct wire_bytes v;
	struct gtid_set position;

	if (first_value(b, &v) && gtid_parse((const char *)v.data, v.len, &position))
		token_learned(t->client, &position);
	else
		t->on_primary = true;
	buf_fini(&b->captured);
	turn_advance(t);
}

/* Takes the references over. */
static void set_both(struct client *c, struct backend *b, struct state *mine, struct state *its)
{
	client_set_value(c, mine);
	backend_set_value(b, its);
	state_unref(mine);
	state_unref(its);
}

static void set_names(struct client *c, struct backend *b, struct wire_bytes value)
{
	struct state *mine = state_with_names(c->value, c->worker->snapshot, value);
	struct state *its = c->value == b->value ? state_ref(mine) : state_with_names(b->value, c->worker->snapshot, value);

	set_both(c, b, mine, its);
}

static void set_collation(struct client *c, struct backend *b, struct wire_bytes value)
{
	static const struct wire_bytes name = { (const uint8_t *)"collation_connection", 20 };
	struct state *mine = state_with_variable(c->value, c->worker->snapshot, name, value);
	struct state *its = c->value == b->value ? state_ref(mine) : state_with_variable(b->value, c->worker->snapshot, name, value);

	set_both(c, b, mine, its);
	c->collation_unknown = false;
	if (c->turn && turn_has_word(c->turn, "names"))
		set_names(c, b, value);
}

void turn_captured(struct turn *turn, struct backend *backend, bool failed)
{
	struct wire_bytes v;

	if (failed) {
		turn->on_primary = true;
		if (turn->capture == CAPTURE_SETTLE)
			settle_give_up(turn, backend);
		if (turn->capture == CAPTURE_END)
			turn_fail(turn, ER_UNKNOWN_ERROR, "HY000", "tandem: the READ ONLY transaction on %s could not be ended", backend->server_name);
		else if (turn->capture == CAPTURE_ASK)
			turn_advance(turn);
		else
			turn_answered(turn);
		return;
	}
	if (turn->capture == CAPTURE_ASK) {
		position_came(turn, backend);
		return;
	}
	if (turn->capture == CAPTURE_END) {
		turn_advance(turn);
		return;
	}
	if (turn->capture == CAPTURE_COLLATION && first_value(backend, &v))
		set_collation(turn->client, backend, v);
	if (turn->capture == CAPTURE_SETTLE)
		settle_came(turn, backend);
	buf_fini(&backend->captured);
	if (turn->capture == CAPTURE_SETTLE && turn_learn_collation(turn))
		return;
	turn_answered(turn);
}

/* SET NAMES and its kind: the collation is known from the character set, or has to be asked for. */
bool turn_learn_collation(struct turn *turn)
{
	struct client *c = turn->client;
	const struct charset *cs;
	const char *name;

	if (!c->collation_unknown && turn->meaning->verb != SQL_SET)
		return false;
	if (!c->collation_unknown) {
		name = state_get(c->value, c->worker->snapshot, "collation_connection");
		if (turn_has_word(turn, "names"))
			set_names(c, turn->backend, (struct wire_bytes){ (const uint8_t *)name, strlen(name) });
		return false;
	}
	if (turn->warnings) {
		c->collation_unknown = false;
		return false;
	}
	name = state_get(c->value, c->worker->snapshot, "character_set_connection");
	cs = charset_default(!strcmp(name, "utf8") ? "utf8mb3" : name, strlen(!strcmp(name, "utf8") ? "utf8mb3" : name));
	if (cs && strcmp(name, "utf8") && turn->meaning->verb == SQL_SET && turn_has_word(turn, "names") && !turn_text_has(turn, "collate") &&
	    c->sql.flavour == SQL_MARIADB && c->sql.version < 110200) {
		set_collation(c, turn->backend, (struct wire_bytes){ (const uint8_t *)cs->collation, strlen(cs->collation) });
		return false;
	}
	return turn_ask(turn, turn->backend, CAPTURE_COLLATION, "SELECT @@collation_connection");
}
