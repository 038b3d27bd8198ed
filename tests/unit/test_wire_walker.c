/* The reply walker: replies of a real server in every possible pieces, and what no real server sends. */
#include <CUnit/CUnit.h>
#include <stdio.h>

#include "tests/unit/wire_trace.h"

void suite_wire_walker(void);

/* ---- Captured replies ---------------------------------------------------------------------------------------------- */

enum { FILE_MAX = 16 * 1024 };

struct captured {
	uint8_t bytes[FILE_MAX];
	struct trace_input in;
};

static bool read_captured(const char *name, const char *mode, struct captured *c)
{
	char path[512];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/corpus/walker/%s.%s", TESTS_DIR, name, mode);
	file = fopen(path, "rb");
	if (!file)
		return false;
	len = fread(c->bytes, 1, sizeof(c->bytes), file);
	fclose(file);
	if (len <= TRACE_HEAD || len == sizeof(c->bytes))
		return false;
	c->in = (struct trace_input){
		.kind = (enum reply_kind)c->bytes[0], .deprecate_eof = c->bytes[1], .resume_seq = c->bytes[2],
		.seq_shift = c->bytes[3],	      .stream = c->bytes + TRACE_HEAD, .len = len - TRACE_HEAD,
	};
	return true;
}

/* Events: B bytes passed on, C end of definitions, K OK, E OK in place of an EOF, f EOF behind definitions, F EOF, X ERR,
 * P PREPARE_OK, L LOCAL INFILE, ! broken, a dot where the reply is over. */
static const struct {
	const char *name, *modern, *classic;
	bool is_same; /* the classic reply can be made of the modern one: nothing in it depends on time or chance */
} captured[] = {
	{ "ok", "K.", "K.", true },
	{ "ok_tracked", "K.", "K.", true },
	{ "ok_info", "K.", "K.", true },
	{ "select", "BCBE.", "BfBF.", true },
	{ "select_nulls", "BCBE.", "BfBF.", true },
	{ "select_none", "BCE.", "BfF.", true },
	{ "select_long_column", "BCBE.", "BfBF.", true },
	{ "select_many_columns", "BCBE.", "BfBF.", true },
	{ "select_260_rows", "BCBE.", "BfBF.", true },
	{ "insert_returning", "BCBE.", "BfBF.", true },
	{ "show_warnings", "BCE.", "BfF.", true },
	{ "error", "X.", "X.", true },
	{ "error_after_rows", "BCBX.", "BfBX.", true },
	{ "multi", "BCBEKBCEK.", "BfBFKBfFK.", true },
	{ "multi_error", "BCBEX.", "BfBFX.", true },
	{ "call", "BCBEBCBEK.", "BfBFBfBFK.", true },
	{ "call_late_error", "BCBEX.", "BfBFX.", true },
	{ "call_out_params", "BCBEBCBEK.", "BfBFBfBFK.", true },
	{ "call_cursor", "BCBEBCBEK.", "BfBFBfBFK.", true },
	{ "infile", "LK.", "LK.", true },
	{ "infile_empty", "LK.", "LK.", true },
	{ "prepare_nothing", "P.", "P.", true },
	{ "prepare_columns", "PBC.", "PBf.", true },
	{ "prepare_params", "PBC.", "PBf.", true },
	{ "prepare_both", "PBCBC.", "PBfBf.", true },
	{ "prepare_error", "X.", "X.", true },
	{ "execute_ok", "K.", "K.", true },
	{ "execute_rows", "BCBE.", "BfBF.", true },
	{ "execute_none", "BCE.", "BfF.", true },
	{ "execute_error_after_rows", "BCBX.", "BfBX.", true },
	{ "execute_cursor", "BE.", "Bf.", true },
	{ "execute_cursor_none", "BE.", "Bf.", true },
	{ "execute_cursor_no_rows_possible", "K.", "K.", true },
	{ "execute_cursor_show", "BE.", "Bf.", true },
	{ "fetch_some", "BE.", "BF.", true },
	{ "fetch_all", "BE.", "BF.", true },
	{ "fetch_drained", "X.", "X.", false },
	{ "fields", "BE.", "BF.", true },
	{ "fields_none", "E.", "F.", true },
	{ "fields_error", "X.", "X.", true },
	{ "ping", "K.", "K.", true },
	{ "init_db", "K.", "K.", true },
	{ "init_db_error", "X.", "X.", true },
	{ "set_option", "E.", "F.", true },
	{ "reset_statement_error", "X.", "X.", true },
	{ "reset_connection", "K.", "K.", true },
	{ "debug", "E.", "F.", true },
	{ "statistics", "B.", "B.", false },
	{ "process_info", "BCBE.", "BfBF.", false },
	{ "stream", "BF.", "BF.", false },
};

