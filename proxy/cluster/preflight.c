#include "proxy/cluster/preflight.h"

#include <mysqld_error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/cluster/control.h"
#include "proxy/cluster/gtid.h"

enum { LAG_LIMIT_MS = 1000, ANSWER_BYTES = 512, VERSION_STEP = 100 };

#define PREFLIGHT "preflight"

#define refuse(op, actor, ...) add(op, REMARK_REFUSAL, actor, __VA_ARGS__)
#define warn(op, actor, ...) add(op, REMARK_WARNING, actor, __VA_ARGS__)

__attribute__((format(printf, 4, 5))) static void add(struct operation *op, enum remark_level level, const struct actor *a,
						      const char *format, ...)
{
	char text[CONDUCT_NOTE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	report_add(op->report, level, PREFLIGHT, a ? a->subject.name : "", -1, "%s", text);
}

static void refuse_line(struct operation *op, const struct actor *a, const char *doing)
{
	refuse(op, a, "%s: %s", doing, a->line.error ? a->line.error_text : "no answer");
}

static bool is_mysql(const struct actor *a)
{
	return a->subject.flavour == SQL_MYSQL;
}

static bool is_on(const char *value)
{
	return !strcmp(value, "1") || !strcasecmp(value, "ON");
}

/* --- who --- */

static void list_replicas(const struct operation *op, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (size_t i = 0; i < op->count; i++)
		if (op->actors[i].role == ROLE_REPLICA && len < size)
			len += (size_t)snprintf(out + len, size - len, "%s%s", len ? ", " : "", op->actors[i].subject.name);
}

static bool check_primary(struct operation *op)
{
	char why[sizeof(op->cluster->primary_why)];

	if (op->from && op->from->health == HEALTH_UP)
		return true;
	pthread_mutex_lock(&op->cluster->lock);
	snprintf(why, sizeof(why), "%s", op->cluster->primary_why[0] ? op->cluster->primary_why : "it is down");
	pthread_mutex_unlock(&op->cluster->lock);
	refuse(op, op->from, "there is no primary that could hand over (%s): failover is for that", why);
	return false;
}

static bool check_candidate(struct operation *op)
{
	char names[ANSWER_BYTES];

	list_replicas(op, names, sizeof(names));
	op->to = conduct_actor(op, op->request->server);
	if (!op->to)
		refuse(op, NULL, "no server is named %s: the replicas are %s", op->request->server ? op->request->server : "(none)",
		       names[0] ? names : "(none)");
	else if (op->to == op->from)
		refuse(op, op->to, "it is the primary already: the replicas are %s", names[0] ? names : "(none)");
	else if (op->to->health != HEALTH_UP)
		refuse(op, op->to, "it is down: start it, and promote it when it has caught up");
	else if (op->to->role != ROLE_REPLICA)
		refuse(op, op->to, "it is not a replica of the primary %s: make it one first", op->from->subject.name);
	else if (op->to->source < 0 || &op->actors[op->to->source] != op->from)
		refuse(op, op->to, "it does not replicate from the primary %s itself", op->from->subject.name);
	else if (op->to->settings->promote == PROMOTE_NEVER && !op->request->force)
		refuse(op, op->to, "its settings say promote = never: change them, or use --force");
	else
		return true;
	return false;
}

static bool check_lines(struct operation *op)
{
	conduct_open_all(op);
	for (size_t i = 0; i < op->count; i++) {
		struct actor *a = &op->actors[i];

		if (a->line.mysql)
			continue;
		if (a == op->from || a == op->to)
			refuse_line(op, a, "no connection to it");
		else
			warn(op, a, "it is not reached and will not follow the new primary by itself: %s",
			     a->line.error ? a->line.error_text : a->member->trouble);
	}
	return op->from->line.mysql && op->to->line.mysql;
}

/* --- the link --- */

struct link {
	MYSQL_RES *result;
	MYSQL_ROW row;
};

static const char *field(const struct link *link, const char *name, const char *alternative)
{
	int column = result_column(link->result, name, alternative);

	return column >= 0 ? row_text(link->row, (unsigned)column) : "";
}

static void check_threads(struct operation *op, const struct link *link)
{
	const char *io = field(link, "Slave_IO_Running", "Replica_IO_Running");
	const char *sql = field(link, "Slave_SQL_Running", "Replica_SQL_Running");
	const char *error = field(link, "Last_SQL_Error", NULL);

	if (strcmp(sql, "Yes") != 0)
		refuse(op, op->to, "its SQL thread does not run (%s): repair it and START SLAVE",
		       *error ? error : sql);
	error = field(link, "Last_IO_Error", NULL);
	if (strcmp(io, "Yes") != 0)
		refuse(op, op->to, "its IO thread is not connected to the primary (%s): repair it and START SLAVE",
		       *error ? error : io);
}

static void check_gtid(struct operation *op, const struct link *link)
{
	const char *how = field(link, is_mysql(op->to) ? "Auto_Position" : "Using_Gtid", NULL);

	if (!strcmp(how, "No") || !strcmp(how, "0") || !*how)
		refuse(op, op->to, is_mysql(op->to) ? "it replicates by file and position: CHANGE REPLICATION SOURCE TO "
						      "SOURCE_AUTO_POSITION = 1 there"
						    : "it replicates by file and position: CHANGE MASTER TO MASTER_USE_GTID = "
						      "slave_pos there");
}

static void check_filters(struct operation *op, const struct link *link)
{
	static const char *const filters[][2] = {
		{ "Replicate_Do_DB", NULL },
		{ "Replicate_Ignore_DB", NULL },
		{ "Replicate_Do_Table", NULL },
		{ "Replicate_Ignore_Table", NULL },
		{ "Replicate_Wild_Do_Table", NULL },
		{ "Replicate_Wild_Ignore_Table", NULL },
		{ "Replicate_Rewrite_DB", NULL },
		{ "Replicate_Do_Domain_Ids", NULL },
		{ "Replicate_Ignore_Domain_Ids", NULL },
		{ "Replicate_Ignore_Server_Ids", NULL },
	};

	for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
		const char *value = field(link, filters[i][0], filters[i][1]);

		if (*value)
			refuse(op, op->to, "it does not replicate everything (%s = %s): without the data left out it cannot be the "
					   "primary",
			       filters[i][0], value);
	}
	if (strtoul(field(link, "SQL_Delay", NULL), NULL, 10))
		refuse(op, op->to, "it is a delayed replica (SQL_Delay = %s): MASTER_DELAY = 0 first", field(link, "SQL_Delay", NULL));
}

