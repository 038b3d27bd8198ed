/*
 * What clients say before and between the commands of the SQL console: drivers set character sets, ask for variables and commit. A
 * statement that changes nothing here is OK; a SELECT of variables and constants is answered; all else is not small talk.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"

enum { ITEMS = 40, ITEM_BYTES = 128 };

static const char *const harmless[] = { "SET", "USE", "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK" };
/* The one that is a command. */
static const char *const not_harmless[] = { "SET UPSTREAM" };
static const char *const empty_shows[] = { "SHOW WARNINGS",  "SHOW ERRORS",	 "SHOW VARIABLES", "SHOW SESSION VARIABLES", "SHOW GLOBAL VARIABLES",
					   "SHOW DATABASES", "SHOW TABLES",	 "SHOW COLLATION", "SHOW CHARACTER SET",     "SHOW ENGINES",
					   "SHOW PLUGINS",   "SHOW FULL TABLES", "SHOW SCHEMAS",   "SHOW SESSION STATUS",    "SHOW GLOBAL STATUS" };

static const struct {
	const char *name;
	const char *value;
} variables[] = {
	{ "version_comment", "Tandem's console: SHOW COMMANDS lists what it knows" },
	{ "max_allowed_packet", "1048576" },
	{ "autocommit", "1" },
	{ "character_set_client", "utf8mb4" },
	{ "character_set_connection", "utf8mb4" },
	{ "character_set_results", "utf8mb4" },
	{ "character_set_server", "utf8mb4" },
	{ "collation_connection", "utf8mb4_general_ci" },
	{ "collation_server", "utf8mb4_general_ci" },
	{ "auto_increment_increment", "1" },
	{ "lower_case_table_names", "0" },
	{ "sql_mode", "" },
	{ "time_zone", "SYSTEM" },
	{ "system_time_zone", "" },
	{ "wait_timeout", "28800" },
	{ "interactive_timeout", "28800" },
	{ "net_write_timeout", "60" },
	{ "tx_isolation", "REPEATABLE-READ" },
	{ "transaction_isolation", "REPEATABLE-READ" },
	{ "tx_read_only", "0" },
	{ "performance_schema", "0" },
	{ "license", "MIT" },
	{ "init_connect", "" },
	{ "skip_networking", "0" },
	{ "port", "" },
};

struct text {
	const char *at;
	const char *end;
};

static void skip_space(struct text *t)
{
	for (;;) {
		while (t->at < t->end && isspace((unsigned char)*t->at))
			t->at++;
		if (t->end - t->at < 4 || strncmp(t->at, "/*", 2))
			return;
		t->at = memmem(t->at + 2, (size_t)(t->end - t->at) - 2, "*/", 2);
		t->at = t->at ? t->at + 2 : t->end;
	}
}

/* Takes words parted by one blank each; false, and nothing is taken, when others are there. */
static bool take_words(struct text *t, const char *words)
{
	struct text at = *t;

	while (*words) {
		size_t len = strcspn(words, " ");

		skip_space(&at);
		if ((size_t)(at.end - at.at) < len || strncasecmp(at.at, words, len))
			return false;
		at.at += len;
		if (at.at < at.end && (isalnum((unsigned char)*at.at) || *at.at == '_'))
			return false;
		words += len + (words[len] == ' ');
	}
	*t = at;
	return true;
}

static bool begins_with(struct text t, const char *const *phrases, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (take_words(&t, phrases[i]))
			return true;
	return false;
}

/* ---- SELECT of variables and constants ---- */

struct item {
	char label[ITEM_BYTES];
	char value[ITEM_BYTES];
	bool is_null;
};

static void copy_text(const char *from, size_t len, char out[ITEM_BYTES])
{
	len = len < ITEM_BYTES ? len : ITEM_BYTES - 1;
	memcpy(out, from, len);
	out[len] = '\0';
}

/* The name behind @@, its scope dropped; NULL when nobody knows it. */
static const char *variable_value(const char *name, size_t len)
{
	static const char *const scopes[] = { "session.", "global.", "local." };

	for (size_t i = 0; i < 3; i++)
		if (len > strlen(scopes[i]) && !strncasecmp(name, scopes[i], strlen(scopes[i]))) {
			name += strlen(scopes[i]);
			len -= strlen(scopes[i]);
		}
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		if (strlen(variables[i].name) == len && !strncasecmp(variables[i].name, name, len))
			return variables[i].value;
	return NULL;
}

static void put_value(struct item *item, const char *value)
{
	item->is_null = !value;
	snprintf(item->value, sizeof(item->value), "%s", value ? value : "");
}

static size_t name_length(const struct text *t)
{
	size_t len = 0;

	while (t->at + len < t->end && (isalnum((unsigned char)t->at[len]) || strchr("_.$", t->at[len])))
		len++;
	return len;
}

