/*
 * Finds the end of a reply. Decides at each packet's header and first byte: pass it on, or collect it because somebody must
 * read it. Two ways through the bytes: pass_rows() runs over whole row packets and is nearly all of the work of a large
 * result; everything else (other packets, packets cut by the end of a piece) takes the careful way packet by packet.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/wire/reply.h"

enum phase {
	PHASE_FIRST,	/* the first packet of a reply, or of the next result of several */
	PHASE_COUNT,	/* passing a column count */
	PHASE_DEFS,	/* `columns` definitions to come; unknown number for REPLY_FIELDS */
	PHASE_DEFS_EOF, /* classic: the EOF behind the definitions is next */
	PHASE_DEFS_END, /* prepare without EOFs: the end of a group of definitions is to be reported */
	PHASE_ROWS,
	PHASE_TEXT,	/* the one packet of a STATISTICS reply */
	PHASE_STREAM,
	PHASE_INFILE,	/* the client's turn, until wire_walk_resume */
	PHASE_DONE,
	PHASE_BROKEN,
};

enum look {
	LOOK_MORE,    /* too few bytes to tell */
	LOOK_PASS,
	LOOK_CONTROL, /* `control` says which */
	LOOK_BAD,
};

enum {
	FIRST_OK = 0x00,
	FIRST_INFILE = 0xfb,
	FIRST_END = 0xfe,
	FIRST_ERR = 0xff,
	PROGRESS_CODE = 0xffff,	 /* MariaDB's progress report: an ERR packet that is no error and ends nothing */
	EOF_MAX = 9,		 /* an EOF payload is shorter; in its place a longer 0xfe is something else */
	OK_MIN = 7,
	MAX_COUNT_BYTES = 10,	 /* lenenc and MariaDB's "definitions follow" byte */
	MAX_COLUMNS = 0xffff,
};

static const enum phase first_phase[] = {
	[REPLY_RESULT] = PHASE_FIRST, [REPLY_PREPARE] = PHASE_FIRST, [REPLY_FIELDS] = PHASE_DEFS,
	[REPLY_ROWS] = PHASE_ROWS,    [REPLY_ONE] = PHASE_FIRST,     [REPLY_TEXT] = PHASE_TEXT,
	[REPLY_STREAM] = PHASE_STREAM,
};

static __attribute__((cold)) void drop_collected(struct wire_walker *w)
{
	free(w->collected);
	w->collected = NULL;
	w->handed_out = false;
}

void wire_walk_start(struct wire_walker *w, enum reply_kind kind, bool deprecate_eof)
{
	drop_collected(w);
	*w = (struct wire_walker){
		.kind = kind, .phase = first_phase[kind], .next_seq = 1, .deprecate_eof = deprecate_eof,
	};
}

void wire_walk_after_long_command(struct wire_walker *w)
{
	w->any_start = true;
}

void wire_walk_no_cursor(struct wire_walker *w)
{
	w->no_cursor = true;
}

void wire_walk_feed(struct wire_walker *w, uint8_t *bytes, size_t len)
{
	w->at = bytes;
	w->end = bytes + len;
}

void wire_walk_resume(struct wire_walker *w, uint8_t next_seq)
{
	w->next_seq = next_seq;
	if (w->phase == PHASE_INFILE)
		w->phase = PHASE_FIRST;
}

void wire_walk_fini(struct wire_walker *w)
{
	drop_collected(w);
}

/* ---- What is this packet? ----------------------------------------------------------------------------------------- */

static enum look control(struct wire_walker *w, enum walk_event event)
{
	w->control = (uint8_t)event;
	return LOOK_CONTROL;
}

/* 0xfe where rows, events or definitions may end. A binlog dump ends in a classic EOF whatever was agreed. */
static enum look look_end(struct wire_walker *w, uint32_t len)
{
	bool may_be_classic = !w->deprecate_eof || w->phase == PHASE_STREAM;

	if (w->deprecate_eof && len >= OK_MIN)
		return control(w, WALK_OK);
	if (may_be_classic && len < EOF_MAX)
		return control(w, WALK_EOF);
	return LOOK_BAD;
}

static __attribute__((cold)) enum look look_err(struct wire_walker *w, const uint8_t *p, size_t have, uint32_t len)
{
	if (len < 3)
		return LOOK_BAD;
	if (have < WIRE_HEADER_BYTES + 3)
		return LOOK_MORE;
	if ((p[5] | p[6] << 8) == PROGRESS_CODE)
		return LOOK_PASS;
	return control(w, WALK_ERR);
}

