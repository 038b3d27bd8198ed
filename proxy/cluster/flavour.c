#include "proxy/cluster/flavour.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"

/* One entry of an auth_or list, or the entry's own plugin. */
#define PRIV_AUTH(path)                                                                            \
	"JSON_VALUE(Priv,'" path ".plugin'),JSON_VALUE(Priv,'" path ".authentication_string')"

#define USERS_OWN                                                                                  \
	"TABLE_SCHEMA NOT IN ('mysql','sys','information_schema','performance_schema')"

/* One of the rows of a status table, as a column. */
#define ONE_OF(name) "MAX(IF(VARIABLE_NAME='Rpl_semi_sync_" name "',VARIABLE_VALUE,NULL))"
#define SETTING(suffix)                                                                                             \
	"(SELECT MAX(VARIABLE_VALUE) FROM performance_schema.global_variables WHERE VARIABLE_NAME LIKE 'rpl\\_semi\\_sync\\_source" suffix "'" \
	" OR VARIABLE_NAME LIKE 'rpl\\_semi\\_sync\\_master" suffix "')"

/* A version 1 UUID carries, as its fourth group, a number that the server draws anew whenever it starts (RFC 9562, section 5.1: the clock
 * sequence; MySQL manual, "UUID()"). */
#define HELLO "SELECT SUBSTRING_INDEX(USER(),'@',-1), CONNECTION_ID(), SUBSTRING_INDEX(SUBSTRING_INDEX(UUID(),'-',4),'-',-1)"

static const struct flavour mariadb = {
	/* gtid_current_pos: what was replicated and what was written here; gtid_slave_pos alone knows nothing of own writes. */
	.look = "SELECT @@global.server_id, @@global.read_only, @@global.gtid_current_pos, "
		"@@global.max_connections,"
		" @@global.skip_name_resolve, @@global.rpl_semi_sync_master_enabled",
	.hello = HELLO,
	.uptime = "SHOW GLOBAL STATUS LIKE 'Uptime'",
	.links = "SHOW ALL SLAVES STATUS",
	.links_before = "SHOW SLAVE STATUS",
	/* A boolean variable beside an aggregate is 0 whatever it is (10.11), hence the derived table. */
	.semi_sync = "SELECT s.*, @@global.rpl_semi_sync_master_timeout, @@global.rpl_semi_sync_master_wait_point,"
		     " @@global.rpl_semi_sync_master_wait_no_slave FROM (SELECT " ONE_OF("MASTER_STATUS") " a,"
		     ONE_OF("MASTER_CLIENTS") " b," ONE_OF("MASTER_WAIT_SESSIONS") " c FROM information_schema.GLOBAL_STATUS"
		     " WHERE VARIABLE_NAME LIKE 'RPL_SEMI_SYNC_MASTER_%') s",
	/* The select list is evaluated from left to right: the position is read when the wait is over. */
	.wait = "SELECT MASTER_GTID_WAIT('%s',%.3f), @@global.gtid_current_pos",
	.format_position = gtid_format,
	.variables = "SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, SESSION_VALUE, GLOBAL_VALUE FROM "
		     "information_schema.SYSTEM_VARIABLES"
		     " WHERE VARIABLE_SCOPE IN ('SESSION','SESSION ONLY') AND READ_ONLY='NO'",
	.accounts = "SELECT User, Host, JSON_VALUE(Priv,'$.access'), "
		    "JSON_VALUE(Priv,'$.account_locked'), JSON_VALUE(Priv,'$.ssl_type'),"
		    " JSON_VALUE(Priv,'$.is_role'), " PRIV_AUTH("$") "," PRIV_AUTH("$.auth_or[0]") "," PRIV_AUTH(
			    "$.auth_or[1]") "," PRIV_AUTH("$.auth_or[2]") "," PRIV_AUTH("$.auth_or["
											"3]") " FRO"
											      "M "
											      "mysq"
											      "l."
											      "glob"
											      "al_"
											      "pri"
											      "v",
	.accounts_before =
		"SELECT User, Host, IF(Super_priv='Y',32768,0), 0, IF(ssl_type='',0,1), is_role, "
		"plugin,"
		" IF(authentication_string='',Password,authentication_string) FROM mysql.user",
	.routines = "SELECT LOWER(ROUTINE_NAME), ROUTINE_TYPE, ROUTINE_DEFINITION, SQL_MODE FROM "
		    "information_schema.ROUTINES",
	.loadable = "SELECT LOWER(name) FROM mysql.func",
	.views = "SET STATEMENT max_statement_time=1 FOR SELECT LOWER(TABLE_NAME), VIEW_DEFINITION FROM "
		 "information_schema.VIEWS WHERE " USERS_OWN,
	.catalog_stamp = "SELECT COUNT(*), MAX(modified), SUM(CRC32(body)), (SELECT COUNT(*) FROM "
			 "mysql.func) FROM mysql.proc",
};

