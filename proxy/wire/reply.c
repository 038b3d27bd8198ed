#include "proxy/wire/reply.h"

#include <string.h>

enum { MESSAGE_MAX = 512, SHORT_OK = 7 };

/* ---- OK ----------------------------------------------------------------------------------------------------------- */

static __attribute__((noinline)) bool parse_long_ok(const uint8_t *payload, size_t len, uint64_t capabilities, struct wire_ok *out)
{
	struct wire_reader r = wire_reader(payload, len);

	*out = (struct wire_ok){ .header = wire_get_u8(&r) };
	if (out->header != 0x00 && out->header != 0xfe)
		return false;
	out->affected_rows = wire_get_lenenc(&r);
	out->insert_id = wire_get_lenenc(&r);
	out->status = wire_get_u16(&r);
	out->warnings = wire_get_u16(&r);
	if (r.bad || wire_left(&r) == 0)
		return !r.bad;
	out->info = wire_get_lenenc_bytes(&r);
	if ((capabilities & CLIENT_SESSION_TRACK) && (out->status & SERVER_SESSION_STATE_CHANGED))
		out->track = wire_get_lenenc_bytes(&r);
	return !r.bad;
}

bool wire_parse_ok(const uint8_t *payload, size_t len, uint64_t capabilities, struct wire_ok *out)
{
	const uint8_t *p = payload;

	/* Behind rows nearly always: two small counts, flags, warnings, and no more. */
	if (len != SHORT_OK || (p[0] != 0x00 && p[0] != 0xfe) || p[1] >= 0xfb || p[2] >= 0xfb)
		return parse_long_ok(payload, len, capabilities, out);
	*out = (struct wire_ok){
		.header = p[0],
		.affected_rows = p[1],
		.insert_id = p[2],
		.status = (uint16_t)(p[3] | p[4] << 8),
		.warnings = (uint16_t)(p[5] | p[6] << 8),
	};
	return true;
}

void wire_put_ok(struct wire_writer *w, const struct wire_ok *ok, uint64_t capabilities, uint8_t seq)
{
	bool tracks = (capabilities & CLIENT_SESSION_TRACK) && ok->track.len > 0;
	uint16_t status = ok->status;

	/* The flag promises data behind it. */
	if (!tracks)
		status &= (uint16_t)~SERVER_SESSION_STATE_CHANGED;
	wire_begin(w);
	wire_put_u8(w, ok->header);
	wire_put_lenenc(w, ok->affected_rows);
	wire_put_lenenc(w, ok->insert_id);
	wire_put_u16(w, status);
	wire_put_u16(w, ok->warnings);
	/* The manuals call info "the rest of the packet" for clients without tracking; servers send a length to them too. */
	if (tracks || ok->info.len > 0)
		wire_put_lenenc_bytes(w, ok->info.data, ok->info.len);
	if (tracks)
		wire_put_lenenc_bytes(w, ok->track.data, ok->track.len);
	wire_end(w, seq);
}

struct wire_track_iter wire_track_iter(struct wire_bytes track)
{
	return (struct wire_track_iter){
		.outer = wire_reader(track.data, track.len),
		.inner = wire_reader(NULL, 0),
	};
}

/* The next name and value of a SYSTEM_VARIABLES entry that was begun. */
static bool next_variable(struct wire_track_iter *it, struct wire_track_entry *out)
{
	out->type = SESSION_TRACK_SYSTEM_VARIABLES;
	out->name = wire_get_lenenc_bytes(&it->inner);
	out->value = wire_get_lenenc_bytes(&it->inner);
	if (!it->inner.bad)
		return true;
	it->outer.bad = true;
	return false;
}

