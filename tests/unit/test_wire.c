/* Basic types, the connection phase, OK and its tracking, ERR, EOF, PREPARE_OK: built, taken apart, and malformed. */
#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/wire/handshake.h"
#include "proxy/wire/reply.h"

void suite_wire(void);

static bool equals(struct wire_bytes b, const char *text)
{
	return b.len == strlen(text) && memcmp(b.data ? b.data : (const uint8_t *)"", text, b.len) == 0;
}

static struct wire_bytes of(const char *text)
{
	return (struct wire_bytes){ .data = (const uint8_t *)text, .len = strlen(text) };
}

/* ---- Basic types --------------------------------------------------------------------------------------------------- */

static void test_integers(void)
{
	static const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18 };
	struct wire_reader r = wire_reader(bytes, sizeof(bytes));

	CU_ASSERT_EQUAL(wire_get_u8(&r), 1);
	CU_ASSERT_EQUAL(wire_get_u16(&r), 0x0302);
	CU_ASSERT_EQUAL(wire_get_u24(&r), 0x060504);
	CU_ASSERT_EQUAL(wire_get_u32(&r), 0x0a090807);
	CU_ASSERT_EQUAL(wire_get_u64(&r), UINT64_C(0x1211100f0e0d0c0b));
	CU_ASSERT_FALSE(r.bad);
	CU_ASSERT_EQUAL(wire_get_u8(&r), 0);
	CU_ASSERT_TRUE(r.bad);
}

/* The first failure stays, and nothing is read behind it although it would fit. */
static void test_first_failure_stays(void)
{
	struct wire_reader r = wire_reader("\1\2\3", 3);

	CU_ASSERT_EQUAL(wire_get_u32(&r), 0);
	CU_ASSERT_EQUAL(wire_get_u8(&r), 0);
	CU_ASSERT_EQUAL(wire_left(&r), 0);
	CU_ASSERT_EQUAL(wire_get_rest(&r).len, 0);
	CU_ASSERT_TRUE(r.bad);
	r = wire_reader(NULL, 10);
	CU_ASSERT_EQUAL(wire_left(&r), 0);
}

static void test_lenenc(void)
{
	static const uint64_t values[] = { 0, 1, 250, 251, 255, 256, 0xffff, 0x10000, 0xffffff, 0x1000000, UINT64_MAX };
	static const size_t widths[] = { 1, 1, 1, 3, 3, 3, 3, 4, 4, 9, 9 };
	uint8_t memory[16];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		struct wire_writer w = wire_writer(memory, sizeof(memory));
		struct wire_reader r;

		wire_put_lenenc(&w, values[i]);
		CU_ASSERT_EQUAL(w.len, widths[i]);
		r = wire_reader(memory, w.len);
		CU_ASSERT_EQUAL(wire_get_lenenc(&r), values[i]);
		CU_ASSERT_FALSE(r.bad);
		r = wire_reader(memory, w.len - 1);
		wire_get_lenenc(&r);
		CU_ASSERT_TRUE(r.bad);
	}
}

