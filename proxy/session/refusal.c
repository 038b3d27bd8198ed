/*
 * What a statement's connection tells before its own reply: that a change in front of it was refused, or an ERR that its client need not see,
 * because another connection may answer.
 */
#include "proxy/session/turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proxy/session/named.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/worker.h"

void turn_keep_error(struct turn *turn, const struct wire_err *err)
{
	if (turn->fit_code)
		return;
	turn->fit_code = err->code;
	memcpy(turn->fit_state, err->sqlstate[0] ? err->sqlstate : "HY000", sizeof(turn->fit_state));
	turn->fit_message = strndup((const char *)err->message.data, err->message.len);
}

void turn_swallowed_error(struct turn *turn, struct backend *backend, const struct expect *expect, const struct wire_err *err)
{
	struct expect *last;

	if (turn->backend != backend)
		return;
	turn_keep_error(turn, err);
	if (err->code == ER_MAX_PREPARED_STMT_COUNT_REACHED)
		fit_too_many_prepared(backend);
	if (expect->what == EXPECT_FIT)
		backend->broken = true;
	else if (turn->named)
		named_drop_place(turn->named, backend);
	last = backend_last_expect(backend);
	if (turn->wait == WAIT_REPLY && last && last->what == EXPECT_FORWARD) {
		last->what = EXPECT_DROP; /* it ran in the wrong state, or did not run: whatever it says is not for the client */
		turn->retry = true;
	}
}

/* A change was refused: elsewhere it may work; on the primary the refusal is the truth. */
static void fit_refused(struct turn *t)
{
	struct backend *b = t->backend;
	struct client *c = t->client;
	bool elsewhere = b->is_replica && t->is_read && !client_needs_backend(c, b);
	bool again = t->fit_code == ER_MAX_PREPARED_STMT_COUNT_REACHED && t->tries < TURN_MAX_TRIES; /* room was made for it */
	char message[512];

	snprintf(message, sizeof(message), "%s", t->fit_message ? t->fit_message : "");
	if (b->broken) {
		bool held = client_dies_with(c, b);

		client_detach(c, b);
		backend_leave(b, "a state change was refused");
		if (held) {
			client_fatal(c, t->fit_code, t->fit_state, message);
			return;
		}
	}
	if (elsewhere || again) {
		t->on_primary |= !again;
		turn_reroute(t);
	} else {
		turn_fail(t, t->fit_code, t->fit_state, "%s", message);
	}
}

void turn_swallowed(struct turn *turn, struct backend *backend, const struct expect *expect)
{
	if (turn->backend != backend || (expect->what != EXPECT_FIT && expect->what != EXPECT_PREPARE &&
					 expect->what != EXPECT_RESTORE))
		return;
	if (turn->pending)
		turn->pending--;
	if (turn->pending || turn->wait != WAIT_FIT)
		return;
	if (turn->fit_code)
		fit_refused(turn);
	else
		turn_advance(turn);
}

void turn_dropped(struct backend *backend)
{
	struct client *c = backend->client;
	struct turn *t = c ? c->turn : NULL;

	if (!t || t->backend != backend) {
		if (!c)
			pool_give(backend);
		return;
	}
	if (!t->retry)
		return;
	if (t->demoted) {
		t->demoted = false;
		t->backend = NULL;
		worker_retry_later(c->worker, t);
		return;
	}
	if (t->fit_code) {
		fit_refused(t);
		return;
	}
	turn_reroute(t);
}

static bool may_be_lag(uint16_t code)
{
	switch (code) {
	case ER_NO_SUCH_TABLE:
	case ER_BAD_DB_ERROR:
	case ER_BAD_FIELD_ERROR:
	case ER_SP_DOES_NOT_EXIST:
	case ER_VIEW_INVALID:
	case ER_TRG_DOES_NOT_EXIST:
	case ER_DBACCESS_DENIED_ERROR:
	case ER_TABLEACCESS_DENIED_ERROR:
	case ER_COLUMNACCESS_DENIED_ERROR:
	case ER_PROCACCESS_DENIED_ERROR:
		return true;
	default:
		return false;
	}
}