static const struct flavour mysql = {
	.look = "SELECT @@global.server_id, @@global.read_only, @@global.gtid_executed, "
		"@@global.max_connections,"
		" @@global.skip_name_resolve, (SELECT COUNT(*) FROM performance_schema.global_variables WHERE"
		" VARIABLE_NAME IN ('rpl_semi_sync_source_enabled','rpl_semi_sync_master_enabled') AND VARIABLE_VALUE='ON')",
	.hello = HELLO,
	.uptime = "SHOW GLOBAL STATUS LIKE 'Uptime'",
	.links = "SHOW REPLICA STATUS",
	.links_before = "SHOW SLAVE STATUS",
	.heartbeats = "SELECT s.COUNT_RECEIVED_HEARTBEATS, c.HEARTBEAT_INTERVAL FROM "
		      "performance_schema.replication_connection_status s JOIN "
		      "performance_schema.replication_connection_configuration c USING (CHANNEL_NAME)",
	/* By the plugin's names of either generation. */
	.semi_sync = "SELECT " ONE_OF("SOURCE_STATUS' OR VARIABLE_NAME='Rpl_semi_sync_MASTER_STATUS") ","
		     ONE_OF("SOURCE_CLIENTS' OR VARIABLE_NAME='Rpl_semi_sync_MASTER_CLIENTS") ","
		     ONE_OF("SOURCE_WAIT_SESSIONS' OR VARIABLE_NAME='Rpl_semi_sync_MASTER_WAIT_SESSIONS") ","
		     SETTING("_timeout") "," SETTING("_wait_point") "," SETTING("_wait_no_%")
		     " FROM performance_schema.global_status WHERE VARIABLE_NAME LIKE 'Rpl\\_semi\\_sync\\_%'",
	.wait = "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s',%.3f), @@global.gtid_executed",
	.format_position = gtid_format_mysql,
	/* session_variables has everything that exists; what has no global value or cannot be set is left out by name. */
	.variables = "SELECT LOWER(s.VARIABLE_NAME), '', s.VARIABLE_VALUE, g.VARIABLE_VALUE FROM "
		     "performance_schema.session_variables s"
		     " LEFT JOIN performance_schema.global_variables g ON g.VARIABLE_NAME = "
		     "s.VARIABLE_NAME",
	.accounts = "SELECT User, Host, IF(Super_priv='Y',32768,0), IF(account_locked='Y',1,0), "
		    "IF(ssl_type='',0,1), 0, plugin,"
		    " authentication_string FROM mysql.user",
	.accounts_before = NULL,
	.routines = "SELECT LOWER(ROUTINE_NAME), ROUTINE_TYPE, ROUTINE_DEFINITION, SQL_MODE FROM "
		    "information_schema.ROUTINES",
	.loadable = "SELECT LOWER(name) FROM mysql.func",
	.views = "SELECT /*+ MAX_EXECUTION_TIME(1000) */ LOWER(TABLE_NAME), VIEW_DEFINITION FROM "
		 "information_schema.VIEWS WHERE " USERS_OWN,
	.catalog_stamp = "SELECT COUNT(*), MAX(LAST_ALTERED), SUM(CRC32(ROUTINE_DEFINITION)), "
			 "(SELECT COUNT(*) FROM mysql.func)"
			 " FROM information_schema.ROUTINES",
};

