/* The client's side of a login: greeting, TLS, who it is, the proof, and the backend's word on the schema. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/proxy_header.h"
#include "proxy/session/client.h"
#include "proxy/session/freeze.h"
#include "proxy/session/named.h"
#include "proxy/session/replay.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

enum login_step {
	LOGIN_PACKET,  /* greeting sent; a TLS request or the login comes */
	LOGIN_TLS,     /* handshake under way */
	LOGIN_ANSWER,  /* a switch was sent; the plugin's answer comes */
	LOGIN_CLEAR,   /* the password itself comes */
	LOGIN_ACCOUNT, /* the account is not known, or its password may have changed: the account tables are being read again */
	LOGIN_VERIFY,  /* a backend is asked */
	LOGIN_HEADER,  /* nothing was sent yet: the load balancer's PROXY header comes first */
};

struct login {
	enum login_step step;
	uint8_t scramble[WIRE_SCRAMBLE_BYTES];
	uint8_t seq; /* of the next packet to the client */
	uint8_t charset;
	bool is_change;	      /* COM_CHANGE_USER */
	bool tls;
	bool must_verify;     /* only a backend can tell whether the password is right */
	uint64_t offered;
	uint64_t capabilities;
	uint64_t ticket;      /* LOGIN_ACCOUNT: accounts read after this was given decide */
	uint64_t began_ms;
	char *user;
	char *schema;
	char plugin[64];
	uint8_t auth[512];
	size_t auth_len;
	struct credentials *credentials;
};

void login_free(struct client *client)
{
	struct login *l = client->login;

	client->login = NULL;
	if (!l)
		return;
	free(l->user);
	free(l->schema);
	credentials_unref(l->credentials);
	secret_wipe(l, sizeof(*l));
	free(l);
}

static const struct snapshot *snapshot_of(const struct client *c)
{
	return c->worker->snapshot;
}

static bool is_loopback(const struct client *c)
{
	return !c->is_from_afar && (!strncmp(c->host, "127.", 4) || !strcmp(c->host, "::1") || !strcmp(c->host, "localhost"));
}

/* ---- Greeting ---- */

static uint64_t offered_capabilities(const struct client *c)
{
	const struct snapshot *s = snapshot_of(c);
	uint64_t caps = CLIENT_FOUND_ROWS | CLIENT_LONG_FLAG | CLIENT_CONNECT_WITH_DB | CLIENT_NO_SCHEMA | CLIENT_ODBC |
			CLIENT_LOCAL_FILES | CLIENT_IGNORE_SPACE | CLIENT_PROTOCOL_41 | CLIENT_INTERACTIVE | CLIENT_TRANSACTIONS |
			CLIENT_RESERVED | CLIENT_SECURE_CONNECTION | CLIENT_MULTI_STATEMENTS | CLIENT_MULTI_RESULTS |
			CLIENT_PS_MULTI_RESULTS | CLIENT_PLUGIN_AUTH | CLIENT_CONNECT_ATTRS | CLIENT_PLUGIN_AUTH_LENENC |
			CLIENT_SESSION_TRACK | CLIENT_REMEMBER_OPTIONS;
	uint64_t common = MARIADB_CLIENT_STMT_BULK_OPERATIONS | MARIADB_CLIENT_EXTENDED_METADATA;
	bool mysql = s->primary >= 0 && s->servers[s->primary].flavour == SQL_MYSQL;

	for (size_t i = 0; i < s->server_count; i++)
		if (s->servers[i].capabilities)
			common &= s->servers[i].capabilities;
	caps |= CLIENT_DEPRECATE_EOF | (mysql ? CLIENT_LONG_PASSWORD : common);
	if (c->worker->shared->client_tls)
		caps |= CLIENT_SSL;
	return caps;
}

static const char *version_of(const struct client *c)
{
	const struct snapshot *s = snapshot_of(c);

	if (worker_settings(c->worker)->server_version)
		return worker_settings(c->worker)->server_version;
	if (s->primary >= 0 && s->servers[s->primary].version_text[0])
		return s->servers[s->primary].version_text;
	for (size_t i = 0; i < s->server_count; i++)
		if (s->servers[i].version_text[0])
			return s->servers[i].version_text;
	return "5.5.5-10.11.0-MariaDB";
}

