#include "proxy/cluster/line.h"

#include <errmsg.h>
#include <fcntl.h>
#include <mysqld_error.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

void line_init(struct line *line)
{
	memset(line, 0, sizeof(*line));
	pthread_mutex_init(&line->lock, NULL);
	line->fd = -1;
}

void line_fini(struct line *line)
{
	line_close(line);
	pthread_mutex_destroy(&line->lock);
}

static void remember_error(struct line *line, MYSQL *mysql)
{
	line->error = mysql_errno(mysql);
	snprintf(line->error_text, sizeof(line->error_text), "%s", mysql_error(mysql));
}

/* Where to connect. `host` has room for the text. */
struct target {
	char host[256];
	unsigned port;
	const char *socket;
};

static bool find_target(const char *address, struct target *out)
{
	const char *colon = strrchr(address, ':');
	size_t len;

	memset(out, 0, sizeof(*out));
	if (!strncmp(address, "unix:", 5)) {
		out->socket = address + 5;
		snprintf(out->host, sizeof(out->host), "localhost");
		return true;
	}
	len = colon ? (size_t)(colon - address) : strlen(address);
	out->port = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 3306;
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	if (!len || len >= sizeof(out->host))
		return false;
	memcpy(out->host, address, len);
	/* The client library takes "localhost" for "use the default socket". */
	if (!strcasecmp(out->host, "localhost"))
		snprintf(out->host, sizeof(out->host), "127.0.0.1");
	return true;
}

/* The library counts in seconds; the exact limit is the coordinator's, which cuts the line. */
static unsigned whole_seconds(uint32_t ms)
{
	return (ms + 999) / 1000 + 1;
}