enum { CAPTURED = sizeof(captured) / sizeof(captured[0]) };

static void check_whole(const char *name, const char *mode, const char *events)
{
	struct captured c;
	struct trace t;

	CU_ASSERT_TRUE_FATAL(read_captured(name, mode, &c));
	CU_ASSERT_EQUAL(trace_run(&t, &c.in, 0, 0), c.in.len);
	CU_ASSERT_EQUAL(t.consumed, c.in.len);
	CU_ASSERT_STRING_EQUAL(t.events, events);
	if (strcmp(t.events, events) != 0)
		fprintf(stderr, "%s.%s: %s instead of %s\n", name, mode, t.events, events);
	trace_fini(&t);
}

static void test_captured(void)
{
	for (size_t i = 0; i < CAPTURED; i++) {
		check_whole(captured[i].name, "modern", captured[i].modern);
		check_whole(captured[i].name, "classic", captured[i].classic);
	}
}

static void check_splits(const char *name, const char *mode, uint8_t shift)
{
	struct captured c;
	struct trace whole, cut;
	size_t different = 0;

	CU_ASSERT_TRUE_FATAL(read_captured(name, mode, &c));
	c.in.seq_shift = shift;
	trace_run(&whole, &c.in, 0, 0);
	for (size_t at = 0; at < c.in.len; at++) {
		different += trace_run(&cut, &c.in, at, 0) != c.in.len || !trace_same(&whole, &cut);
		trace_fini(&cut);
	}
	for (size_t step = 1; step < 40; step++) {
		different += trace_run(&cut, &c.in, 0, step) != c.in.len || !trace_same(&whole, &cut);
		trace_fini(&cut);
	}
	trace_fini(&whole);
	CU_ASSERT_EQUAL(different, 0);
}

static void test_every_split(void)
{
	for (size_t i = 0; i < CAPTURED; i++) {
		check_splits(captured[i].name, "modern", 0);
		check_splits(captured[i].name, "modern", 250);
		check_splits(captured[i].name, "classic", 0);
	}
}

/* What arrives behind a reply belongs to the next one. */
static void test_stops_at_the_end(void)
{
	for (size_t i = 0; i < CAPTURED; i++) {
		struct captured c;
		struct trace t;
		uint8_t *both;

		CU_ASSERT_TRUE_FATAL(read_captured(captured[i].name, "modern", &c));
		both = malloc(2 * c.in.len);
		CU_ASSERT_PTR_NOT_NULL_FATAL(both);
		memcpy(both, c.in.stream, c.in.len);
		memcpy(both + c.in.len, c.in.stream, c.in.len);
		struct trace_input twice = c.in;
		twice.stream = both;
		twice.len = 2 * c.in.len;
		CU_ASSERT_EQUAL(trace_run(&t, &twice, 0, 0), c.in.len);
		trace_fini(&t);
		CU_ASSERT_EQUAL(trace_run(&t, &twice, 0, 1), c.in.len);
		trace_fini(&t);
		free(both);
	}
}

/* ---- The same for a classic client --------------------------------------------------------------------------------- */

static void put_control(struct trace *out, const struct walk_item *item)
{
	uint8_t header[WIRE_HEADER_BYTES];

	wire_put_header(header, (uint32_t)item->len, item->seq);
	trace_put(out, header, sizeof(header));
	trace_put(out, item->data, item->len);
}

