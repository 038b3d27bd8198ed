/* A statement of the SQL console: the command it means, and the answer as a text result. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/console.h"
#include "admin/render.h"

enum { CELL_BYTES = 2048 };

/* ---- Results ---- */

/* Types as in the protocol's column definitions. */
static uint8_t type_of(enum cell_type type)
{
	enum { TYPE_DOUBLE = 5, TYPE_LONGLONG = 8, TYPE_VAR_STRING = 253 };

	return type == CELL_INTEGER ? TYPE_LONGLONG : type == CELL_MS ? TYPE_DOUBLE : TYPE_VAR_STRING;
}

static bool send_column(struct console *c, const struct column *column)
{
	uint8_t memory[512];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	bool number = column->type == CELL_INTEGER || column->type == CELL_MS;
	size_t len = strlen(column->name);

	wire_begin(&w);
	wire_put_lenenc_bytes(&w, "def", 3);
	wire_put_lenenc_bytes(&w, "", 0);
	wire_put_lenenc_bytes(&w, "", 0);
	wire_put_lenenc_bytes(&w, "", 0);
	wire_put_lenenc_bytes(&w, column->name, len < 120 ? len : 120);
	wire_put_lenenc_bytes(&w, "", 0);
	wire_put_lenenc(&w, 12);
	wire_put_u16(&w, number ? CONSOLE_BINARY : CONSOLE_UTF8);
	wire_put_u32(&w, number ? 22 : CELL_BYTES);
	wire_put_u8(&w, type_of(column->type));
	wire_put_u16(&w, 0);
	wire_put_u8(&w, column->type == CELL_MS ? 3 : 0);
	wire_put_u16(&w, 0);
	wire_end(&w, c->seq++);
	return console_send(c, &w);
}

static bool send_eof(struct console *c)
{
	uint8_t memory[32];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_eof(&w, 0, SERVER_STATUS_AUTOCOMMIT, c->seq++);
	return console_send(c, &w);
}

bool console_send_columns(struct console *c, const struct column *columns, size_t count)
{
	uint8_t memory[16];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_begin(&w);
	wire_put_lenenc(&w, count);
	wire_end(&w, c->seq++);
	if (!console_send(c, &w))
		return false;
	for (size_t i = 0; i < count; i++)
		if (!send_column(c, &columns[i]))
			return false;
	return c->capabilities & CLIENT_DEPRECATE_EOF || send_eof(c);
}

bool console_send_row(struct console *c, const char *const *texts, size_t count)
{
	size_t size = 16;
	struct wire_writer w;
	bool ok;

	for (size_t i = 0; i < count; i++)
		size += 9 + (texts[i] ? strlen(texts[i]) : 0);
	w = wire_writer(malloc(size), size);
	if (!w.data)
		return false;
	wire_begin(&w);
	for (size_t i = 0; i < count; i++) {
		if (texts[i])
			wire_put_lenenc_bytes(&w, texts[i], strlen(texts[i]));
		else
			wire_put_u8(&w, 0xfb);
	}
	wire_end(&w, c->seq++);
	ok = console_send(c, &w);
	free(w.data);
	return ok;
}

bool console_send_end(struct console *c)
{
	uint8_t memory[64];
	struct wire_writer w = wire_writer(memory, sizeof(memory));
	struct wire_ok ok = { .header = 0xfe, .status = SERVER_STATUS_AUTOCOMMIT };

	if (!(c->capabilities & CLIENT_DEPRECATE_EOF))
		return send_eof(c);
	wire_put_ok(&w, &ok, c->capabilities, c->seq++);
	return console_send(c, &w);
}

/* Its cells live in `memory`, CELL_BYTES each. */
static bool send_table_row(struct console *c, const struct table *table, size_t row, char *memory, const char **texts)
{
	for (size_t i = 0; i < table->column_count; i++) {
		const struct cell *cell = table_cell(table, row, i);

		texts[i] = cell->is_null ? NULL : memory + i * CELL_BYTES;
		render_cell(&table->columns[i], cell, false, memory + i * CELL_BYTES, CELL_BYTES);
	}
	return console_send_row(c, texts, table->column_count);
}

static void send_table(struct console *c, const struct table *table)
{
	char *memory = malloc(table->column_count * CELL_BYTES);
	const char **texts = calloc(table->column_count, sizeof(*texts));
	bool ok = memory && texts && console_send_columns(c, table->columns, table->column_count);

	for (size_t r = 0; ok && r < table->row_count; r++)
		ok = send_table_row(c, table, r, memory, texts);
	if (ok)
		console_send_end(c);
	else
		c->visitor->channel.broken = true;
	free(texts);
	free(memory);
}

static const struct column fact_columns[] = { { "name", CELL_TEXT, 0 }, { "value", CELL_TEXT, 0 } };

/* A row of facts is easier to read as a table of two columns. */
static void send_facts(struct console *c, const struct request *request, const struct table *table)
{
	char text[CELL_BYTES];

	if (!console_send_columns(c, fact_columns, 2))
		return;
	for (size_t i = 0; i < table->column_count; i++) {
		const struct cell *cell = table_cell(table, 0, i);
		const char *texts[2] = { table->columns[i].name, cell->is_null ? NULL : text };

		render_cell(&table->columns[i], cell, false, text, sizeof(text));
		if (!request->like || like_matches(request->like, texts[0]))
			console_send_row(c, texts, 2);
	}
	console_send_end(c);
}

static const struct column summary_columns[] = { { "result", CELL_TEXT, 0 } };

static void send_summary(struct console *c, const struct answer *answer)
{
	const char *texts[1] = { answer->summary };

	if (console_send_columns(c, summary_columns, 1) && console_send_row(c, texts, 1))
		console_send_end(c);
}

/* ---- Statements ---- */

/* The first refusal of an operation says more than the summary, and there is room for one sentence. */
static void send_refusal(struct console *c, const struct answer *answer)
{
	char message[500];

	snprintf(message, sizeof(message), "tandem: %.380s%s%.100s", answer->summary, answer->advice[0] ? "; " : "", answer->advice);
	if (answer->result == ANSWER_USAGE)
		console_error(c, ER_PARSE_ERROR, "42000", message);
	else
		console_error(c, ER_UNKNOWN_ERROR, "HY000", message);
}

static void send_answer(struct console *c, const struct request *request, const struct answer *answer)
{
	const struct table *first = answer->table_count ? &answer->tables[0] : NULL;
	bool shows_plan = request_has(request, "dry-run") && first && first->row_count;

	if (answer->result != ANSWER_DONE && !shows_plan)
		send_refusal(c, answer);
	else if (first && first->shape == TABLE_FACTS && first->row_count)
		send_facts(c, request, first);
	else if (first && (first->row_count || !answer->summary[0]))
		send_table(c, first);
	else
		send_summary(c, answer);
}

static void run(struct console *c, const struct request *request)
{
	struct answer answer = { .result = ANSWER_DONE };
	struct call call = { .admin = c->visitor->admin, .request = request, .answer = &answer, .from = c->visitor->from };

	call_run(&call);
	send_answer(c, request, &answer);
	answer_fini(&answer);
}

void console_query(struct console *c, const char *text, size_t len)
{
	char why[400], message[480];
	struct request request;

	if (console_small_talk(c, text, len))
		return;
	if (command_parse_sql(text, len, &request, why, sizeof(why))) {
		run(c, &request);
	} else {
		snprintf(message, sizeof(message), "tandem: %s", why);
		console_error(c, ER_PARSE_ERROR, "42000", message);
	}
	request_fini(&request);
}
