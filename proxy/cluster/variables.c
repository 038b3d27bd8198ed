#include "proxy/cluster/variables.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "proxy/cluster/flavour.h"

/* Not state that could be carried over: values of one moment, of one server, or that only SET GLOBAL may touch. Also what follows
 * the current schema (character_set_database) and what belongs to a replication link. */
static const char *const untracked[] = {
	"character_set_database",
	"collation_database",
	"default_master_connection",
	"error_count",
	"external_user",
	"gtid_executed",
	"gtid_next",
	"gtid_seq_no",
	"hostname",
	"identity",
	"immediate_server_version",
	"in_transaction",
	"insert_id",
	"last_gtid",
	"last_insert_id",
	"max_allowed_packet",
	"max_relay_log_size",
	"max_user_connections",
	"net_buffer_length",
	"original_commit_timestamp",
	"original_server_version",
	"proxy_user",
	"rand_seed1",
	"rand_seed2",
	"require_row_format", /* whoever sets it keeps his connection */
	"server_id",
	"server_uuid",
	"sql_slave_skip_counter",
	"statement_id",
	"timestamp",
	"use_secondary_engine",
	"redirect_url", /* where clients of that server should go: Tandem's own shall not */
	"warning_count",
	"wsrep_gtid_seq_no",
};
static const char *const untracked_prefixes[] = { "pseudo_", "session_track_", "debug" };

/* Privileged to set, or of no meaning to what a read returns: a replica that starts with another value keeps it. */
static const char *const own_default[] = {
	"auto_increment_increment",
	"auto_increment_offset",
	"gtid_domain_id",
	"innodb_tmpdir",
	"log_disabled_statements",
	"sql_log_bin",
	"sql_log_off",
	"wsrep_on",
	"slow_query_log",
	"long_query_time",
	"skip_replication",
	"skip_parallel_replication",
	"min_examined_row_limit",
	"read_only",
};
static const char *const own_default_prefixes[] = { "binlog_", "log_slow_", "log_warnings" };

/* MySQL does not tell which variables a session may set, so only these differences between servers are levelled out. */
static const char *const mysql_levelled[] = {
	"block_encryption_mode",
	"character_set_client",
	"character_set_connection",
	"character_set_results",
	"character_set_server",
	"collation_connection",
	"collation_server",
	"completion_type",
	"cte_max_recursion_depth",
	"default_storage_engine",
	"default_tmp_storage_engine",
	"default_week_format",
	"div_precision_increment",
	"explicit_defaults_for_timestamp",
	"foreign_key_checks",
	"group_concat_max_len",
	"innodb_lock_wait_timeout",
	"lc_messages",
	"lc_time_names",
	"lock_wait_timeout",
	"max_execution_time",
	"max_join_size",
	"max_sort_length",
	"optimizer_switch",
	"sql_auto_is_null",
	"sql_big_selects",
	"sql_mode",
	"sql_quote_show_create",
	"sql_safe_updates",
	"sql_select_limit",
	"time_zone",
	"transaction_isolation",
	"unique_checks",
	"updatable_views_with_limit",
	"windowing_use_high_precision",
};

static const struct {
	const char *name, *stands_for;
} aliases[] = {
	{ "log_slow_min_examined_row_limit", "min_examined_row_limit" },
	{ "log_slow_query", "slow_query_log" },
	{ "log_slow_query_time", "long_query_time" },
	{ "max_insert_delayed_threads", "max_delayed_threads" },
	{ "storage_engine", "default_storage_engine" },
	{ "tmp_memory_table_size", "tmp_table_size" },
	/* MariaDB from 11.1 on has both and reports the old ones; where only one exists it stands for itself. */
	{ "transaction_isolation", "tx_isolation" },
	{ "transaction_read_only", "tx_read_only" },
};

/* Each says a part of what the other says, and setting one changes the other: only the whole is kept. */
static const struct {
	const char *name, *whole;
} parts[] = {
	{ "log_queries_not_using_indexes", "log_slow_filter" },
	{ "log_slow_admin_statements", "log_slow_disabled_statements" },
	{ "log_slow_slave_statements", "log_slow_disabled_statements" },
};

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static bool in_list(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(name, list[i]))
			return true;
	return false;
}