static void test_lenenc_malformed(void)
{
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = {
		{ "\xfb", 1 }, { "\xff", 1 }, { "\xff\1\2\3\4\5\6\7\10", 9 }, { "\5abcd", 5 }, { "\xfe\xff\xff\xff\xff\xff\xff\xff\xff" "a", 10 },
		{ "\xfe\0\0\0\0\1\0\0\0" "a", 10 }, { "\xfd\1\0\1a", 5 }, { "", 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wire_reader r = wire_reader(rows[i].bytes, rows[i].len);

		CU_ASSERT_EQUAL(wire_get_lenenc_bytes(&r).len, 0);
		CU_ASSERT_TRUE(r.bad);
	}
}

static void test_strings(void)
{
	struct wire_reader r = wire_reader("abc\0\0\2xyrest", 12);

	CU_ASSERT_TRUE(equals(wire_get_cstring(&r), "abc"));
	CU_ASSERT_TRUE(equals(wire_get_cstring(&r), ""));
	CU_ASSERT_TRUE(equals(wire_get_lenenc_bytes(&r), "xy"));
	CU_ASSERT_TRUE(equals(wire_get_rest(&r), "rest"));
	CU_ASSERT_FALSE(r.bad);
	r = wire_reader("no end", 6);
	CU_ASSERT_EQUAL(wire_get_cstring(&r).len, 0);
	CU_ASSERT_TRUE(r.bad);
}

static void test_writer_is_full(void)
{
	uint8_t memory[8];

	for (size_t size = 0; size <= sizeof(memory); size++) {
		struct wire_writer w = wire_writer(memory, size);

		wire_begin(&w);
		wire_put_cstring(&w, "abc");
		wire_put_zeros(&w, 0);
		wire_end(&w, 9);
		CU_ASSERT_EQUAL(w.full, size < 8);
		CU_ASSERT_TRUE(w.len <= size);
		if (!w.full)
			CU_ASSERT_EQUAL(memcmp(memory, "\4\0\0\x09" "abc", 8), 0);
		if (w.full) {
			size_t len = w.len;

			wire_put_bytes(&w, "", 0);
			wire_put_u8(&w, 1);
			CU_ASSERT_EQUAL(w.len, len);
		}
	}
}

/* ---- Connection phase ---------------------------------------------------------------------------------------------- */

enum { MEMORY = 1024 };

/* Every shorter packet must be refused or read without leaving it; a copy of exactly its size lets a sanitizer see. */
#define CUT_EVERYWHERE(payload, len, call)                                                                             \
	for (size_t cut = 0; cut < (len); cut++) {                                                                     \
		uint8_t *copy = malloc(cut ? cut : 1);                                                                 \
		CU_ASSERT_PTR_NOT_NULL_FATAL(copy);                                                                    \
		memcpy(copy, payload, cut);                                                                            \
		call;                                                                                                  \
		free(copy);                                                                                            \
	}

static const uint64_t usual = CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH | CLIENT_CONNECT_WITH_DB |
	CLIENT_CONNECT_ATTRS | CLIENT_PLUGIN_AUTH_LENENC | CLIENT_SESSION_TRACK | CLIENT_DEPRECATE_EOF;

static void check_greeting(uint64_t caps)
{
	struct wire_greeting in = {
		.server_version = of("5.5.5-10.11.6-MariaDB"), .connection_id = 0x80000001, .capabilities = caps, .charset = 45,
		.status = SERVER_STATUS_AUTOCOMMIT, .scramble = "01234567890123456789",
		.plugin = of(caps & CLIENT_PLUGIN_AUTH ? "mysql_native_password" : ""),
	}, out;
	uint8_t memory[MEMORY];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	bool accepted = false;

	wire_put_greeting(&w, &in);
	CU_ASSERT_FALSE(w.full);
	CU_ASSERT_EQUAL(memory[3], 0);
	CU_ASSERT_EQUAL(wire_header_len(memory), w.len - 4);
	CU_ASSERT_TRUE(wire_parse_greeting(memory + 4, w.len - 4, &out));
	CU_ASSERT_TRUE(equals(out.server_version, "5.5.5-10.11.6-MariaDB"));
	CU_ASSERT_EQUAL(out.connection_id, in.connection_id);
	CU_ASSERT_EQUAL(out.capabilities, caps);
	CU_ASSERT_EQUAL(out.charset, 45);
	CU_ASSERT_EQUAL(out.status, in.status);
	CU_ASSERT_EQUAL(memcmp(out.scramble, in.scramble, sizeof(in.scramble)), 0);
	CU_ASSERT_EQUAL(out.plugin.len, in.plugin.len);
	CUT_EVERYWHERE(memory + 4, w.len - 5 - in.plugin.len,
		       accepted |= wire_parse_greeting(copy, cut, &out));
	CU_ASSERT_FALSE(accepted);
}

static void test_greeting(void)
{
	check_greeting(usual);
	check_greeting(usual | MARIADB_CLIENT_PROGRESS | MARIADB_CLIENT_CACHE_METADATA);
	check_greeting(usual | CLIENT_LONG_PASSWORD);
	check_greeting((usual | CLIENT_LONG_PASSWORD) & ~CLIENT_PLUGIN_AUTH);
}

static void test_greeting_refused(void)
{
	struct wire_greeting out;

	CU_ASSERT_FALSE(wire_parse_greeting((const uint8_t *)"\x09" "3.23\0", 7, &out));
	CU_ASSERT_FALSE(wire_parse_greeting((const uint8_t *)"\xff\x10\x04Too many connections", 23, &out));
	CU_ASSERT_FALSE(wire_parse_greeting(NULL, 0, &out));
}

/* With which capabilities a login is written, with which it was offered, and what must be found. */
static const struct {
	uint64_t caps, offered;
	const char *schema, *plugin, *program;
} logins[] = {
	{ usual, usual, "shop", "mysql_native_password", "cli" },
	{ usual & ~CLIENT_CONNECT_WITH_DB, usual, "", "mysql_native_password", "cli" },
	{ usual & ~CLIENT_CONNECT_ATTRS, usual, "shop", "mysql_native_password", "" },
	{ usual & ~CLIENT_PLUGIN_AUTH, usual, "shop", "", "cli" },
	{ usual & ~CLIENT_PLUGIN_AUTH_LENENC, usual, "shop", "mysql_native_password", "cli" },
	{ CLIENT_PROTOCOL_41, usual, "", "", "" },
	{ usual | MARIADB_CLIENT_CACHE_METADATA, usual | MARIADB_CLIENT_CACHE_METADATA, "shop", "mysql_native_password", "cli" },
	{ usual | CLIENT_LONG_PASSWORD, ~UINT64_C(0), "shop", "mysql_native_password", "cli" },
};

static void check_login(size_t i)
{
	uint8_t memory[MEMORY], pairs[64];
	struct wire_writer w = wire_writer(memory, sizeof(memory)), p = wire_writer(pairs, sizeof(pairs));
	struct wire_login in = {
		.capabilities = logins[i].caps, .max_packet = 1 << 24, .charset = 45, .user = of("app"),
		.auth = of("12345678901234567890"), .schema = of("shop"), .plugin = of("mysql_native_password"),
	}, out;

	wire_put_attribute(&p, "_os", "Linux", 5);
	wire_put_attribute(&p, "program_name", "cli", 3);
	in.attributes = (struct wire_bytes){ pairs, p.len };
	wire_put_login(&w, &in, 1);
	CU_ASSERT_FALSE(w.full);
	CU_ASSERT_EQUAL(memory[3], 1);
	CU_ASSERT_TRUE(wire_parse_login(memory + 4, w.len - 4, logins[i].offered, &out));
	CU_ASSERT_EQUAL(out.capabilities, logins[i].caps & logins[i].offered);
	CU_ASSERT_EQUAL(out.max_packet, 1 << 24);
	CU_ASSERT_EQUAL(out.charset, 45);
	CU_ASSERT_TRUE(equals(out.user, "app") && equals(out.auth, "12345678901234567890"));
	CU_ASSERT_TRUE(equals(out.schema, logins[i].schema));
	CU_ASSERT_TRUE(equals(out.plugin, logins[i].plugin));
	CU_ASSERT_TRUE(equals(wire_find_attribute(out.attributes, "program_name"), logins[i].program));
	CU_ASSERT_FALSE(wire_parse_tls_request(memory + 4, w.len - 4, &out));
	CUT_EVERYWHERE(memory + 4, w.len - 4, { bool unused = wire_parse_login(copy, cut, usual, &out); (void)unused; });
}

static void test_login(void)
{
	for (size_t i = 0; i < sizeof(logins) / sizeof(logins[0]); i++)
		check_login(i);
}

/* A client that asks for what was not offered must not make us read fields by it: here it claims nothing of 4.1. */
static void test_login_refused(void)
{
	uint8_t payload[40] = { 0 };
	struct wire_login out;

	CU_ASSERT_FALSE(wire_parse_login(payload, sizeof(payload), usual, &out));
	payload[1] = CLIENT_PROTOCOL_41 >> 8;
	CU_ASSERT_TRUE(wire_parse_login(payload, sizeof(payload), usual, &out));
	CU_ASSERT_FALSE(wire_parse_login(payload, sizeof(payload), 0, &out));
	CU_ASSERT_FALSE(wire_parse_login(payload, 32, usual, &out));
}

static void test_tls_request(void)
{
	uint8_t memory[64];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_login in = { .capabilities = usual | CLIENT_SSL, .max_packet = 77, .charset = 33 }, out;

	wire_put_tls_request(&w, &in, 1);
	CU_ASSERT_EQUAL(w.len, 36);
	CU_ASSERT_TRUE(wire_parse_tls_request(memory + 4, 32, &out));
	CU_ASSERT_EQUAL(out.capabilities, in.capabilities);
	CU_ASSERT_EQUAL(out.max_packet, 77);
	CU_ASSERT_FALSE(wire_parse_tls_request(memory + 4, 31, &out));
	memory[5] &= (uint8_t)~(CLIENT_SSL >> 8);
	CU_ASSERT_FALSE(wire_parse_tls_request(memory + 4, 32, &out));
}

static void test_auth_switch(void)
{
	static const struct {
		const char *plugin;
		size_t data, sent;
	} rows[] = { { "mysql_native_password", 20, 21 }, { "client_ed25519", 32, 32 }, { "dialog", 0, 0 } };
	static const uint8_t scramble[32] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };
	uint8_t memory[MEMORY];
	struct wire_auth_switch out;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wire_writer w = wire_writer(memory, sizeof(memory));

		wire_put_auth_switch(&w, rows[i].plugin, scramble, rows[i].data, 2);
		CU_ASSERT_EQUAL(w.len, 4 + 1 + strlen(rows[i].plugin) + 1 + rows[i].sent);
		CU_ASSERT_TRUE(wire_parse_auth_switch(memory + 4, w.len - 4, &out));
		CU_ASSERT_TRUE(equals(out.plugin, rows[i].plugin));
		/* a nonce that happens to end in zero stays whole */
		CU_ASSERT_EQUAL(out.data.len, rows[i].data);
		CU_ASSERT_EQUAL(memcmp(out.data.data, scramble, out.data.len), 0);
	}
	CU_ASSERT_FALSE(wire_parse_auth_switch((const uint8_t *)"\xfe", 1, &out));
	CU_ASSERT_FALSE(wire_parse_auth_switch((const uint8_t *)"\xfeno end", 7, &out));
	CU_ASSERT_FALSE(wire_parse_auth_switch((const uint8_t *)"\0x\0", 3, &out));
}

