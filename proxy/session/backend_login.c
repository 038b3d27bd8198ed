/* Logging in to a server: greeting, TLS, authentication plugins, and the set-up query behind them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/tls.h"
#include "proxy/session/backend.h"
#include "proxy/session/worker.h"

enum login_step {
	STEP_GREETING, /* waiting for the server's greeting */
	STEP_TLS,      /* TLS handshake under way */
	STEP_ANSWER,   /* the login was sent; OK, ERR, a switch or more data comes */
	STEP_KEY,      /* the server's public key was asked for */
};

struct login_exchange {
	enum login_step step;
	uint8_t scramble[32]; /* 20 bytes, 32 for client_ed25519 */
	char plugin[64];
	bool tls;
	uint8_t seq; /* of the next packet to send */
};

bool backend_login_start(struct backend *backend)
{
	backend->login = calloc(1, sizeof(*backend->login));
	return backend->login != NULL;
}

void backend_login_free(struct backend *backend)
{
	if (backend->login)
		secret_wipe(backend->login, sizeof(*backend->login));
	free(backend->login);
	backend->login = NULL;
}

static const struct server_settings *settings_of(const struct backend *b)
{
	return b->pool->index >= 0 ? b->worker->snapshot->servers[b->pool->index].settings : NULL;
}

static void fail(struct backend *b, const char *why)
{
	backend_lost(b, why, 0, NULL, NULL);
}

/* ---- What is sent ---- */

static uint64_t wanted_capabilities(const struct backend *b, const struct wire_greeting *g)
{
	uint64_t want = b->kind | CLIENT_LONG_FLAG | CLIENT_PROTOCOL_41 | CLIENT_TRANSACTIONS | CLIENT_SECURE_CONNECTION |
			CLIENT_PLUGIN_AUTH | CLIENT_PLUGIN_AUTH_LENENC | CLIENT_CONNECT_ATTRS | CLIENT_SESSION_TRACK |
			CLIENT_DEPRECATE_EOF | MARIADB_CLIENT_STMT_BULK_OPERATIONS;

	if (b->multi_statements)
		want |= CLIENT_MULTI_STATEMENTS;
	if (g->capabilities & CLIENT_LONG_PASSWORD) /* MySQL: the bit means nothing; MariaDB clears it to offer its extensions */
		want |= CLIENT_LONG_PASSWORD;
	return want & (g->capabilities | CLIENT_LONG_PASSWORD);
}

/* The answer that a plugin wants. False when it cannot be given. */
static bool plugin_answer(struct backend *b, uint8_t *out, size_t *len)
{
	struct login_exchange *x = b->login;
	const struct credentials *c = b->credentials;

	*len = 0;
	if (!c->has_password)
		return true;
	if (!strcmp(x->plugin, "mysql_native_password") && c->has_stage1) {
		auth_native_token(c->stage1, x->scramble, out);
		*len = 20;
		return true;
	}
	if (!c->password)
		return false;
	if (!strcmp(x->plugin, "caching_sha2_password")) {
		auth_sha2_token(c->password, strlen(c->password), x->scramble, out);
		*len = 32;
		return true;
	}
	if (!strcmp(x->plugin, "client_ed25519") && auth_ed25519_sign(c->password, strlen(c->password), x->scramble, out)) {
		*len = 64;
		return true;
	}
	if ((!strcmp(x->plugin, "mysql_clear_password") || !strcmp(x->plugin, "dialog")) && x->tls) {
		*len = strlen(c->password) + 1;
		memcpy(out, c->password, *len);
		return true;
	}
	return false;
}

static bool can_answer(const struct backend *b, const char *plugin)
{
	if (!strcmp(plugin, "mysql_native_password"))
		return !b->credentials->has_password || b->credentials->has_stage1;
	return b->credentials->password && (!strcmp(plugin, "caching_sha2_password") || !strcmp(plugin, "client_ed25519"));
}

static void send_login(struct backend *b)
{
	struct login_exchange *x = b->login;
	uint8_t memory[1024], attributes[128], answer[512];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_writer a = wire_writer(attributes, sizeof(attributes));
	size_t answer_len = 0;
	struct wire_login login = { .capabilities = b->capabilities, .max_packet = 1 << 30, .charset = b->charset };

	if (!can_answer(b, x->plugin))
		strcpy(x->plugin, "mysql_native_password"); /* the server switches if the account wants another */
	if (!plugin_answer(b, answer, &answer_len))
		answer_len = 0;
	wire_put_attribute(&a, "_client_name", "tandem", 6);
	login.user = (struct wire_bytes){ (uint8_t *)b->credentials->user, strlen(b->credentials->user) };
	login.auth = (struct wire_bytes){ answer, answer_len };
	login.plugin = (struct wire_bytes){ (uint8_t *)x->plugin, strlen(x->plugin) };
	login.attributes = (struct wire_bytes){ attributes, a.len };
	wire_put_login(&w, &login, x->seq++);
	x->step = STEP_ANSWER;
	io_send(&b->io, w.data, w.len);
	secret_wipe(answer, sizeof(answer));
}

