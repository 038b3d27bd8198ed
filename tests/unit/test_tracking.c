/* What the end of a reply tells of a session: variables, schema, transaction, positions; and what of it the client hears. */
#include "proxy/session/tracking.h"

#include <stdlib.h>
#include <string.h>

#include <CUnit/CUnit.h>

#include "proxy/settings.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

void suite_tracking(void);

/* Sorted by name. */
#define OF(of, value) .name = (char *)(of), .primary_value = (char *)(value), .exists = { true, true }, .same_default = { true, true }
static struct tracked_variable variables[] = {
	{ OF("autocommit", "ON") },
	{ OF("character_set_connection", "utf8mb4") },
	{ OF("collation_connection", "utf8mb4_general_ci") },
	{ OF("max_join_size", "18446744073709551615"), .is_number = true },
	{ OF("sql_big_selects", "ON") },
	{ OF("sql_mode", "") },
	{ OF("tx_isolation", "REPEATABLE-READ") },
	{ OF("tx_read_only", "OFF") },
	{ OF("wait_timeout", "28800"), .is_number = true },
};
static struct settings settings;
static struct snapshot cluster = {
	.server_count = 2,
	.primary = 0,
	.servers = { { .role = ROLE_PRIMARY, .version = 101100 }, { .role = ROLE_REPLICA, .version = 101100 } },
	.variables = variables,
	.variable_count = sizeof(variables) / sizeof(variables[0]),
};
static struct shared shared;
static struct worker worker = { .snapshot = &cluster, .shared = &shared };
static struct server primary, replica;
static struct client session;
static struct backend backend;
static struct turn turn;
static uint8_t memory[512];
static struct wire_writer track;

static void begin(void)
{
	memset(&session, 0, sizeof(session));
	memset(&backend, 0, sizeof(backend));
	memset(&turn, 0, sizeof(turn));
	memset(&primary, 0, sizeof(primary));
	memset(&replica, 0, sizeof(replica));
	settings.proxy.read_your_writes = RYW_SESSION;
	cluster.settings = &settings;
	session.worker = &worker;
	session.value = state_new(&cluster, -1, 0, "work");
	session.status = SERVER_STATUS_AUTOCOMMIT;
	backend.worker = &worker;
	backend.server = &primary;
	backend.value = state_ref(session.value);
	track = wire_writer(memory, sizeof(memory));
}

static void end(void)
{
	free(session.seen);
	state_unref(session.value);
	state_unref(backend.value);
	for (size_t i = 0; i < sizeof(worker.states) / sizeof(worker.states[0]); i++) {
		state_unref(worker.states[i]);
		worker.states[i] = NULL;
	}
}

/* `value` NULL: not a variable, but the schema `name`. */
static void put(const char *name, const char *value)
{
	size_t name_len = strlen(name), value_len = value ? strlen(value) : 0;

	wire_put_u8(&track, value ? SESSION_TRACK_SYSTEM_VARIABLES : SESSION_TRACK_SCHEMA);
	wire_put_lenenc(&track, name_len + 1 + (value ? value_len + 1 : 0));
	wire_put_lenenc_bytes(&track, name, name_len);
	if (value)
		wire_put_lenenc_bytes(&track, value, value_len);
}

static void adopt(uint16_t status, bool own)
{
	struct wire_ok ok = { .status = status, .track = { memory, track.len } };

	(own ? tracking_adopt_probe : tracking_adopt)(&session, &backend, &ok);
	track = wire_writer(memory, sizeof(memory));
}

static const char *value_of(const struct state *state, const char *name)
{
	return state_get(state, &cluster, name);
}

static void test_status(void)
{
	begin();
	adopt(SERVER_STATUS_IN_TRANS | SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_PTR_EQUAL(session.trx, &backend);
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_PTR_NULL(session.trx);
	adopt(SERVER_STATUS_IN_TRANS, true); /* a probe's answer tells of it as well */
	CU_ASSERT_PTR_EQUAL(session.trx, &backend);
	CU_ASSERT_EQUAL(session.status, SERVER_STATUS_IN_TRANS);
	CU_ASSERT_EQUAL(backend.status, SERVER_STATUS_IN_TRANS);
	end();
}

static void test_variables(void)
{
	begin();
	put("sql_mode", "ANSI_QUOTES");
	put("unheard_of", "x");
	put("tx_read_only", "ON");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "sql_mode"), "ANSI_QUOTES");
	CU_ASSERT_PTR_EQUAL(session.value, backend.value); /* one value for both */
	CU_ASSERT_TRUE(session.sql.ansi_quotes && session.is_read_only);
	CU_ASSERT_FALSE(backend.guard_lost);
	put("tx_isolation", "SERIALIZABLE");
	put("wait_timeout", "1000");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_TRUE(session.is_serializable && backend.shows_timeout);
	CU_ASSERT_EQUAL(session.wait_timeout_s, 1000);
	CU_ASSERT_EQUAL(session.wait_timeout_ms, 1000000);
	backend.is_replica = true;
	put("tx_read_only", "OFF");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_TRUE(backend.guard_lost); /* what keeps a replica's connection from writing has been set back */
	end();
}

static void test_implied(void)
{
	begin();
	put("collation_connection", "latin1_bin");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "character_set_connection"), "latin1");
	CU_ASSERT_FALSE(session.collation_unknown);
	put("character_set_connection", "utf8mb4");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_TRUE(session.collation_unknown);
	put("max_join_size", "5");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "sql_big_selects"), "OFF");
	tracking_adopt_value(&session, &backend, "max_join_size", (struct wire_bytes){ (const uint8_t *)"18446744073709551615", 20 });
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "sql_big_selects"), "ON");
	end();
}