static void set_options(MYSQL *mysql, const struct line *line, const struct server_settings *server,
			const struct monitor_settings *monitor, bool tls)
{
	unsigned connect_s = (monitor->connect_timeout_ms + 999) / 1000;
	unsigned read_s = line->patience_s ? line->patience_s
					   : whole_seconds(monitor->read_timeout_ms) + 10;
	unsigned protocol =
		strncmp(server->address, "unix:", 5) ? MYSQL_PROTOCOL_TCP : MYSQL_PROTOCOL_SOCKET;
	my_bool enforce = tls;
	my_bool verify = server->tls == TLS_VERIFY_FULL;

	mysql_optionsv(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
	mysql_optionsv(mysql, MYSQL_OPT_READ_TIMEOUT, &read_s);
	mysql_optionsv(mysql, MYSQL_OPT_WRITE_TIMEOUT, &read_s);
	mysql_optionsv(mysql, MYSQL_OPT_PROTOCOL, &protocol);
	mysql_optionsv(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	mysql_optionsv(mysql, MYSQL_OPT_CONNECT_ATTR_ADD, "program_name", "tandem monitor");
	mysql_optionsv(mysql, MYSQL_OPT_SSL_ENFORCE, &enforce);
	if (!tls)
		return;
	mysql_optionsv(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verify);
	if (server->tls_ca && server->tls >= TLS_VERIFY_CA)
		mysql_ssl_set(mysql, NULL, NULL, server->tls_ca, NULL, NULL);
	/* Who pretends to have no TLS is found out after the login only, see refuse_clear(). Nothing may tell him the password. */
	if (server->tls == TLS_VERIFY_CA)
		mysql_optionsv(mysql, MARIADB_OPT_RESTRICTED_AUTH,
			       "mysql_native_password,client_ed25519,caching_sha2_password,"
			       "sha256_password,parsec");
}

/* The library's own words for these name an errno of its internals, or none. */
static void remember_refusal(struct line *line, MYSQL *mysql, const char *address, const char *user)
{
	remember_error(line, mysql);
	switch (line->error) {
	case CR_CONNECTION_ERROR:
	case CR_CONN_HOST_ERROR:
		snprintf(line->error_text, sizeof(line->error_text),
			 "cannot connect to %s: is it running, and reachable from here?", address);
		break;
	case CR_SERVER_LOST:
	case CR_SERVER_GONE_ERROR:
		snprintf(line->error_text, sizeof(line->error_text),
			 "%s closes the connection or does not answer", address);
		break;
	case ER_ACCESS_DENIED_ERROR:
		snprintf(
			line->error_text, sizeof(line->error_text),
			"it refuses the monitor's account %s: check user and password in [monitor]",
			user);
		break;
	default:
		break;
	}
}

/* The library logs in without TLS where the server offers none, whatever MYSQL_OPT_SSL_ENFORCE says. */
static bool refuse_clear(struct line *line, MYSQL *mysql, const struct server_settings *server)
{
	if (server->tls < TLS_REQUIRED || mysql_get_ssl_cipher(mysql))
		return false;
	line->error = CR_SSL_CONNECTION_ERROR;
	snprintf(line->error_text, sizeof(line->error_text),
		 "it offers no TLS, which [server %s] tls asks for", server->name);
	return true;
}

static MYSQL *dial(struct line *line, const struct server_settings *server,
		   const struct monitor_settings *monitor, bool tls)
{
	struct target target;
	MYSQL *mysql = mysql_init(NULL);

	if (!mysql || !find_target(server->address, &target)) {
		line->error = CR_UNKNOWN_HOST;
		snprintf(line->error_text, sizeof(line->error_text), "%s is not an address",
			 server->address);
		if (mysql)
			mysql_close(mysql);
		return NULL;
	}
	set_options(mysql, line, server, monitor, tls);
	if (mysql_real_connect(mysql, target.host, monitor->user, monitor->password, NULL,
			       target.port, target.socket, CLIENT_REMEMBER_OPTIONS)) {
		if (!tls || !refuse_clear(line, mysql, server))
			return mysql;
	} else {
		remember_refusal(line, mysql, server->address, monitor->user);
	}
	mysql_close(mysql);
	return NULL;
}

static bool wants_tls(const struct server_settings *server)
{
	return server->tls != TLS_OFF && strncmp(server->address, "unix:", 5);
}

static void publish_socket(struct line *line)
{
	pthread_mutex_lock(&line->lock);
	line->fd = fcntl((int)mysql_get_socket(line->mysql), F_DUPFD_CLOEXEC, 0);
	line->cut = false;
	pthread_mutex_unlock(&line->lock);
}

static bool run(struct line *line, const char *statement)
{
	if (mysql_query(line->mysql, statement) == 0)
		return true;
	remember_error(line, line->mysql);
	return false;
}

bool line_open(struct line *line, const struct server_settings *server,
	       const struct monitor_settings *monitor)
{
	bool tls = wants_tls(server);

	line_close(line);
	line->error = 0;
	line->logged_in = false;
	line->mysql = dial(line, server, monitor, tls);
	if (!line->mysql && tls && server->tls == TLS_PREFERRED &&
	    line->error == CR_SSL_CONNECTION_ERROR)
		line->mysql = dial(line, server, monitor, false);
	if (!line->mysql)
		return false;
	line->logged_in = true;
	publish_socket(line);
	/* A server with a short wait_timeout must not look like one that died. */
	if (run(line, "SET SESSION wait_timeout = 2000000, SESSION autocommit = 1"))
		return true;
	line_close(line);
	return false;
}

void line_close(struct line *line)
{
	pthread_mutex_lock(&line->lock);
	if (line->fd >= 0)
		close(line->fd);
	line->fd = -1;
	pthread_mutex_unlock(&line->lock);
	if (line->mysql)
		mysql_close(line->mysql);
	line->mysql = NULL;
}

void line_cut(struct line *line)
{
	pthread_mutex_lock(&line->lock);
	if (line->fd >= 0) {
		line->cut = true;
		shutdown(line->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&line->lock);
}

MYSQL_RES *line_query(struct line *line, const char *statement)
{
	MYSQL_RES *result;

	line->error = 0;
	if (!line->mysql) {
		line->error = CR_SERVER_GONE_ERROR;
		return NULL;
	}
	if (!run(line, statement))
		return NULL;
	result = mysql_store_result(line->mysql);
	if (!result && mysql_errno(line->mysql))
		remember_error(line, line->mysql);
	return result;
}

bool line_say(struct line *line, const char *format, ...)
{
	char *statement;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&statement, format, args);
	va_end(args);
	if (len < 0) {
		line_set_error(line, "out of memory");
		return false;
	}
	mysql_free_result(line_query(line, statement));
	explicit_bzero(statement, (size_t)len);
	free(statement);
	return line->error == 0;
}

bool line_error_is_limit(const struct line *line)
{
	switch (line->error) {
	case ER_CON_COUNT_ERROR:
	case ER_TOO_MANY_USER_CONNECTIONS:
	case 1226: /* ER_USER_LIMIT_REACHED */
		return true;
	default:
		return false;
	}
}

bool line_error_is_loss(const struct line *line)
{
	return (line->error >= CR_MIN_ERROR && line->error <= CR_MAX_ERROR) ||
	       line->error == ER_SERVER_SHUTDOWN || line->error == ER_CONNECTION_KILLED;
}

void line_set_error(struct line *line, const char *text)
{
	line->error = ER_UNKNOWN_ERROR;
	snprintf(line->error_text, sizeof(line->error_text), "%s", text);
}

const char *row_text(MYSQL_ROW row, unsigned column)
{
	return row[column] ? row[column] : "";
}

unsigned long long row_number(MYSQL_ROW row, unsigned column)
{
	return row[column] ? strtoull(row[column], NULL, 10) : 0;
}

int result_column(MYSQL_RES *result, const char *name, const char *alternative)
{
	unsigned count = mysql_num_fields(result);
	MYSQL_FIELD *fields = mysql_fetch_fields(result);

	for (unsigned i = 0; i < count; i++)
		if (!strcasecmp(fields[i].name, name))
			return (int)i;
	return alternative ? result_column(result, alternative, NULL) : -1;
}