/* A column count must be here whole: it is read when it is passed on. */
static enum look look_count(size_t have, uint32_t len)
{
	if (len > MAX_COUNT_BYTES)
		return LOOK_BAD;
	return have < WIRE_HEADER_BYTES + len ? LOOK_MORE : LOOK_PASS;
}

static enum look look_first(struct wire_walker *w, uint8_t first, size_t have, uint32_t len)
{
	if (w->kind == REPLY_PREPARE)
		return first == FIRST_OK ? control(w, WALK_PREPARED) : LOOK_BAD;
	if (first == FIRST_OK)
		return control(w, WALK_OK);
	if (w->kind == REPLY_ONE)
		return first == FIRST_END ? look_end(w, len) : LOOK_BAD;
	if (first == FIRST_INFILE)
		return control(w, WALK_LOCAL_INFILE);
	return first == FIRST_END ? LOOK_BAD : look_count(have, len);
}

static enum look look_at_first_byte(struct wire_walker *w, const uint8_t *p, size_t have, uint32_t len)
{
	uint8_t first = p[WIRE_HEADER_BYTES];

	if (first == FIRST_ERR)
		return look_err(w, p, have, len);
	switch ((enum phase)w->phase) {
	case PHASE_FIRST:
		return look_first(w, first, have, len);
	case PHASE_DEFS:
		if (first == FIRST_END)
			return w->kind == REPLY_FIELDS ? look_end(w, len) : LOOK_BAD;
		return len == WIRE_MAX_PAYLOAD ? LOOK_BAD : LOOK_PASS;
	case PHASE_DEFS_EOF:
		return first == FIRST_END ? look_end(w, len) : LOOK_BAD;
	case PHASE_ROWS:
		/* A row of 16 MiB may begin with a length of eight bytes, 0xfe too. */
		return first == FIRST_END && len < WIRE_MAX_PAYLOAD ? look_end(w, len) : LOOK_PASS;
	case PHASE_STREAM:
		return first == FIRST_END && len < WIRE_MAX_PAYLOAD ? look_end(w, len) : LOOK_PASS;
	case PHASE_TEXT:
		return LOOK_PASS;
	default:
		return LOOK_BAD;
	}
}

/* Looks at a packet of which `have` bytes, from its header on, are at p. May be asked again for the same packet. */
static enum look look(struct wire_walker *w, const uint8_t *p, size_t have)
{
	uint32_t len;

	if (have < WIRE_HEADER_BYTES)
		return LOOK_MORE;
	len = wire_header_len(p);
	/* In a stream both sides talk at times (semi-sync acknowledgements), which starts the numbers anew. */
	if (w->phase == PHASE_STREAM || w->any_start)
		w->next_seq = p[3];
	if (p[3] != w->next_seq)
		return LOOK_BAD;
	if (w->row_continued)
		return LOOK_PASS;
	if (len == 0)
		return w->phase == PHASE_STREAM || w->phase == PHASE_TEXT ? LOOK_PASS : LOOK_BAD;
	if (have < WIRE_HEADER_BYTES + 1)
		return LOOK_MORE;
	return look_at_first_byte(w, p, have, len);
}

/* ---- Passing on --------------------------------------------------------------------------------------------------- */

/* The definitions of a result set or of a prepare's group are through. */
static void end_definitions(struct wire_walker *w)
{
	if (!w->deprecate_eof)
		w->phase = PHASE_DEFS_EOF;
	else if (w->kind == REPLY_PREPARE)
		w->phase = PHASE_DEFS_END;
	else
		w->phase = PHASE_ROWS;
	w->columns_end_due = w->deprecate_eof;
}

/* Reads a column count; false when no server would send it. */
static bool read_count(struct wire_walker *w, const uint8_t *payload, uint32_t len)
{
	struct wire_reader r = wire_reader(payload, len);

	w->rows = 0;
	w->columns = wire_get_lenenc(&r);
	if (r.bad || w->columns == 0 || w->columns > MAX_COLUMNS || wire_left(&r) > 1)
		return false;
	/* Behind the count: does the client have to be told the definitions, or does it remember them? */
	if (wire_left(&r) == 1 && wire_get_u8(&r) == 0)
		w->columns = 0;
	w->phase = PHASE_COUNT;
	return true;
}

