#include "proxy/wire/handshake.h"

#include <string.h>

enum {
	PROTOCOL_VERSION = 10,
	SCRAMBLE_FIRST = 8, /* the greeting carries the scramble in two parts */
	SCRAMBLE_REST = WIRE_SCRAMBLE_BYTES - SCRAMBLE_FIRST,
	SCRAMBLE_REST_MIN = 13, /* with its NUL */
	TLS_REQUEST_BYTES = 32,
	AUTH_SWITCH = 0xfe,
	AUTH_MORE = 0x01,
};

/* Some clients leave out the NUL of a packet's last string. */
static struct wire_bytes get_cstring_or_rest(struct wire_reader *r)
{
	if (!r->bad && wire_left(r) > 0 && memchr(r->at, 0, wire_left(r)))
		return wire_get_cstring(r);
	return wire_get_rest(r);
}

static void put_cstring(struct wire_writer *w, struct wire_bytes s)
{
	wire_put_bytes(w, s.data, s.len);
	wire_put_u8(w, 0);
}

/* ---- Greeting ----------------------------------------------------------------------------------------------------- */

/* The second part of the scramble is at least 13 bytes long, whatever length was announced. */
static void get_scramble_rest(struct wire_reader *r, uint8_t announced, struct wire_greeting *out)
{
	size_t len = announced > SCRAMBLE_FIRST + SCRAMBLE_REST_MIN ? announced - SCRAMBLE_FIRST : SCRAMBLE_REST_MIN;
	struct wire_bytes rest = wire_get_bytes(r, len);

	if (!r->bad)
		memcpy(out->scramble + SCRAMBLE_FIRST, rest.data, SCRAMBLE_REST);
}

bool wire_parse_greeting(const uint8_t *payload, size_t len, struct wire_greeting *out)
{
	struct wire_reader r = wire_reader(payload, len);
	struct wire_bytes first;
	uint64_t extended;
	uint8_t announced;

	*out = (struct wire_greeting){ 0 };
	if (wire_get_u8(&r) != PROTOCOL_VERSION)
		return false;
	out->server_version = wire_get_cstring(&r);
	out->connection_id = wire_get_u32(&r);
	first = wire_get_bytes(&r, SCRAMBLE_FIRST);
	if (!r.bad)
		memcpy(out->scramble, first.data, SCRAMBLE_FIRST);
	wire_get_u8(&r);
	out->capabilities = wire_get_u16(&r);
	out->charset = wire_get_u8(&r);
	out->status = wire_get_u16(&r);
	out->capabilities |= (uint64_t)wire_get_u16(&r) << 16;
	announced = wire_get_u8(&r);
	wire_get_bytes(&r, 6);
	extended = wire_get_u32(&r);
	if (!(out->capabilities & CLIENT_LONG_PASSWORD))
		out->capabilities |= extended << 32;
	if (!(out->capabilities & CLIENT_SECURE_CONNECTION))
		return false;
	get_scramble_rest(&r, announced, out);
	if (out->capabilities & CLIENT_PLUGIN_AUTH)
		out->plugin = get_cstring_or_rest(&r);
	return !r.bad;
}

void wire_put_greeting(struct wire_writer *w, const struct wire_greeting *greeting)
{
	uint64_t caps = greeting->capabilities;

	wire_begin(w);
	wire_put_u8(w, PROTOCOL_VERSION);
	put_cstring(w, greeting->server_version);
	wire_put_u32(w, greeting->connection_id);
	wire_put_bytes(w, greeting->scramble, SCRAMBLE_FIRST);
	wire_put_u8(w, 0);
	wire_put_u16(w, (uint16_t)caps);
	wire_put_u8(w, greeting->charset);
	wire_put_u16(w, greeting->status);
	wire_put_u16(w, (uint16_t)(caps >> 16));
	wire_put_u8(w, caps & CLIENT_PLUGIN_AUTH ? WIRE_SCRAMBLE_BYTES + 1 : 0);
	wire_put_zeros(w, 6);
	wire_put_u32(w, caps & CLIENT_LONG_PASSWORD ? 0 : (uint32_t)(caps >> 32));
	wire_put_bytes(w, greeting->scramble + SCRAMBLE_FIRST, SCRAMBLE_REST);
	wire_put_u8(w, 0);
	if (caps & CLIENT_PLUGIN_AUTH)
		put_cstring(w, greeting->plugin);
	wire_end(w, 0);
}

