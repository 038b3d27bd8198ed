/*
 * Bytes from a server on a connection that is logged in: walked packet by packet, and each reply dealt with as the queue of expectations
 * says. Replies for the client are passed on as they come; what they tell of the session is read from their end.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/session/freeze.h"
#include "proxy/session/gate.h"
#include "proxy/session/parts.h"
#include "proxy/session/pool.h"
#include "proxy/session/replay.h"
#include "proxy/session/tracking.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* The client's socket is behind by more than this: its server is not read until it has drained. */
enum { HIGH_MARK = 256 * 1024, CAPTURE_MAX = 256 * 1024 };

static struct expect *head_expect(struct backend *b)
{
	return &b->queue[b->queue_head];
}

static void pop_expect(struct backend *b)
{
	b->queue_head = (b->queue_head + 1) & (b->queue_size - 1);
	b->queue_count--;
	b->walking = false;
}

static __attribute__((cold)) void protocol_error(struct backend *b, const char *why)
{
	log_warning(&b->subject, "%s", why);
	backend_lost(b, why, 0, NULL, NULL);
}

static __attribute__((cold)) void capture_bytes(struct backend *b, const struct walk_item *item)
{
	if (buf_len(&b->captured) + item->len > CAPTURE_MAX || !buf_append(&b->captured, item->data, item->len))
		buf_fini(&b->captured); /* too much: who reads it finds nothing */
}

/* ---- Passing on ---- */

static bool is_classic(const struct client *c)
{
	return !(c->capabilities & CLIENT_DEPRECATE_EOF);
}

/* A packet longer than the staging area, built on the heap: long tracking data for a client that asked for it. */
static __attribute__((cold)) void send_big_ok(struct client *c, const struct wire_ok *ok, uint8_t seq)
{
	size_t size = ok->info.len + ok->track.len + 256;
	uint8_t *memory = malloc(size);
	struct wire_writer w = wire_writer(memory, size);

	output_flush(&c->worker->out);
	if (!memory)
		return;
	wire_put_ok(&w, ok, c->capabilities, seq);
	io_send(&c->io, w.data, w.len);
	free(memory);
}

static void pass_eof(struct client *c, uint16_t warnings, uint16_t status, uint8_t seq)
{
	uint8_t memory[16];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_eof(&w, warnings, status & (uint16_t)~SERVER_SESSION_STATE_CHANGED, seq);
	output_begin(&c->worker->out, &c->io);
	output_bytes(&c->worker->out, w.data, w.len); /* so short that it is copied */
}

static __attribute__((noinline)) void pass_ok(struct client *c, struct wire_ok *ok, uint8_t seq)
{
	uint8_t track[2048];
	struct wire_writer w;

	output_begin(&c->worker->out, &c->io);
	tracking_filter(c, ok, track, sizeof(track));
	if (ok->info.len + ok->track.len > OUTPUT_STAGE_BYTES - 256) {
		send_big_ok(c, ok, seq);
		return;
	}
	w = output_packet(&c->worker->out, ok->info.len + ok->track.len + 64);
	wire_put_ok(&w, ok, c->capabilities, seq);
	output_packet_end(&c->worker->out, &w);
}

/* The client waits for the server to say what comes next, in the sequence that it knows. */
static __attribute__((noinline)) void pass_raw(struct client *c, const struct walk_item *item)
{
	struct wire_writer w;

	output_begin(&c->worker->out, &c->io);
	if (item->len > OUTPUT_STAGE_BYTES - 64) {
		uint8_t header[WIRE_HEADER_BYTES];

		wire_put_header(header, (uint32_t)item->len, item->seq);
		output_bytes(&c->worker->out, header, sizeof(header));
		output_bytes(&c->worker->out, item->data, item->len);
		return;
	}
	w = output_packet(&c->worker->out, item->len + WIRE_HEADER_BYTES);
	wire_begin(&w);
	wire_put_bytes(&w, item->data, item->len);
	wire_end(&w, item->seq);
	output_packet_end(&c->worker->out, &w);
}