static void test_change_user(void)
{
	uint8_t memory[MEMORY];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_login in = {
		.capabilities = usual, .charset = 45, .user = of("app"), .auth = of("12345678901234567890"), .schema = of(""),
		.plugin = of("mysql_native_password"), .attributes = of("\1k\1v"),
	}, out;

	wire_put_change_user(&w, &in);
	CU_ASSERT_TRUE(wire_parse_change_user(memory + 4, w.len - 4, usual, &out));
	CU_ASSERT_TRUE(equals(out.user, "app") && equals(out.auth, "12345678901234567890") && equals(out.schema, ""));
	CU_ASSERT_TRUE(equals(out.plugin, "mysql_native_password") && out.charset == 45);
	CU_ASSERT_TRUE(equals(wire_find_attribute(out.attributes, "k"), "v"));
	CUT_EVERYWHERE(memory + 4, w.len - 4, { bool unused = wire_parse_change_user(copy, cut, usual, &out); (void)unused; });
	/* the short form of old clients: nothing behind the schema */
	CU_ASSERT_TRUE(wire_parse_change_user((const uint8_t *)"\x11" "u\0\0db\0", 7, usual, &out));
	CU_ASSERT_TRUE(equals(out.user, "u") && equals(out.schema, "db") && out.plugin.len == 0);
	CU_ASSERT_FALSE(wire_parse_change_user((const uint8_t *)"\x11" "u\0\x14short", 9, usual, &out));
	CU_ASSERT_FALSE(wire_parse_change_user((const uint8_t *)"\x03" "u\0\0db\0", 7, usual, &out));
}