static void check_link(struct operation *op)
{
	struct link link = { line_query(&op->to->line, is_mysql(op->to) ? "SHOW REPLICA STATUS" : "SHOW ALL SLAVES STATUS"), NULL };

	link.row = link.result ? mysql_fetch_row(link.result) : NULL;
	if (!link.row) {
		refuse_line(op, op->to, "its replication cannot be read");
	} else if (mysql_num_rows(link.result) > 1) {
		refuse(op, op->to, "it replicates from more than one server: promoting it would end all its links");
	} else if (*field(&link, "Connection_name", "Channel_Name")) {
		refuse(op, op->to, "its link has a name (%s): only the default connection is supported",
		       field(&link, "Connection_name", "Channel_Name"));
	} else {
		op->link_tls = !strcmp(field(&link, "Master_SSL_Allowed", "Source_SSL_Allowed"), "Yes");
		check_threads(op, &link);
		check_gtid(op, &link);
		check_filters(op, &link);
	}
	mysql_free_result(link.result);
}

static void check_binlog_filters(struct operation *op)
{
	struct link link = { line_query(&op->from->line, is_mysql(op->from) ? "SHOW BINARY LOG STATUS" : "SHOW MASTER STATUS"), NULL };

	link.row = link.result ? mysql_fetch_row(link.result) : NULL;
	if (link.row && (*field(&link, "Binlog_Do_DB", NULL) || *field(&link, "Binlog_Ignore_DB", NULL)))
		refuse(op, op->from, "its binary log leaves out schemas (binlog-do-db, binlog-ignore-db): no replica has everything");
	mysql_free_result(link.result);
}

