#include "proxy/cluster/replication.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "proxy/cluster/gtid.h"
#include "proxy/cluster/line.h"

enum {
	STATEMENT_BYTES = POSITION_BYTES + 2048,
	QUOTED_BYTES = 512,
	WAIT_SLICE_MS = 1000,	  /* no single call outlives the line's patience */
	MARIADB_DEMOTES = 101000, /* MASTER_DEMOTE_TO_SLAVE since 10.10 */
	CONNECT_RETRY_S = 1,
	DUMPS_MAX = 64, /* dump threads ended in one call */
};

/* How each flavour says it. A list is run in order and ends at the first NULL. */
enum { LONGEST_LIST = 3 };
struct dialect {
	const char *read_only[LONGEST_LIST];
	const char *writable[LONGEST_LIST];
	const char *prepare_lock[LONGEST_LIST];
	const char *lock[LONGEST_LIST];
	const char *unlock;
	const char *binlog_position;
	const char *applied_position;
	const char *history;
	const char *start, *stop, *start_applier, *stop_receiver, *forget;
	const char *links;
	const char *received_column;
};

static const struct dialect mariadb = {
	/* read_only waits for running statements, and all writers queue behind it: it and the lock wait a second at most. An open
	 * transaction holds neither up. */
	.read_only = { "SET SESSION lock_wait_timeout = 1", "SET GLOBAL read_only = 1" },
	.writable = { "SET GLOBAL read_only = 0" },
	/* FLUSH TABLES WITH READ LOCK would close every table and write out those that are not InnoDB under the lock: 6 to 55 ms were
	 * measured. The stages of a backup do that before, and the last takes 1 to 5 ms. None is in the binary log. */
	.prepare_lock = { "SET SESSION lock_wait_timeout = 1", "BACKUP STAGE START", "BACKUP STAGE FLUSH" },
	.lock = { "BACKUP STAGE BLOCK_DDL", "BACKUP STAGE BLOCK_COMMIT" },
	.unlock = "BACKUP STAGE END",
	.binlog_position = "SELECT @@global.gtid_binlog_pos",
	/* Not gtid_slave_pos: it says nothing of what the server wrote itself. */
	.applied_position = "SELECT @@global.gtid_current_pos",
	.history = "SELECT @@global.gtid_binlog_state",
	.start = "START SLAVE",
	.stop = "STOP SLAVE",
	.start_applier = "START SLAVE SQL_THREAD",
	.stop_receiver = "STOP SLAVE IO_THREAD",
	.forget = "RESET SLAVE ALL",
	.links = "SHOW SLAVE STATUS",
	.received_column = "Gtid_IO_Pos",
};

static const struct dialect mysql = {
	.read_only = { "SET SESSION lock_wait_timeout = 1", "SET GLOBAL super_read_only = 1" },
	/* super_read_only first: it is what stops us. */
	.writable = { "SET GLOBAL super_read_only = 0", "SET GLOBAL read_only = 0" },
	.prepare_lock = { "SET SESSION lock_wait_timeout = 1" },
	.lock = { "FLUSH TABLES WITH READ LOCK" },
	.unlock = "UNLOCK TABLES",
	.binlog_position = "SELECT @@global.gtid_executed",
	.applied_position = "SELECT @@global.gtid_executed",
	.history = "SELECT @@global.gtid_executed",
	.start = "START REPLICA",
	.stop = "STOP REPLICA",
	.start_applier = "START REPLICA SQL_THREAD",
	.stop_receiver = "STOP REPLICA IO_THREAD",
	.forget = "RESET REPLICA ALL",
	.links = "SHOW REPLICA STATUS",
	.received_column = "Retrieved_Gtid_Set",
};

static const struct dialect *dialect_of(const struct subject *s)
{
	return s->flavour == SQL_MYSQL ? &mysql : &mariadb;
}