static struct login *new_login(struct client *c)
{
	struct login *l = calloc(1, sizeof(*l));

	if (l && auth_scramble(l->scramble)) {
		l->began_ms = clock_ms();
		c->login = l;
		return l;
	}
	free(l);
	return NULL;
}

static bool greet(struct client *client)
{
	struct login *l = client->login;
	uint8_t memory[512];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	const char *version = version_of(client);
	const char *plugin = "mysql_native_password";
	struct wire_greeting g = { .server_version = { (const uint8_t *)version, strlen(version) },
				   .connection_id = client->id,
				   .status = SERVER_STATUS_AUTOCOMMIT,
				   .plugin = { (const uint8_t *)plugin, strlen(plugin) } };

	l->step = LOGIN_PACKET;
	g.capabilities = l->offered = offered_capabilities(client);
	g.charset = snapshot_of(client)->default_collation_id ? snapshot_of(client)->default_collation_id : 45;
	memcpy(g.scramble, l->scramble, sizeof(g.scramble));
	memcpy(client->scramble, l->scramble, sizeof(client->scramble));
	wire_put_greeting(&w, &g);
	return !w.full && io_send(&client->io, w.data, w.len);
}

bool login_start(struct client *client)
{
	const struct address_list *balancers = &worker_settings(client->worker)->proxy_protocol_from;
	struct address peer;

	if (!new_login(client))
		return false;
	/* A peer at a Unix socket has no address: "localhost" is none. */
	if (!address_parse(client->host, strlen(client->host), &peer))
		peer = (struct address){ 0 };
	if (!address_list_has(balancers, &peer))
		return greet(client);
	client->login->step = LOGIN_HEADER;
	return true;
}

/* ---- The PROXY header ---- */

static void end_without_header(struct client *c, const char *why)
{
	log_info(&c->subject, "refused: %s", why);
	client_close(c, why);
}

/* The balancer's own machine is not ours: what is local there has come from afar, unless it is the same. */
static bool take_address(struct client *c, const struct proxy_header *header)
{
	bool balancer_is_local = is_loopback(c);
	char host[ADDRESS_TEXT_BYTES];

	address_put(&header->from, host);
	free(c->host);
	c->host = strdup(host);
	c->port = header->port;
	c->is_from_afar = !balancer_is_local;
	return c->host != NULL;
}

/* False: more must come, or the client is gone. */
static bool take_header(struct client *c)
{
	struct proxy_header header;

	switch (proxy_header_read(buf_head(&c->in), buf_len(&c->in), &header)) {
	case PROXY_HEADER_MORE:
		return false;
	case PROXY_HEADER_BAD:
		end_without_header(c, header.why);
		return false;
	case PROXY_HEADER_WHOLE:
		break;
	}
	buf_consume(&c->in, header.len);
	if ((!header.from.known || take_address(c, &header)) && greet(c))
		return true;
	client_close(c, "out of memory");
	return false;
}

/* ---- Refusals, with the server's own numbers and texts ---- */

static void refuse(struct client *c, uint16_t code, const char *sqlstate, const char *message)
{
	client_fatal_seq(c, code, sqlstate, message, c->login->seq);
}

static void deny(struct client *c)
{
	const char *host = is_loopback(c) && !snapshot_of(c)->skip_name_resolve ? "localhost" : c->host;
	char message[512];

	snprintf(message, sizeof(message), "Access denied for user '%.80s'@'%s' (using password: %s)", c->login->user, host,
		 c->login->auth_len ? "YES" : "NO");
	refuse(c, ER_ACCESS_DENIED_ERROR, "28000", message);
}

/* ---- Steps ---- */

static void finish(struct client *c);