static void pass_columns_end(struct client *c, struct backend *b, const struct walk_item *item)
{
	/* The status is that of the reply before: a cursor of that one would make the client read no rows of this one. */
	const uint16_t not_lasting = SERVER_SESSION_STATE_CHANGED | SERVER_MORE_RESULTS_EXISTS | SERVER_STATUS_CURSOR_EXISTS |
				     SERVER_STATUS_LAST_ROW_SENT;

	if (!is_classic(c))
		return;
	pass_eof(c, 0, b->status & (uint16_t)~not_lasting, (uint8_t)(item->seq + b->walker.seq_shift));
	b->walker.seq_shift++;
}

static __attribute__((noinline)) void pass_prepared(struct turn *t, struct backend *b, struct walk_item *item)
{
	struct wire_prepared p;
	struct statement *s;

	if (!wire_parse_prepared(item->data, item->len, &p)) {
		protocol_error(b, "malformed PREPARE_OK");
		return;
	}
	s = turn_prepared(t, b, &p);
	if (!s)
		return;
	item->data[1] = (uint8_t)s->id;
	item->data[2] = (uint8_t)(s->id >> 8);
	item->data[3] = (uint8_t)(s->id >> 16);
	item->data[4] = (uint8_t)(s->id >> 24);
	pass_raw(t->client, item);
}

static __attribute__((cold)) void pass_error(struct client *c, uint16_t code, const char *sqlstate, const char *message, uint8_t seq)
{
	struct wire_writer w;

	output_begin(&c->worker->out, &c->io);
	w = output_packet(&c->worker->out, 600);
	wire_put_err(&w, code, sqlstate, message, seq);
	output_packet_end(&c->worker->out, &w);
}

/* An ERR that the client is to see, unless the statement is better asked elsewhere. */
static __attribute__((cold)) void forward_err(struct turn *t, struct backend *b, const struct walk_item *item)
{
	struct wire_err err;

	if (!wire_parse_err(item->data, item->len, &err)) {
		protocol_error(b, "malformed ERR");
		return;
	}
	t->client->error_code = err.code;
	memcpy(t->client->error_state, err.sqlstate, sizeof(t->client->error_state));
	t->failed_with_data = err.sqlstate[0] == '2' && err.sqlstate[1] <= '2';
	if (turn_refused(t, b, &err)) {
		head_expect(b)->what = EXPECT_DROP;
		return;
	}
	if (t->recorded)
		replay_note_err(t, &err);
	if ((t->told_read_only = turn_in_read_only_block(t, b, &err)))
		pass_error(t->client, ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION, "25006", TURN_READ_ONLY_MESSAGE, item->seq);
	else
		pass_raw(t->client, item);
}

static __attribute__((cold)) void forward_infile(struct turn *t, const struct walk_item *item)
{
	struct client *c = t->client;

	pass_raw(c, item);
	c->upload = (struct upload){ .active = true, .infile = true, .seq_shift = t->backend->walker.seq_shift };
	t->passed = true;
}

static void forward_ok(struct turn *t, struct backend *b, const struct walk_item *item)
{
	struct client *c = t->client;
	struct wire_ok ok;

	if (!wire_parse_ok(item->data, item->len, b->capabilities, &ok)) {
		protocol_error(b, "malformed OK");
		return;
	}
	if (c->wrote && gate_doubts(t, &ok)) {
		backend_lost(b, "the answer came when its server was, or may have been, no longer the primary", 0, NULL, NULL);
		return;
	}
	tracking_adopt(c, b, &ok);
	turn_saw_ok(t, &ok, item->ends_rows, b->walker.rows);
	if (t->recorded)
		replay_note_ok(t, &ok, item->ends_rows);
	if (t->more_parts)
		ok.status |= SERVER_MORE_RESULTS_EXISTS;
	if (item->ends_rows && is_classic(c))
		pass_eof(c, ok.warnings, ok.status, item->seq);
	else
		pass_ok(c, &ok, item->seq);
	t->passed = true;
}

