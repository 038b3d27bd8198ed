/* What a command is: one row a command byte, a small function where a row is not enough. */
#include <stdio.h>
#include <string.h>

#include "proxy/session/execute.h"
#include "proxy/session/named.h"
#include "proxy/session/parts.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"
#include "sql/recall.h"

static const struct sql_meaning means_primary = { .verb = SQL_OTHER, .target = SQL_TO_PRIMARY, .digest = 1 };
static const struct sql_meaning means_read = { .verb = SQL_SHOW, .target = SQL_TO_REPLICA, .digest = 1 };
static const struct sql_meaning means_held = { .verb = SQL_USE, .target = SQL_TO_HELD, .digest = 1 };
static const struct sql_meaning means_opaque = { .verb = SQL_OTHER, .target = SQL_TO_PRIMARY, .digest = 1, .facts = SQL_F_OPAQUE };
static const struct sql_meaning means_long = { .verb = SQL_OTHER, .target = SQL_TO_PRIMARY, .digest = 1, .facts = SQL_F_TOO_LONG };

static size_t payload_len(const struct turn *t)
{
	return t->packet_len - WIRE_HEADER_BYTES;
}

static void look_for_timeout(struct turn *t)
{
	if (t->meaning->facts & (SQL_F_SESSION_STATE_READ | SQL_F_READS_UVAR) || t->meaning->verb == SQL_SHOW)
		t->shows_timeout = turn_text_has(t, "wait_timeout") || (t->meaning->verb == SQL_SHOW && turn_text_has(t, "variables"));
}

static void judge_text(struct turn *t)
{
	struct client *c = t->client;

	t->text = (const char *)t->packet + WIRE_HEADER_BYTES + 1;
	t->text_len = payload_len(t) - 1;
	if (c->upload.active) {
		t->meaning = &means_long;
		return;
	}
	sql_recall_classify(c->worker->recall, &c->sql, t->text, t->text_len, &t->own);
	t->meaning = &t->own;
	t->is_read = t->own.target == SQL_TO_REPLICA && !(t->own.facts & SQL_F_SETS_UVAR);
	look_for_timeout(t);
}

bool turn_set_text(struct turn *turn, const char *text, size_t len)
{
	if (!turn_grow(turn, len + 5))
		return false;
	wire_put_header(turn->packet, (uint32_t)len + 1, 0);
	memcpy(turn->packet + 5, text, len);
	turn->packet_len = len + 5;
	turn->text = (const char *)turn->packet + 5;
	turn->text_len = len;
	return true;
}

void turn_judge_again(struct turn *turn)
{
	sql_classify(&turn->client->sql, turn->text, turn->text_len, &turn->own);
	turn->is_read = turn->own.target == SQL_TO_REPLICA && !(turn->own.facts & SQL_F_SETS_UVAR);
}

/* It means what it executes. A question about the last statement is not put into words of its own: it stays where it was prepared. */
static void judge_execute(struct turn *t)
{
	struct named *n = named_find(t->client, t->text + t->meaning->name.at, t->meaning->name.len);
	uint64_t using = t->meaning->facts | (t->meaning->has_using ? SQL_F_READS_UVAR : 0);

	if (!n)
		return;
	if (!n->text)
		t->own.facts |= SQL_F_OPAQUE;
	if (!n->text || n->meaning.facts & SQL_F_READS_LAST)
		return;
	t->named = n;
	t->is_read = named_is_read(t->client, n, t->meaning);
	t->own = n->meaning;
	t->own.facts |= using & SQL_F_FUNCTIONS ? using | SQL_F_MANY_FUNCTIONS : using;
	t->text = n->text;
	t->text_len = n->len;
	look_for_timeout(t);
}

static void judge_prepare(struct turn *t)
{
	if (named_sets_variables(t->client, t->meaning, t->text))
		t->own.facts |= SQL_F_READS_UVAR | SQL_F_SETS_UVAR;
}

static void judge_deallocate(struct turn *t)
{
	struct named *n = named_find(t->client, t->text + t->meaning->name.at, t->meaning->name.len);

	t->named = n && n->text ? n : NULL;
}

static void judge_named(struct turn *t)
{
	if (t->meaning->facts & SQL_F_MULTI)
		return;
	if (t->meaning->verb == SQL_EXECUTE)
		judge_execute(t);
	else if (t->meaning->verb == SQL_PREPARE)
		judge_prepare(t);
	else if (t->meaning->verb == SQL_DEALLOCATE)
		judge_deallocate(t);
}

/* KILL of one of our sessions: no server knows its number. */
static bool kills_session(struct turn *t)
{
	const struct sql_meaning *m = t->meaning;

	if (m->verb != SQL_KILL || m->kill_id < 0x80000000u || m->kill_id > UINT32_MAX || m->kill_query_id)
		return false;
	kill_session(t, (uint32_t)m->kill_id, m->kill_query);
	return true;
}