static void send_switch(struct client *c, const char *plugin, enum login_step next)
{
	struct login *l = c->login;
	uint8_t memory[128];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	snprintf(l->plugin, sizeof(l->plugin), "%s", plugin);
	if (!auth_scramble(l->scramble)) {
		refuse(c, ER_OUT_OF_RESOURCES, "HY000", "tandem: no random numbers to be had");
		return;
	}
	memcpy(c->scramble, l->scramble, sizeof(c->scramble));
	wire_put_auth_switch(&w, plugin, l->scramble, sizeof(l->scramble), l->seq++);
	l->step = next;
	io_send(&c->io, w.data, w.len);
}

static void send_more(struct client *c, uint8_t what)
{
	uint8_t memory[16];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_auth_more(&w, &what, 1, c->login->seq++);
	io_send(&c->io, w.data, w.len);
}

/* The proof was good: the session is this user's from here on, but for the backend's word. */
static void accepted(struct client *c)
{
	struct login *l = c->login;
	struct state *value;

	if (l->is_change)
		client_forget_session(c);
	else
		c->capabilities = l->capabilities;
	c->charset = l->charset;
	c->multi_statements = (c->capabilities & CLIENT_MULTI_STATEMENTS) != 0;
	credentials_unref(c->credentials);
	c->credentials = credentials_ref(l->credentials);
	value = state_new(snapshot_of(c), -1, c->charset, NULL);
	c->awaits = value->awaits;
	client_set_value(c, value);
	state_unref(value);
	if (!l->schema && !l->must_verify) {
		finish(c);
		return;
	}
	l->step = LOGIN_VERIFY;
	turn_start_verify(c, l->schema);
}

/* The account tables may have changed since they were read: only a newer reading refuses. */
static void look_again(struct client *c)
{
	struct login *l = c->login;

	if (l->step == LOGIN_ACCOUNT) {
		deny(c);
		return;
	}
	l->step = LOGIN_ACCOUNT;
	l->ticket = cluster_refresh_accounts(c->worker->shared->cluster);
}

enum proof { PROOF_GOOD, PROOF_BAD, PROOF_ASKED };

static bool has_plugin(const struct login *l, const char *name)
{
	return !strcmp(l->plugin, name);
}

/* [user] sections: the password is known, so any plugin of the client's that can be computed will do. */
static enum proof check_password(struct client *c, const char *password)
{
	struct login *l = c->login;
	struct credentials *cr = l->credentials;
	uint8_t stage1[20];
	size_t len = strlen(password);

	credentials_set_password(cr, password, len);
	auth_native_stored(cr->stage1, cr->stored);
	cr->stored_len = 20;
	if (!len)
		return l->auth_len && l->auth[0] ? PROOF_BAD : PROOF_GOOD;
	if (has_plugin(l, "mysql_native_password"))
		return auth_native_check(cr->stored, l->scramble, l->auth, l->auth_len, stage1) ? PROOF_GOOD : PROOF_BAD;
	if (!has_plugin(l, "caching_sha2_password")) {
		send_switch(c, "mysql_native_password", LOGIN_ANSWER);
		return PROOF_ASKED;
	}
	cr->stored_len = 0;
	if (!auth_sha2_check(password, len, l->scramble, l->auth, l->auth_len))
		return PROOF_BAD;
	send_more(c, 3);
	return PROOF_GOOD;
}

static enum proof check_native(struct client *c, const struct account *a)
{
	struct login *l = c->login;
	struct credentials *cr = l->credentials;

	if (!a->auth[0])
		return l->auth_len && l->auth[0] ? PROOF_BAD : PROOF_GOOD;
	if (!auth_native_parse(a->auth, strlen(a->auth), cr->stored))
		return PROOF_BAD;
	if (!has_plugin(l, "mysql_native_password")) {
		send_switch(c, "mysql_native_password", LOGIN_ANSWER);
		return PROOF_ASKED;
	}
	cr->stored_len = 20;
	if (!auth_native_check(cr->stored, l->scramble, l->auth, l->auth_len, cr->stage1))
		return PROOF_BAD;
	cr->has_password = cr->has_stage1 = true;
	return PROOF_GOOD;
}

