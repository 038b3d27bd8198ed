#include "sql/scan.h"

#include <string.h>

#include "sql/variables.inc"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct known_variable {
	const char *name;
	uint64_t facts;
	enum sql_target target;
};

/* Reads that are neither session state nor simply the primary's. */
static const struct known_variable reads[] = {
	{"warning_count", SQL_F_READS_LAST, SQL_TO_LAST},
	{"error_count", SQL_F_READS_LAST, SQL_TO_LAST},
	{"identity", SQL_F_READS_LAST_ID, SQL_TO_LAST},
	{"last_insert_id", SQL_F_READS_LAST_ID, SQL_TO_LAST},
	{"pseudo_thread_id", SQL_F_CONNECTION_ID, SQL_TO_ROLE},
	{"profiling", SQL_F_PROFILING, SQL_TO_PRIMARY},
	{"profiling_history_size", SQL_F_PROFILING, SQL_TO_PRIMARY},
};

/* Unqualified, they show which server answered. */
static const struct known_variable identities[] = {
	{"server_id", SQL_F_IDENTITY_READ, SQL_TO_REPLICA},
	{"hostname", SQL_F_IDENTITY_READ, SQL_TO_REPLICA},
	{"port", SQL_F_IDENTITY_READ, SQL_TO_REPLICA},
};

/* What a SET of them does besides setting a session variable. */
static const struct known_variable sets[] = {
	{"autocommit", SQL_F_SETS_AUTOCOMMIT, SQL_TO_HELD},
	{"timestamp", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"insert_id", SQL_F_UNTRACKED | SQL_F_SETS_LAST_ID, SQL_TO_HELD},
	{"last_insert_id", SQL_F_SETS_LAST_ID, SQL_TO_HELD},
	{"identity", SQL_F_SETS_LAST_ID, SQL_TO_HELD},
	{"rand_seed1", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"rand_seed2", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"pseudo_thread_id", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"pseudo_slave_mode", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"pseudo_replica_mode", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"require_row_format", SQL_F_UNTRACKED, SQL_TO_HELD}, /* who has set it may not be able to set it back */
	{"gtid_seq_no", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"gtid_next", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"immediate_server_version", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"original_server_version", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"original_commit_timestamp", SQL_F_UNTRACKED, SQL_TO_HELD},
	{"sql_log_bin", SQL_F_NO_BINLOG, SQL_TO_HELD},
	{"profiling", SQL_F_PROFILING, SQL_TO_HELD},
	{"profiling_history_size", SQL_F_PROFILING, SQL_TO_HELD},
	{"tx_isolation", SQL_F_SET_TRANSACTION_SESSION, SQL_TO_HELD},
	{"transaction_isolation", SQL_F_SET_TRANSACTION_SESSION, SQL_TO_HELD},
	{"tx_read_only", SQL_F_SET_TRANSACTION_SESSION, SQL_TO_HELD},
	{"transaction_read_only", SQL_F_SET_TRANSACTION_SESSION, SQL_TO_HELD},
};

static const struct known_variable *find(const struct known_variable *table, size_t count, const char *name, uint32_t len)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (word_equals(name, len, table[i].name))
			return &table[i];
	return NULL;
}

bool variable_is_session(const char *name, uint32_t len)
{
	return word_search(session_variables, COUNT(session_variables), name, len) >= 0;
}

uint64_t variable_set_facts(const char *name, uint32_t len)
{
	const struct known_variable *v = find(sets, COUNT(sets), name, len);

	return v ? v->facts : 0;
}

static void unqualified(struct scan *s, const char *name, uint32_t len)
{
	const struct known_variable *v = find(identities, COUNT(identities), name, len);

	if (!v)
		v = find(reads, COUNT(reads), name, len);
	if (v)
		scan_raise(s, v->facts, v->target);
	else if (variable_is_session(name, len) && word_search(not_state, COUNT(not_state), name, len) < 0)
		scan_raise(s, SQL_F_SESSION_STATE_READ, SQL_TO_REPLICA);
	else
		scan_raise(s, 0, SQL_TO_PRIMARY);
}

static void of_session(struct scan *s, const char *name, uint32_t len)
{
	if (find(identities, COUNT(identities), name, len))
		scan_raise(s, 0, SQL_TO_PRIMARY);
	else
		unqualified(s, name, len);
}

/* At "@@": goes to the last word of the name. */
void variable_read(struct scan *s)
{
	const char *text = (const char *)s->lexer.text;
	struct sql_span first, name;

	scan_advance(s);
	if (!scan_is_name(s)) {
		scan_raise(s, 0, SQL_TO_PRIMARY);
		return;
	}
	first = name = s->now->inner;
	while (scan_peek(s).kind == TOKEN_DOT) {
		scan_advance(s);
		scan_advance(s);
		if (!scan_is_name(s)) {
			scan_raise(s, 0, SQL_TO_PRIMARY);
			return;
		}
		name = s->now->inner;
	}
	if (name.at == first.at)
		unqualified(s, text + name.at, name.len);
	else if (word_equals(text + first.at, first.len, "session") || word_equals(text + first.at, first.len, "local"))
		of_session(s, text + name.at, name.len);
	else
		scan_raise(s, 0, SQL_TO_PRIMARY);
}
