/*
 * The SQL console: the commands for any client of the MySQL protocol. Logs in the one user of [admin], knows COM_QUERY and what clients
 * do besides, and answers in text results; what drivers ask on their own is console_query.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"
#include "base/log.h"

enum { PACKET_MAX = 1024 * 1024, LINE_BYTES = 4096 };

/* ---- Packets ---- */

bool console_send(struct console *c, const struct wire_writer *w)
{
	if (w->full) {
		c->visitor->channel.broken = true;
		return false;
	}
	return channel_write(&c->visitor->channel, w->data, w->len);
}

/* The next packet's payload, followed by a NUL; NULL at the end. Longer ones than PACKET_MAX end the connection with an error. */
static uint8_t *receive(struct console *c, size_t *len, int timeout_ms)
{
	struct channel *channel = &c->visitor->channel;
	uint8_t header[WIRE_HEADER_BYTES];

	if (!channel_read(channel, header, sizeof(header), timeout_ms))
		return NULL;
	*len = wire_header_len(header);
	c->seq = (uint8_t)(header[3] + 1);
	if (*len > PACKET_MAX) {
		console_error(c, ER_NET_PACKET_TOO_LARGE, "08S01", "tandem: a statement of the console has at most 1 MiB");
		return NULL;
	}
	free(c->payload);
	c->payload = malloc(*len + 1);
	if (!c->payload || !channel_read(channel, c->payload, *len, ADMIN_LOGIN_MS))
		return NULL;
	c->payload[*len] = 0;
	return c->payload;
}

void console_error(struct console *c, uint16_t code, const char *sqlstate, const char *message)
{
	uint8_t memory[700];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_err(&w, code, sqlstate, message, c->seq++);
	console_send(c, &w);
}

void console_ok(struct console *c)
{
	uint8_t memory[64];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_ok ok = { .status = SERVER_STATUS_AUTOCOMMIT };

	wire_put_ok(&w, &ok, c->capabilities, c->seq++);
	console_send(c, &w);
}

/* ---- Login ---- */

static bool send_greeting(struct console *c)
{
	uint8_t memory[256];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	char version[64];
	struct wire_greeting greeting = {
		.connection_id = c->visitor->number, .capabilities = c->offered, .charset = CONSOLE_UTF8, .status = SERVER_STATUS_AUTOCOMMIT
	};

	if (!auth_scramble(c->scramble))
		return false;
	snprintf(version, sizeof(version), "5.5.5-10.11.0-MariaDB-tandem-%s", c->visitor->admin->host.version);
	memcpy(greeting.scramble, c->scramble, sizeof(greeting.scramble));
	greeting.server_version = (struct wire_bytes){ (const uint8_t *)version, strlen(version) };
	greeting.plugin = (struct wire_bytes){ (const uint8_t *)"mysql_native_password", 21 };
	wire_put_greeting(&w, &greeting);
	return console_send(c, &w);
}

static bool is_text(struct wire_bytes bytes, const char *text)
{
	return bytes.len == strlen(text) && !memcmp(bytes.data, text, bytes.len);
}

/* What the console's user and password are now; the caller wipes `password`. */
static void read_account(struct admin *a, char user[128], char password[256])
{
	const struct admin_settings *own;

	pthread_mutex_lock(&a->lock);
	own = admin_settings_of(a->settings);
	snprintf(user, 128, "%s", own->user ? own->user : "");
	snprintf(password, 256, "%s", own->password ? own->password : "");
	pthread_mutex_unlock(&a->lock);
}

static bool check_native(struct console *c, const char *password, struct wire_bytes proof)
{
	uint8_t stage1[20], again[20];
	bool good;

	auth_native_stage1(password, strlen(password), stage1);
	auth_native_stored(stage1, c->stored);
	good = auth_native_check(c->stored, c->scramble, proof.data, proof.len, again);
	secret_wipe(stage1, sizeof(stage1));
	secret_wipe(again, sizeof(again));
	return good;
}

/* Asks for a proof by this plugin, with the same scramble. */
static bool switch_to(struct console *c, const char *plugin, struct wire_bytes *proof)
{
	uint8_t memory[128];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_auth_switch(&w, plugin, c->scramble, sizeof(c->scramble), c->seq++);
	if (!console_send(c, &w))
		return false;
	proof->data = receive(c, &proof->len, ADMIN_LOGIN_MS);
	return proof->data != NULL;
}

/* MySQL's clients from 9 on have no mysql_native_password any more. */
static bool check_sha2(struct console *c, const char *password, struct wire_bytes proof)
{
	uint8_t memory[16], fast = 3;
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	c->stored_len = 0;
	if (!auth_sha2_check(password, strlen(password), c->scramble, proof.data, proof.len))
		return false;
	wire_put_auth_more(&w, &fast, 1, c->seq++);
	return console_send(c, &w);
}

static bool check_proof(struct console *c, const struct wire_login *login, const char *password)
{
	struct wire_bytes proof = login->auth;

	c->stored_len = sizeof(c->stored);
	if (is_text(login->plugin, "caching_sha2_password")) {
		if (login->auth.len == 32 || switch_to(c, "caching_sha2_password", &proof))
			return check_sha2(c, password, proof);
		return false;
	}
	if (!is_text(login->plugin, "mysql_native_password") && login->plugin.len && !switch_to(c, "mysql_native_password", &proof))
		return false;
	return check_native(c, password, proof);
}