/* The session has another value than the connection, which says what it has had all the time. */
static void test_own_question(void)
{
	struct state *mine;

	begin();
	mine = state_with_variable(session.value, &cluster, (struct wire_bytes){ (const uint8_t *)"sql_mode", 8 },
				   (struct wire_bytes){ (const uint8_t *)"ORACLE", 6 });
	client_set_value(&session, mine);
	state_unref(mine);
	put("sql_mode", "");
	adopt(SERVER_STATUS_AUTOCOMMIT, true);
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "sql_mode"), "ORACLE");
	put("sql_mode", "ANSI"); /* that is news: the statement in front of it has set it */
	adopt(SERVER_STATUS_AUTOCOMMIT, true);
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "sql_mode"), "ANSI");
	CU_ASSERT_STRING_EQUAL(value_of(backend.value, "sql_mode"), "ANSI");
	end();
}

static void test_for_one_statement(void)
{
	static const struct sql_meaning statement = { .verb = SQL_SELECT, .facts = SQL_F_SET_STATEMENT };

	begin();
	session.turn = &turn;
	turn.meaning = &statement;
	put("sql_mode", "ANSI");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_STRING_EQUAL(value_of(session.value, "sql_mode"), "");
	CU_ASSERT_EQUAL(turn.reported_count, 0);
	turn.meaning = &(struct sql_meaning){ .verb = SQL_SET };
	for (int i = 0; i < TURN_REPORTED_MAX + 1; i++)
		put("sql_mode", "ANSI");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_EQUAL(turn.reported_count, TURN_REPORTED_MAX);
	CU_ASSERT_EQUAL(turn.reported[0], tracking_name_hash("sql_mode"));
	end();
}

static void test_schema(void)
{
	begin();
	put("other", NULL);
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_STRING_EQUAL(session.value->schema, "other");
	CU_ASSERT_PTR_EQUAL(backend.schema_slot, shared_schema(&shared, "other", 5));
	put("", NULL); /* it was dropped */
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_PTR_NULL(session.value->schema);
	CU_ASSERT_PTR_NULL(backend.schema_slot);
	put("mysql", NULL);
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_TRUE(session.reads_stay);
	end();
}

static void test_tokens(void)
{
	struct gtid_set want;

	begin();
	CU_ASSERT_TRUE(token_satisfied(&session, &replica));
	token_note_read(&session, &backend);
	CU_ASSERT_TRUE(session.token_unknown);
	put("last_gtid", "0-1-7");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_FALSE(session.token_unknown);
	CU_ASSERT_FALSE(token_satisfied(&session, &replica));
	token_wanted(&session, &want);
	CU_ASSERT_FALSE(gtid_board_covers(&replica.applied, &want));
	gtid_board_raise(&replica.applied, &want);
	CU_ASSERT_TRUE(token_satisfied(&session, &replica));
	CU_ASSERT_TRUE(gtid_board_covers(&primary.acknowledged, &want)); /* what a failover must not lose */
	backend.is_replica = true;
	backend.server = &replica;
	token_note_read(&session, &backend);
	CU_ASSERT_PTR_EQUAL(session.read_at, &replica);
	token_learned(&session, &want);
	CU_ASSERT_PTR_NULL(session.read_at);
	settings.proxy.read_your_writes = RYW_OFF;
	put("last_gtid", "0-1-9");
	adopt(SERVER_STATUS_AUTOCOMMIT, false);
	CU_ASSERT_TRUE(token_satisfied(&session, &replica));
	end();
}

static void test_what_the_client_hears(void)
{
	static const struct {
		uint64_t capabilities;
		unsigned entries;
	} rows[] = { { 0, 0 }, { CLIENT_SESSION_TRACK, 2 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wire_ok ok = { .status = SERVER_STATUS_AUTOCOMMIT | SERVER_SESSION_STATE_CHANGED };
		struct wire_track_iter it;
		struct wire_track_entry e;
		uint8_t left[256];
		unsigned n = 0;

		begin();
		session.capabilities = rows[i].capabilities;
		put("sql_mode", "ANSI"); /* not among those that a server tells of by default */
		put("autocommit", "OFF");
		put("last_gtid", "0-1-7");
		put("other", NULL);
		ok.track = (struct wire_bytes){ memory, track.len };
		tracking_filter(&session, &ok, left, sizeof(left));
		for (it = wire_track_iter(ok.track); wire_track_next(&it, &e); n++)
			CU_ASSERT_TRUE(e.type == SESSION_TRACK_SCHEMA || !memcmp(e.name.data, "autocommit", e.name.len));
		CU_ASSERT_EQUAL(n, rows[i].entries);
		CU_ASSERT_EQUAL((ok.status & SERVER_SESSION_STATE_CHANGED) != 0, rows[i].entries > 0);
		end();
	}
}

void suite_tracking(void)
{
	CU_pSuite suite = CU_add_suite("tracking", NULL, NULL);

	CU_add_test(suite, "status flags", test_status);
	CU_add_test(suite, "variables", test_variables);
	CU_add_test(suite, "variables that follow from others", test_implied);
	CU_add_test(suite, "a question of our own", test_own_question);
	CU_add_test(suite, "SET STATEMENT, and what was reported", test_for_one_statement);
	CU_add_test(suite, "schema", test_schema);
	CU_add_test(suite, "tokens", test_tokens);
	CU_add_test(suite, "what the client hears", test_what_the_client_hears);
}