static size_t clear_length(const struct login *l)
{
	return strnlen((const char *)l->auth, l->auth_len);
}

/* Other plugins: the proof is of no use towards backends, so the password itself is needed, and only TLS may carry it. */
static enum proof check_clear(struct client *c, const struct account *a)
{
	struct login *l = c->login;
	struct credentials *cr = l->credentials;
	uint8_t key[32], mine[32];

	if (!l->tls && strcmp(c->host, "localhost")) {
		if (l->step == LOGIN_ACCOUNT) /* the accounts have been read again, this is the last word */
			log_warning(&c->subject, "account uses %s: its clients need TLS, or a [user %s] section", a->plugin,
				    a->user);
		return PROOF_BAD;
	}
	if (l->step != LOGIN_CLEAR) {
		if (!strcmp(a->plugin, "caching_sha2_password") && has_plugin(l, "caching_sha2_password")) {
			send_more(c, 4);
			l->step = LOGIN_CLEAR;
		} else {
			send_switch(c, "mysql_clear_password", LOGIN_CLEAR);
		}
		return PROOF_ASKED;
	}
	credentials_set_password(cr, (const char *)l->auth, clear_length(l));
	if (strcmp(a->plugin, "ed25519")) {
		l->must_verify = true;
		return PROOF_GOOD;
	}
	if (!auth_ed25519_parse(a->auth, strlen(a->auth), key) || !auth_ed25519_public(cr->password, strlen(cr->password), mine))
		return PROOF_BAD;
	return secret_equal(key, mine, sizeof(key)) ? PROOF_GOOD : PROOF_BAD;
}

static enum proof check_account(struct client *c, const struct account *a)
{
	struct login *l = c->login;

	/* cppcheck-suppress [nullPointerRedundantCheck, ctunullpointer] ; only called with one */
	if (!strcmp(a->plugin, "mysql_native_password"))
		return check_native(c, a);
	if (!strcmp(a->plugin, "unix_socket") || !strcmp(a->plugin, "auth_socket"))
		return PROOF_BAD;
	if (l->auth_len && has_plugin(l, "dialog"))
		l->step = LOGIN_CLEAR;
	return check_clear(c, a);
}

static const struct user_settings *find_user(const struct client *c)
{
	const struct settings *s = snapshot_of(c)->settings;

	for (size_t i = 0; i < s->user_count; i++)
		if (!strcmp(s->users[i].name, c->login->user))
			return &s->users[i];
	return NULL;
}

static void judge(struct client *c)
{
	struct login *l = c->login;
	const struct user_settings *u = find_user(c);
	const struct account *a = NULL;
	enum proof proof;

	credentials_unref(l->credentials);
	l->credentials = credentials_new(l->user, strlen(l->user));
	if (!l->credentials) {
		refuse(c, ER_OUT_OF_RESOURCES, "HY000", "tandem: out of memory");
		return;
	}
	if (!u)
		a = snapshot_account(snapshot_of(c), l->user, strlen(l->user), c->host, is_loopback(c));
	if (!u && !a) {
		look_again(c);
		return;
	}
	if (a && a->locked) {
		refuse(c, ER_ACCOUNT_HAS_BEEN_LOCKED, "HY000", "Access denied, this account is locked");
		return;
	}
	l->credentials->is_super = a && a->is_super;
	l->credentials->account = a ? XXH3_64bits(a->auth, strlen(a->auth)) : 0;
	proof = u ? check_password(c, u->password ? u->password : "") : check_account(c, a);
	if (proof == PROOF_ASKED)
		return;
	if (proof == PROOF_BAD || (a && a->requires_tls && !l->tls)) {
		if (u)
			deny(c);
		else
			look_again(c);
		return;
	}
	accepted(c);
}

void login_recheck(struct client *client)
{
	struct login *l = client->login;

	if (!l || l->step != LOGIN_ACCOUNT)
		return;
	if (snapshot_of(client)->accounts_ticket >= l->ticket && snapshot_of(client)->accounts_known)
		judge(client);
}