static void begin_tls(struct backend *b)
{
	struct login_exchange *x = b->login;
	const struct server_settings *s = settings_of(b);
	SSL_CTX **ctx = &b->worker->server_tls[b->pool->index];
	uint8_t memory[64];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_login login = { .capabilities = b->capabilities, .max_packet = 1 << 30, .charset = b->charset };
	char why[256], host[256];

	if (!*ctx)
		*ctx = tls_client_context(s->tls, s->tls_ca, NULL, NULL, why, sizeof(why));
	if (!*ctx) {
		fail(b, why);
		return;
	}
	snprintf(host, sizeof(host), "%s", s->address);
	if (strrchr(host, ':'))
		*strrchr(host, ':') = '\0';
	wire_put_tls_request(&w, &login, x->seq++);
	io_send(&b->io, w.data, w.len);
	x->step = STEP_TLS;
	x->tls = true;
	if (!io_start_tls(&b->io, *ctx, false, host, s->tls == TLS_VERIFY_FULL, NULL, 0))
		fail(b, "out of memory for TLS");
}

void backend_login_tls_ready(struct backend *backend)
{
	if (backend->login && backend->login->step == STEP_TLS)
		send_login(backend);
}

bool backend_login_again(struct backend *backend)
{
	struct backend *b = backend;
	uint8_t memory[1024], attributes[128], answer[512];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_writer a = wire_writer(attributes, sizeof(attributes));
	struct wire_login login = { .capabilities = b->capabilities, .charset = b->charset };
	size_t answer_len = 0;

	if (!backend_login_start(b))
		return false;
	b->login->step = STEP_ANSWER;
	b->login->tls = b->io.tls != NULL;
	b->login->seq = 1;
	memcpy(b->login->scramble, b->scramble, sizeof(b->scramble));
	snprintf(b->login->plugin, sizeof(b->login->plugin), "%s",
		 can_answer(b, "mysql_native_password") ? "mysql_native_password" : "caching_sha2_password");
	if (!plugin_answer(b, answer, &answer_len))
		answer_len = 0;
	wire_put_attribute(&a, "_client_name", "tandem", 6);
	login.user = (struct wire_bytes){ (uint8_t *)b->credentials->user, strlen(b->credentials->user) };
	login.auth = (struct wire_bytes){ answer, answer_len };
	login.plugin = (struct wire_bytes){ (uint8_t *)b->login->plugin, strlen(b->login->plugin) };
	login.attributes = (struct wire_bytes){ attributes, a.len };
	wire_put_change_user(&w, &login);
	secret_wipe(answer, sizeof(answer));
	prepared_clear(&b->statements);
	b->has_uvars = b->has_last_id = b->used = b->tainted = b->guard_lost = false;
	b->since_ms = clock_ms();
	backend_set_state(b, BACKEND_LOGIN);
	return io_send(&b->io, w.data, w.len);
}

/* ---- What comes ---- */

static void on_error(struct backend *b, const uint8_t *payload, size_t len)
{
	struct wire_err err;
	char message[512], why[640];

	if (!wire_parse_err(payload, len, &err)) {
		fail(b, "malformed error packet at login");
		return;
	}
	snprintf(message, sizeof(message), "%.*s", (int)(err.message.len < 500 ? err.message.len : 500), (const char *)err.message.data);
	snprintf(why, sizeof(why), "login refused: %u %s", err.code, message);
	backend_lost(b, why, err.code, err.sqlstate[0] ? err.sqlstate : "HY000", message);
}

static void on_greeting(struct backend *b, const uint8_t *payload, size_t len)
{
	struct login_exchange *x = b->login;
	const struct server_settings *s = settings_of(b);
	struct wire_greeting g;

	if (len && payload[0] == 0xff) {
		on_error(b, payload, len);
		return;
	}
	if (!s || !wire_parse_greeting(payload, len, &g)) {
		fail(b, "not a MySQL greeting");
		return;
	}
	b->connection_id = g.connection_id;
	b->capabilities = wanted_capabilities(b, &g);
	memcpy(x->scramble, g.scramble, WIRE_SCRAMBLE_BYTES);
	memcpy(b->scramble, g.scramble, WIRE_SCRAMBLE_BYTES);
	snprintf(x->plugin, sizeof(x->plugin), "%.*s", (int)g.plugin.len, (const char *)g.plugin.data);
	x->seq = 1;
	if (s->tls != TLS_OFF && (g.capabilities & CLIENT_SSL)) {
		b->capabilities |= CLIENT_SSL;
		begin_tls(b);
	} else if (s->tls > TLS_PREFERRED) {
		fail(b, "the server offers no TLS, and the settings require it");
	} else {
		send_login(b);
	}
}

