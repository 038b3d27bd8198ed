/* Commands about the daemon itself. */
#include <stdlib.h>
#include <string.h>

#include "admin/handlers.h"
#include "base/log.h"

static const struct column said_columns[] = { { "message", CELL_TEXT, 0 } };

static void add_lines(struct answer *a, char *lines)
{
	struct table *t = ANSWER_TABLE(a, "messages", TABLE_LINES, said_columns);
	char *line;

	while (lines && (line = strsep(&lines, "\n"))) {
		if (!*line)
			continue;
		table_row(a, t);
		table_text(t, line);
		table_end_row(a, t);
	}
}

void handle_reload(struct call *call)
{
	const struct admin_host *host = &call->admin->host;
	char *said = NULL;
	size_t len;
	FILE *stream = open_memstream(&said, &len);
	bool ok;

	if (!stream) {
		answer_end(call->answer, ANSWER_FAILED, NULL, "out of memory");
		return;
	}
	log_info(NULL, "admin: reload, by %s", call->from);
	ok = host->reload(host->owner, stream);
	fclose(stream);
	add_lines(call->answer, said);
	free(said);
	if (ok)
		answer_end(call->answer, ANSWER_DONE, NULL, "%s is in force.", host->settings_path);
	else
		answer_end(call->answer, ANSWER_REFUSED, "mend the file; tandem -t -c FILE checks it", "refused, nothing was changed: %s",
			   host->settings_path);
}

static const struct column help_columns[] = {
	{ "command", CELL_TEXT, 0 },
	{ "sql", CELL_TEXT, 0 },
	{ "help", CELL_TEXT, 0 },
};

static void add_command(struct answer *a, struct table *t, const struct command *command)
{
	char usage[256];

	command_usage(command, usage, sizeof(usage));
	table_row(a, t);
	table_text(t, usage);
	table_textf(t, "%.*s", (int)strcspn(command->sql, "|"), command->sql);
	table_text(t, command->help);
	table_end_row(a, t);
}

void handle_help(struct call *call)
{
	const char *name = request_text(call->request, "COMMAND");
	const struct command *one = name ? command_find(name) : NULL;
	struct table *t = ANSWER_TABLE(call->answer, "commands", TABLE_ROWS, help_columns);

	if (name && !one) {
		answer_end(call->answer, ANSWER_USAGE, NULL, "unknown command %.60s; help lists all", name);
		return;
	}
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (!one || one == &commands[i])
			add_command(call->answer, t, &commands[i]);
}