/* The account tables could not be read in time. */
void login_tick(struct client *client, uint64_t now_ms)
{
	struct login *l = client->login;
	const struct proxy_settings *s = worker_settings(client->worker);

	if (l->step == LOGIN_ACCOUNT && now_ms > l->began_ms + 2000 && snapshot_of(client)->accounts_known)
		deny(client);
	else if (l->step == LOGIN_HEADER && now_ms > l->began_ms + s->login_timeout_ms)
		end_without_header(client, "no PROXY header came, and its address is one of proxy_protocol_from");
	else if (now_ms > l->began_ms + s->login_timeout_ms)
		client_close(client, "login took too long");
}

/* ---- Packets of the client ---- */

static char *copy_text(struct wire_bytes b)
{
	return strndup((const char *)b.data, b.len);
}

static void take_login(struct client *c, const struct wire_login *in)
{
	struct login *l = c->login;

	free(l->user);
	free(l->schema);
	l->user = copy_text(in->user);
	l->schema = in->schema.len ? copy_text(in->schema) : NULL;
	l->charset = in->charset;
	snprintf(l->plugin, sizeof(l->plugin), "%.*s", in->plugin.len ? (int)in->plugin.len : 21,
		 in->plugin.len ? (const char *)in->plugin.data : "mysql_native_password");
	l->auth_len = in->auth.len < sizeof(l->auth) ? in->auth.len : 0;
	memcpy(l->auth, in->auth.data ? in->auth.data : (const uint8_t *)"", l->auth_len);
}

static void on_login(struct client *c, const uint8_t *payload, size_t len)
{
	struct login *l = c->login;
	struct wire_login in;

	if (!wire_parse_login(payload, len, l->offered, &in)) {
		refuse(c, ER_HANDSHAKE_ERROR, "08S01", "Bad handshake");
		return;
	}
	if (worker_settings(c->worker)->tls >= TLS_REQUIRED && !l->tls && strcmp(c->host, "localhost")) {
		refuse(c, ER_SECURE_TRANSPORT_REQUIRED, "HY000",
		       "Connections using insecure transport are prohibited while --require_secure_transport=ON.");
		return;
	}
	l->capabilities = in.capabilities;
	take_login(c, &in);
	judge(c);
}

static void on_tls_request(struct client *c, size_t packet_len)
{
	struct login *l = c->login;

	if (!c->worker->shared->client_tls || l->tls) {
		refuse(c, ER_HANDSHAKE_ERROR, "08S01", "Bad handshake");
		return;
	}
	l->tls = true;
	l->step = LOGIN_TLS;
	buf_consume(&c->in, packet_len);
	if (!io_start_tls(&c->io, c->worker->shared->client_tls, true, NULL, false, buf_head(&c->in), buf_len(&c->in)))
		client_close(c, "out of memory for TLS");
	else if (buf_len(&c->in))
		buf_consume(&c->in, buf_len(&c->in));
}

void login_tls_ready(struct client *client)
{
	if (client->login && client->login->step == LOGIN_TLS)
		client->login->step = LOGIN_PACKET;
	login_bytes(client);
}

static void on_answer(struct client *c, const uint8_t *payload, size_t len)
{
	struct login *l = c->login;

	l->auth_len = len < sizeof(l->auth) ? len : 0;
	memcpy(l->auth, payload, l->auth_len);
	judge(c);
}

/* True when a packet was taken. */
static bool take_packet(struct client *c)
{
	struct login *l = c->login;
	uint8_t *packet = buf_head(&c->in), copy[8192];
	size_t len = buf_len(&c->in) >= WIRE_HEADER_BYTES ? wire_header_len(packet) : 0;
	struct wire_login request;

	if (buf_len(&c->in) < WIRE_HEADER_BYTES)
		return false;
	if (len > sizeof(copy)) {
		refuse(c, ER_HANDSHAKE_ERROR, "08S01", "Bad handshake");
		return false;
	}
	if (buf_len(&c->in) < WIRE_HEADER_BYTES + len)
		return false;
	l->seq = (uint8_t)(packet[3] + 1);
	if (l->step == LOGIN_PACKET && wire_parse_tls_request(packet + WIRE_HEADER_BYTES, len, &request)) {
		on_tls_request(c, WIRE_HEADER_BYTES + len);
		return false;
	}
	memcpy(copy, packet + WIRE_HEADER_BYTES, len);
	secret_wipe(packet, WIRE_HEADER_BYTES + len);
	buf_consume(&c->in, WIRE_HEADER_BYTES + len);
	if (l->step == LOGIN_PACKET)
		on_login(c, copy, len);
	else
		on_answer(c, copy, len);
	secret_wipe(copy, len);
	return true;
}

