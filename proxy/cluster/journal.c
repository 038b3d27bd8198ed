#include "proxy/cluster/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy/cluster/line.h"

#define TABLE "tandem.cluster"
#define DEGRADED "degraded" /* a state of the second row */

enum { PATH_BYTES = 1024, FILE_LIMIT = 1 << 20 };

static const char *const states[] = {
	[JOURNAL_NONE] = "none",
	[JOURNAL_RUNNING] = "running",
	[JOURNAL_DONE] = "done",
	[JOURNAL_UNDONE] = "undone",
};

static enum journal_state state_from(const char *text)
{
	for (int i = JOURNAL_RUNNING; i <= JOURNAL_UNDONE; i++)
		if (!strcmp(states[i], text))
			return (enum journal_state)i;
	return JOURNAL_NONE;
}

bool journal_init(struct journal_entry *entry)
{
	memset(entry, 0, sizeof(*entry));
	entry->fork = strdup("");
	entry->events = strdup("");
	return entry->fork && entry->events;
}

void journal_fini(struct journal_entry *entry)
{
	free(entry->fork);
	free(entry->events);
	entry->fork = entry->events = NULL;
}

void journal_set(char **text, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return;
	free(*text);
	*text = copy;
}

void journal_copy(struct journal_entry *to, const struct journal_entry *from)
{
	struct journal_entry kept = *to;

	*to = *from;
	to->fork = kept.fork;
	to->events = kept.events;
	journal_set(&to->fork, from->fork);
	journal_set(&to->events, from->events);
}

bool journal_is_newer(const struct journal_entry *a, const struct journal_entry *b)
{
	if (a->epoch != b->epoch)
		return a->epoch > b->epoch;
	return a->state > b->state;
}

void journal_signature(char by[128])
{
	char host[64] = "";

	gethostname(host, sizeof(host) - 1);
	snprintf(by, 128, "%s, process %ld", host, (long)getpid());
}

/* --- the row --- */

static bool say(struct subject *s, const char *statement)
{
	mysql_free_result(line_query(s->line, statement));
	return s->line->error == 0;
}

/* CREATE ... IF NOT EXISTS is written to the binary log even when it creates nothing, so it is asked first. */
static bool table_exists(struct subject *s)
{
	MYSQL_RES *result = line_query(s->line, "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA='tandem' "
						"AND TABLE_NAME='cluster'");
	bool found = result && mysql_num_rows(result) > 0;

	mysql_free_result(result);
	return found;
}

bool journal_prepare(struct subject *s)
{
	if (table_exists(s))
		return true;
	if (s->line->error)
		return false;
	return say(s, "CREATE DATABASE IF NOT EXISTS tandem") &&
	       say(s, "CREATE TABLE IF NOT EXISTS " TABLE " ("
		      " id TINYINT UNSIGNED NOT NULL PRIMARY KEY,"
		      " epoch BIGINT UNSIGNED NOT NULL,"
		      " state VARCHAR(16) NOT NULL,"
		      " operation VARCHAR(16) NOT NULL,"
		      " old_primary VARCHAR(64) NOT NULL,"
		      " new_primary VARCHAR(64) NOT NULL,"
		      " fork TEXT NOT NULL,"
		      " events MEDIUMTEXT NOT NULL,"
		      " written_by VARCHAR(128) NOT NULL,"
		      " written_at DATETIME(3) NOT NULL"
		      ") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"
		      " COMMENT='Tandem: the last change of the primary, and what it promises. Do not edit'");
}

/* Escaped, to be freed. */
static char *quote(struct subject *s, const char *text)
{
	size_t len = strlen(text);
	char *out = s->line->mysql ? malloc(2 * len + 1) : NULL;

	if (out)
		mysql_real_escape_string(s->line->mysql, out, text, (unsigned long)len);
	return out;
}

bool journal_write(struct subject *s, const struct journal_entry *entry)
{
	char *fork = quote(s, entry->fork), *events = quote(s, entry->events), *by = quote(s, entry->by);
	char *statement = NULL;
	bool ok = false;

	if (fork && events && by &&
	    asprintf(&statement,
		     "REPLACE INTO " TABLE " VALUES (1, %llu, '%s', '%s', '%s', '%s', '%s', '%s', '%s', UTC_TIMESTAMP(3))",
		     (unsigned long long)entry->epoch, states[entry->state], entry->operation, entry->from, entry->to,
		     fork, events, by) > 0)
		ok = say(s, statement);
	else
		line_set_error(s->line, "out of memory, or no connection");
	free(statement);
	free(fork);
	free(events);
	free(by);
	return ok;
}

static void fill_entry(struct journal_entry *entry, MYSQL_ROW row)
{
	entry->epoch = row_number(row, 0);
	entry->state = state_from(row_text(row, 1));
	snprintf(entry->operation, sizeof(entry->operation), "%s", row_text(row, 2));
	snprintf(entry->from, sizeof(entry->from), "%s", row_text(row, 3));
	snprintf(entry->to, sizeof(entry->to), "%s", row_text(row, 4));
	journal_set(&entry->fork, row_text(row, 5));
	journal_set(&entry->events, row_text(row, 6));
	snprintf(entry->by, sizeof(entry->by), "%s", row_text(row, 7));
}