/* An entry other than variables; false when it is of a kind that this program does not know or is malformed. */
static bool read_entry(uint8_t type, struct wire_bytes data, struct wire_track_iter *it, struct wire_track_entry *out)
{
	struct wire_reader r = wire_reader(data.data, data.len);

	if (type > SESSION_TRACK_TRANSACTION_STATE)
		return false;
	out->type = (enum wire_track)type;
	if (type == SESSION_TRACK_GTIDS)
		wire_get_u8(&r); /* encoding: text is the only one */
	out->value = wire_get_lenenc_bytes(&r);
	it->outer.bad |= r.bad;
	return !r.bad;
}

bool wire_track_next(struct wire_track_iter *it, struct wire_track_entry *out)
{
	*out = (struct wire_track_entry){ 0 };
	if (wire_left(&it->inner) > 0)
		return next_variable(it, out);
	while (!it->outer.bad && wire_left(&it->outer) > 0) {
		uint8_t type = wire_get_u8(&it->outer);
		struct wire_bytes data = wire_get_lenenc_bytes(&it->outer);

		if (it->outer.bad)
			return false;
		if (type == SESSION_TRACK_SYSTEM_VARIABLES && data.len > 0) {
			it->inner = wire_reader(data.data, data.len);
			return next_variable(it, out);
		}
		if (type != SESSION_TRACK_SYSTEM_VARIABLES && read_entry(type, data, it, out))
			return true;
	}
	return false;
}

/* ---- ERR, EOF ----------------------------------------------------------------------------------------------------- */

bool wire_parse_err(const uint8_t *payload, size_t len, struct wire_err *out)
{
	struct wire_reader r = wire_reader(payload, len);
	uint8_t header = wire_get_u8(&r);

	*out = (struct wire_err){ .code = wire_get_u16(&r), .sqlstate = "HY000" };
	/* Before it knows that it talks to a 4.1 client a server leaves the state out ("Too many connections"). */
	if (wire_left(&r) >= 6 && *r.at == '#') {
		wire_get_u8(&r);
		memcpy(out->sqlstate, wire_get_bytes(&r, 5).data, 5);
	}
	out->message = wire_get_rest(&r);
	return header == 0xff && !r.bad;
}

void wire_put_err(struct wire_writer *w, uint16_t code, const char *sqlstate, const char *message, uint8_t seq)
{
	wire_begin(w);
	wire_put_u8(w, 0xff);
	wire_put_u16(w, code);
	wire_put_u8(w, '#');
	wire_put_bytes(w, sqlstate, 5);
	wire_put_bytes(w, message, strnlen(message, MESSAGE_MAX));
	wire_end(w, seq);
}

void wire_put_eof(struct wire_writer *w, uint16_t warnings, uint16_t status, uint8_t seq)
{
	uint8_t *p = wire_room(w, WIRE_HEADER_BYTES + 5);

	if (!p)
		return;
	wire_put_header(p, 5, seq);
	p[4] = 0xfe;
	p[5] = (uint8_t)warnings;
	p[6] = (uint8_t)(warnings >> 8);
	p[7] = (uint8_t)status;
	p[8] = (uint8_t)(status >> 8);
}

bool wire_parse_eof(const uint8_t *payload, size_t len, uint16_t *warnings, uint16_t *status)
{
	struct wire_reader r = wire_reader(payload, len);
	uint8_t header = wire_get_u8(&r);

	*warnings = wire_get_u16(&r);
	*status = wire_get_u16(&r);
	return header == 0xfe && len < 9 && !r.bad;
}

/* ---- PREPARE_OK --------------------------------------------------------------------------------------------------- */

bool wire_parse_prepared(const uint8_t *payload, size_t len, struct wire_prepared *out)
{
	struct wire_reader r = wire_reader(payload, len);
	uint8_t header = wire_get_u8(&r);

	*out = (struct wire_prepared){ .id = wire_get_u32(&r) };
	out->columns = wire_get_u16(&r);
	out->params = wire_get_u16(&r);
	wire_get_u8(&r);
	/* Servers before 5.0 stop here. */
	out->warnings = wire_left(&r) >= 2 ? wire_get_u16(&r) : 0;
	return header == 0x00 && !r.bad;
}