/* --- positions --- */

/* "domain-server-sequence": the next of a list. */
struct gtid_text {
	unsigned domain, server;
	unsigned long long sequence;
};

static const char *next_gtid(const char *at, struct gtid_text *out)
{
	if (sscanf(at, "%u-%u-%llu", &out->domain, &out->server, &out->sequence) != 3)
		return NULL;
	at += strcspn(at, ",");
	return at + (*at == ',');
}

/* What `server` wrote in `domain`, as far as `list` says; with server 0 whoever wrote it. */
static unsigned long long sequence_in(const char *list, unsigned domain, unsigned server)
{
	unsigned long long found = 0;
	struct gtid_text g;

	for (const char *at = list; (at = next_gtid(at, &g));)
		if (g.domain == domain && (!server || g.server == server) && g.sequence > found)
			found = g.sequence;
	return found;
}

/* By writer and not by position: a position hides what lies below it. What the primary replicated before its own log begins (it was
 * cloned) is only in its gtid_slave_pos. */
static void compare_mariadb(struct operation *op, const char *mine, const char *primarys, const char *cloned)
{
	struct gtid_text g;

	for (const char *at = mine; (at = next_gtid(at, &g));) {
		unsigned long long known = sequence_in(primarys, g.domain, g.server);

		if (g.sequence <= known || (!known && g.sequence <= sequence_in(cloned, g.domain, 0)))
			continue;
		refuse(op, op->to, "it has transactions that the primary does not have (up to %u-%u-%llu; the primary has %u-%u-%llu): "
				   "re-clone it, or replay them on the primary",
		       g.domain, g.server, g.sequence, g.domain, g.server, known);
	}
}

static void compare_mysql(struct operation *op, const char *mine, const char *primarys)
{
	char question[2 * POSITION_BYTES + 64], extra[ANSWER_BYTES];

	snprintf(question, sizeof(question), "SELECT GTID_SUBTRACT('%s', '%s')", mine, primarys);
	if (conduct_ask(op->from, question, extra, sizeof(extra)) && *extra)
		refuse(op, op->to, "it has transactions that the primary does not have (%s): re-clone it", extra);
}

static void check_errant(struct operation *op)
{
	char mine[POSITION_BYTES], primarys[POSITION_BYTES], cloned[POSITION_BYTES] = "";

	/* The candidate's first: what comes in between can only be more on the primary. */
	if (!replication_history(&op->to->subject, mine))
		refuse_line(op, op->to, "its transactions cannot be read");
	else if (!replication_history(&op->from->subject, primarys))
		refuse_line(op, op->from, "its transactions cannot be read");
	else if (is_mysql(op->to))
		compare_mysql(op, mine, primarys);
	else if (conduct_ask(op->from, "SELECT @@global.gtid_slave_pos", cloned, sizeof(cloned)))
		compare_mariadb(op, mine, primarys, cloned);
}

static void check_lag(struct operation *op)
{
	char position[POSITION_BYTES];

	if (report_has(op->report, REMARK_REFUSAL) || op->request->force)
		return;
	if (!replication_binlog_position(&op->from->subject, position))
		refuse_line(op, op->from, "its position cannot be read");
	else if (!replication_wait_applied(&op->to->subject, position, LAG_LIMIT_MS))
		refuse(op, op->to, "it lags: what the primary had %d s ago is not applied yet. Wait, or use --force to hold writes for as "
				   "long as it takes (at most 5 s)",
		       LAG_LIMIT_MS / 1000);
}

/* --- servers --- */