/* The header at p belongs to a packet that look() passes: counts it and patches its number. False: not the protocol. */
static bool accept_packet(struct wire_walker *w, uint8_t *p)
{
	bool is_first_part = !w->row_continued;
	bool is_report = false;

	w->left = wire_header_len(p);
	w->row_continued = w->left == WIRE_MAX_PAYLOAD;
	if (is_first_part && w->left > 0)
		is_report = p[WIRE_HEADER_BYTES] == FIRST_ERR;
	if (is_first_part && !is_report) {
		if (w->phase == PHASE_FIRST && !read_count(w, p + WIRE_HEADER_BYTES, w->left))
			return false;
		if (w->phase == PHASE_DEFS && w->kind != REPLY_FIELDS)
			w->columns--;
		if (w->phase == PHASE_ROWS)
			w->rows++;
	}
	w->any_start = false;
	p[3] = (uint8_t)(w->next_seq++ + w->seq_shift);
	return true;
}

/* The last payload byte of a passed packet has gone. */
static void end_packet(struct wire_walker *w)
{
	if (w->phase == PHASE_COUNT)
		w->phase = PHASE_DEFS;
	if (w->phase == PHASE_DEFS && w->kind != REPLY_FIELDS && w->columns == 0)
		end_definitions(w);
	if (w->phase == PHASE_TEXT && !w->row_continued)
		w->phase = PHASE_DONE;
}

/* Passes whole row packets, up to the first one that is cut, continued, or not surely a row. */
static void pass_rows(struct wire_walker *w)
{
	uint8_t *p = w->at, *const end = w->end;
	const uint8_t shift = w->seq_shift;
	uint8_t seq = w->next_seq;
	uint64_t rows = 0;

	while ((size_t)(end - p) > WIRE_HEADER_BYTES) {
		/* all four bytes together: compilers make one load of this */
		uint32_t header = wire_header_len(p) | (uint32_t)p[3] << 24;
		uint32_t len = header & WIRE_MAX_PAYLOAD;

		if (header >> 24 != seq || p[WIRE_HEADER_BYTES] >= FIRST_END || len == 0 || len == WIRE_MAX_PAYLOAD ||
		    len > (size_t)(end - p) - WIRE_HEADER_BYTES)
			break;
		if (shift) /* without one the bytes stay clean in the cache */
			p[3] = (uint8_t)(seq + shift);
		seq++;
		rows++;
		p += WIRE_HEADER_BYTES + len;
	}
	w->at = p;
	w->next_seq = seq;
	w->rows += rows;
}

static struct walk_item more(void)
{
	return (struct walk_item){ .event = WALK_MORE };
}

static __attribute__((cold)) struct walk_item broken(struct wire_walker *w)
{
	w->phase = PHASE_BROKEN;
	return (struct walk_item){ .event = WALK_BROKEN, .last = true };
}

static struct walk_item bytes(const struct wire_walker *w, uint8_t *data, size_t len)
{
	return (struct walk_item){
		.event = WALK_BYTES, .data = data, .len = len, .last = w->phase == PHASE_DONE,
	};
}

static struct walk_item columns_end(struct wire_walker *w)
{
	w->columns_end_due = false;
	if (w->phase == PHASE_DEFS_END) {
		w->columns = w->columns2;
		w->columns2 = 0;
		w->phase = w->columns ? PHASE_DEFS : PHASE_DONE;
	}
	return (struct walk_item){
		.event = WALK_COLUMNS_END, .seq = w->next_seq, .last = w->phase == PHASE_DONE,
	};
}

/* ---- Control packets ---------------------------------------------------------------------------------------------- */

/* A result is over: another one follows when the server says so. */
static void end_result(struct wire_walker *w, uint16_t status)
{
	bool another = w->kind == REPLY_RESULT && (status & SERVER_MORE_RESULTS_EXISTS);

	w->phase = another ? PHASE_FIRST : PHASE_DONE;
	w->columns_end_due = false;
}

static bool enter_prepared(struct wire_walker *w, const uint8_t *payload, size_t len)
{
	struct wire_prepared prepared;

	if (!wire_parse_prepared(payload, len, &prepared))
		return false;
	w->columns = prepared.params ? prepared.params : prepared.columns;
	w->columns2 = prepared.params ? prepared.columns : 0;
	w->phase = w->columns ? PHASE_DEFS : PHASE_DONE;
	return true;
}