static void test_attributes(void)
{
	struct wire_bytes pairs = of("\1a\1b\3key\5value\1c\1d");

	CU_ASSERT_TRUE(equals(wire_find_attribute(pairs, "key"), "value"));
	CU_ASSERT_TRUE(equals(wire_find_attribute(pairs, "value"), ""));
	CU_ASSERT_TRUE(equals(wire_find_attribute(of("\1a\x09no"), "a"), ""));
	CU_ASSERT_TRUE(equals(wire_find_attribute((struct wire_bytes){ 0 }, "a"), ""));
}

/* ---- Replies ------------------------------------------------------------------------------------------------------- */

static void check_ok(const struct wire_ok *in, uint64_t caps)
{
	uint8_t memory[MEMORY];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	bool tracks = caps & CLIENT_SESSION_TRACK;
	struct wire_ok out;

	wire_put_ok(&w, in, caps, 7);
	CU_ASSERT_EQUAL(memory[3], 7);
	CU_ASSERT_TRUE(wire_parse_ok(memory + 4, w.len - 4, caps, &out));
	CU_ASSERT_EQUAL(out.header, in->header);
	CU_ASSERT_EQUAL(out.affected_rows, in->affected_rows);
	CU_ASSERT_EQUAL(out.insert_id, in->insert_id);
	CU_ASSERT_EQUAL(out.warnings, in->warnings);
	CU_ASSERT_EQUAL(out.info.len, in->info.len);
	CU_ASSERT_EQUAL(out.track.len, tracks ? in->track.len : 0);
	CU_ASSERT_EQUAL(out.status, tracks && in->track.len ? in->status
							    : in->status & ~SERVER_SESSION_STATE_CHANGED);
	CUT_EVERYWHERE(memory + 4, w.len - 4, { bool unused = wire_parse_ok(copy, cut, caps, &out); (void)unused; });
}