/* With it MariaDB's clients from 11.4 on trust a certificate that nobody has signed. */
static void send_login_ok(struct console *c)
{
	struct admin *a = c->visitor->admin;
	uint8_t memory[160], proof[65];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_ok ok = { .status = SERVER_STATUS_AUTOCOMMIT };

	if (c->visitor->channel.ssl && a->self_signed && c->stored_len) {
		auth_tls_proof(c->stored, c->stored_len, c->scramble, a->fingerprint, proof);
		ok.info = (struct wire_bytes){ proof, sizeof(proof) };
	}
	wire_put_ok(&w, &ok, c->capabilities, c->seq++);
	console_send(c, &w);
}

static void deny(struct console *c, struct wire_bytes user, bool has_proof)
{
	char message[256];

	snprintf(message, sizeof(message), "Access denied for user '%.*s'@'%s' (using password: %s)", (int)(user.len < 80 ? user.len : 80),
		 user.data ? (const char *)user.data : "", c->visitor->host, has_proof ? "YES" : "NO");
	log_warning(NULL, "admin: console: %s", message);
	console_error(c, ER_ACCESS_DENIED_ERROR, "28000", message);
}

/* Both are looked at whatever the first one says, so that a user name cannot be found out by the time it takes. */
static bool check_login(struct console *c, const struct wire_login *login)
{
	char user[128], password[256];
	char name[128];
	bool good;

	read_account(c->visitor->admin, user, password);
	snprintf(name, sizeof(name), "%.*s", (int)(login->user.len < 100 ? login->user.len : 100), (const char *)login->user.data);
	good = check_proof(c, login, password);
	good = good && password[0] && !strcmp(name, user) && login->user.len == strlen(user);
	secret_wipe(password, sizeof(password));
	if (good)
		snprintf(c->visitor->from, sizeof(c->visitor->from), "%.30s from %.50s over the console", name, c->visitor->host);
	return good;
}

static bool login_tls(struct console *c, uint8_t **payload, size_t *len)
{
	struct wire_login request;

	if (!c->visitor->admin->tls || !wire_parse_tls_request(*payload, *len, &request))
		return true;
	if (!channel_start_tls(&c->visitor->channel, c->visitor->admin->tls, ADMIN_LOGIN_MS))
		return false;
	*payload = receive(c, len, ADMIN_LOGIN_MS);
	return *payload != NULL;
}

static bool log_in(struct console *c)
{
	struct wire_login login;
	uint8_t *payload;
	char user[81];
	size_t len;
	bool has_proof;

	c->offered = CONSOLE_CAPABILITIES | (c->visitor->admin->tls ? CLIENT_SSL : 0);
	if (!send_greeting(c) || !(payload = receive(c, &len, ADMIN_LOGIN_MS)) || !login_tls(c, &payload, &len))
		return false;
	if (!wire_parse_login(payload, len, c->offered, &login)) {
		console_error(c, ER_HANDSHAKE_ERROR, "08S01", "Bad handshake");
		return false;
	}
	c->capabilities = login.capabilities;
	snprintf(user, sizeof(user), "%.*s", (int)(login.user.len < 80 ? login.user.len : 80), (const char *)login.user.data);
	has_proof = login.auth.len != 0;
	if (check_login(c, &login)) {
		send_login_ok(c);
		return true;
	}
	if (!c->visitor->channel.broken)
		deny(c, (struct wire_bytes){ (const uint8_t *)user, strlen(user) }, has_proof);
	return false;
}

/* ---- Commands ---- */

static void unknown_command(struct console *c, uint8_t command)
{
	char message[128];

	snprintf(message, sizeof(message), "tandem: the console does not know command %u of the protocol", command);
	console_error(c, ER_UNKNOWN_COM_ERROR, "08S01", message);
}

static void send_statistics(struct console *c)
{
	uint8_t memory[128];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	static const char text[] = "Tandem's console: SHOW COMMANDS lists what it knows";

	wire_begin(&w);
	wire_put_bytes(&w, text, sizeof(text) - 1);
	wire_end(&w, c->seq++);
	console_send(c, &w);
}

static void send_eof(struct console *c)
{
	uint8_t memory[32];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_eof(&w, 0, SERVER_STATUS_AUTOCOMMIT, c->seq++);
	console_send(c, &w);
}

/* False: the client leaves. */
static bool obey(struct console *c, const uint8_t *payload, size_t len)
{
	switch (payload[0]) {
	case COM_QUIT:
		return false;
	case COM_QUERY:
		console_query(c, (const char *)payload + 1, len - 1);
		break;
	case COM_PING:
	case COM_INIT_DB:
	case COM_RESET_CONNECTION:
		console_ok(c);
		break;
	case COM_SET_OPTION:
	case COM_FIELD_LIST:
		send_eof(c);
		break;
	case COM_STATISTICS:
		send_statistics(c);
		break;
	case COM_STMT_PREPARE:
		console_error(c, 1295, "HY000", "tandem: the console has no prepared statements: send the command as text");
		break;
	case COM_STMT_CLOSE:
		break;
	default:
		unknown_command(c, payload[0]);
	}
	return !c->visitor->channel.broken;
}

static void serve(struct visitor *visitor)
{
	struct console c = { .visitor = visitor };
	uint8_t *payload;
	size_t len;

	if (log_in(&c)) {
		do
			payload = receive(&c, &len, CHANNEL_FOREVER);
		while (payload && len && obey(&c, payload, len));
	}
	free(c.payload);
}

static void refuse(struct visitor *visitor)
{
	struct console c = { .visitor = visitor };

	console_error(&c, ER_CON_COUNT_ERROR, "08004", "Too many connections");
}

const struct face face_console = { serve, refuse };