static bool after_eof(struct wire_walker *w, const uint8_t *payload, size_t len)
{
	uint16_t warnings, status;

	if (!wire_parse_eof(payload, len, &warnings, &status))
		return false;
	if (w->phase != PHASE_DEFS_EOF) {
		end_result(w, status);
	} else if (w->kind == REPLY_PREPARE) {
		w->columns = w->columns2;
		w->columns2 = 0;
		w->phase = w->columns ? PHASE_DEFS : PHASE_DONE;
	} else if (!w->no_cursor && (status & SERVER_STATUS_CURSOR_EXISTS)) {
		w->phase = PHASE_DONE; /* the rows wait for FETCH */
	} else {
		w->phase = PHASE_ROWS;
	}
	return true;
}

/* The status flags of an OK; they stand at the same place with and without session tracking. */
static bool read_ok_status(const uint8_t *payload, size_t len, uint16_t *status)
{
	struct wire_reader r;

	if (len >= OK_MIN && payload[1] < 0xfb && payload[2] < 0xfb) { /* nearly always: both counts in one byte each */
		*status = (uint16_t)(payload[3] | payload[4] << 8);
		return true;
	}
	r = wire_reader(payload, len);
	wire_get_u8(&r);
	wire_get_lenenc(&r);
	wire_get_lenenc(&r);
	*status = wire_get_u16(&r);
	wire_get_u16(&r);
	return !r.bad;
}

/* Moves on behind a complete control packet. */
static bool after_control(struct wire_walker *w, const uint8_t *payload, size_t len)
{
	uint16_t status;

	switch ((enum walk_event)w->control) {
	case WALK_OK:
		if (!read_ok_status(payload, len, &status))
			return false;
		end_result(w, status);
		return true;
	case WALK_EOF:
		return after_eof(w, payload, len);
	case WALK_PREPARED:
		return enter_prepared(w, payload, len);
	case WALK_LOCAL_INFILE:
		w->phase = PHASE_INFILE;
		return true;
	default:
		w->phase = PHASE_DONE;
		return true;
	}
}

/*
 * Without EOFs, definitions and then an OK saying "cursor" is all that an execute with a cursor answers, and a classic client
 * gets one EOF for both. So the end of the definitions is reported only when something else is seen to follow.
 */
static bool opens_cursor(const struct wire_walker *w, const uint8_t *payload, size_t len)
{
	uint16_t status;

	return !w->no_cursor && w->control == WALK_OK && read_ok_status(payload, len, &status) &&
	       (status & SERVER_STATUS_CURSOR_EXISTS);
}

/* Something else has to be reported before this control packet, which is here whole. */
static bool columns_end_first(const struct wire_walker *w, const uint8_t *payload, size_t len)
{
	return w->columns_end_due && !opens_cursor(w, payload, len);
}

static struct walk_item give_control(struct wire_walker *w, uint8_t *payload, size_t len)
{
	bool ends_definitions = w->phase == PHASE_DEFS_EOF;

	if (!after_control(w, payload, len))
		return broken(w);
	w->any_start = false;
	return (struct walk_item){
		.event = (enum walk_event)w->control,
		.data = payload,
		.len = len,
		.seq = (uint8_t)(w->next_seq++ + w->seq_shift),
		.last = w->phase == PHASE_DONE,
		.ends_rows = payload[0] == FIRST_END && !ends_definitions,
	};
}

/* Starts to collect a control packet that is not here whole; `have` bytes of its payload are. */
static __attribute__((cold)) bool begin_collect(struct wire_walker *w, const uint8_t *header, size_t have)
{
	uint32_t want = wire_header_len(header);

	if (want > WIRE_CONTROL_MAX)
		return false;
	w->collected = malloc(want);
	if (!w->collected)
		return false;
	memcpy(w->collected, header + WIRE_HEADER_BYTES, have);
	w->collected_len = (uint32_t)have;
	w->collected_want = want;
	return true;
}

static __attribute__((cold)) struct walk_item collect(struct wire_walker *w)
{
	size_t n = w->collected_want - w->collected_len;

	if (n > wire_walk_unread(w))
		n = wire_walk_unread(w);
	if (n)
		memcpy(w->collected + w->collected_len, w->at, n);
	w->at += n;
	w->collected_len += (uint32_t)n;
	if (w->collected_len < w->collected_want)
		return more();
	if (columns_end_first(w, w->collected, w->collected_len))
		return columns_end(w);
	w->handed_out = true;
	return give_control(w, w->collected, w->collected_len);
}

/* ---- One step ----------------------------------------------------------------------------------------------------- */