void login_bytes(struct client *client)
{
	if (client->login && client->login->step == LOGIN_HEADER && !take_header(client))
		return;
	while (client->state == CLIENT_LOGIN && client->login &&
	       (client->login->step == LOGIN_PACKET || client->login->step == LOGIN_ANSWER || client->login->step == LOGIN_CLEAR))
		if (!take_packet(client))
			break;
	if (client->state == CLIENT_READY)
		client_pump(client);
}

/* ---- The end ---- */

void login_verified(struct client *client, uint16_t code, const char *sqlstate, const char *message)
{
	if (!code)
		finish(client);
	else if (code == ER_ACCESS_DENIED_ERROR)
		deny(client);
	else
		refuse(client, code, sqlstate, message);
	if (client->state == CLIENT_READY)
		client_pump(client);
}

static void send_ok(struct client *c)
{
	struct login *l = c->login;
	const struct credentials *cr = l->credentials;
	uint8_t memory[256], proof[65];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_ok ok = { .status = SERVER_STATUS_AUTOCOMMIT };

	if (l->tls && c->worker->shared->self_signed && cr->stored_len && cr->has_password && !l->is_change) {
		auth_tls_proof(cr->stored, cr->stored_len, l->scramble, c->worker->shared->fingerprint, proof);
		ok.info = (struct wire_bytes){ proof, sizeof(proof) };
	}
	wire_put_ok(&w, &ok, c->capabilities, l->seq);
	io_send(&c->io, w.data, w.len);
}

/* All that a session was is over: COM_CHANGE_USER and COM_RESET_CONNECTION. */
void client_forget_session(struct client *c)
{
	replay_drop(c);
	client_release_all(c);
	statement_table_fini(&c->statements);
	named_clear(c);
	client_pins_clear(c);
	free(c->uvars);
	c->uvars = NULL;
	c->has_uvars = c->has_last_id = c->last_id_lost = c->collation_unknown = c->asks_binary = c->uvars_fixed = false;
	c->last_id = 0;
	c->row_count = 0;
	c->last_gone = true;
	c->found_rows = 0;
	c->found_rows_there = c->diag_open = false;
	c->diag_at = NULL;
	freeze_forget_list(c);
	c->wait_timeout_s = 0;
	c->wait_timeout_ms = worker_settings(c->worker)->wait_timeout_ms;
	c->status = SERVER_STATUS_AUTOCOMMIT;
}

static void finish(struct client *c)
{
	send_ok(c);
	log_debug(&c->subject, "logged in");
	login_free(c);
	client_set_state(c, CLIENT_READY);
}

void login_change_user(struct client *client, const uint8_t *payload, size_t len)
{
	struct wire_login in;
	struct login *l;

	if (!wire_parse_change_user(payload, len, client->capabilities, &in)) {
		client_fatal(client, ER_MALFORMED_PACKET, "HY000", "Malformed communication packet");
		return;
	}
	l = new_login(client);
	if (!l) {
		client_close(client, "out of memory");
		return;
	}
	l->is_change = true;
	l->seq = 1;
	l->tls = client->io.tls != NULL;
	client_set_state(client, CLIENT_LOGIN);
	take_login(client, &in);
	if (!l->charset)
		l->charset = client->charset;
	/* The proof was made for the last scramble sent, as servers take it. To be asked for another is of no use: libmariadb answers
	 * with a proof for the old one. */
	memcpy(l->scramble, client->scramble, sizeof(l->scramble));
	judge(client);
}