/* One statement whose result does not matter. */
static bool say(struct subject *s, const char *statement)
{
	mysql_free_result(line_query(s->line, statement));
	return s->line->error == 0;
}

static bool say_all(struct subject *s, const char *const list[LONGEST_LIST])
{
	for (int i = 0; i < LONGEST_LIST && list[i]; i++)
		if (!say(s, list[i]))
			return false;
	return true;
}

/* The first column of the first row. Servers break long positions into lines: those are taken out. */
static bool ask_position(struct subject *s, const char *question, char out[POSITION_BYTES])
{
	MYSQL_RES *result = line_query(s->line, question);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;
	bool fits = row && strlen(row_text(row, 0)) < POSITION_BYTES;
	size_t len = 0;

	for (const char *at = fits ? row_text(row, 0) : ""; *at; at++)
		if (*at != '\n' && *at != ' ')
			out[len++] = *at;
	out[len] = '\0';
	if (row && !fits)
		line_set_error(s->line, "its GTID position is too long");
	mysql_free_result(result);
	return fits;
}

bool replication_set_read_only(struct subject *s)
{
	return say_all(s, dialect_of(s)->read_only);
}

bool replication_set_writable(struct subject *s)
{
	return say_all(s, dialect_of(s)->writable);
}

bool replication_prepare_lock(struct subject *s)
{
	return say_all(s, dialect_of(s)->prepare_lock);
}

bool replication_lock(struct subject *s)
{
	return say_all(s, dialect_of(s)->lock);
}

bool replication_unlock(struct subject *s)
{
	return say(s, dialect_of(s)->unlock);
}

bool replication_binlog_position(struct subject *s, char out[POSITION_BYTES])
{
	return ask_position(s, dialect_of(s)->binlog_position, out);
}

bool replication_applied_position(struct subject *s, char out[POSITION_BYTES])
{
	return ask_position(s, dialect_of(s)->applied_position, out);
}

bool replication_history(struct subject *s, char out[POSITION_BYTES])
{
	return ask_position(s, dialect_of(s)->history, out);
}

bool replication_received_position(struct subject *s, char out[POSITION_BYTES])
{
	MYSQL_RES *result = line_query(s->line, dialect_of(s)->links);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;
	int column = row ? result_column(result, dialect_of(s)->received_column, NULL) : -1;

	out[0] = '\0';
	if (column >= 0)
		snprintf(out, POSITION_BYTES, "%s", row_text(row, (unsigned)column));
	else if (!s->line->error)
		line_set_error(s->line, "it replicates from nobody");
	mysql_free_result(result);
	return column >= 0;
}

/* --- waiting --- */

static unsigned domain_of(const char *gtid)
{
	return (unsigned)strtoul(gtid, NULL, 10);
}

static bool has_domain(const char *position, unsigned domain)
{
	for (const char *at = position; *at; at += strcspn(at, ","), at += *at == ',')
		if (domain_of(at) == domain)
			return true;
	return false;
}

/* MASTER_GTID_WAIT compares with gtid_slave_pos, in which a server's own writes are missing: what is there already must not be
 * waited for, or the wait for it would never end. `wanted` keeps the domains that are still to come. */
static void keep_missing(char wanted[POSITION_BYTES], const char *applied)
{
	struct gtid_set have;
	char left[POSITION_BYTES];
	size_t len = 0;

	if (!gtid_parse(applied, strlen(applied), &have) || have.lost)
		return;
	for (const char *at = wanted; *at; at += strcspn(at, ","), at += *at == ',') {
		size_t size = strcspn(at, ",");
		struct gtid_set one;

		if (gtid_parse(at, size, &one) && gtid_covers(&have, &one))
			continue;
		len += (size_t)snprintf(left + len, sizeof(left) - len, "%s%.*s", len ? "," : "",
					(int)size, at);
	}
	left[len] = '\0';
	memcpy(wanted, left, len + 1);
}