static struct walk_item take_control(struct wire_walker *w)
{
	uint32_t len = wire_header_len(w->at);
	size_t have = wire_walk_unread(w) - WIRE_HEADER_BYTES;
	uint8_t *header = w->at;
	uint8_t *payload = header + WIRE_HEADER_BYTES;

	if (len > WIRE_CONTROL_MAX)
		return broken(w);
	if (have >= len) {
		if (columns_end_first(w, payload, len))
			return columns_end(w);
		w->at = payload + len;
		return give_control(w, payload, len);
	}
	if (!begin_collect(w, header, have))
		return broken(w);
	w->at = w->end;
	return more();
}

/* A packet whose beginning was cut off by the end of a piece: `carry` is filled until it can be told what it is. */
static __attribute__((cold)) struct walk_item finish_carry(struct wire_walker *w)
{
	enum look seen = look(w, w->carry, w->carry_len);
	size_t len;

	while (seen == LOOK_MORE && w->at < w->end) {
		w->carry[w->carry_len++] = *w->at++;
		seen = look(w, w->carry, w->carry_len);
	}
	len = w->carry_len;
	switch (seen) {
	case LOOK_MORE:
		return more();
	case LOOK_CONTROL:
		if (!begin_collect(w, w->carry, len - WIRE_HEADER_BYTES))
			return broken(w);
		w->carry_len = 0;
		return collect(w);
	case LOOK_PASS:
		if (w->columns_end_due)
			return columns_end(w);
		if (!accept_packet(w, w->carry))
			return broken(w);
		w->carry_len = 0;
		w->left -= (uint32_t)(len - WIRE_HEADER_BYTES);
		if (w->left == 0)
			end_packet(w);
		return bytes(w, w->carry, len);
	default:
		return broken(w);
	}
}

static void hold_back(struct wire_walker *w)
{
	w->carry_len = (uint8_t)wire_walk_unread(w);
	if (w->carry_len)
		memcpy(w->carry, w->at, w->carry_len);
	w->at = w->end;
}

static void pass_payload(struct wire_walker *w)
{
	size_t n = wire_walk_unread(w);

	if (n > w->left)
		n = w->left;
	w->at += n;
	w->left -= (uint32_t)n;
	if (w->left == 0)
		end_packet(w);
}

/* Can the run of passed bytes go on behind the packet that ends here? */
static bool run_goes_on(struct wire_walker *w, enum look *seen)
{
	size_t have;

	if (w->phase == PHASE_DONE || w->phase == PHASE_DEFS_END)
		return false;
	if (w->phase == PHASE_ROWS && !w->columns_end_due && !w->row_continued && !w->any_start)
		pass_rows(w);
	have = wire_walk_unread(w);
	*seen = look(w, w->at, have);
	return *seen == LOOK_PASS && !w->columns_end_due;
}

/* Passes as much as lies together; stops in front of what is not simply passed on and says what that is. */
static enum look pass_run(struct wire_walker *w)
{
	enum look seen = LOOK_MORE;

	if (w->left)
		pass_payload(w);
	while (!w->left && run_goes_on(w, &seen)) {
		if (!accept_packet(w, w->at)) {
			w->phase = PHASE_BROKEN;
			return LOOK_BAD;
		}
		w->at += WIRE_HEADER_BYTES;
		pass_payload(w);
	}
	return w->left ? LOOK_MORE : seen;
}

/* In front of what pass_run() stopped at. */
static struct walk_item take_what_stopped(struct wire_walker *w, enum look seen)
{
	switch (seen) {
	case LOOK_PASS: /* held up by the definitions' end only */
		return columns_end(w);
	case LOOK_CONTROL:
		return take_control(w);
	case LOOK_MORE:
		return more();
	default:
		return broken(w);
	}
}

struct walk_item wire_walk_next(struct wire_walker *w)
{
	uint8_t *start = w->at;
	enum look seen;
	size_t passed;

	if (w->handed_out)
		drop_collected(w);
	if (w->phase == PHASE_BROKEN)
		return broken(w);
	if (w->phase == PHASE_DONE || w->phase == PHASE_INFILE)
		return more();
	if (w->phase == PHASE_DEFS_END)
		return columns_end(w);
	if (w->collected)
		return collect(w);
	if (w->carry_len)
		return finish_carry(w);
	seen = pass_run(w);
	passed = (size_t)(w->at - start);
	if (seen == LOOK_MORE && !w->left && w->phase != PHASE_DONE && w->phase != PHASE_DEFS_END)
		hold_back(w);
	return passed ? bytes(w, start, passed) : take_what_stopped(w, seen);
}
