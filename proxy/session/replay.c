#include "proxy/session/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/session/execute.h"
#include "proxy/session/gate.h"
#include "proxy/session/record.h"
#include "proxy/session/worker.h"

enum {
	KEEP_BYTES = 16 * 1024, /* memory that a spare record keeps */
	KEEP_SPARES = 64,
	AGAIN_MS = 20,	     /* between two looks at whether there is a primary to run it on */
	LOOK_MS = 1000,	     /* a lost connection to a primary that is still the same after this was lost alone */
	LOOK_REFUSED_MS = 300, /* the cluster watch has seen by then what the server says of itself */
};

enum replay_stage { REPLAY_RECORDING, REPLAY_LOST, REPLAY_RUNNING };

/* What the reply under way has said, in one number: the same replies make the same. */
struct heard {
	XXH3_state_t *hash; /* of the bytes passed on; stays with a spare record */
	uint64_t bytes;	    /* that it was given; 0: it has not begun */
	uint64_t told;	    /* by its OKs and ERRs, and where among the bytes they stood */
};

struct replay {
	struct replay *next; /* spare ones */
	enum replay_stage stage;
	struct record record;
	struct heard heard;
	struct state *value; /* the session before the first statement ... */
	uint16_t status;
	char *uvars;
	struct oneshot oneshot;
	const char *impossible; /* why it cannot be run again; NULL: it can */
	bool rolled_back;	/* by the server, with an error that the client has seen */
	const struct server *server; /* where it ran; compared, never looked into */
	uint64_t epoch;
	/* LOST */
	uint64_t lost_ms;
	bool opening;	   /* in the first statement */
	bool refused;	   /* the server is there, but took no writes */
	bool whole;	   /* the session, but for the transaction, is known without the lost connection */
	struct state *after; /* the session as its client knows it */
	uint16_t after_status;
	/* RUNNING */
	struct turn *waiting; /* the client's own */
	size_t at;	      /* of the entry that is running */
	unsigned step;
};

/* ---- Life ---- */

static struct replay *new_one(void)
{
	struct replay *r = calloc(1, sizeof(*r));

	if (r && !(r->heard.hash = XXH3_createState())) {
		free(r);
		return NULL;
	}
	return r;
}

static void free_one(struct replay *r)
{
	free(r->record.bytes);
	XXH3_freeState(r->heard.hash);
	free(r);
}

static struct replay *take(struct worker *w)
{
	struct replay *r = w->spare_replays;

	if (!r)
		return new_one();
	w->spare_replays = r->next;
	w->spare_replay_count--;
	return r;
}

static void give(struct worker *w, struct replay *r)
{
	record_clear(&r->record, KEEP_BYTES);
	state_unref(r->value);
	state_unref(r->after);
	free(r->uvars);
	oneshot_clear(&r->oneshot);
	if (w->spare_replay_count >= KEEP_SPARES) {
		free_one(r);
		return;
	}
	*r = (struct replay){ .record = r->record, .heard.hash = r->heard.hash };
	r->next = w->spare_replays;
	w->spare_replays = r;
	w->spare_replay_count++;
}

void replay_free_spares(struct worker *worker)
{
	while (worker->spare_replays) {
		struct replay *r = worker->spare_replays;

		worker->spare_replays = r->next;
		free_one(r);
	}
}

void replay_drop(struct client *client)
{
	struct replay *r = client->replay;

	if (!r)
		return;
	client->replay = NULL;
	if (r->waiting)
		turn_free(r->waiting);
	give(client->worker, r);
}

void replay_each_state(struct client *client, void (*visit)(void *arg, struct state **place), void *arg)
{
	struct replay *r = client->replay;

	if (!r)
		return;
	visit(arg, &r->value);
	visit(arg, &r->after);
}

/* ---- Hearing ---- */

static void hear_number(struct heard *h, uint64_t number)
{
	h->told = (h->told ^ number) * UINT64_C(0x9E3779B97F4A7C15);
	h->told ^= h->told >> 29;
}

static void hear_text(struct heard *h, const void *text, size_t len)
{
	hear_number(h, len ? XXH3_64bits(text, len) : 0);
}

static uint64_t all_heard(const struct heard *h)
{
	struct heard all = *h;

	hear_number(&all, h->bytes ? XXH3_64bits_digest(h->hash) : 0);
	return all.told;
}

/* ---- Recording ---- */