const struct flavour *flavour_of(enum sql_flavour flavour)
{
	return flavour == SQL_MYSQL ? &mysql : &mariadb;
}

enum sql_flavour flavour_from_version(const char *version_text)
{
	return strcasestr(version_text, "mariadb") ? SQL_MARIADB : SQL_MYSQL;
}

uint32_t flavour_version_number(const char *version_text)
{
	unsigned major = 0, minor = 0, patch = 0;

	if (!strncmp(version_text, "5.5.5-", 6) && strcasestr(version_text, "mariadb"))
		version_text += 6;
	if (sscanf(version_text, "%u.%u.%u", &major, &minor, &patch) < 2)
		return 0;
	return major * 10000 + minor * 100 + patch;
}

static bool read_capabilities(MYSQL *connection, struct observation *out)
{
	unsigned long low = 0;
	unsigned long extended = 0;

	if (mariadb_get_infov(connection, MARIADB_CONNECTION_SERVER_CAPABILITIES, &low))
		return false;
	mariadb_get_infov(connection, MARIADB_CONNECTION_EXTENDED_SERVER_CAPABILITIES, &extended);
	out->capabilities = (uint64_t)low | (uint64_t)extended << 32;
	return true;
}

/* The address this end of the connection has; what a server behind a NAT sees instead it tells by itself. */
static void local_ip(int fd, char *out, socklen_t size)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(address);

	out[0] = '\0';
	if (getsockname(fd, (struct sockaddr *)&address, &len))
		return;
	if (address.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, out, size);
	else if (address.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address)->sin6_addr, out, size);
}

static void remember_origin(MYSQL *connection, const char *seen_as, struct observation *out)
{
	struct in6_addr any;

	out->own_name[0] = '\0';
	if (inet_pton(AF_INET, seen_as, &any) == 1 || inet_pton(AF_INET6, seen_as, &any) == 1) {
		snprintf(out->own_ip, sizeof(out->own_ip), "%s", seen_as);
		return;
	}
	snprintf(out->own_name, sizeof(out->own_name), "%s", seen_as);
	local_ip((int)mysql_get_socket(connection), out->own_ip, sizeof(out->own_ip));
}

static bool observe_hello(struct line *line, const struct flavour *f, struct observation *out)
{
	MYSQL_RES *result = line_query(line, f->hello);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	if (row) {
		remember_origin(line->mysql, row_text(row, 0), out);
		out->connection_id = row_number(row, 1);
		out->incarnation = (uint16_t)strtoul(row_text(row, 2), NULL, 16);
	}
	mysql_free_result(result);
	return row != NULL;
}

static bool observe_uptime(struct line *line, const struct flavour *f, struct observation *out)
{
	MYSQL_RES *result = line_query(line, f->uptime);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	if (row)
		out->booted_ms = (int64_t)clock_ms() - (int64_t)row_number(row, 1) * 1000;
	mysql_free_result(result);
	return row != NULL;
}

bool observe_greeting(struct line *line, struct observation *out)
{
	const struct flavour *f;
	unsigned collation = 0;
	const char *version = mysql_get_server_info(line->mysql);

	out->greeting++;
	snprintf(out->version_text, sizeof(out->version_text), "%s", version ? version : "");
	out->flavour = flavour_from_version(out->version_text);
	out->version = flavour_version_number(out->version_text);
	if (!read_capabilities(line->mysql, out))
		return false;
	collation = line->mysql->server_language;
	out->collation = (uint8_t)collation;
	f = flavour_of(out->flavour);
	return observe_hello(line, f, out) && observe_uptime(line, f, out);
}

static bool is_on(const char *text)
{
	return strcmp(text, "0") && strcasecmp(text, "OFF") && strcasecmp(text, "NO") && *text;
}