/* False: it has ended. */
static bool judge_parts(struct turn *t)
{
	enum parts_cut cut = parts_judge(t);

	if (cut == PARTS_CUT)
		judge_text(t);
	return cut != PARTS_LOST;
}

static bool on_query(struct turn *t)
{
	judge_text(t);
	t->reply = REPLY_RESULT;
	if ((t->meaning->facts & SQL_F_MULTI || t->client->parts) && !judge_parts(t))
		return false;
	if (t->meaning->verb == SQL_EXECUTE || t->meaning->verb == SQL_DEALLOCATE || t->meaning->verb == SQL_PREPARE)
		judge_named(t);
	return !kills_session(t);
}

static bool on_prepare(struct turn *t)
{
	judge_text(t);
	t->reply = REPLY_PREPARE;
	return true;
}

static bool on_quit(struct turn *t)
{
	client_close(t->client, "quit");
	return false;
}

static bool on_ping(struct turn *t)
{
	t->client->row_count = 0;
	t->client->last_gone = true;
	turn_ok(t);
	return false;
}

static bool on_process_kill(struct turn *t)
{
	uint32_t id;

	if (payload_len(t) < 5) {
		turn_fail(t, ER_MALFORMED_PACKET, "HY000", "Malformed communication packet");
		return false;
	}
	id = (uint32_t)t->packet[5] | (uint32_t)t->packet[6] << 8 | (uint32_t)t->packet[7] << 16 | (uint32_t)t->packet[8] << 24;
	if (id < 0x80000000u)
		return true;
	kill_session(t, id, false);
	return false;
}

static bool on_change_user(struct turn *t)
{
	struct client *c = t->client;
	uint8_t copy[4096];
	size_t len = payload_len(t);

	if (len > sizeof(copy)) {
		client_fatal(c, ER_MALFORMED_PACKET, "HY000", "Malformed communication packet");
		return false;
	}
	memcpy(copy, t->packet + WIRE_HEADER_BYTES, len);
	secret_wipe(t->packet, t->packet_len);
	c->turn = NULL;
	turn_free(t);
	login_change_user(c, copy, len);
	secret_wipe(copy, len);
	return false;
}

static bool on_reset_connection(struct turn *t)
{
	struct client *c = t->client;
	const struct snapshot *s = c->worker->snapshot;
	bool mysql = s->primary >= 0 && s->servers[s->primary].flavour == SQL_MYSQL; /* see backend_reset */
	struct state *fresh = state_new(s, -1, mysql ? 0 : c->charset, c->value->schema);
	struct state *same_role = c->value->role ? state_with_role(fresh, c->value->role, strlen(c->value->role)) : state_ref(fresh);
	struct state *value = mysql ? state_ref(same_role) : state_with_forgotten(same_role);

	c->awaits = fresh->awaits;
	client_forget_session(c); /* all but schema and role */
	client_set_value(c, value);
	state_unref(value);
	state_unref(same_role);
	state_unref(fresh);
	turn_ok(t);
	return false;
}

static bool on_set_option(struct turn *t)
{
	struct client *c = t->client;

	if (payload_len(t) < 3 || t->packet[5] > 1) {
		turn_fail(t, ER_UNKNOWN_COM_ERROR, "08S01", "Unknown command");
		return false;
	}
	c->multi_statements = t->packet[5] == 0;
	client_digest_value(c);
	turn_ok(t);
	return false;
}

/* ---- Prepared statements ---- */