static void shut(struct replay *r, const char *why)
{
	if (!r->impossible)
		r->impossible = why;
	record_clear(&r->record, KEEP_BYTES);
}

static const char *unfit_session(const struct client *c, const struct backend *b)
{
	if (!worker_settings(c->worker)->transaction_replay)
		return "transaction_replay is off";
	if (client_is_stuck(c))
		return "the session was bound to its connection";
	if (c->cursor_at == b)
		return "the session had a cursor open";
	return c->has_uvars && !c->uvars ? "the session's user variables were known to its connection only" : NULL;
}

/* The state before the first statement of what may become a transaction. */
static void begin(struct turn *t)
{
	struct client *c = t->client;
	struct replay *r = take(c->worker);

	if (!r)
		return;
	c->replay = r;
	r->value = state_ref(c->value);
	r->status = c->status & (uint16_t)~(SERVER_STATUS_IN_TRANS | SERVER_STATUS_IN_TRANS_READONLY);
	r->impossible = unfit_session(c, t->backend);
	if (c->has_uvars && c->uvars)
		r->uvars = strdup(c->uvars);
	if (c->pins)
		oneshot_copy(&r->oneshot, &c->pins->oneshot);
}

static bool may_open(const struct turn *t)
{
	return t->meaning->facts & SQL_F_OPENS_TRX || !(t->client->status & SERVER_STATUS_AUTOCOMMIT);
}

void replay_note_sent(struct turn *turn)
{
	struct client *c = turn->client;

	turn->recorded = false;
	if (turn->backend->is_replica || turn->task == TASK_VERIFY || turn->command == COM_STMT_PREPARE)
		return;
	if (!c->trx && turn->task != TASK_REPLAY) {
		replay_drop(c);
		if (may_open(turn))
			begin(turn);
	}
	if (!c->replay)
		return;
	turn->recorded = true;
	c->replay->server = turn->backend->server;
	c->replay->epoch = turn->backend->epoch;
	c->replay->heard.bytes = c->replay->heard.told = 0;
}

void replay_note_bytes(struct turn *turn, const uint8_t *bytes, size_t len)
{
	struct heard *h = &turn->client->replay->heard;

	if (!h->bytes)
		XXH3_64bits_reset(h->hash);
	XXH3_64bits_update(h->hash, bytes, len);
	h->bytes += len;
}

void replay_note_ok(struct turn *turn, const struct wire_ok *ok, bool ends_rows)
{
	/* The others say how it was done, not what. */
	const uint16_t telling = SERVER_STATUS_IN_TRANS | SERVER_STATUS_AUTOCOMMIT | SERVER_MORE_RESULTS_EXISTS | SERVER_STATUS_CURSOR_EXISTS |
				 SERVER_STATUS_LAST_ROW_SENT | SERVER_PS_OUT_PARAMS | SERVER_STATUS_IN_TRANS_READONLY;
	struct heard *h = &turn->client->replay->heard;

	hear_number(h, h->bytes);
	hear_number(h, (uint64_t)ends_rows << 32 | (uint64_t)(ok->status & telling) << 16 | ok->warnings);
	hear_number(h, ok->affected_rows);
	hear_number(h, ok->insert_id);
	hear_text(h, ok->info.data, ok->info.len);
}

void replay_note_err(struct turn *turn, const struct wire_err *err)
{
	struct replay *r = turn->client->replay;

	hear_number(&r->heard, r->heard.bytes);
	hear_number(&r->heard, err->code);
	hear_text(&r->heard, err->sqlstate, sizeof(err->sqlstate));
	hear_text(&r->heard, err->message.data, err->message.len);
	if (err->code == ER_LOCK_DEADLOCK)
		r->rolled_back = true;
	if (err->code == ER_LOCK_DEADLOCK || err->code == ER_LOCK_WAIT_TIMEOUT)
		shut(r, "a lock was not to be had in it");
}

/* A procedure whose body is known, and neither begins nor ends transactions. */
static bool is_tame_call(const struct turn *t)
{
	const struct sql_meaning *m = t->meaning;
	const struct routine *r = m->name.len ? snapshot_routine(t->client->worker->snapshot, t->text + m->name.at, m->name.len) : NULL;

	return r && !(r->facts & (SQL_F_ENDS_TRX | SQL_F_OPENS_TRX | SQL_F_SETS_AUTOCOMMIT | SQL_F_OPAQUE));
}