static void put_written(struct trace *out, const struct wire_writer *w)
{
	CU_ASSERT_FALSE(w->full);
	trace_put(out, w->data, w->len);
}

static void put_ok_for_classic(struct trace *out, const struct walk_item *item)
{
	uint8_t memory[2048];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_ok ok;

	CU_ASSERT_TRUE_FATAL(wire_parse_ok(item->data, item->len, CLIENT_SESSION_TRACK, &ok));
	if (item->ends_rows)
		wire_put_eof(&w, ok.warnings, ok.status & (uint16_t)~SERVER_SESSION_STATE_CHANGED, item->seq);
	else
		wire_put_ok(&w, &ok, 0, item->seq);
	put_written(out, &w);
}

/* What a proxy does with a modern server's reply for a client that speaks neither DEPRECATE_EOF nor SESSION_TRACK. */
static void item_for_classic(struct trace *out, struct wire_walker *w, const struct walk_item *item)
{
	uint8_t memory[64];
	struct wire_writer writer = wire_writer(memory, sizeof(memory));

	switch (item->event) {
	case WALK_BYTES:
		trace_put(out, item->data, item->len);
		break;
	case WALK_COLUMNS_END:
		wire_put_eof(&writer, 0, SERVER_STATUS_AUTOCOMMIT, (uint8_t)(item->seq + w->seq_shift));
		put_written(out, &writer);
		w->seq_shift++;
		break;
	case WALK_OK:
		put_ok_for_classic(out, item);
		break;
	default:
		put_control(out, item);
	}
}

static void make_classic(const struct captured *c, struct trace *out, size_t step)
{
	struct wire_walker w = { 0 };
	uint8_t *copy = malloc(c->in.len);
	bool over = false;

	CU_ASSERT_PTR_NOT_NULL_FATAL(copy);
	memcpy(copy, c->in.stream, c->in.len);
	*out = (struct trace){ 0 };
	wire_walk_start(&w, c->in.kind, true);
	for (size_t at = 0; at < c->in.len && !over; at += step) {
		wire_walk_feed(&w, copy + at, step < c->in.len - at ? step : c->in.len - at);
		for (;;) {
			struct walk_item item = wire_walk_next(&w);

			if (item.event == WALK_MORE)
				break;
			item_for_classic(out, &w, &item);
			over = item.last;
			if (over)
				break;
			if (item.event == WALK_LOCAL_INFILE)
				wire_walk_resume(&w, c->in.resume_seq);
		}
	}
	CU_ASSERT_TRUE(over);
	wire_walk_fini(&w);
	free(copy);
}

/* The status flags in the EOF behind definitions say little and clients do not rely on them: they may differ. */
static void blank_definition_eofs(uint8_t *bytes, size_t len, const char *events)
{
	static const uint8_t eof[] = { 5, 0, 0 };
	bool follows_definitions = strchr(events, 'f') != NULL;

	for (size_t at = 0; follows_definitions && at + 9 <= len;) {
		uint32_t payload = wire_header_len(bytes + at);

		if (memcmp(bytes + at, eof, 3) == 0 && bytes[at + 4] == 0xfe)
			memset(bytes + at + 7, 0, 2);
		at += WIRE_HEADER_BYTES + payload;
	}
}

static void check_for_classic(const char *name, const char *events, size_t step)
{
	struct captured modern, classic;
	struct trace made;
	bool same;

	CU_ASSERT_TRUE_FATAL(read_captured(name, "modern", &modern) && read_captured(name, "classic", &classic));
	make_classic(&modern, &made, step);
	if (modern.in.kind == REPLY_PREPARE && made.len > 9) { /* a statement's number counts over all connections */
		memset(made.out + 5, 0, 4);
		memset(classic.bytes + TRACE_HEAD + 5, 0, 4);
	}
	blank_definition_eofs(made.out, made.len, events);
	blank_definition_eofs(classic.bytes + TRACE_HEAD, classic.in.len, events);
	same = made.len == classic.in.len && memcmp(made.out, classic.in.stream, made.len) == 0;
	CU_ASSERT_TRUE(same);
	if (!same)
		fprintf(stderr, "%s: not what a classic client gets\n", name);
	trace_fini(&made);
}