static bool ask_number(struct actor *a, const char *question, unsigned long long *out)
{
	char value[ANSWER_BYTES];
	bool ok = conduct_ask(a, question, value, sizeof(value));

	*out = is_on(value) ? 1 : strtoull(value, NULL, 10);
	return ok;
}

static void check_log(struct operation *op, struct actor *a)
{
	unsigned long long on;

	if (ask_number(a, "SELECT @@global.log_bin", &on) && !on)
		refuse(op, a, "it has no binary log: add log_bin to its [mysqld] section and restart it");
	else if (ask_number(a, is_mysql(a) ? "SELECT @@global.log_replica_updates" : "SELECT @@global.log_slave_updates", &on) && !on)
		refuse(op, a, "it does not log what it replicates: add log_slave_updates = 1 to its [mysqld] section and restart it");
	if (is_mysql(a) && ask_number(a, "SELECT @@global.gtid_mode = 'ON' AND @@global.enforce_gtid_consistency = 'ON'", &on) && !on)
		refuse(op, a, "it has no GTIDs: add gtid_mode = ON and enforce_gtid_consistency = ON to its [mysqld] section");
}

static void check_versions(struct operation *op)
{
	uint32_t from = op->from->subject.version / VERSION_STEP, to = op->to->subject.version / VERSION_STEP;

	if (op->from->subject.flavour != op->to->subject.flavour)
		refuse(op, op->to, "it is of another make than the primary");
	else if (to < from)
		refuse(op, op->to, "it is older (%u.%u) than the primary (%u.%u): upgrade it first", to / 100, to % 100, from / 100,
		       from % 100);
	else if (to > from)
		warn(op, op->to, "it is newer (%u.%u) than the primary (%u.%u), which will replicate from it: upgrade %s soon", to / 100,
		     to % 100, from / 100, from % 100, op->from->subject.name);
}

static void check_prepared(struct operation *op)
{
	MYSQL_RES *result = line_query(&op->from->line, "XA RECOVER");
	unsigned long long n = result ? mysql_num_rows(result) : 0;

	if (n)
		refuse(op, op->from, "%llu prepared XA transaction%s would be lost: commit or roll back what XA RECOVER lists", n,
		       n == 1 ? "" : "s");
	else if (!result)
		warn(op, op->from, "whether XA transactions are prepared cannot be seen: %s", op->from->line.error_text);
	mysql_free_result(result);
}

/* Every other question about what is stored there would hang as its commits do. */
static bool check_disk(struct operation *op)
{
	unsigned long long waiting = 0;

	if (!ask_number(op->from,
			"SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for someone to free space%'"
			" OR STATE LIKE 'Waiting for disk space%'",
			&waiting) ||
	    !waiting)
		return true;
	refuse(op, op->from, "its disk is full: %llu statement%s there for somebody to free space. Free some, or stop that server and let "
			     "`tandemctl failover` (or failover = auto) have a replica take over",
	       waiting, waiting == 1 ? " waits" : "s wait");
	return false;
}

static void check_pinned(struct operation *op)
{
	struct gate_count count;

	if (control_count(op->cluster, &count) && count.pinned)
		warn(op, op->from, "%u session%s will lose temporary tables or locks there and end with an error", count.pinned,
		     count.pinned == 1 ? "" : "s");
}

static void check_events(struct operation *op)
{
	unsigned long long events;
	char from[ANSWER_BYTES], to[ANSWER_BYTES];

	if (!ask_number(op->from, "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS='ENABLED'", &events) || !events)
		return;
	if (conduct_ask(op->from, "SELECT @@global.event_scheduler", from, sizeof(from)) &&
	    conduct_ask(op->to, "SELECT @@global.event_scheduler", to, sizeof(to)) && strcmp(from, to) != 0)
		warn(op, op->to, "event_scheduler is %s there and %s on the primary: Tandem carries it over if [monitor] user may (SUPER)",
		     to, from);
}

/* --- accounts --- */

static bool may_log_in(struct operation *op, struct line *line)
{
	struct monitor_settings as = op->settings->monitor;

	as.user = op->settings->replication.user;
	as.password = op->settings->replication.password;
	return line_open(line, op->to->settings, &as);
}