static uint32_t statement_id(const struct turn *t)
{
	const uint8_t *p = t->packet + WIRE_HEADER_BYTES + 1;

	if (payload_len(t) < 5)
		return 0;
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool find_statement(struct turn *t, const char *caller)
{
	struct statement *s = t->task == TASK_REPLAY ? t->statement : statement_find(&t->client->statements, statement_id(t));

	if (!s) {
		turn_fail(t, ER_UNKNOWN_STMT_HANDLER, "HY000", "Unknown prepared statement handler (%u) given to %s", statement_id(t), caller);
		return false;
	}
	t->statement = s;
	t->meaning = &s->meaning;
	t->text = s->text;
	t->text_len = s->len;
	look_for_timeout(t);
	return true;
}

static bool on_execute(struct turn *t)
{
	if (!find_statement(t, "mysqld_stmt_execute"))
		return false;
	if (!execute_note_types(t)) {
		turn_fail(t, ER_MALFORMED_PACKET, "HY000", "Malformed communication packet");
		return false;
	}
	t->is_read = t->meaning->target == SQL_TO_REPLICA && !(t->meaning->facts & SQL_F_SETS_UVAR) && !t->statement->opened &&
		     t->command == COM_STMT_EXECUTE;
	t->reply = REPLY_RESULT;
	return !kills_session(t);
}

static bool on_fetch(struct turn *t)
{
	if (!find_statement(t, "mysqld_stmt_fetch"))
		return false;
	t->reply = REPLY_ROWS;
	if (t->statement->opened)
		return true;
	turn_fail(t, ER_STMT_HAS_NO_OPEN_CURSOR, "HY000", "The statement (%u) has no open cursor", t->statement->id);
	return false;
}

static bool on_stmt_reset(struct turn *t)
{
	if (!find_statement(t, "mysqld_stmt_reset"))
		return false;
	t->reply = REPLY_ONE;
	if (t->statement->opened)
		return true;
	turn_ok(t);
	return false;
}

/* What the server keeps for it is kept for the next that prepares the same, unless a cursor or data is in the way. */
static bool on_stmt_close(struct turn *t)
{
	struct statement *s = statement_find(&t->client->statements, statement_id(t));

	t->no_reply = true;
	if (s) {
		if (s->opened)
			statement_abandon(t->client, s);
		statement_remove(&t->client->statements, s);
	}
	turn_ok(t);
	return false;
}

static bool on_long_data(struct turn *t)
{
	t->no_reply = true;
	t->statement = statement_find(&t->client->statements, statement_id(t));
	if (!t->statement) { /* the protocol has no answer to this one; the EXECUTE will say it */
		turn_ok(t);
		return false;
	}
	t->meaning = &t->statement->meaning;
	t->text = t->statement->text;
	t->text_len = t->statement->len;
	return true;
}

/* ---- The table ---- */

struct command {
	const struct sql_meaning *meaning; /* what it means for routing, where no text says it */
	enum reply_kind reply;
	bool is_read;
	bool (*understand)(struct turn *t); /* false: dealt with */
};

static const struct command commands[256] = {
	[COM_QUIT] = { &means_held, REPLY_ONE, false, on_quit },
	[COM_INIT_DB] = { &means_held, REPLY_ONE, false, NULL },
	[COM_QUERY] = { &means_primary, REPLY_RESULT, false, on_query },
	[COM_FIELD_LIST] = { &means_read, REPLY_FIELDS, true, NULL },
	[COM_REFRESH] = { &means_primary, REPLY_ONE, false, NULL },
	[COM_SHUTDOWN] = { &means_primary, REPLY_ONE, false, NULL },
	[COM_STATISTICS] = { &means_primary, REPLY_TEXT, false, NULL },
	[COM_PROCESS_INFO] = { &means_primary, REPLY_RESULT, false, NULL },
	[COM_PROCESS_KILL] = { &means_primary, REPLY_ONE, false, on_process_kill },
	[COM_DEBUG] = { &means_primary, REPLY_ONE, false, NULL },
	[COM_PING] = { &means_held, REPLY_ONE, false, on_ping },
	[COM_CHANGE_USER] = { &means_held, REPLY_ONE, false, on_change_user },
	[COM_BINLOG_DUMP] = { &means_opaque, REPLY_STREAM, false, NULL },
	[COM_BINLOG_DUMP_GTID] = { &means_opaque, REPLY_STREAM, false, NULL },
	[COM_REGISTER_SLAVE] = { &means_opaque, REPLY_ONE, false, NULL },
	[COM_STMT_PREPARE] = { &means_primary, REPLY_PREPARE, false, on_prepare },
	[COM_STMT_EXECUTE] = { &means_primary, REPLY_RESULT, false, on_execute },
	[COM_STMT_BULK_EXECUTE] = { &means_primary, REPLY_RESULT, false, on_execute },
	[COM_STMT_SEND_LONG_DATA] = { &means_primary, REPLY_ONE, false, on_long_data },
	[COM_STMT_CLOSE] = { &means_held, REPLY_ONE, false, on_stmt_close },
	[COM_STMT_RESET] = { &means_primary, REPLY_ONE, false, on_stmt_reset },
	[COM_SET_OPTION] = { &means_held, REPLY_ONE, false, on_set_option },
	[COM_STMT_FETCH] = { &means_primary, REPLY_ROWS, false, on_fetch },
	[COM_RESET_CONNECTION] = { &means_held, REPLY_ONE, false, on_reset_connection },
};

bool turn_understand(struct turn *turn)
{
	const struct command *command;

	if (payload_len(turn) == 0) {
		turn_fail(turn, ER_MALFORMED_PACKET, "HY000", "Malformed communication packet");
		return false;
	}
	turn->command = turn->packet[WIRE_HEADER_BYTES];
	command = &commands[turn->command];
	if (!command->meaning) {
		turn->meaning = &means_primary;
		turn_fail(turn, ER_UNKNOWN_COM_ERROR, "08S01", "Unknown command");
		return false;
	}
	turn->meaning = command->meaning;
	turn->reply = (uint8_t)command->reply;
	turn->is_read = command->is_read;
	return !command->understand || command->understand(turn);
}