static void test_for_classic_client(void)
{
	for (size_t i = 0; i < CAPTURED; i++) {
		if (!captured[i].is_same)
			continue;
		check_for_classic(captured[i].name, captured[i].classic, FILE_MAX);
		check_for_classic(captured[i].name, captured[i].classic, 1);
		check_for_classic(captured[i].name, captured[i].classic, 7);
	}
}

/* ---- What no real server sends ------------------------------------------------------------------------------------- */

/* Packets are written as "seq:hex", one space between them; the length is filled in. */
static size_t assemble(const char *text, uint8_t *out)
{
	uint8_t *at = out;

	while (*text) {
		uint8_t *header = at;
		unsigned seq = (unsigned)strtoul(text, (char **)&text, 10);

		at += WIRE_HEADER_BYTES;
		for (text++; *text && *text != ' '; text += 2) {
			char digits[3] = { text[0], text[1], 0 };

			*at++ = (uint8_t)strtoul(digits, NULL, 16);
		}
		wire_put_header(header, (uint32_t)(at - header - WIRE_HEADER_BYTES), (uint8_t)seq);
		text += *text == ' ';
	}
	return (size_t)(at - out);
}

static const struct {
	const char *what;
	enum reply_kind kind;
	bool deprecate_eof;
	const char *packets;
	const char *events;
} invented[] = {
	{ "OK", REPLY_RESULT, true, "1:00000002000000", "K." },
	{ "wrong sequence number", REPLY_RESULT, true, "2:00000002000000", "!." },
	{ "wrong sequence number later", REPLY_RESULT, true, "1:01 3:0364656600", "B!." },
	{ "empty packet", REPLY_RESULT, true, "1:", "!." },
	{ "OK cut short", REPLY_RESULT, true, "1:000000", "!." },
	{ "OK with a bad length", REPLY_RESULT, true, "1:00fbff0200000000", "!." },
	{ "OK in a row", REPLY_RESULT, true, "1:00000008000000 2:00000002000000", "KK." },
	{ "ERR cut short", REPLY_RESULT, true, "1:ff10", "!." },
	{ "ERR without state", REPLY_RESULT, true, "1:ff1004", "X." },
	{ "EOF as the first packet", REPLY_RESULT, true, "1:fe00000200", "!." },
	{ "column count of zero bytes", REPLY_RESULT, true, "1:fc", "!." },
	{ "column count of 0", REPLY_RESULT, true, "1:fc0000", "!." },
	{ "column count of 70000", REPLY_RESULT, true, "1:fd701101", "!." },
	{ "column count of eight bytes", REPLY_RESULT, true, "1:fe0100000000000000", "!." },
	{ "column count with rubbish", REPLY_RESULT, true, "1:01000000", "!." },
	{ "column count longer than any", REPLY_RESULT, true, "1:0100000000000000000000", "!." },
	{ "definitions follow", REPLY_RESULT, true, "1:0101 2:03646566 3:fe000002000000", "BCE." },
	{ "definitions left out", REPLY_RESULT, true, "1:0100 2:0131 3:fe000002000000", "BCBE." },
	{ "definitions left out, classic", REPLY_RESULT, false, "1:0100 2:fe00000200 3:0131 4:fe00000200", "BfBF." },
	{ "count in three bytes", REPLY_RESULT, true, "1:fc0100 2:03646566 3:fe000002000000", "BCE." },
	{ "empty definition", REPLY_RESULT, true, "1:01 2:", "B!." },
	{ "EOF among definitions", REPLY_RESULT, true, "1:02 2:03646566 3:fe00000200", "B!." },
	{ "ERR among definitions", REPLY_RESULT, true, "1:02 2:03646566 3:ff1004", "BX." },
	{ "empty row", REPLY_RESULT, true, "1:01 2:03646566 3:", "B!." },
	{ "OK too short for one in rows", REPLY_RESULT, true, "1:01 2:03646566 3:fe0000000000", "B!." },
	{ "row in place of an EOF", REPLY_RESULT, false, "1:01 2:03646566 3:0131", "B!." },
	{ "long EOF, classic", REPLY_RESULT, false, "1:01 2:03646566 3:fe00000200 4:fe0000020000000000", "Bf!." },
	{ "cursor", REPLY_RESULT, true, "1:01 2:03646566 3:fe000042000000", "BE." },
	{ "rows and then the cursor flag", REPLY_RESULT, true, "1:01 2:03646566 3:0131 4:fe000042000000", "BCBE." },
	{ "two results", REPLY_RESULT, true, "1:01 2:03646566 3:0131 4:fe00000a000000 5:01 6:03646566 7:fe000002000000",
	  "BCBEBCE." },
	{ "progress reports", REPLY_RESULT, true,
	  "1:ffffff010102 2:01 3:03646566 4:ffffff010102 5:0131 6:ffffff0101 7:fe000002000000", "BCBE." },
	{ "progress report cut short", REPLY_RESULT, true, "1:ffff", "!." },
	{ "LOCAL INFILE", REPLY_RESULT, true, "1:fb2f78 4:00010002000000", "LK." },
	{ "LOCAL INFILE without a name", REPLY_RESULT, true, "1:fb 4:ff1004", "LX." },
	{ "second number after a file", REPLY_RESULT, true, "1:fb2f78 2:00010002000000", "L!." },
	{ "prepare", REPLY_PREPARE, true, "1:000100000000000000000000", "P." },
	{ "prepare without warnings", REPLY_PREPARE, true, "1:00010000000000000000", "P." },
	{ "prepare cut short", REPLY_PREPARE, true, "1:00010000000000", "!." },
	{ "prepare answered by a result", REPLY_PREPARE, true, "1:01", "!." },
	{ "prepare, ERR among definitions", REPLY_PREPARE, true, "1:000100000002000000000000 2:03646566 3:ff1004", "PBX." },
	{ "one packet: a result", REPLY_ONE, true, "1:01", "!." },
	{ "one packet: more results are not waited for", REPLY_ONE, true, "1:0000000a000000", "K." },
	{ "text", REPLY_TEXT, true, "1:55707469", "B." },
	{ "text without a byte", REPLY_TEXT, true, "1:", "B." },
	{ "text that looks like OK", REPLY_TEXT, true, "1:00", "B." },
	{ "stream with new numbers", REPLY_STREAM, true, "1:0001 2:0002 9:0003 0:ef 1:fe00000000", "BF." },
	{ "stream with an empty packet", REPLY_STREAM, true, "1: 2:fe00000000", "BF." },
};