static void read_look(MYSQL_ROW row, struct observation *out)
{
	const char *position = row_text(row, 2);

	out->server_id = (uint32_t)row_number(row, 0);
	out->read_only = is_on(row_text(row, 1));
	if (!gtid_parse(position, strlen(position), &out->position))
		out->position.lost = true;
	out->max_connections = (unsigned)row_number(row, 3);
	out->skip_name_resolve = is_on(row_text(row, 4));
	out->semi_sync = is_on(row_text(row, 5)) ? SEMI_SYNC_ON : SEMI_SYNC_OFF;
}

static void read_terms(MYSQL_ROW row, struct semi_sync_terms *out)
{
	out->clients = (unsigned)row_number(row, 1);
	out->waiting = (unsigned)row_number(row, 2);
	out->timeout_ms = row_number(row, 3);
	out->after_sync = !strcasecmp(row_text(row, 4), "AFTER_SYNC");
	out->waits_alone = is_on(row_text(row, 5));
}

/* A server that has stopped waiting for its replicas goes on saying that it was asked to. */
static bool observe_semi_sync(struct line *line, const struct flavour *f, struct observation *out)
{
	MYSQL_RES *result = line_query(line, f->semi_sync);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	if (row)
		read_terms(row, &out->terms);
	if (row && !is_on(row_text(row, 0)))
		out->semi_sync = SEMI_SYNC_DEGRADED;
	mysql_free_result(result);
	return result != NULL;
}

static bool observe_look(struct line *line, const struct flavour *f, struct observation *out)
{
	MYSQL_RES *result = line_query(line, f->look);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	if (row)
		read_look(row, out);
	mysql_free_result(result);
	if (row && out->semi_sync != SEMI_SYNC_OFF)
		return observe_semi_sync(line, f, out);
	return row != NULL;
}

/* The columns of a replication status that matter, by both spellings. */
enum {
	L_HOST,
	L_PORT,
	L_IO,
	L_SQL,
	L_BEHIND,
	L_IO_ERRNO,
	L_SQL_ERRNO,
	L_SERVER_ID,
	L_IO_POSITION,
	L_USING_GTID,
	L_TLS,
	L_RETRY,
	L_HEARTBEATS,
	L_HEARTBEAT_PERIOD,
	L_COUNT
};

static const struct {
	const char *name, *alternative;
} link_columns[L_COUNT] = {
	[L_HOST] = { "Master_Host", "Source_Host" },
	[L_PORT] = { "Master_Port", "Source_Port" },
	[L_IO] = { "Slave_IO_Running", "Replica_IO_Running" },
	[L_SQL] = { "Slave_SQL_Running", "Replica_SQL_Running" },
	[L_BEHIND] = { "Seconds_Behind_Master", "Seconds_Behind_Source" },
	[L_IO_ERRNO] = { "Last_IO_Errno", NULL },
	[L_SQL_ERRNO] = { "Last_SQL_Errno", NULL },
	[L_SERVER_ID] = { "Master_Server_Id", "Source_Server_Id" },
	[L_IO_POSITION] = { "Gtid_IO_Pos", "Retrieved_Gtid_Set" },
	[L_USING_GTID] = { "Using_Gtid", "Auto_Position" },
	[L_TLS] = { "Master_SSL_Allowed", "Source_SSL_Allowed" },
	[L_RETRY] = { "Connect_Retry", NULL },
	[L_HEARTBEATS] = { "Slave_received_heartbeats", NULL },
	[L_HEARTBEAT_PERIOD] = { "Slave_heartbeat_period", NULL },
};

static enum thread_state thread_from(const char *text)
{
	if (!strcasecmp(text, "Yes"))
		return THREAD_RUNNING;
	/* "Connecting", and "Preparing" of MariaDB: alive, not there yet. */
	return !*text || !strcasecmp(text, "No") ? THREAD_STOPPED : THREAD_CONNECTING;
}

/* Seconds with a fraction. */
static uint32_t period_ms(const char *text)
{
	double seconds = strtod(text, NULL);

	return seconds > 0 && seconds < 4294967 ? (uint32_t)(seconds * 1000) : 0;
}