/* May it have ended the transaction, so that, with its answer lost, nobody knows what became of it? */
bool replay_may_have_ended(const struct turn *turn)
{
	const struct sql_meaning *m = turn->meaning;

	if (m->verb == SQL_CALL)
		return !is_tame_call(turn);
	return turn->is_long || m->facts & (SQL_F_ENDS_TRX | SQL_F_OPENS_TRX | SQL_F_SETS_AUTOCOMMIT | SQL_F_OPAQUE) ||
	       m->verb == SQL_EXECUTE || m->verb == SQL_OTHER;
}

static bool is_plain_begin(const struct turn *t)
{
	return t->meaning->verb == SQL_BEGIN && !(t->meaning->facts & SQL_F_MULTI);
}

static const char *unfit_statement(const struct turn *t)
{
	const uint64_t outside = SQL_F_GET_LOCK | SQL_F_RELEASE_LOCK | SQL_F_RELEASE_ALL_LOCKS | SQL_F_CREATES_TEMP | SQL_F_LOCAL_INFILE |
				 SQL_F_XA_OPEN | SQL_F_XA_CLOSE | SQL_F_SEQUENCE | SQL_F_FLUSH_LOCK | SQL_F_BACKUP_STAGE |
				 SQL_F_HANDLER_OPEN | SQL_F_PROFILING | SQL_F_UNTRACKED | SQL_F_NO_BINLOG | SQL_F_INTO;

	if (t->is_long)
		return "a statement of it was too long to be kept";
	if (t->command == COM_STMT_FETCH || t->command == COM_STMT_SEND_LONG_DATA || t->command == COM_STMT_RESET || t->cursor_open)
		return "it used a cursor or long data";
	if (replay_may_have_ended(t) && (t->failed || !is_plain_begin(t)))
		return "a statement of it may have ended one transaction and begun another";
	if (t->meaning->facts & outside || t->meaning->verb == SQL_LOCK_TABLES)
		return "it used locks, temporary tables, sequences or the like";
	return NULL;
}

static void add(struct turn *t, uint64_t hash)
{
	struct replay *r = t->client->replay;
	size_t limit = worker_settings(t->client->worker)->transaction_replay_size;
	bool added = execute_complete(t) && record_add(&r->record, t->statement, t->packet, t->packet_len, hash, limit);

	if (!added)
		shut(r, "it was longer than transaction_replay_size");
}

void replay_note_done(struct turn *turn)
{
	struct client *c = turn->client;
	const char *unfit;
	uint64_t hash;

	if (turn->task == TASK_REPLAY || turn->backend->is_replica)
		return;
	if (!c->replay) {
		begin(turn);
		if (c->replay)
			shut(c->replay, "its beginning was hidden in a statement");
		return;
	}
	if (!c->trx) {
		replay_drop(c);
		return;
	}
	hash = all_heard(&c->replay->heard);
	if (!turn->failed && is_plain_begin(turn) && c->replay->record.count + (c->replay->impossible != NULL)) { /* the end of another */
		replay_drop(c);
		begin(turn);
	}
	if (!c->replay || c->replay->impossible)
		return;
	unfit = unfit_statement(turn);
	if (unfit)
		shut(c->replay, unfit);
	else
		add(turn, hash);
}

/* ---- Losing ---- */

bool replay_is_lost(const struct client *client)
{
	return client->replay && client->replay->stage == REPLAY_LOST;
}

/* Is the session without its transaction known when this connection is gone? */
static bool is_whole(const struct client *c, const struct backend *b)
{
	return !client_is_stuck(c) && c->cursor_at != b && !(c->uvars_at == b && c->has_uvars && !c->uvars);
}

static void lose(struct client *c, bool refused)
{
	struct replay *r = c->replay;

	r->stage = REPLAY_LOST;
	r->refused = refused;
	r->lost_ms = clock_ms();
	c->moving = true;
}

/* The session's transaction is on `b`, which it will not see again. */
static void lose_connection(struct client *c, const struct backend *b, bool refused)
{
	c->replay->whole = is_whole(c, b);
	if (c->last_id_at == b)
		c->last_id_lost = c->has_last_id;
	lose(c, refused);
}

/* The first statement of a transaction, its answer not there yet: the connection's end has ended what it may have done. */
static bool is_opening(const struct client *c, const struct backend *b)
{
	const struct turn *t = c->turn;

	return !c->trx && t && t->backend == b && t->wait == WAIT_REPLY && t->recorded && !t->passed &&
	       (is_plain_begin(t) || !replay_may_have_ended(t));
}