/* ---- Login -------------------------------------------------------------------------------------------------------- */

/* The 32 bytes that a TLS request and a login have in common. */
static void get_login_head(struct wire_reader *r, struct wire_login *out)
{
	uint64_t extended;

	out->capabilities = wire_get_u32(r);
	out->max_packet = wire_get_u32(r);
	out->charset = wire_get_u8(r);
	wire_get_bytes(r, 19);
	extended = wire_get_u32(r);
	if (!(out->capabilities & CLIENT_LONG_PASSWORD))
		out->capabilities |= extended << 32;
}

static void put_login_head(struct wire_writer *w, const struct wire_login *login)
{
	uint64_t caps = login->capabilities;

	wire_put_u32(w, (uint32_t)caps);
	wire_put_u32(w, login->max_packet);
	wire_put_u8(w, login->charset);
	wire_put_zeros(w, 19);
	wire_put_u32(w, caps & CLIENT_LONG_PASSWORD ? 0 : (uint32_t)(caps >> 32));
}

bool wire_parse_tls_request(const uint8_t *payload, size_t len, struct wire_login *out)
{
	struct wire_reader r = wire_reader(payload, len);

	*out = (struct wire_login){ 0 };
	if (len != TLS_REQUEST_BYTES)
		return false;
	get_login_head(&r, out);
	return (out->capabilities & CLIENT_SSL) && (out->capabilities & CLIENT_PROTOCOL_41);
}

static struct wire_bytes get_auth(struct wire_reader *r, uint64_t caps)
{
	if (caps & CLIENT_PLUGIN_AUTH_LENENC)
		return wire_get_lenenc_bytes(r);
	if (caps & CLIENT_SECURE_CONNECTION)
		return wire_get_bytes(r, wire_get_u8(r));
	return wire_get_cstring(r);
}

static struct wire_bytes get_attributes(struct wire_reader *r)
{
	if (wire_left(r) == 0)
		return (struct wire_bytes){ 0 };
	return wire_get_lenenc_bytes(r);
}

bool wire_parse_login(const uint8_t *payload, size_t len, uint64_t offered, struct wire_login *out)
{
	struct wire_reader r = wire_reader(payload, len);
	uint64_t caps;

	*out = (struct wire_login){ 0 };
	get_login_head(&r, out);
	caps = out->capabilities &= offered;
	if (!(caps & CLIENT_PROTOCOL_41))
		return false;
	out->user = wire_get_cstring(&r);
	out->auth = get_auth(&r, caps);
	if (caps & CLIENT_CONNECT_WITH_DB)
		out->schema = get_cstring_or_rest(&r);
	if (caps & CLIENT_PLUGIN_AUTH)
		out->plugin = get_cstring_or_rest(&r);
	if (caps & CLIENT_CONNECT_ATTRS)
		out->attributes = get_attributes(&r);
	return !r.bad;
}

void wire_put_tls_request(struct wire_writer *w, const struct wire_login *login, uint8_t seq)
{
	wire_begin(w);
	put_login_head(w, login);
	wire_end(w, seq);
}

static void put_auth(struct wire_writer *w, struct wire_bytes auth, uint64_t caps)
{
	if (caps & CLIENT_PLUGIN_AUTH_LENENC) {
		wire_put_lenenc_bytes(w, auth.data, auth.len);
	} else if (!(caps & CLIENT_SECURE_CONNECTION)) {
		put_cstring(w, auth);
	} else if (auth.len > 0xff) {
		w->full = true; /* not expressible: better no packet than a wrong one */
	} else {
		wire_put_u8(w, (uint8_t)auth.len);
		wire_put_bytes(w, auth.data, auth.len);
	}
}

void wire_put_login(struct wire_writer *w, const struct wire_login *login, uint8_t seq)
{
	uint64_t caps = login->capabilities;

	wire_begin(w);
	put_login_head(w, login);
	put_cstring(w, login->user);
	put_auth(w, login->auth, caps);
	if (caps & CLIENT_CONNECT_WITH_DB)
		put_cstring(w, login->schema);
	if (caps & CLIENT_PLUGIN_AUTH)
		put_cstring(w, login->plugin);
	if (caps & CLIENT_CONNECT_ATTRS)
		wire_put_lenenc_bytes(w, login->attributes.data, login->attributes.len);
	wire_end(w, seq);
}