static struct trace_input invent(size_t i, uint8_t *memory)
{
	return (struct trace_input){
		.kind = invented[i].kind, .deprecate_eof = invented[i].deprecate_eof, .resume_seq = 4,
		.stream = memory,	  .len = assemble(invented[i].packets, memory),
	};
}

static void test_invented(void)
{
	uint8_t memory[512];
	struct trace whole, cut;

	for (size_t i = 0; i < sizeof(invented) / sizeof(invented[0]); i++) {
		struct trace_input in = invent(i, memory);

		trace_run(&whole, &in, 0, 0);
		CU_ASSERT_STRING_EQUAL(whole.events, invented[i].events);
		if (strcmp(whole.events, invented[i].events) != 0)
			fprintf(stderr, "%s: %s instead of %s\n", invented[i].what, whole.events, invented[i].events);
		for (size_t step = 1; step <= in.len; step++) {
			trace_run(&cut, &in, 0, step);
			CU_ASSERT_TRUE(trace_same(&whole, &cut));
			trace_fini(&cut);
		}
		trace_fini(&whole);
	}
}

/* Half a reply is no event and no end, wherever it stops. */
static void test_waits_for_the_rest(void)
{
	uint8_t memory[512];
	struct trace t;

	for (size_t i = 0; i < sizeof(invented) / sizeof(invented[0]); i++) {
		struct trace_input in = invent(i, memory);

		if (strchr(invented[i].events, '!'))
			continue;
		for (in.len--; in.len > 0; in.len--) {
			trace_run(&t, &in, 0, 0);
			CU_ASSERT_FALSE(t.over);
			trace_fini(&t);
		}
	}
}