static bool has_prefix(const char *name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!strncmp(name, list[i], strlen(list[i])))
			return true;
	return false;
}

bool variables_is_tracked(const char *name)
{
	return !in_list(name, untracked, LENGTH(untracked)) &&
	       !has_prefix(name, untracked_prefixes, LENGTH(untracked_prefixes));
}

static bool keeps_own_default(const char *name, enum sql_flavour flavour)
{
	if (flavour == SQL_MYSQL)
		return !in_list(name, mysql_levelled, LENGTH(mysql_levelled));
	return in_list(name, own_default, LENGTH(own_default)) ||
	       has_prefix(name, own_default_prefixes, LENGTH(own_default_prefixes));
}

static bool looks_numeric(const char *value)
{
	bool digit = false;

	for (const char *p = value + (*value == '-'); *p; p++) {
		if (isdigit((unsigned char)*p))
			digit = true;
		else if (*p != '.')
			return false;
	}
	return digit;
}

static bool is_number_type(const char *type, const char *value)
{
	if (!*type)
		return looks_numeric(value);
	return strstr(type, "INT") || !strcmp(type, "DOUBLE");
}

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct variable_entry *)a)->name,
		      ((const struct variable_entry *)b)->name);
}

static bool fill_entry(struct variable_entry *entry, MYSQL_ROW row)
{
	/* Variables without a global value (skip_replication) start as a session's own value shows: nobody sets them on this line. */
	const char *value = row[3] ? row[3] : row_text(row, 2);

	entry->name = strdup(row_text(row, 0));
	entry->value = strdup(value);
	entry->is_number = is_number_type(row_text(row, 1), value);
	entry->is_text = !strcmp(row_text(row, 1), "VARCHAR");
	return entry->name && entry->value;
}

struct variable_list *variables_read(struct line *line, enum sql_flavour flavour)
{
	MYSQL_RES *result = line_query(line, flavour_of(flavour)->variables);
	struct variable_list *list = result ? calloc(1, sizeof(*list)) : NULL;
	MYSQL_ROW row;

	if (list)
		list->entries = calloc(mysql_num_rows(result) + 1, sizeof(*list->entries));
	while (list && list->entries && (row = mysql_fetch_row(result))) {
		if (!variables_is_tracked(row_text(row, 0)))
			continue;
		if (!fill_entry(&list->entries[list->count++], row)) {
			variables_free(list);
			list = NULL;
		}
	}
	mysql_free_result(result);
	if (list && list->count)
		qsort(list->entries, list->count, sizeof(*list->entries), compare_entries);
	return list;
}

void variables_free(struct variable_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->count; i++) {
		free(list->entries[i].name);
		free(list->entries[i].value);
	}
	free(list->entries);
	free(list);
}

bool variables_equal(const struct variable_list *a, const struct variable_list *b)
{
	if (!a || !b || a->count != b->count)
		return a == b;
	for (size_t i = 0; i < a->count; i++)
		if (strcmp(a->entries[i].name, b->entries[i].name) ||
		    strcmp(a->entries[i].value, b->entries[i].value))
			return false;
	return true;
}

static const struct variable_entry *find_entry(const struct variable_list *list, const char *name)
{
	struct variable_entry key = { .name = (char *)name };

	if (!list || !list->count)
		return NULL;
	return bsearch(&key, list->entries, list->count, sizeof(key), compare_entries);
}

static const char *alias_target(const struct variable_list *list, const char *name)
{
	for (size_t i = 0; i < LENGTH(aliases); i++)
		if (!strcmp(aliases[i].name, name) && find_entry(list, aliases[i].stands_for))
			return aliases[i].stands_for;
	return NULL;
}

static const char *whole_of(const struct variable_list *list, const char *name)
{
	for (size_t i = 0; i < LENGTH(parts); i++)
		if (!strcmp(parts[i].name, name) && find_entry(list, parts[i].whole))
			return parts[i].whole;
	return NULL;
}