static void test_ok(void)
{
	const uint16_t changed = SERVER_STATUS_AUTOCOMMIT | SERVER_SESSION_STATE_CHANGED;
	const struct wire_ok rows[] = {
		{ .header = 0x00, .status = SERVER_STATUS_AUTOCOMMIT },
		{ .header = 0xfe, .status = SERVER_STATUS_AUTOCOMMIT, .warnings = 3 },
		{ .affected_rows = 70000, .insert_id = UINT64_MAX, .status = SERVER_STATUS_IN_TRANS, .info = of("Rows matched: 1") },
		{ .status = changed, .track = of("\1\3\2db") },
		{ .status = changed, .info = of("text"), .track = of("\1\3\2db") },
		{ .status = changed },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		check_ok(&rows[i], CLIENT_SESSION_TRACK);
		check_ok(&rows[i], 0);
	}
}

static void test_ok_malformed(void)
{
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = {
		{ "", 0 }, { "\0", 1 }, { "\1\0\0\2\0\0\0", 7 }, { "\0\0\0\2\0\0", 6 }, { "\0\xff\0\2\0\0\0", 7 },
		{ "\0\0\0\2\0\0\0\5abc", 11 }, { "\0\0\0\0\x40\0\0\0\5\1\3\2db", 13 }, { "\0\0\0\0\x40\0\0\0", 8 },
	};
	struct wire_ok out;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CU_ASSERT_FALSE(wire_parse_ok((const uint8_t *)rows[i].bytes, rows[i].len, CLIENT_SESSION_TRACK, &out));
}

static void test_track(void)
{
	static const char data[] = "\0\x0a" "\1a\1b\2cd\2ef"	  /* two variables in one entry */
				   "\1\5\4shop"			  /* schema */
				   "\2\2\1" "1"			  /* state change */
				   "\3\6\0\4gtid"		  /* GTIDs */
				   "\x63\2xx"			  /* a kind of the future */
				   "\0\0"			  /* nothing in it */
				   "\5\x09\x08T_______";	  /* transaction state */
	static const struct {
		enum wire_track type;
		const char *name, *value;
	} want[] = {
		{ SESSION_TRACK_SYSTEM_VARIABLES, "a", "b" }, { SESSION_TRACK_SYSTEM_VARIABLES, "cd", "ef" },
		{ SESSION_TRACK_SCHEMA, "", "shop" },	      { SESSION_TRACK_STATE_CHANGE, "", "1" },
		{ SESSION_TRACK_GTIDS, "", "gtid" },	      { SESSION_TRACK_TRANSACTION_STATE, "", "T_______" },
	};
	struct wire_track_iter it = wire_track_iter((struct wire_bytes){ (const uint8_t *)data, sizeof(data) - 1 });
	struct wire_track_entry entry;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		CU_ASSERT_TRUE_FATAL(wire_track_next(&it, &entry));
		CU_ASSERT_EQUAL(entry.type, want[i].type);
		CU_ASSERT_TRUE(equals(entry.name, want[i].name) && equals(entry.value, want[i].value));
	}
	CU_ASSERT_FALSE(wire_track_next(&it, &entry));
	CU_ASSERT_FALSE(it.outer.bad);
}

static void test_track_malformed(void)
{
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = { { "\0", 1 }, { "\1\5\4sho", 6 }, { "\0\4\1a\5b", 6 }, { "\0\2\1a", 4 }, { "\1\2\4s", 4 }, { "\3\1\0", 3 } };
	struct wire_track_entry entry;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wire_track_iter it =
			wire_track_iter((struct wire_bytes){ (const uint8_t *)rows[i].bytes, rows[i].len });

		CU_ASSERT_FALSE(wire_track_next(&it, &entry));
		CU_ASSERT_TRUE(it.outer.bad);
		CU_ASSERT_FALSE(wire_track_next(&it, &entry));
	}
}