/* ---- Long ones ----------------------------------------------------------------------------------------------------- */

static size_t put_packet(uint8_t *at, uint32_t len, uint8_t seq, uint8_t first)
{
	wire_put_header(at, len, seq);
	memset(at + WIRE_HEADER_BYTES, first, len);
	return WIRE_HEADER_BYTES + len;
}

/* A row that begins with 0xfe and one that goes on with 0xfe, 0xff and nothing: only its first packet is looked at. */
static void test_rows_over_16_mib(void)
{
	static const size_t steps[] = { 0, 1 << 16, 65521, (1 << 24) + 3 };
	uint8_t *stream = malloc(5 * ((size_t)WIRE_MAX_PAYLOAD + 8));
	struct trace whole = { 0 }, cut;
	size_t len = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
	len += assemble("1:01 2:03646566", stream);
	len += put_packet(stream + len, WIRE_MAX_PAYLOAD, 3, 0xfe);
	len += put_packet(stream + len, WIRE_MAX_PAYLOAD, 4, 0xff);
	len += put_packet(stream + len, 5, 5, 0xfe);
	len += put_packet(stream + len, WIRE_MAX_PAYLOAD, 6, 0x78);
	len += put_packet(stream + len, 0, 7, 0);
	len += assemble("8:0131 9:fe000002000000", stream + len);
	struct trace_input in = { .kind = REPLY_RESULT, .deprecate_eof = true, .seq_shift = 1, .stream = stream, .len = len };

	trace_run(&whole, &in, 0, 0);
	CU_ASSERT_STRING_EQUAL(whole.events, "BCBE.");
	CU_ASSERT_EQUAL(whole.consumed, len);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		trace_run(&cut, &in, 11, steps[i]);
		CU_ASSERT_TRUE(trace_same(&whole, &cut));
		trace_fini(&cut);
	}
	trace_fini(&whole);
	free(stream);
}

static void test_counts_rows(void)
{
	struct captured c;
	struct wire_walker w = { 0 };
	struct walk_item item;

	CU_ASSERT_TRUE_FATAL(read_captured("select_260_rows", "modern", &c));
	wire_walk_start(&w, c.in.kind, true);
	wire_walk_feed(&w, c.bytes + TRACE_HEAD, c.in.len);
	do
		item = wire_walk_next(&w);
	while (item.event == WALK_BYTES || item.event == WALK_COLUMNS_END ? w.rows == 0 : false);
	CU_ASSERT_EQUAL(w.rows, 260);
	item = wire_walk_next(&w);
	CU_ASSERT_TRUE(item.event == WALK_OK && item.last && item.ends_rows);
	wire_walk_fini(&w);
}

/* Every passed packet's number moves by the shift, round the corner at 256 too; a shift set in between counts from there. */
static void test_shift_in_between(void)
{
	struct captured c;
	struct wire_walker w = { 0 };
	size_t at = 0;
	uint8_t expected = 1;

	CU_ASSERT_TRUE_FATAL(read_captured("select_260_rows", "modern", &c));
	wire_walk_start(&w, c.in.kind, true);
	wire_walk_feed(&w, c.bytes + TRACE_HEAD, c.in.len);
	for (struct walk_item item = wire_walk_next(&w); !item.last; item = wire_walk_next(&w)) {
		if (item.event == WALK_COLUMNS_END) {
			CU_ASSERT_EQUAL(item.seq, expected);
			w.seq_shift = 7;
			expected = (uint8_t)(expected + 7);
		}
		for (at = 0; item.event == WALK_BYTES && at < item.len; expected++) {
			CU_ASSERT_EQUAL(item.data[at + 3], expected);
			at += WIRE_HEADER_BYTES + wire_header_len(item.data + at);
		}
	}
	CU_ASSERT_EQUAL(expected, (uint8_t)(263 + 7));
	wire_walk_fini(&w);
}