/* DATABASE(), USER() and the like. */
static bool take_function(struct console *c, struct text *t, struct item *item)
{
	char id[16];
	const struct {
		const char *name;
		const char *value;
	} functions[] = {
		{ "database", NULL },		 { "schema", NULL }, { "user", c->visitor->from }, { "current_user", c->visitor->from },
		{ "connection_id", id }, { "version", "10.11.0-MariaDB-tandem" },
	};
	size_t len = name_length(t);

	snprintf(id, sizeof(id), "%u", c->visitor->number);
	if ((size_t)(t->end - t->at) < len + 2 || strncmp(t->at + len, "()", 2))
		return false;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		if (strlen(functions[i].name) != len || strncasecmp(functions[i].name, t->at, len))
			continue;
		put_value(item, functions[i].value);
		t->at += len + 2;
		return true;
	}
	return false;
}

static bool take_value(struct console *c, struct text *t, struct item *item)
{
	size_t len;

	if (t->end - t->at > 2 && !strncmp(t->at, "@@", 2)) {
		t->at += 2;
		len = name_length(t);
		put_value(item, variable_value(t->at, len));
		t->at += len;
		return len > 0;
	}
	if (t->at < t->end && isdigit((unsigned char)*t->at)) {
		len = name_length(t);
		copy_text(t->at, len, item->value);
		t->at += len;
		return true;
	}
	if (t->at < t->end && (*t->at == '\'' || *t->at == '"')) {
		const char *close = memchr(t->at + 1, *t->at, (size_t)(t->end - t->at) - 1);

		if (!close)
			return false;
		copy_text(t->at + 1, (size_t)(close - t->at) - 1, item->value);
		t->at = close + 1;
		return true;
	}
	return take_function(c, t, item);
}

/* [AS] name */
static void take_label(struct text *t, struct item *item, const char *start)
{
	struct text end = *t;
	size_t len;
	char quote = 0;

	copy_text(start, (size_t)(t->at - start), item->label);
	skip_space(&end);
	if (!take_words(&end, "AS") && (end.at == end.end || *end.at == ',' || take_words(&end, "LIMIT")))
		return;
	skip_space(&end);
	if (end.at < end.end && strchr("`'\"", *end.at))
		quote = *end.at++;
	len = name_length(&end);
	if (!len)
		return;
	copy_text(end.at, len, item->label);
	t->at = end.at + len;
	if (quote && t->at < t->end && *t->at == quote)
		t->at++;
}

static size_t take_items(struct console *c, struct text *t, struct item *items)
{
	for (size_t count = 0; count < ITEMS;) {
		const char *start;

		skip_space(t);
		start = t->at;
		if (!take_value(c, t, &items[count]))
			return 0;
		take_label(t, &items[count++], start);
		skip_space(t);
		if (t->at == t->end)
			return count;
		if (take_words(t, "LIMIT")) {
			skip_space(t);
			t->at += name_length(t);
			skip_space(t);
			return t->at == t->end ? count : 0;
		}
		if (*t->at++ != ',')
			return 0;
	}
	return 0;
}

static void send_items(struct console *c, const struct item *items, size_t count)
{
	struct column columns[ITEMS];
	const char *texts[ITEMS];

	for (size_t i = 0; i < count; i++) {
		columns[i] = (struct column){ items[i].label, CELL_TEXT, 0 };
		texts[i] = items[i].is_null ? NULL : items[i].value;
	}
	if (console_send_columns(c, columns, count) && console_send_row(c, texts, count))
		console_send_end(c);
}

static bool answer_select(struct console *c, struct text t)
{
	struct item *items = calloc(ITEMS, sizeof(*items));
	size_t count = items ? take_items(c, &t, items) : 0;

	if (count)
		send_items(c, items, count);
	free(items);
	return count > 0;
}

static const struct column show_columns[] = { { "Variable_name", CELL_TEXT, 0 }, { "Value", CELL_TEXT, 0 } };

bool console_small_talk(struct console *c, const char *text, size_t len)
{
	struct text t = { text, text + len };

	while (t.end > t.at && (isspace((unsigned char)t.end[-1]) || t.end[-1] == ';'))
		t.end--;
	if (begins_with(t, not_harmless, 1))
		return false;
	if (begins_with(t, harmless, sizeof(harmless) / sizeof(harmless[0]))) {
		console_ok(c);
		return true;
	}
	if (begins_with(t, empty_shows, sizeof(empty_shows) / sizeof(empty_shows[0]))) {
		if (console_send_columns(c, show_columns, 2))
			console_send_end(c);
		return true;
	}
	return take_words(&t, "SELECT") && answer_select(c, t);
}