enum waited { WAIT_REACHED, WAIT_TIME_OVER, WAIT_FAILED };

static enum waited wait_slice(struct subject *s, const char *position, uint32_t ms)
{
	char statement[STATEMENT_BYTES];
	MYSQL_RES *result;
	MYSQL_ROW row;
	enum waited outcome = WAIT_FAILED;

	/* A literal: the compiler checks it against its arguments in both branches. */
	if (s->flavour == SQL_MYSQL)
		snprintf(statement, sizeof(statement), "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %u.%03u)",
			 position, ms / 1000, ms % 1000);
	else
		snprintf(statement, sizeof(statement), "SELECT MASTER_GTID_WAIT('%s', %u.%03u)", position,
			 ms / 1000, ms % 1000);
	result = line_query(s->line, statement);
	row = result ? mysql_fetch_row(result) : NULL;
	if (row)
		outcome = row[0] && !strcmp(row[0], "0") ? WAIT_REACHED : WAIT_TIME_OVER;
	mysql_free_result(result);
	return outcome;
}

bool replication_wait_applied(struct subject *s, const char *position, uint32_t timeout_ms)
{
	uint64_t end = clock_ms() + timeout_ms;
	char applied[POSITION_BYTES], wanted[POSITION_BYTES];

	snprintf(wanted, sizeof(wanted), "%s", position);
	for (;;) {
		uint64_t now = clock_ms();
		uint64_t left = end > now ? end - now : 0;

		if (!replication_applied_position(s, applied))
			return false;
		if (s->flavour == SQL_MARIADB)
			keep_missing(wanted, applied);
		if (!*wanted)
			return true;
		switch (wait_slice(s, wanted, left < WAIT_SLICE_MS ? (uint32_t)left : WAIT_SLICE_MS)) {
		case WAIT_REACHED:
			return true;
		case WAIT_FAILED:
			return false;
		case WAIT_TIME_OVER:
			if (!left)
				return false;
		}
	}
}

/* --- the link --- */

bool replication_start(struct subject *s)
{
	return say(s, dialect_of(s)->start);
}

bool replication_stop(struct subject *s)
{
	return say(s, dialect_of(s)->stop);
}

bool replication_start_applier(struct subject *s)
{
	return say(s, dialect_of(s)->start_applier);
}

bool replication_stop_receiver(struct subject *s)
{
	return say(s, dialect_of(s)->stop_receiver);
}

bool replication_forget(struct subject *s)
{
	return say(s, dialect_of(s)->forget);
}

/* The words of CHANGE MASTER that both ways of following share. */
struct quoted_source {
	char host[QUOTED_BYTES], user[QUOTED_BYTES], password[QUOTED_BYTES];
};

static bool quote(struct subject *s, const char *text, char out[QUOTED_BYTES])
{
	size_t len = strlen(text);

	if (2 * len + 1 > QUOTED_BYTES || !s->line->mysql) {
		line_set_error(s->line, "host, user or password of the link is too long");
		return false;
	}
	mysql_real_escape_string(s->line->mysql, out, text, (unsigned long)len);
	return true;
}

static bool quote_source(struct subject *s, const struct replication_source *source, struct quoted_source *out)
{
	return quote(s, source->host, out->host) && quote(s, source->user, out->user) &&
	       quote(s, source->password, out->password);
}

static bool change_mysql(struct subject *s, const struct replication_source *source, const struct quoted_source *q)
{
	/* Without TLS caching_sha2_password sends its secret under the source's public key, which has to be asked for. */
	return line_say(s->line,
			     "CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%u, SOURCE_USER='%s', "
			     "SOURCE_PASSWORD='%s', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=%u, "
			     "SOURCE_HEARTBEAT_PERIOD=%u.%03u, SOURCE_SSL=%u, GET_SOURCE_PUBLIC_KEY=1",
			     q->host, source->port, q->user, q->password, CONNECT_RETRY_S,
			     source->heartbeat_ms / 1000, source->heartbeat_ms % 1000, source->tls);
}