static void test_err(void)
{
	uint8_t memory[MEMORY];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_err out;
	char text[700];

	wire_put_err(&w, ER_ACCESS_DENIED_ERROR, "28000", "Access denied", 2);
	CU_ASSERT_TRUE(wire_parse_err(memory + 4, w.len - 4, &out));
	CU_ASSERT_EQUAL(out.code, 1045);
	CU_ASSERT_STRING_EQUAL(out.sqlstate, "28000");
	CU_ASSERT_TRUE(equals(out.message, "Access denied"));
	CU_ASSERT_TRUE(wire_parse_err((const uint8_t *)"\xff\x10\x04Too many", 11, &out));
	CU_ASSERT_STRING_EQUAL(out.sqlstate, "HY000");
	CU_ASSERT_TRUE(equals(out.message, "Too many"));
	CU_ASSERT_TRUE(wire_parse_err((const uint8_t *)"\xff\x10\x04#080", 7, &out));
	CU_ASSERT_FALSE(wire_parse_err((const uint8_t *)"\xff\x10", 2, &out));
	CU_ASSERT_FALSE(wire_parse_err((const uint8_t *)"\0\x10\x04", 3, &out));
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	w = wire_writer(memory, sizeof(memory));
	wire_put_err(&w, 1105, "HY000", text, 1);
	CU_ASSERT_EQUAL(w.len, 4 + 9 + 512);
}

static void test_eof_and_prepared(void)
{
	uint8_t memory[16];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	uint16_t warnings, status;
	struct wire_prepared prepared;

	wire_put_eof(&w, 3, SERVER_MORE_RESULTS_EXISTS, 5);
	CU_ASSERT_EQUAL(w.len, 9);
	CU_ASSERT_TRUE(wire_parse_eof(memory + 4, 5, &warnings, &status));
	CU_ASSERT_TRUE(warnings == 3 && status == SERVER_MORE_RESULTS_EXISTS);
	CU_ASSERT_FALSE(wire_parse_eof(memory + 4, 4, &warnings, &status));
	CU_ASSERT_TRUE(wire_parse_prepared((const uint8_t *)"\0\1\0\0\0\2\0\3\0\0\4\0", 12, &prepared));
	CU_ASSERT_TRUE(prepared.id == 1 && prepared.columns == 2 && prepared.params == 3 && prepared.warnings == 4);
	CU_ASSERT_FALSE(wire_parse_prepared((const uint8_t *)"\0\1\0\0\0\2\0\3\0", 9, &prepared));
	CU_ASSERT_FALSE(wire_parse_prepared((const uint8_t *)"\1\1\0\0\0\2\0\3\0\0\4\0", 12, &prepared));
}

void suite_wire(void)
{
	CU_pSuite suite = CU_add_suite("wire", NULL, NULL);

	CU_add_test(suite, "integers", test_integers);
	CU_add_test(suite, "the first failure stays", test_first_failure_stays);
	CU_add_test(suite, "length-encoded integers", test_lenenc);
	CU_add_test(suite, "malformed lengths", test_lenenc_malformed);
	CU_add_test(suite, "strings", test_strings);
	CU_add_test(suite, "a full writer", test_writer_is_full);
	CU_add_test(suite, "greeting", test_greeting);
	CU_add_test(suite, "greetings refused", test_greeting_refused);
	CU_add_test(suite, "login", test_login);
	CU_add_test(suite, "logins refused", test_login_refused);
	CU_add_test(suite, "TLS request", test_tls_request);
	CU_add_test(suite, "authentication switch", test_auth_switch);
	CU_add_test(suite, "change user", test_change_user);
	CU_add_test(suite, "connection attributes", test_attributes);
	CU_add_test(suite, "OK", test_ok);
	CU_add_test(suite, "malformed OK", test_ok_malformed);
	CU_add_test(suite, "session tracking", test_track);
	CU_add_test(suite, "malformed session tracking", test_track_malformed);
	CU_add_test(suite, "ERR", test_err);
	CU_add_test(suite, "EOF and PREPARE_OK", test_eof_and_prepared);
}