static void read_link(MYSQL_ROW row, const int column[L_COUNT], struct link_view *out)
{
	const char *text[L_COUNT];

	for (int i = 0; i < L_COUNT; i++)
		text[i] = column[i] >= 0 ? row_text(row, (unsigned)column[i]) : "";
	snprintf(out->host, sizeof(out->host), "%s", text[L_HOST]);
	out->port = (unsigned)strtoul(text[L_PORT], NULL, 10);
	out->io = thread_from(text[L_IO]);
	out->sql = thread_from(text[L_SQL]);
	out->behind_ms = *text[L_BEHIND] ? strtoull(text[L_BEHIND], NULL, 10) * 1000 : UINT64_MAX;
	out->io_errno = (unsigned)strtoul(text[L_IO_ERRNO], NULL, 10);
	out->sql_errno = (unsigned)strtoul(text[L_SQL_ERRNO], NULL, 10);
	out->master_server_id = (uint32_t)strtoul(text[L_SERVER_ID], NULL, 10);
	if (!gtid_parse(text[L_IO_POSITION], strlen(text[L_IO_POSITION]), &out->io_position))
		out->io_position.lost = true;
	out->uses_gtid = *text[L_USING_GTID] && strcasecmp(text[L_USING_GTID], "No") && strcmp(text[L_USING_GTID], "0");
	out->uses_tls = !strcasecmp(text[L_TLS], "Yes");
	out->retry_ms = (uint32_t)strtoul(text[L_RETRY], NULL, 10) * 1000;
	out->heartbeats = strtoull(text[L_HEARTBEATS], NULL, 10);
	out->heartbeat_ms = period_ms(text[L_HEARTBEAT_PERIOD]);
}

/* Where the status of the links does not tell. An account that may not ask is served without: the links then count as having none. */
static bool observe_heartbeats(struct line *line, const struct flavour *f, struct observation *out)
{
	MYSQL_RES *result;
	MYSQL_ROW row;

	if (!f->heartbeats || !out->link_count)
		return true;
	result = line_query(line, f->heartbeats);
	for (unsigned i = 0; result && i < out->link_count && (row = mysql_fetch_row(result)); i++) {
		out->links[i].heartbeats = row_number(row, 0);
		out->links[i].heartbeat_ms = period_ms(row_text(row, 1));
	}
	mysql_free_result(result);
	return result || !line_error_is_loss(line);
}

static bool observe_links(struct line *line, const struct flavour *f, struct observation *out)
{
	MYSQL_RES *result = line_query(line, f->links);
	int column[L_COUNT];
	MYSQL_ROW row;

	if (!result && line->error && !line_error_is_loss(line))
		result = line_query(line, f->links_before);
	out->link_count = 0;
	if (!result)
		return false;
	for (int i = 0; i < L_COUNT; i++)
		column[i] =
			result_column(result, link_columns[i].name, link_columns[i].alternative);
	while (out->link_count < OBSERVED_LINKS && (row = mysql_fetch_row(result)))
		read_link(row, column, &out->links[out->link_count++]);
	mysql_free_result(result);
	return true;
}

/* Only of a server that could be the primary. One without the table, or that does not let us look, has none. */
static bool observe_epoch(struct line *line, struct observation *out)
{
	MYSQL_RES *result;
	MYSQL_ROW row;

	out->row_epoch = 0;
	if (out->link_count)
		return true;
	result = line_query(line, "SELECT MAX(epoch) FROM tandem.cluster");
	row = result ? mysql_fetch_row(result) : NULL;
	if (row)
		out->row_epoch = row_number(row, 0);
	mysql_free_result(result);
	return result || !line_error_is_loss(line);
}

bool observe_state(struct line *line, struct observation *out)
{
	const struct flavour *f = flavour_of(out->flavour);

	/* Links first: a link seen caught up must not be paired with an older position. */
	return observe_links(line, f, out) && observe_heartbeats(line, f, out) && observe_look(line, f, out) && observe_epoch(line, out);
}