/* A statement of a transaction that is run again: its client has had the reply, the session learns it anew. */
static __attribute__((cold)) void replay_item(struct turn *t, struct backend *b, const struct walk_item *item)
{
	struct wire_ok ok;
	struct wire_err err;

	switch (item->event) {
	case WALK_BYTES:
		replay_note_bytes(t, item->data, item->len);
		break;
	case WALK_COLUMNS_END:
		b->walker.seq_shift += is_classic(t->client);
		break;
	case WALK_OK:
		if (!wire_parse_ok(item->data, item->len, b->capabilities, &ok)) {
			protocol_error(b, "malformed OK");
			break;
		}
		tracking_adopt(t->client, b, &ok);
		turn_saw_ok(t, &ok, item->ends_rows, b->walker.rows);
		replay_note_ok(t, &ok, item->ends_rows);
		break;
	case WALK_ERR:
		head_expect(b)->failed = true;
		if (!wire_parse_err(item->data, item->len, &err))
			protocol_error(b, "malformed ERR");
		else if (turn_refused(t, b, &err))
			head_expect(b)->what = EXPECT_DROP;
		else
			replay_note_err(t, &err);
		break;
	case WALK_LOCAL_INFILE:
		protocol_error(b, "a file was asked for by a statement that is run again");
		break;
	default:
		break;
	}
}

/* A login's question: the answer is not for the client as it stands. */
static __attribute__((cold)) void verify_item(struct turn *t, struct backend *b, const struct walk_item *item)
{
	struct wire_err err;
	struct wire_ok ok;

	if (item->event == WALK_OK && wire_parse_ok(item->data, item->len, b->capabilities, &ok)) {
		tracking_adopt(t->client, b, &ok);
	} else if (item->event == WALK_ERR && wire_parse_err(item->data, item->len, &err)) {
		head_expect(b)->failed = true;
		if (turn_refused(t, b, &err))
			head_expect(b)->what = EXPECT_DROP;
		else
			turn_keep_error(t, &err);
	}
}

static void forward_item(struct backend *b, struct walk_item *item)
{
	struct turn *t = b->client ? b->client->turn : NULL;

	if (!t || t->backend != b) { /* its client has gone */
		head_expect(b)->what = EXPECT_DROP;
		return;
	}
	if (t->task == TASK_VERIFY) {
		verify_item(t, b, item);
		return;
	}
	if (t->task == TASK_REPLAY) {
		replay_item(t, b, item);
		return;
	}
	switch (item->event) {
	case WALK_BYTES:
		if (t->recorded)
			replay_note_bytes(t, item->data, item->len);
		if (t->reply == REPLY_RESULT && t->meaning->facts & (SQL_F_GET_LOCK | SQL_F_RELEASE_LOCK))
			capture_bytes(b, item);
		output_begin(&b->worker->out, &t->client->io);
		output_bytes(&b->worker->out, item->data, item->len);
		t->passed = true;
		break;
	case WALK_COLUMNS_END:
		pass_columns_end(t->client, b, item);
		break;
	case WALK_OK:
		forward_ok(t, b, item);
		break;
	case WALK_ERR:
		head_expect(b)->failed = true;
		forward_err(t, b, item);
		break;
	case WALK_PREPARED:
		pass_prepared(t, b, item);
		break;
	case WALK_LOCAL_INFILE:
		forward_infile(t, item);
		break;
	case WALK_EOF:
		pass_raw(t->client, item);
		break;
	default:
		break;
	}
}

/* ---- Swallowed replies ---- */

static void swallow_ok(struct backend *b, const struct expect *e, const struct walk_item *item)
{
	struct wire_ok ok;

	if (!wire_parse_ok(item->data, item->len, b->capabilities, &ok)) {
		protocol_error(b, "malformed OK");
		return;
	}
	if (ok.warnings) {
		b->has_diagnostics = true;
		if (b->client && b->client->diag_at == b && !b->client->diag_open)
			b->client->diag_at = NULL; /* its session's list is empty, and not there */
	}
	if ((e->what == EXPECT_PROBE || e->what == EXPECT_CAPTURE) && b->client)
		tracking_adopt_probe(b->client, b, &ok);
	else
		b->status = ok.status;
}

static void note_prepared(struct backend *b, const struct expect *e, const struct walk_item *item)
{
	struct wire_prepared p;

	if (wire_parse_prepared(item->data, item->len, &p))
		b->statements.slots[e->slot].id = p.id;
}