bool journal_read(struct subject *s, struct journal_entry *entry)
{
	MYSQL_RES *result;
	MYSQL_ROW row;

	entry->state = JOURNAL_NONE;
	entry->epoch = 0;
	if (!table_exists(s))
		return s->line->error == 0;
	result = line_query(s->line, "SELECT epoch, state, operation, old_primary, new_primary, fork, events, written_by FROM "
				     TABLE " WHERE id = 1");
	row = result ? mysql_fetch_row(result) : NULL;
	if (row)
		fill_entry(entry, row);
	mysql_free_result(result);
	return s->line->error == 0;
}

/* Names come from the settings, where no quotes may be in them, and positions from a server. */
bool journal_write_degraded(struct subject *s, const char *primary, bool is_degraded, const char *position)
{
	char by[128], *quoted, *statement = NULL;
	bool ok = false;

	journal_signature(by);
	quoted = quote(s, by);
	if (quoted && asprintf(&statement, "REPLACE INTO " TABLE " VALUES (2, 0, '%s', 'durability', '%s', '', '%s', '', '%s', UTC_TIMESTAMP(3))",
			       is_degraded ? DEGRADED : "whole", primary, position, quoted) > 0)
		ok = say(s, statement);
	else
		line_set_error(s->line, "out of memory, or no connection");
	free(statement);
	free(quoted);
	return ok;
}

bool journal_is_degraded(struct subject *s, const char *primary)
{
	MYSQL_RES *result = table_exists(s) ? line_query(s->line, "SELECT state, old_primary FROM " TABLE " WHERE id = 2") : NULL;
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;
	bool is_degraded = row && !strcmp(row_text(row, 0), DEGRADED) && !strcmp(row_text(row, 1), primary);

	mysql_free_result(result);
	return is_degraded;
}

/* --- the copy: a line per field; the events, which are lines themselves, come last --- */

static void journal_path(const char *state_dir, const char *suffix, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "%s/operation%s", state_dir, suffix);
}

static bool write_file(const char *path, const struct journal_entry *entry)
{
	FILE *file = fopen(path, "we");
	bool ok;

	if (!file)
		return false;
	fprintf(file, "%llu\n%s\n%s\n%s\n%s\n%s\n%s\n%s", (unsigned long long)entry->epoch, states[entry->state],
		entry->operation, entry->from, entry->to, entry->by, entry->fork, entry->events);
	ok = fflush(file) == 0 && fsync(fileno(file)) == 0;
	return fclose(file) == 0 && ok;
}

bool journal_save(const char *state_dir, const struct journal_entry *entry)
{
	char path[PATH_BYTES], fresh[PATH_BYTES];

	journal_path(state_dir, "", path);
	journal_path(state_dir, ".new", fresh);
	if (write_file(fresh, entry) && rename(fresh, path) == 0)
		return true;
	log_warning(NULL, "%s: %s", path, strerror(errno));
	return false;
}

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = file ? calloc(1, FILE_LIMIT) : NULL;

	if (text && !fread(text, 1, FILE_LIMIT - 1, file)) {
		free(text);
		text = NULL;
	}
	if (file)
		fclose(file);
	return text;
}

static const char *next_line(char **at)
{
	char *line = strsep(at, "\n");

	return line ? line : "";
}

bool journal_load(const char *state_dir, struct journal_entry *entry)
{
	char path[PATH_BYTES];
	char *text, *at;

	entry->state = JOURNAL_NONE;
	entry->epoch = 0;
	journal_path(state_dir, "", path);
	text = at = read_file(path);
	if (!text)
		return false;
	entry->epoch = strtoull(next_line(&at), NULL, 10);
	entry->state = state_from(next_line(&at));
	snprintf(entry->operation, sizeof(entry->operation), "%s", next_line(&at));
	snprintf(entry->from, sizeof(entry->from), "%s", next_line(&at));
	snprintf(entry->to, sizeof(entry->to), "%s", next_line(&at));
	snprintf(entry->by, sizeof(entry->by), "%s", next_line(&at));
	journal_set(&entry->fork, next_line(&at));
	journal_set(&entry->events, at ? at : "");
	free(text);
	return entry->state != JOURNAL_NONE;
}

uint64_t journal_failover_age_ms(const char *state_dir)
{
	char path[PATH_BYTES];
	struct journal_entry entry;
	struct stat file;
	struct timespec now;
	int64_t age_ms = -1;

	journal_path(state_dir, "", path);
	if (journal_init(&entry) && journal_load(state_dir, &entry) && entry.state == JOURNAL_DONE && !strcmp(entry.operation, "failover") &&
	    !stat(path, &file) && !clock_gettime(CLOCK_REALTIME, &now))
		age_ms = (int64_t)(now.tv_sec - file.st_mtim.tv_sec) * 1000 + (now.tv_nsec - file.st_mtim.tv_nsec) / 1000000;
	journal_fini(&entry);
	return age_ms < 0 ? UINT64_MAX : (uint64_t)age_ms;
}