static void test_long_control_packets(void)
{
	const uint32_t most = WIRE_CONTROL_MAX;
	uint8_t *stream = malloc(most + 64);
	struct trace t;

	CU_ASSERT_PTR_NOT_NULL_FATAL(stream);
	put_packet(stream, most, 1, 0xff);
	memcpy(stream + WIRE_HEADER_BYTES, "\xff\x10\x04", 3);
	struct trace_input in = { .kind = REPLY_RESULT, .deprecate_eof = true, .stream = stream, .len = most + 4 };

	trace_run(&t, &in, 0, 4099);
	CU_ASSERT_STRING_EQUAL(t.events, "X.");
	trace_fini(&t);
	wire_put_header(stream, most + 1, 1);
	in.len++;
	for (size_t step = 0; step < 8192; step += 4096) {
		trace_run(&t, &in, 0, step);
		CU_ASSERT_STRING_EQUAL(t.events, "!.");
		trace_fini(&t);
	}
	free(stream);
}

/* A server that has had enough of a command of 13 packets answered with number 5; one that read it all goes on from there. */
static void test_numbers_after_a_long_command(void)
{
	uint8_t stream[64];
	struct wire_walker w = { 0 };
	struct walk_item item;
	size_t len = assemble("5:01 6:03646566 7:0131 8:fe000002000000", stream);

	wire_walk_start(&w, REPLY_RESULT, true);
	wire_walk_after_long_command(&w);
	wire_walk_feed(&w, stream, len);
	do
		item = wire_walk_next(&w);
	while (!item.last);
	CU_ASSERT_TRUE(item.event == WALK_OK && item.seq == 8);
	CU_ASSERT_EQUAL(wire_walk_next(&w).event, WALK_MORE);
	/* only the first number is free, and only when that was said */
	stream[8] = 9;
	wire_walk_start(&w, REPLY_RESULT, true);
	wire_walk_after_long_command(&w);
	wire_walk_feed(&w, stream, len);
	CU_ASSERT_EQUAL(wire_walk_next(&w).event, WALK_BYTES);
	CU_ASSERT_EQUAL(wire_walk_next(&w).event, WALK_BROKEN);
	wire_walk_start(&w, REPLY_RESULT, true);
	wire_walk_feed(&w, stream, len);
	CU_ASSERT_EQUAL(wire_walk_next(&w).event, WALK_BROKEN);
	wire_walk_fini(&w);
}

/* A collected last packet does not outlive the next start. */
static void test_start_frees_what_was_collected(void)
{
	uint8_t stream[64];
	struct wire_walker w = { 0 };
	size_t len = assemble("1:00000002000000", stream);

	for (int round = 0; round < 2; round++) {
		wire_walk_start(&w, REPLY_RESULT, true);
		wire_walk_feed(&w, stream, 6);
		CU_ASSERT_EQUAL(wire_walk_next(&w).event, WALK_MORE);
		wire_walk_feed(&w, stream + 6, len - 6);
		CU_ASSERT_EQUAL(wire_walk_next(&w).event, WALK_OK);
	}
	wire_walk_fini(&w);
	CU_ASSERT_PTR_NULL(w.collected);
}

void suite_wire_walker(void)
{
	CU_pSuite suite = CU_add_suite("wire_walker", NULL, NULL);

	CU_add_test(suite, "captured replies", test_captured);
	CU_add_test(suite, "every split", test_every_split);
	CU_add_test(suite, "stops at the end", test_stops_at_the_end);
	CU_add_test(suite, "replies made classic are the classic replies", test_for_classic_client);
	CU_add_test(suite, "invented replies", test_invented);
	CU_add_test(suite, "waits for the rest", test_waits_for_the_rest);
	CU_add_test(suite, "rows over 16 MiB", test_rows_over_16_mib);
	CU_add_test(suite, "counts rows", test_counts_rows);
	CU_add_test(suite, "shift in between", test_shift_in_between);
	CU_add_test(suite, "long control packets", test_long_control_packets);
	CU_add_test(suite, "numbers after a long command", test_numbers_after_a_long_command);
	CU_add_test(suite, "a start frees what was collected", test_start_frees_what_was_collected);
}