static void compare_servers(struct tracked_variable *v, struct variable_list *const *lists,
			    size_t count, bool keep)
{
	for (size_t i = 0; i < count; i++) {
		const struct variable_entry *there = find_entry(lists[i], v->name);

		v->exists[i] = there != NULL;
		v->same_default[i] = there && (keep || !strcmp(there->value, v->primary_value));
		v->server_value[i] = there ? strdup(keep ? v->primary_value : there->value) : NULL;
	}
}

static void build_variable(struct tracked_variable *v, const struct variable_entry *entry,
			   struct variable_list *const *lists, size_t count,
			   const struct variable_list *base, enum sql_flavour flavour)
{
	v->name = strdup(entry->name);
	v->primary_value = strdup(entry->value);
	v->is_number = entry->is_number;
	v->empty_is_null = (entry->is_text && strcmp(entry->name, "character_set_collations")) ||
			   !strcmp(entry->name, "character_set_results");
	v->default_is_bare = !strcmp(entry->name, "system_versioning_asof");
	v->stands_for = alias_target(base, entry->name);
	if (!v->stands_for) {
		v->stands_for = whole_of(base, entry->name);
		v->is_part = v->stands_for != NULL;
	}
	v->keeps_own = keeps_own_default(entry->name, flavour);
	/* An alias has its value levelled under its real name. */
	compare_servers(v, lists, count, v->stands_for || v->keeps_own);
}

static uint64_t hash_defaults(const struct snapshot *s)
{
	uint64_t hash = 1;

	for (size_t i = 0; s->variables && i < s->variable_count; i++) {
		const struct tracked_variable *v = &s->variables[i];

		if (!v->name || v->keeps_own || v->stands_for)
			continue;
		hash = XXH3_64bits_withSeed(v->name, strlen(v->name), hash);
		hash = XXH3_64bits_withSeed(v->primary_value, strlen(v->primary_value), hash);
	}
	return hash;
}

/* last_gtid comes first: from 11 on MariaDB keeps one name per place in its session variables, the first it reads. Variables of
 * plugins have no place and share one with last_gtid; behind any of them it is never reported, and nobody's writes are known. */
static char *build_track_list(const struct variable_list *list, enum sql_flavour flavour)
{
	const char *first = flavour == SQL_MARIADB ? "last_gtid" : "";
	size_t len = strlen(first) + 1;
	char *text, *at;

	for (size_t i = 0; i < list->count; i++)
		len += strlen(list->entries[i].name) + 1;
	text = malloc(len);
	if (!text)
		return NULL;
	at = stpcpy(text, first);
	*at = '\0';
	for (size_t i = 0; i < list->count; i++)
		if (!whole_of(list, list->entries[i].name))
			at += sprintf(at, "%s%s", at > text ? "," : "", list->entries[i].name);
	return text;
}

static char *value_copy(const struct variable_list *list, const char *name)
{
	const struct variable_entry *entry = find_entry(list, name);

	return entry ? strdup(entry->value) : NULL;
}

void variables_build(struct snapshot *snapshot, struct variable_list *const *lists, size_t base,
		     enum sql_flavour flavour)
{
	const struct variable_list *own = lists[base];

	for (size_t i = 0; i < snapshot->server_count; i++)
		snapshot->track_list[i] =
			lists[i] ? build_track_list(lists[i], snapshot->servers[i].flavour) : NULL;
	if (!own)
		return;
	snapshot->variables = calloc(own->count + 1, sizeof(*snapshot->variables));
	for (size_t i = 0; snapshot->variables && i < own->count; i++)
		build_variable(&snapshot->variables[snapshot->variable_count++], &own->entries[i],
			       lists, snapshot->server_count, own, flavour);
	snapshot->defaults = hash_defaults(snapshot);
	snapshot->default_charset = value_copy(own, "character_set_server");
	snapshot->default_collation = value_copy(own, "collation_server");
}