bool replay_outlives(struct client *client, struct backend *backend)
{
	struct replay *r = client->replay;

	if (!r || client->state == CLIENT_CLOSED || client->state == CLIENT_CLOSING)
		return false;
	if (r->stage != REPLAY_RECORDING)
		return r->stage == REPLAY_RUNNING && client->trx == backend;
	if (client->trx != backend && !is_opening(client, backend))
		return false;
	if (r->impossible && !is_whole(client, backend))
		return false;
	r->opening = client->trx != backend;
	lose_connection(client, backend, false);
	return true;
}

static bool is_plain_rollback(const struct turn *t)
{
	return t->meaning->verb == SQL_ROLLBACK && !(t->meaning->facts & (SQL_F_OPENS_TRX | SQL_F_MULTI));
}

/* The transaction is over: what the session was before or after it stays, less what only it had. */
static void leave_transaction(struct client *c)
{
	struct backend *b = c->trx;

	c->status &= (uint16_t)~(SERVER_STATUS_IN_TRANS | SERVER_STATUS_IN_TRANS_READONLY);
	c->wrote = false;
	if (b) {
		client_detach(c, b);
		backend_leave(b, "its transaction is over");
	}
	replay_drop(c);
}

bool replay_takes_over(struct turn *turn, bool sent)
{
	struct client *c = turn->client;
	struct replay *r = c->replay;

	if (turn->task == TASK_REPLAY) {
		replay_interrupted(turn);
		return true;
	}
	if (!replay_is_lost(c) || turn->passed)
		return false;
	if (sent && !r->opening && replay_may_have_ended(turn) && !is_plain_rollback(turn)) {
		bool whole = r->whole;

		leave_transaction(c);
		if (!whole)
			client_fatal(c, ER_CONNECTION_KILLED, "70100",
				     "tandem: connection lost while the statement ran; whether it took effect is not known");
		return !whole;
	}
	worker_retry_later(c->worker, turn);
	return true;
}

bool replay_refused(struct turn *turn)
{
	struct client *c = turn->client;
	struct backend *b = turn->backend;
	struct replay *r = c->replay;

	if (!r || r->stage != REPLAY_RECORDING || c->trx != b || turn->passed)
		return false;
	replay_move(turn);
	return true;
}

void replay_move(struct turn *turn)
{
	struct client *c = turn->client;

	c->replay->opening = false;
	lose_connection(c, c->trx, true);
}

/* ---- Ending with an error ---- */

/* The session is as its client knows it, without the transaction. False: that cannot be, and it was ended. */
static bool restore(struct client *c, const char *message)
{
	struct replay *r = c->replay;
	bool whole = r->whole;

	if (r->after) {
		client_set_value(c, r->after);
		c->status = r->after_status;
	}
	client_pins_clear(c);
	leave_transaction(c);
	if (!whole)
		client_fatal(c, ER_CONNECTION_KILLED, "70100", message);
	return whole;
}

static void refuse(struct turn *turn, const char *why)
{
	struct client *c = turn->client;
	char message[512];

	snprintf(message, sizeof(message), "tandem: the transaction was lost with its primary and is not run again: %s; try again", why);
	log_info(&c->subject, "%s", message);
	if (restore(c, message))
		turn_fail(turn, ER_LOCK_DEADLOCK, "40001", "%s", message);
}

void replay_give_up(struct turn *turn)
{
	refuse(turn, "no primary was there within primary_wait");
}

void replay_failed(struct turn *turn, uint16_t code, const char *message)
{
	struct client *c = turn->client;
	struct replay *r = c->replay;
	struct turn *waiting = r->waiting;
	char why[400];

	snprintf(why, sizeof(why), "statement %u of it failed: %u %s", r->step, code, message);
	turn_unpark(turn);
	turn_free(turn);
	r->waiting = NULL;
	c->turn = waiting;
	refuse(waiting, why);
}

/* ---- Running again ---- */

static void leave_old(struct client *c)
{
	struct backend *b = c->trx;

	if (!b)
		return;
	client_detach(c, b);
	backend_leave(b, "its transaction runs again elsewhere");
}