/* ---- AuthSwitch, AuthMoreData ------------------------------------------------------------------------------------- */

bool wire_parse_auth_switch(const uint8_t *payload, size_t len, struct wire_auth_switch *out)
{
	struct wire_reader r = wire_reader(payload, len);
	bool is_switch = wire_get_u8(&r) == AUTH_SWITCH;

	*out = (struct wire_auth_switch){ .plugin = wire_get_cstring(&r) };
	out->data = wire_get_rest(&r);
	/* Only the plugins with a 20-byte scramble send a NUL behind it; the last byte of an ed25519 nonce may be zero too. */
	if (out->data.len == WIRE_SCRAMBLE_BYTES + 1 && out->data.data[WIRE_SCRAMBLE_BYTES] == 0)
		out->data.len--;
	return is_switch && !r.bad;
}

void wire_put_auth_switch(struct wire_writer *w, const char *plugin, const uint8_t *scramble, size_t scramble_len, uint8_t seq)
{
	wire_begin(w);
	wire_put_u8(w, AUTH_SWITCH);
	wire_put_cstring(w, plugin);
	wire_put_bytes(w, scramble, scramble_len);
	if (scramble_len == WIRE_SCRAMBLE_BYTES)
		wire_put_u8(w, 0);
	wire_end(w, seq);
}

void wire_put_auth_more(struct wire_writer *w, const void *data, size_t len, uint8_t seq)
{
	wire_begin(w);
	wire_put_u8(w, AUTH_MORE);
	wire_put_bytes(w, data, len);
	wire_end(w, seq);
}

/* ---- COM_CHANGE_USER ---------------------------------------------------------------------------------------------- */

bool wire_parse_change_user(const uint8_t *payload, size_t len, uint64_t capabilities, struct wire_login *out)
{
	struct wire_reader r = wire_reader(payload, len);
	bool is_change_user = wire_get_u8(&r) == COM_CHANGE_USER;

	*out = (struct wire_login){ .capabilities = capabilities };
	out->user = wire_get_cstring(&r);
	/* Never length-encoded here, whatever was agreed. */
	out->auth = get_auth(&r, capabilities & CLIENT_SECURE_CONNECTION);
	out->schema = get_cstring_or_rest(&r);
	if (wire_left(&r) >= 2)
		out->charset = (uint8_t)wire_get_u16(&r);
	if (capabilities & CLIENT_PLUGIN_AUTH)
		out->plugin = get_cstring_or_rest(&r);
	if (capabilities & CLIENT_CONNECT_ATTRS)
		out->attributes = get_attributes(&r);
	return is_change_user && !r.bad;
}

void wire_put_change_user(struct wire_writer *w, const struct wire_login *login)
{
	uint64_t caps = login->capabilities;

	wire_begin(w);
	wire_put_u8(w, COM_CHANGE_USER);
	put_cstring(w, login->user);
	put_auth(w, login->auth, caps & CLIENT_SECURE_CONNECTION);
	put_cstring(w, login->schema);
	wire_put_u16(w, login->charset);
	if (caps & CLIENT_PLUGIN_AUTH)
		put_cstring(w, login->plugin);
	if (caps & CLIENT_CONNECT_ATTRS)
		wire_put_lenenc_bytes(w, login->attributes.data, login->attributes.len);
	wire_end(w, 0);
}

/* ---- Connection attributes ---------------------------------------------------------------------------------------- */

void wire_put_attribute(struct wire_writer *w, const char *key, const void *value, size_t value_len)
{
	wire_put_lenenc_bytes(w, key, strlen(key));
	wire_put_lenenc_bytes(w, value, value_len);
}

struct wire_bytes wire_find_attribute(struct wire_bytes attributes, const char *key)
{
	struct wire_reader r = wire_reader(attributes.data, attributes.len);
	size_t key_len = strlen(key);

	while (!r.bad && wire_left(&r) > 0) {
		struct wire_bytes name = wire_get_lenenc_bytes(&r);
		struct wire_bytes value = wire_get_lenenc_bytes(&r);

		if (!r.bad && name.len == key_len && memcmp(name.data, key, key_len) == 0)
			return value;
	}
	return (struct wire_bytes){ 0 };
}