static void check_replication_grants(struct operation *op, struct line *line)
{
	MYSQL_RES *result = line_query(line, "SHOW GRANTS");
	MYSQL_ROW row;
	bool found = false;

	while (result && (row = mysql_fetch_row(result)))
		found |= strstr(row_text(row, 0), "REPLICATION SLAVE") || strstr(row_text(row, 0), "ALL PRIVILEGES");
	mysql_free_result(result);
	if (!found)
		refuse(op, op->to, "[replication] user may not replicate from it: GRANT REPLICATION SLAVE ON *.* TO '%s'@'%%'",
		       op->settings->replication.user);
}

/* The old primary logs in from another address than Tandem: only where the account is open to all is a denial here one there. */
static void check_denial(struct operation *op, const struct line *line)
{
	char question[ANSWER_BYTES];
	unsigned long long n = 0;

	snprintf(question, sizeof(question), "SELECT COUNT(*) FROM mysql.%s WHERE User = '%.100s' AND Host <> '%%'",
		 is_mysql(op->to) ? "user" : "global_priv", op->settings->replication.user);
	if (ask_number(op->to, question, &n) && n)
		warn(op, op->to, "whether [replication] user %s may log in to it from the other servers cannot be seen from here: %s",
		     op->settings->replication.user, line->error_text);
	else
		refuse(op, op->to, "[replication] user %s cannot log in to it: check user and password in [replication] (%s)",
		       op->settings->replication.user, line->error_text);
}

static void check_replication_account(struct operation *op)
{
	struct line line;

	if (!op->settings->replication.user) {
		refuse(op, NULL, "[replication] user is not set: the old primary could not follow the new one");
		return;
	}
	line_init(&line);
	if (may_log_in(op, &line))
		check_replication_grants(op, &line);
	else
		check_denial(op, &line);
	line_fini(&line);
}

struct privilege {
	const char *name; /* as in information_schema.USER_PRIVILEGES */
	const char *other; /* one that is enough instead, or NULL */
};

static const struct privilege mariadb_privileges[] = {
	{ "REPLICATION SLAVE ADMIN", NULL }, /* STOP SLAVE, CHANGE MASTER, gtid_slave_pos */
	{ "REPLICATION MASTER ADMIN", NULL }, /* rpl_semi_sync_master_* */
	{ "READ_ONLY ADMIN", "READ ONLY ADMIN" },
	{ "RELOAD", NULL }, /* FLUSH TABLES WITH READ LOCK, RESET SLAVE */
	{ "CONNECTION ADMIN", NULL }, /* KILL */
	{ "PROCESS", NULL },
	{ "EVENT", NULL }, /* also to see whether there are any */
	{ "SET USER", NULL }, /* ALTER DEFINER=... EVENT */
	{ "BINLOG ADMIN", NULL }, /* sql_log_bin */
	{ NULL, NULL },
};

static const struct privilege mysql_privileges[] = {
	{ "REPLICATION_SLAVE_ADMIN", "SUPER" },
	{ "SYSTEM_VARIABLES_ADMIN", "SUPER" },
	{ "CONNECTION_ADMIN", "SUPER" },
	{ "RELOAD", NULL },
	{ "PROCESS", NULL },
	{ "EVENT", NULL },
	{ "SET_ANY_DEFINER", "SUPER" },
	{ "XA_RECOVER_ADMIN", NULL },
	{ "SYSTEM_USER", NULL }, /* to alter events and end connections of those who have it, such as root */
	{ NULL, NULL },
};

/* In `result`, which is gone through again. */
static bool holds(MYSQL_RES *result, const char *name)
{
	MYSQL_ROW row;

	mysql_data_seek(result, 0);
	while (name && (row = mysql_fetch_row(result)))
		if (!strcasecmp(row_text(row, 0), name))
			return true;
	return false;
}