static __attribute__((noinline)) void swallow_item(struct backend *b, struct expect *e, const struct walk_item *item)
{
	struct client *c = b->client;
	struct wire_err err;

	switch (item->event) {
	case WALK_BYTES:
		if (e->what == EXPECT_CAPTURE || e->what == EXPECT_FREEZE)
			capture_bytes(b, item);
		break;
	case WALK_OK:
		swallow_ok(b, e, item);
		break;
	case WALK_PREPARED:
		if (e->what == EXPECT_PREPARE)
			note_prepared(b, e, item);
		break;
	case WALK_ERR:
		e->failed = true;
		if (e->what == EXPECT_PREPARE && e->slot != PREPARED_NONE)
			prepared_drop(&b->statements, e->slot);
		if (wire_parse_err(item->data, item->len, &err)) {
			log_debug(&b->subject, "swallowed error %u: %.*s", err.code, (int)err.message.len,
				  (const char *)err.message.data);
			if (c && c->turn && (e->what == EXPECT_FIT || e->what == EXPECT_PREPARE))
				turn_swallowed_error(c->turn, b, e, &err);
		}
		break;
	case WALK_LOCAL_INFILE:
		protocol_error(b, "a file was asked for by a statement of Tandem's own");
		break;
	default:
		break;
	}
}

/* ---- Ends of replies ---- */

static void now_ready(struct backend *b)
{
	if (b->state < BACKEND_LEAVING && !b->queue_count && b->state != BACKEND_READY)
		backend_set_state(b, BACKEND_READY);
}

static void end_forward(struct backend *b, const struct expect *e)
{
	struct turn *t = b->client ? b->client->turn : NULL;

	now_ready(b);
	if (t && t->backend == b) {
		t->failed = e->failed;
		if (t->more_parts)
			parts_note_end(b->client, (uint8_t)(b->walker.next_seq + b->walker.seq_shift - 1));
		turn_done(t);
	}
}

static __attribute__((cold)) void end_setup(struct backend *b, const struct expect *e)
{
	if (e->failed) {
		protocol_error(b, "the set-up query was refused");
		return;
	}
	now_ready(b);
	if (b->errand) {
		backend_command(b, EXPECT_CLEAN, COM_QUERY, b->errand, strlen(b->errand));
		return;
	}
	if (b->client && b->client->turn)
		turn_advance(b->client->turn);
	else if (!b->client)
		pool_give(b);
}

static __attribute__((noinline)) void end_clean(struct backend *b, const struct expect *e)
{
	if (e->failed || b->errand) {
		backend_close(b, b->errand ? "its errand is done" : "could not be cleaned");
		return;
	}
	now_ready(b);
	if (b->state != BACKEND_READY || b->client)
		return;
	if (!b->value->role)
		pool_spare(b);
	else if (!backend_login_again(b)) /* the other half of pool.c:clean_role() */
		backend_close(b, "could not be cleaned");
}

static __attribute__((noinline)) void end_swallowed(struct backend *b, const struct expect *e)
{
	struct turn *t = b->client ? b->client->turn : NULL;

	now_ready(b);
	if (b->client && b->worker->gate_closed)
		gate_recount(b->client, false);
	if (!b->client) {
		if (b->state == BACKEND_READY)
			pool_give(b);
	} else if (e->what == EXPECT_CAPTURE) {
		if (t && t->wait == WAIT_CAPTURE && t->captured_from == b)
			turn_captured(t, b, e->failed);
	} else if (e->what == EXPECT_FREEZE) {
		freeze_reply(b, e);
	} else if (t && t->backend == b) {
		turn_swallowed(t, b, e);
	}
}

static void end_reply(struct backend *b)
{
	struct expect e = *head_expect(b);

	pop_expect(b);
	wire_walk_fini(&b->walker);
	switch (e.what) {
	case EXPECT_FORWARD:
		end_forward(b, &e);
		break;
	case EXPECT_SETUP:
		end_setup(b, &e);
		break;
	case EXPECT_CLEAN:
		end_clean(b, &e);
		break;
	case EXPECT_DROP:
		now_ready(b);
		if (b->state == BACKEND_READY)
			turn_dropped(b);
		break;
	default:
		end_swallowed(b, &e);
	}
}