/* MASTER_SSL is on by default since 11.3; both sides of it are said, so that old and new servers do the same. */
static bool change_mariadb(struct subject *s, const struct replication_source *source, const struct quoted_source *q,
			   const char *more)
{
	return line_say(s->line,
			     "CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%u, MASTER_USER='%s', "
			     "MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=%u, "
			     "MASTER_HEARTBEAT_PERIOD=%u.%03u, MASTER_SSL=%u%s%s",
			     q->host, source->port, q->user, q->password, CONNECT_RETRY_S,
			     source->heartbeat_ms / 1000, source->heartbeat_ms % 1000, source->tls,
			     source->tls ? "" : ", MASTER_SSL_VERIFY_SERVER_CERT=0", more);
}

static bool change(struct subject *s, const struct replication_source *source, const char *more)
{
	struct quoted_source q;
	bool ok;

	if (!quote_source(s, source, &q))
		return false;
	ok = s->flavour == SQL_MYSQL ? change_mysql(s, source, &q) : change_mariadb(s, source, &q, more);
	explicit_bzero(&q, sizeof(q));
	return ok;
}

/* Before 10.10: what the server has written becomes what it has replicated. A domain that only its replication knows is kept, or
 * its whole history would be asked for again. */
static bool adopt_own_writes(struct subject *s)
{
	char written[POSITION_BYTES], replicated[POSITION_BYTES];
	size_t len;

	if (!replication_binlog_position(s, written) ||
	    !ask_position(s, "SELECT @@global.gtid_slave_pos", replicated))
		return false;
	len = strlen(written);
	for (const char *at = replicated; *at; at += strcspn(at, ","), at += *at == ',') {
		int size = (int)strcspn(at, ",");

		if (has_domain(written, domain_of(at)) || len + (size_t)size + 2 > sizeof(written))
			continue;
		len += (size_t)snprintf(written + len, sizeof(written) - len, "%s%.*s", len ? "," : "", size, at);
	}
	return line_say(s->line, "SET GLOBAL gtid_slave_pos = '%s'", written);
}

bool replication_demote_to(struct subject *s, const struct replication_source *source)
{
	const char *more = "";

	if (s->flavour == SQL_MARIADB && s->version >= MARIADB_DEMOTES)
		more = ", MASTER_DEMOTE_TO_SLAVE=1";
	else if (s->flavour == SQL_MARIADB && !adopt_own_writes(s))
		return false;
	return change(s, source, more) && replication_start(s);
}

bool replication_follow(struct subject *s, const struct replication_source *source)
{
	return replication_stop(s) && change(s, source, "") && replication_start(s);
}

static size_t find_dumps(struct subject *s, const char *user, unsigned long long ids[DUMPS_MAX])
{
	char statement[QUOTED_BYTES + 128], name[QUOTED_BYTES];
	MYSQL_RES *result;
	MYSQL_ROW row;
	size_t n = 0;

	if (!quote(s, user, name))
		return 0;
	snprintf(statement, sizeof(statement),
		 "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%%' AND USER='%s'", name);
	result = line_query(s->line, statement);
	while (result && n < DUMPS_MAX && (row = mysql_fetch_row(result)))
		ids[n++] = row_number(row, 0);
	mysql_free_result(result);
	return n;
}

bool replication_end_dumps(struct subject *s, const char *user)
{
	unsigned long long ids[DUMPS_MAX];
	size_t n = find_dumps(s, user, ids);

	if (s->line->error)
		return false;
	for (size_t i = 0; i < n; i++)
		/* One that is gone already is what was wanted. */
		if (!line_say(s->line, "KILL CONNECTION %llu", ids[i]) && line_error_is_loss(s->line))
			return false;
	s->line->error = 0;
	return true;
}
