/*
 * Every parser of single packets. An input is a byte that chooses the parser, eight bytes of capabilities, and the payload.
 * What was understood is written and read again: it must come out the same.
 */
#include <stdlib.h>
#include <string.h>

#include "proxy/wire/auth.h"
#include "proxy/wire/handshake.h"
#include "proxy/wire/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 9, WRITTEN_MAX = 1 << 16 };

static uint8_t written[WRITTEN_MAX];

static void check(bool fine)
{
	if (!fine)
		abort();
}

static bool same(struct wire_bytes a, struct wire_bytes b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool has_nul(struct wire_bytes b)
{
	return b.len && memchr(b.data, 0, b.len);
}

static void greeting(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_writer w = wire_writer(written, sizeof(written));
	struct wire_greeting a, b;

	(void)caps;
	if (!wire_parse_greeting(payload, len, &a))
		return;
	wire_put_greeting(&w, &a);
	check(!w.full && wire_parse_greeting(written + 4, w.len - 4, &b));
	check(same(a.server_version, b.server_version) && same(a.plugin, b.plugin) && a.capabilities == b.capabilities);
	check(memcmp(a.scramble, b.scramble, sizeof(a.scramble)) == 0 && a.connection_id == b.connection_id);
	check(a.charset == b.charset && a.status == b.status);
}

static void check_login(const struct wire_login *a, const struct wire_login *b)
{
	check(same(a->user, b->user) && same(a->auth, b->auth) && same(a->schema, b->schema));
	check(same(a->plugin, b->plugin) && same(a->attributes, b->attributes) && a->charset == b->charset);
	check(a->capabilities == b->capabilities && a->max_packet == b->max_packet);
}

static void login(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_writer w = wire_writer(written, sizeof(written));
	struct wire_login a, b;

	if (wire_parse_tls_request(payload, len, &a)) {
		wire_put_tls_request(&w, &a, 1);
		check(!w.full && wire_parse_tls_request(written + 4, w.len - 4, &b));
		check_login(&a, &b);
	}
	w = wire_writer(written, sizeof(written));
	if (!wire_parse_login(payload, len, caps, &a))
		return;
	wire_find_attribute(a.attributes, "program_name");
	wire_put_login(&w, &a, 1);
	check(!w.full && wire_parse_login(written + 4, w.len - 4, caps, &b));
	check_login(&a, &b);
}

static void change_user(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_writer w = wire_writer(written, sizeof(written));
	struct wire_login a, b;

	if (!wire_parse_change_user(payload, len, caps, &a))
		return;
	wire_put_change_user(&w, &a);
	check(!w.full && wire_parse_change_user(written + 4, w.len - 4, caps, &b));
	check_login(&a, &b);
}

static void auth_switch(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_writer w = wire_writer(written, sizeof(written));
	struct wire_auth_switch a, b;
	char plugin[64];

	(void)caps;
	if (!wire_parse_auth_switch(payload, len, &a) || a.plugin.len >= sizeof(plugin))
		return;
	check(!has_nul(a.plugin));
	memcpy(plugin, a.plugin.data, a.plugin.len);
	plugin[a.plugin.len] = 0;
	wire_put_auth_switch(&w, plugin, a.data.data, a.data.len, 2);
	check(!w.full && wire_parse_auth_switch(written + 4, w.len - 4, &b));
	check(same(a.plugin, b.plugin) && same(a.data, b.data));
}

static void track(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_track_iter it = wire_track_iter((struct wire_bytes){ payload, len });
	struct wire_track_entry entry;
	size_t entries = 0;

	(void)caps;
	while (wire_track_next(&it, &entry)) {
		check(entry.name.len + entry.value.len <= len);
		check(++entries <= len);
	}
}

static void ok(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_writer w = wire_writer(written, sizeof(written));
	struct wire_ok a, b;

	if (!wire_parse_ok(payload, len, caps, &a))
		return;
	track(a.track.data, a.track.len, 0);
	wire_put_ok(&w, &a, caps, 3);
	check(!w.full && wire_parse_ok(written + 4, w.len - 4, caps, &b));
	check(a.header == b.header && a.affected_rows == b.affected_rows && a.insert_id == b.insert_id);
	check(a.warnings == b.warnings && same(a.info, b.info) && same(a.track, b.track));
	check(((a.status ^ b.status) & ~SERVER_SESSION_STATE_CHANGED) == 0);
}

static void err(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_writer w = wire_writer(written, sizeof(written));
	struct wire_err a, b;
	char message[512];

	(void)caps;
	if (!wire_parse_err(payload, len, &a) || a.message.len >= sizeof(message) || has_nul(a.message))
		return;
	if (a.message.len)
		memcpy(message, a.message.data, a.message.len);
	message[a.message.len] = 0;
	wire_put_err(&w, a.code, a.sqlstate, message, 1);
	check(!w.full && wire_parse_err(written + 4, w.len - 4, &b));
	check(a.code == b.code && memcmp(a.sqlstate, b.sqlstate, 6) == 0 && same(a.message, b.message));
}

static void small(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_prepared prepared;
	uint16_t warnings, status;
	bool is_prepared = wire_parse_prepared(payload, len, &prepared);
	bool is_eof = wire_parse_eof(payload, len, &warnings, &status);

	(void)caps;
	check(!is_prepared || len >= 10);
	check(!is_eof || (len >= 5 && len < 9));
}

static void stored(const uint8_t *payload, size_t len, uint64_t caps)
{
	uint8_t key[32];

	(void)caps;
	check(!auth_native_parse((const char *)payload, len, key) || len == 41);
	check(!auth_ed25519_parse((const char *)payload, len, key) || len == 43);
}

/* The payload as a program of reads on itself: nothing is ever given from outside it. */
static void reader(const uint8_t *payload, size_t len, uint64_t caps)
{
	struct wire_reader r = wire_reader(payload, len);

	while (!r.bad && wire_left(&r) > 0) {
		struct wire_bytes b = { 0 };

		switch (caps & 7) {
		case 0: wire_get_u16(&r); break;
		case 1: wire_get_u24(&r); break;
		case 2: wire_get_u64(&r); break;
		case 3: wire_get_lenenc(&r); break;
		case 4: b = wire_get_lenenc_bytes(&r); break;
		case 5: b = wire_get_cstring(&r); break;
		case 6: b = wire_get_bytes(&r, wire_get_u8(&r)); break;
		default: wire_get_u8(&r); break;
		}
		check(b.len == 0 || (b.data >= payload && b.data + b.len <= payload + len));
		caps = caps >> 3 | caps << 61;
	}
}

static void (*const parsers[])(const uint8_t *payload, size_t len, uint64_t caps) = {
	greeting, login, change_user, auth_switch, ok, track, err, small, stored, reader,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t caps = 0;
	uint8_t *payload;

	if (size < HEAD)
		return 0;
	for (int i = 0; i < 8; i++)
		caps |= (uint64_t)data[1 + i] << (8 * i);
	/* a copy of its own, so that one byte outside is seen */
	size -= HEAD;
	payload = malloc(size ? size : 1);
	if (!payload)
		return 0;
	memcpy(payload, data + HEAD, size);
	parsers[data[0] % (sizeof(parsers) / sizeof(parsers[0]))](payload, size, caps);
	free(payload);
	return 0;
}