static void on_switch(struct backend *b, const uint8_t *payload, size_t len)
{
	struct login_exchange *x = b->login;
	struct wire_auth_switch s;
	uint8_t memory[600], answer[512];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	size_t answer_len;
	char why[160];

	if (!wire_parse_auth_switch(payload, len, &s) || s.data.len > sizeof(x->scramble)) {
		fail(b, "malformed authentication switch");
		return;
	}
	snprintf(x->plugin, sizeof(x->plugin), "%.*s", (int)s.plugin.len, (const char *)s.plugin.data);
	memcpy(x->scramble, s.data.data, s.data.len);
	if (!plugin_answer(b, answer, &answer_len)) {
		snprintf(why, sizeof(why), "the server wants plugin %s for this account; give its password in a [user %s] section",
			 x->plugin, b->credentials->user);
		fail(b, why);
		return;
	}
	wire_begin(&w);
	wire_put_bytes(&w, answer, answer_len);
	wire_end(&w, x->seq++);
	io_send(&b->io, w.data, w.len);
	secret_wipe(answer, sizeof(answer));
}

static void send_secret(struct backend *b, const void *bytes, size_t len)
{
	uint8_t memory[1024];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_begin(&w);
	wire_put_bytes(&w, bytes, len);
	wire_end(&w, b->login->seq++);
	io_send(&b->io, w.data, w.len);
	secret_wipe(memory, sizeof(memory));
}

/* caching_sha2_password: 3 fast path done, 4 the password itself is wanted, else a public key. */
static void on_more(struct backend *b, const uint8_t *payload, size_t len)
{
	struct login_exchange *x = b->login;
	const char *password = b->credentials->password;
	uint8_t sealed[512];
	size_t n;

	if (len == 2 && payload[1] == 3)
		return;
	if (!password) {
		fail(b, "the server wants the password itself; give it in a [user] section");
	} else if (len == 2 && payload[1] == 4 && (x->tls || b->server->address.ss_family == AF_UNIX)) {
		send_secret(b, password, strlen(password) + 1);
	} else if (len == 2 && payload[1] == 4) {
		x->step = STEP_KEY;
		send_secret(b, "\2", 1);
	} else if (x->step == STEP_KEY) {
		n = auth_sha2_encrypt(password, strlen(password), x->scramble, (const char *)payload + 1, len - 1, sealed, sizeof(sealed));
		x->step = STEP_ANSWER;
		send_secret(b, sealed, n);
	} else {
		fail(b, "unknown authentication data");
	}
}

static void on_ok(struct backend *b, const uint8_t *payload, size_t len)
{
	struct wire_ok ok;
	struct state *fresh;

	if (!wire_parse_ok(payload, len, b->capabilities, &ok)) {
		fail(b, "malformed OK at login");
		return;
	}
	b->status = ok.status;
	backend_login_free(b);
	b->is_replica = b->worker->snapshot->servers[b->pool->index].role == ROLE_REPLICA;
	fresh = backend_fresh_value(b, NULL);
	backend_set_value(b, fresh);
	b->awaits = fresh->awaits;
	state_unref(fresh);
	backend_set_state(b, BACKEND_SETUP);
	if (!backend_set_up(b, EXPECT_SETUP))
		fail(b, "cannot send the set-up query");
}

static void on_answer(struct backend *b, const uint8_t *payload, size_t len)
{
	switch (len ? payload[0] : 0xfb) {
	case 0x00:
		on_ok(b, payload, len);
		break;
	case 0xff:
		on_error(b, payload, len);
		break;
	case 0xfe:
		on_switch(b, payload, len);
		break;
	case 0x01:
		on_more(b, payload, len);
		break;
	default:
		fail(b, "unexpected packet at login");
	}
}

static void on_packet(struct backend *b, const uint8_t *payload, size_t len)
{
	if (b->login->step == STEP_GREETING)
		on_greeting(b, payload, len);
	else
		on_answer(b, payload, len);
}

void backend_login_bytes(struct backend *backend, uint8_t *bytes, size_t len)
{
	if (!buf_append(&backend->in, bytes, len)) {
		fail(backend, "out of memory");
		return;
	}
	while (backend->state == BACKEND_LOGIN && buf_len(&backend->in) >= WIRE_HEADER_BYTES) {
		uint8_t *packet = buf_head(&backend->in);
		size_t size = wire_header_len(packet);
		uint8_t copy[4096];

		if (size > sizeof(copy)) {
			fail(backend, "oversized packet at login");
			return;
		}
		if (buf_len(&backend->in) < WIRE_HEADER_BYTES + size)
			return;
		backend->login->seq = (uint8_t)(packet[3] + 1);
		memcpy(copy, packet + WIRE_HEADER_BYTES, size);
		buf_consume(&backend->in, WIRE_HEADER_BYTES + size);
		on_packet(backend, copy, size);
	}
}