static void check_privileges(struct operation *op, struct actor *a)
{
	const struct privilege *list = is_mysql(a) ? mysql_privileges : mariadb_privileges;
	MYSQL_RES *result = line_query(&a->line, "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = "
						 "CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')");
	char missing[ANSWER_BYTES] = "";
	size_t len = 0;

	for (; result && list->name && len < sizeof(missing); list++)
		if (!holds(result, list->name) && !holds(result, list->other))
			len += (size_t)snprintf(missing + len, sizeof(missing) - len, "%s%s", len ? ", " : "", list->name);
	if (!result)
		refuse_line(op, a, "the rights of [monitor] user cannot be read");
	else if (missing[0])
		refuse(op, a, "[monitor] user lacks rights: GRANT %s ON *.* TO '%s'@'...'", missing, op->settings->monitor.user);
	mysql_free_result(result);
}

static void find_epoch(struct operation *op)
{
	struct journal_entry one;

	if (!journal_init(&one))
		return;
	if (journal_load(op->settings->state_dir, &one))
		op->entry.epoch = one.epoch;
	for (size_t i = 0; i < op->count; i++)
		if (op->actors[i].line.mysql && journal_read(&op->actors[i].subject, &one) && one.epoch > op->entry.epoch)
			op->entry.epoch = one.epoch;
	journal_fini(&one);
}

static void check_row(struct operation *op)
{
	char value[ANSWER_BYTES];

	if (!conduct_ask(op->from, "SELECT COUNT(DISTINCT PRIVILEGE_TYPE) >= 4 FROM (SELECT PRIVILEGE_TYPE, TABLE_SCHEMA FROM "
				   "information_schema.SCHEMA_PRIVILEGES UNION SELECT PRIVILEGE_TYPE, 'tandem' FROM "
				   "information_schema.USER_PRIVILEGES) p WHERE TABLE_SCHEMA='tandem' AND PRIVILEGE_TYPE IN "
				   "('SELECT','INSERT','DELETE','CREATE')",
			 value, sizeof(value)) ||
	    strcmp(value, "1") != 0)
		warn(op, op->from, "the operation can be written down in state_dir only, so that no other Tandem could finish it: GRANT SELECT, "
				   "INSERT, DELETE, CREATE ON tandem.* TO '%s'@'...'",
		     op->settings->monitor.user);
	find_epoch(op);
}

static void fill_entry(struct operation *op)
{
	op->entry.epoch++;
	snprintf(op->entry.operation, sizeof(op->entry.operation), "%s", operation_name(op->request->kind));
	snprintf(op->entry.from, sizeof(op->entry.from), "%s", op->from->subject.name);
	snprintf(op->entry.to, sizeof(op->entry.to), "%s", op->to->subject.name);
	journal_signature(op->entry.by);
}

/* Two Tandems must not operate on one cluster at once. The locks go with the lines. */
static void check_alone(struct operation *op)
{
	struct actor *both[] = { op->from, op->to };

	for (size_t i = 0; i < 2; i++) {
		char value[16];

		if (conduct_ask(both[i], "SELECT GET_LOCK('tandem.operation', 0)", value, sizeof(value)) && strcmp(value, "1") != 0)
			refuse(op, both[i], "another Tandem has an operation under way there: wait until it is over");
	}
}

/* --- baseline --- */

struct baseline {
	const char *variable[2]; /* MariaDB's name, MySQL's; NULL: does not have it */
	const char *value;	 /* as its own settings file should say */
	const char *line[2];
	bool on_replica; /* its value now is judged on replicas only: a primary has another one */
	const char *why;
};

static const struct baseline baselines[] = {
	{ { "READ_ONLY", "super_read_only" }, "ON", { "read_only = 1", "super_read_only = 1" }, true, "restarted, it would be writable before anybody has looked" },
	{ { "GTID_STRICT_MODE", NULL }, "ON", { "gtid_strict_mode = 1" }, false, "a transaction of its own would not be noticed" },
	{ { "SYNC_BINLOG", "sync_binlog" }, "1", { "sync_binlog = 1", "sync_binlog = 1" }, false, "a crash of the machine may lose acknowledged transactions" },
	{ { "INIT_RPL_ROLE", NULL }, "SLAVE", { "init_rpl_role = SLAVE" }, false,
	  "a restart after a crash would keep transactions that nobody acknowledged" },
};