/* Back to what it was before the transaction's first statement. */
static void rewind_session(struct client *c)
{
	struct replay *r = c->replay;

	if (!r->after) {
		r->after = state_ref(c->value);
		r->after_status = c->status;
	}
	leave_old(c);
	client_pins_clear(c);
	if (r->oneshot.set)
		client_set_oneshot(c, &r->oneshot);
	free(c->uvars);
	c->uvars = r->uvars ? strdup(r->uvars) : NULL;
	c->has_uvars = c->uvars != NULL;
	c->uvars_at = NULL;
	client_set_value(c, r->value);
	c->status = r->status;
	c->wrote = false;
}

static void finish(struct client *c)
{
	struct replay *r = c->replay;
	struct turn *t = r->waiting;

	log_info(&c->subject, "the transaction, %u statements, was run again on %s with the same results", r->record.count,
		 c->trx ? c->trx->server_name : "?");
	r->waiting = NULL;
	state_unref(r->after);
	r->after = NULL;
	r->stage = REPLAY_RECORDING;
	c->turn = t;
	turn_advance(t);
}

static void run_next(struct client *c)
{
	struct replay *r = c->replay;
	size_t next;
	const struct record_entry *e = record_at(&r->record, r->at, &next);

	r->step++;
	if (!e)
		finish(c);
	else
		turn_start_replay(c, e->packet, e->len, e->statement);
}

static void run(struct turn *turn)
{
	struct client *c = turn->client;
	struct replay *r = c->replay;

	rewind_session(c);
	r->stage = REPLAY_RUNNING;
	r->waiting = turn;
	r->at = 0;
	r->step = 0;
	turn->wait = WAIT_NOTHING;
	turn->backend = NULL;
	c->turn = NULL;
	run_next(c);
}

void replay_stepped(struct client *client)
{
	struct replay *r = client->replay;
	size_t next;
	const struct record_entry *e = record_at(&r->record, r->at, &next);
	struct turn *waiting = r->waiting;
	char why[80];

	if (e && e->hash == all_heard(&r->heard)) {
		r->at = next;
		run_next(client);
		return;
	}
	snprintf(why, sizeof(why), "statement %u of it had another result", r->step);
	r->waiting = NULL;
	client->turn = waiting;
	refuse(waiting, why);
}

void replay_interrupted(struct turn *turn)
{
	struct client *c = turn->client;
	struct replay *r = c->replay;
	struct turn *waiting = r->waiting;

	turn_unpark(turn);
	turn_free(turn);
	r->waiting = NULL;
	c->turn = waiting;
	leave_old(c);
	lose(c, true);
	worker_retry_later(c->worker, waiting);
}

/* ---- Waiting for where to run it ---- */

enum place { PLACE_NONE, PLACE_DOUBTFUL, PLACE_THE_SAME, PLACE_GOOD };

/* The primary that lost it may be dead without anybody having noticed yet. */
static enum place look_for_place(const struct client *c)
{
	const struct snapshot *s = c->worker->snapshot;
	const struct replay *r = c->replay;
	uint64_t age = clock_ms() - r->lost_ms;
	const struct server_view *v;

	if (s->gate != GATE_OPEN || s->primary < 0 || s->servers[s->primary].health != HEALTH_UP)
		return PLACE_NONE;
	v = &s->servers[s->primary];
	if (v->server != r->server || v->epoch > r->epoch)
		return PLACE_GOOD;
	if (r->refused)
		return age < LOOK_REFUSED_MS ? PLACE_DOUBTFUL : PLACE_GOOD;
	return age < LOOK_MS ? PLACE_DOUBTFUL : PLACE_THE_SAME;
}

static void wait_for_place(struct turn *turn)
{
	turn->backend = NULL;
	turn->again_ms = clock_ms() + AGAIN_MS;
	worker_wait_primary(turn->client->worker, turn);
}

bool replay_stops(struct turn *turn)
{
	struct client *c = turn->client;
	struct replay *r = c->replay;
	bool possible = !r->impossible;

	turn_unpark(turn);
	if (r->rolled_back || is_plain_rollback(turn)) {
		bool whole = restore(c, "tandem: connection lost with session state that cannot be restored");

		if (whole && is_plain_rollback(turn))
			turn_ok(turn);
		return !whole || is_plain_rollback(turn);
	}
	switch (possible ? look_for_place(c) : PLACE_GOOD) {
	case PLACE_GOOD:
		break;
	case PLACE_THE_SAME:
		client_fatal(c, ER_CONNECTION_KILLED, "70100", "tandem: the connection of the transaction was closed by the server");
		return true;
	default:
		wait_for_place(turn);
		return true;
	}
	if (possible)
		run(turn);
	else
		refuse(turn, r->impossible);
	return true;
}