/* ---- The walk ---- */

static void handle_item(struct backend *b, struct walk_item *item)
{
	struct expect *e = head_expect(b);

	if (item->event == WALK_ERR || item->event == WALK_OK)
		backend_trace(b, "%s, expected (%d): %.*s", item->event == WALK_OK ? "OK" : "ERR", e->what, item->event == WALK_OK ? 0 : (int)item->len - 3, item->data + 3);
	if (item->event == WALK_ERR) {
		b->has_diagnostics = true;
		if (e->what == EXPECT_DROP)
			return;
	}
	if (e->what == EXPECT_FORWARD)
		forward_item(b, item);
	else if (e->what != EXPECT_DROP)
		swallow_item(b, e, item);
}

/* Whether the reply to come may leave a cursor open: only an EXECUTE can ask for one. */
static bool wants_cursor(struct backend *b)
{
	enum { FLAGS_AT = 4 + 1 + 4 };
	const struct turn *t = b->client ? b->client->turn : NULL;

	return head_expect(b)->what == EXPECT_FORWARD && t && t->command == COM_STMT_EXECUTE && t->packet_len > FLAGS_AT &&
	       t->packet[FLAGS_AT] != 0;
}

static void begin_walk(struct backend *b, const struct turn *t)
{
	if (t->is_long)
		wire_walk_after_long_command(&b->walker);
	b->walker.seq_shift = t->seq_before;
}

/* Walks one reply. False: the bytes are used up or the connection is dead. */
static bool walk_reply(struct backend *b, uint8_t **bytes, size_t *len)
{
	if (!b->walking) {
		wire_walk_start(&b->walker, head_expect(b)->reply, (b->capabilities & CLIENT_DEPRECATE_EOF) != 0);
		b->walking = true;
		if (!wants_cursor(b))
			wire_walk_no_cursor(&b->walker);
		if (head_expect(b)->what == EXPECT_FORWARD && b->client && b->client->turn)
			begin_walk(b, b->client->turn);
	}
	wire_walk_feed(&b->walker, *bytes, *len);
	for (;;) {
		struct walk_item item = wire_walk_next(&b->walker);

		if (item.event == WALK_MORE)
			return false;
		if (item.event == WALK_BROKEN) {
			protocol_error(b, "not the MySQL protocol");
			return false;
		}
		handle_item(b, &item);
		if (b->state >= BACKEND_LEAVING)
			return false;
		if (item.last)
			break;
	}
	*len = wire_walk_unread(&b->walker);
	*bytes = b->walker.at;
	return true;
}

/* 4031, 1927, 1053 or nothing readable: the connection is of no more use, and nobody waited for it. */
static __attribute__((cold)) void unasked(struct backend *b, const uint8_t *bytes, size_t len)
{
	struct wire_err err;
	bool is_err = len > WIRE_HEADER_BYTES && bytes[WIRE_HEADER_BYTES] == 0xff &&
		      wire_parse_err(bytes + WIRE_HEADER_BYTES, len - WIRE_HEADER_BYTES, &err);

	log_info(&b->subject, "closed by the server: %u %.*s", is_err ? err.code : 0, is_err ? (int)err.message.len : 0,
		 is_err ? (const char *)err.message.data : "");
	backend_lost(b, "closed by the server", 0, NULL, NULL);
}

void backend_reply_bytes(struct backend *backend, uint8_t *bytes, size_t len)
{
	struct output *out = &backend->worker->out;

	while (len && backend->state < BACKEND_LEAVING) {
		if (!backend->queue_count) {
			unasked(backend, bytes, len);
			break;
		}
		if (!walk_reply(backend, &bytes, &len))
			break;
		if (out->to)
			output_flush(out);
		end_reply(backend);
	}
	if (out->to)
		output_flush(out);
	if (backend->state == BACKEND_BUSY && backend->client && io_unsent(&backend->client->io) > HIGH_MARK)
		io_pause(&backend->io);
}