/* What the server's own file says is told by where the value in force came from. */
static void read_origin(struct actor *a, const char *name, char value[ANSWER_BYTES], char origin[ANSWER_BYTES])
{
	char question[ANSWER_BYTES];
	MYSQL_RES *result;
	MYSQL_ROW row;

	if (is_mysql(a))
		snprintf(question, sizeof(question), "SELECT VARIABLE_VALUE, VARIABLE_SOURCE FROM performance_schema.variables_info JOIN "
						     "performance_schema.global_variables USING (VARIABLE_NAME) WHERE VARIABLE_NAME = '%s'",
			 name);
	else
		snprintf(question, sizeof(question), "SELECT GLOBAL_VALUE, GLOBAL_VALUE_ORIGIN FROM information_schema.SYSTEM_VARIABLES WHERE "
						     "VARIABLE_NAME = '%s'",
			 name);
	result = line_query(&a->line, question);
	row = result ? mysql_fetch_row(result) : NULL;
	snprintf(value, ANSWER_BYTES, "%s", row ? row_text(row, 0) : "");
	snprintf(origin, ANSWER_BYTES, "%s", row ? row_text(row, 1) : "");
	mysql_free_result(result);
}

static bool is_from_sql(const char *origin)
{
	return !strcmp(origin, "SQL") || !strcmp(origin, "DYNAMIC");
}

static void check_baseline(struct operation *op, struct actor *a, const struct baseline *b, bool is_replica)
{
	char value[ANSWER_BYTES], origin[ANSWER_BYTES];

	if (!b->variable[is_mysql(a)])
		return;
	read_origin(a, b->variable[is_mysql(a)], value, origin);
	if (!*origin)
		return;
	/* A value that was set while it runs hides what the file says. */
	if (b->on_replica && is_from_sql(origin))
		return;
	if (strcasecmp(value, b->value) != 0 && (is_replica || !b->on_replica || !is_from_sql(origin)))
		warn(op, a, "add %s to its [mysqld] section: %s", b->line[is_mysql(a)], b->why);
}

void preflight_server(struct operation *op, struct actor *actor, bool is_replica)
{
	check_log(op, actor);
	check_privileges(op, actor);
	for (size_t i = 0; i < sizeof(baselines) / sizeof(*baselines); i++)
		check_baseline(op, actor, &baselines[i], is_replica);
}

/* --- the whole --- */

void preflight_replica(struct operation *op)
{
	check_versions(op);
	check_link(op);
	check_replication_account(op);
	check_events(op);
	check_errant(op);
}

static void check_pair(struct operation *op)
{
	check_alone(op);
	preflight_replica(op);
	check_binlog_filters(op);
	check_prepared(op);
	check_pinned(op);
	check_row(op);
}

bool preflight_promote(struct operation *op)
{
	if (!check_primary(op) || !check_candidate(op) || !check_lines(op) || !check_disk(op))
		return false;
	for (size_t i = 0; i < op->count; i++)
		if (op->actors[i].line.mysql && (op->actors[i].role == ROLE_REPLICA || &op->actors[i] == op->from))
			preflight_server(op, &op->actors[i], &op->actors[i] != op->from);
	check_pair(op);
	check_lag(op);
	fill_entry(op);
	if (report_has(op->report, REMARK_REFUSAL))
		return false;
	report_add(op->report, REMARK_OK, PREFLIGHT, op->to->subject.name, -1, "it can take over from %s", op->from->subject.name);
	return true;
}

void preflight_begin_entry(struct operation *op)
{
	find_epoch(op);
	fill_entry(op);
}
