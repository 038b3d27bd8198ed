#include "proxy/cluster/events.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cluster/line.h"

/* The columns of an event that ALTER EVENT would change behind our back. */
enum { E_NAME, E_DEFINER, E_CHARSET, E_COLLATION, E_SQL_MODE, E_TIME_ZONE, E_STATUS };

/* Names as they are written in a statement; the definer as `user`@`host`, at the last @, since a user's name may have one. */
#define QUOTED(column) "CONCAT('`',REPLACE(" column ",'`','``'),'`')"
#define EVENT_NAME QUOTED("EVENT_SCHEMA") ",'.'," QUOTED("EVENT_NAME")
#define DEFINER                                                                                                        \
	"CONCAT('`',REPLACE(LEFT(DEFINER,LENGTH(DEFINER)-LENGTH(SUBSTRING_INDEX(DEFINER,'@',-1))-1),'`','``'),'`@`',"   \
	"SUBSTRING_INDEX(DEFINER,'@',-1),'`')"
#define COLUMNS "CONCAT(" EVENT_NAME ")," DEFINER ",CHARACTER_SET_CLIENT,COLLATION_CONNECTION,SQL_MODE,TIME_ZONE,STATUS"

static bool say(struct subject *s, const char *statement)
{
	mysql_free_result(line_query(s->line, statement));
	return s->line->error == 0;
}

char *events_list(struct subject *s)
{
	MYSQL_RES *result = line_query(s->line, "SELECT CONCAT(" EVENT_NAME
						") FROM information_schema.EVENTS WHERE STATUS='ENABLED'");
	MYSQL_ROW row;
	char *list = NULL;
	size_t size;
	FILE *out = result ? open_memstream(&list, &size) : NULL;

	while (out && (row = mysql_fetch_row(result)))
		fprintf(out, "%s\n", row_text(row, 0));
	mysql_free_result(result);
	if (out)
		fclose(out);
	return list;
}

static bool is_listed(const char *names, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = names; *at; at += strcspn(at, "\n"), at += *at == '\n')
		if (!strncmp(at, name, len) && (at[len] == '\n' || !at[len]))
			return true;
	return false;
}

static bool alter(struct subject *s, MYSQL_ROW row, const char *to)
{
	char *text = NULL;
	bool ok;

	/* The body is not changed and keeps its character set only if the session has it. */
	if (asprintf(&text, "SET SESSION character_set_client='%s', collation_connection='%s', sql_mode='%s', time_zone='%s'",
		     row_text(row, E_CHARSET), row_text(row, E_COLLATION), row_text(row, E_SQL_MODE),
		     row_text(row, E_TIME_ZONE)) < 0)
		return false;
	ok = say(s, text);
	free(text);
	if (!ok || asprintf(&text, "ALTER DEFINER=%s EVENT %s %s", row_text(row, E_DEFINER), row_text(row, E_NAME), to) < 0)
		return false;
	ok = say(s, text);
	free(text);
	return ok;
}

static bool alter_listed(struct subject *s, const char *names, const char *to, bool to_enabled, unsigned *changed)
{
	MYSQL_RES *result = line_query(s->line, "SELECT " COLUMNS " FROM information_schema.EVENTS");
	bool ok = result != NULL;
	MYSQL_ROW row;

	while (ok && (row = mysql_fetch_row(result))) {
		bool is_enabled = !strcmp(row_text(row, E_STATUS), "ENABLED");

		if (is_enabled == to_enabled || !is_listed(names, row_text(row, E_NAME)))
			continue;
		ok = alter(s, row, to);
		*changed += ok;
	}
	mysql_free_result(result);
	return ok;
}

/* The line goes on to be used: its session is put back to what line_open() made it. */
static bool change(struct subject *s, const char *names, const char *to, bool to_enabled, unsigned *changed)
{
	unsigned error;
	char text[sizeof(s->line->error_text)];
	bool ok;

	*changed = 0;
	if (!strchr(names, '`'))
		return true;
	ok = say(s, "SET SESSION sql_log_bin = 0") && alter_listed(s, names, to, to_enabled, changed);
	error = s->line->error;
	memcpy(text, s->line->error_text, sizeof(text));
	if (!say(s, "SET SESSION sql_log_bin = 1, character_set_client = utf8mb4, sql_mode = DEFAULT, time_zone = DEFAULT") && ok)
		return false;
	s->line->error = error;
	memcpy(s->line->error_text, text, sizeof(text));
	return ok;
}

bool events_enable(struct subject *s, const char *names, unsigned *changed)
{
	return change(s, names, "ENABLE", true, changed);
}

bool events_disable(struct subject *s, const char *names, unsigned *changed)
{
	return change(s, names, s->flavour == SQL_MYSQL ? "DISABLE ON REPLICA" : "DISABLE ON SLAVE", false, changed);
}

bool events_scheduler(struct subject *s, char out[16])
{
	MYSQL_RES *result = line_query(s->line, "SELECT @@global.event_scheduler");
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	snprintf(out, 16, "%s", row ? row_text(row, 0) : "");
	mysql_free_result(result);
	return row != NULL;
}

char *events_remember(struct subject *s)
{
	char scheduler[16], *text = NULL;
	char *list = events_list(s);

	if (list && (!events_scheduler(s, scheduler) || asprintf(&text, EVENTS_SCHEDULER "%s\n%s", scheduler, list) < 0))
		text = NULL;
	free(list);
	return text;
}

void events_recall_scheduler(const char *remembered, char out[16])
{
	size_t len = strlen(EVENTS_SCHEDULER);

	out[0] = '\0';
	if (!strncmp(remembered, EVENTS_SCHEDULER, len))
		snprintf(out, 16, "%.*s", (int)strcspn(remembered + len, "\n"), remembered + len);
}

bool events_set_scheduler(struct subject *s, const char *value)
{
	char statement[64];

	snprintf(statement, sizeof(statement), "SET GLOBAL event_scheduler = %s", value);
	return say(s, statement);
}