/* As a first answer these say that the statement did not run. */
static bool did_not_run(uint16_t code)
{
	return code == ER_CLIENT_INTERACTION_TIMEOUT || code == ER_CONNECTION_KILLED || code == ER_SERVER_SHUTDOWN;
}

static bool is_read_only_refusal(const struct wire_err *err)
{
	static const char needle[] = "read-only";

	return err->code == ER_READ_ONLY_MODE ||
	       (err->code == ER_OPTION_PREVENTS_STATEMENT &&
		memmem(err->message.data, err->message.len, needle, sizeof(needle) - 1));
}

static bool replica_refused(const struct turn *t, const struct wire_err *err)
{
	if (err->code == ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION) {
		route_learn_write(t->meaning->digest);
		return true;
	}
	return may_be_lag(err->code) || is_read_only_refusal(err);
}

/* A primary refused to write that is moving: the statement can wait for the next one, with what can be asked for. */
static bool may_follow_primary(const struct client *c, const struct backend *b)
{
	return !client_needs_backend(c, b) || !(c->trx == b || c->cursor_at == b || c->uvars_fixed || (c->pinned == b && client_is_stuck(c)));
}

bool turn_refused(struct turn *turn, struct backend *backend, const struct wire_err *err)
{
	struct client *c = turn->client;
	bool refuses = !backend->is_replica && is_read_only_refusal(err);
	bool bound = refuses ? !may_follow_primary(c, backend) : client_needs_backend(c, backend);

	if (bound && refuses && !turn->retry && !c->upload.active && replay_refused(turn))
		return turn->retry = true;
	if (turn->passed || bound || turn->retry || c->upload.active)
		return turn->retry;
	if (err->code == ER_MAX_PREPARED_STMT_COUNT_REACHED && turn->tries < TURN_MAX_TRIES) {
		fit_too_many_prepared(backend);
		turn->retry = true;
	} else if (backend->is_replica && replica_refused(turn, err)) {
		turn->on_primary = true;
		turn->retry = true;
	} else if (did_not_run(err->code)) {
		backend->retire = true;
		turn->retry = true;
	} else if (refuses && !turn->is_read) {
		/* Single statement outside a transaction: it changed nothing. The primary may be moving. */
		cluster_suspect(c->worker->shared->cluster, backend->server);
		turn->demoted = turn->retry = !turn->give_up_ms || clock_ms() < turn->give_up_ms;
	}
	return turn->retry;
}

bool turn_in_read_only_block(const struct turn *turn, const struct backend *backend, const struct wire_err *err)
{
	return backend->is_replica && is_read_only_refusal(err) && client_needs_backend(turn->client, backend);
}

struct statement *turn_prepared(struct turn *turn, struct backend *backend, const struct wire_prepared *prepared)
{
	struct client *c = turn->client;
	struct statement *s = statement_add(&c->statements, turn->text, turn->text_len, turn->meaning, c->value,
					    c->worker->snapshot);
	uint32_t slot;

	if (!s) {
		client_close(c, "out of memory");
		return NULL;
	}
	c->asks_binary |= (turn->meaning->facts & SQL_F_READS_LAST) != 0;
	s->params = prepared->params;
	s->columns = prepared->columns;
	slot = fit_prepare_slot(backend, s->key);
	if (slot != PREPARED_NONE)
		backend->statements.slots[slot].id = prepared->id;
	turn->passed = true;
	return s;
}

void turn_saw_ok(struct turn *turn, const struct wire_ok *ok, bool ends_rows, uint64_t rows)
{
	struct client *c = turn->client;

	turn->row_count = ends_rows ? -1 : (int64_t)ok->affected_rows;
	turn->found_rows = ends_rows ? rows : turn->found_rows;

	turn->saw_rows |= ends_rows;
	turn->warnings = (uint16_t)(turn->warnings | ok->warnings); /* of several results any */
	if (ok->insert_id) {
		c->has_last_id = turn->backend->has_last_id = true;
		c->last_id_at = turn->backend;
		c->last_id_lost = false;
	}
	if (turn->statement) {
		turn->cursor_open = (ok->status & SERVER_STATUS_CURSOR_EXISTS) && !(ok->status & SERVER_STATUS_LAST_ROW_SENT);
	}
}
