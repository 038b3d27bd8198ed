#include "admin/answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct table *answer_table(struct answer *answer, const char *name, enum table_shape shape, const struct column *columns,
			   size_t column_count)
{
	struct table *table;

	if (answer->table_count == ANSWER_TABLES)
		return &answer->tables[ANSWER_TABLES - 1];
	table = &answer->tables[answer->table_count++];
	*table = (struct table){
		.name = name, .shape = shape, .columns = columns, .column_count = column_count, .next = column_count
	};
	return table;
}

/* Cells behind the last whole row are zero, so that a row can be begun without clearing. */
static bool grow(struct table *table)
{
	size_t room = table->room ? table->room * 2 : 8;
	struct cell *cells = realloc(table->cells, room * table->column_count * sizeof(*cells));

	if (!cells)
		return false;
	memset(cells + table->room * table->column_count, 0, (room - table->room) * table->column_count * sizeof(*cells));
	table->cells = cells;
	table->room = room;
	return true;
}

void table_row(struct answer *answer, struct table *table)
{
	if (table->row_count == table->room && !grow(table)) {
		answer->no_memory = true;
		table->next = table->column_count;
		return;
	}
	table->next = 0;
}

static struct cell *next_cell(struct table *table)
{
	static _Thread_local struct cell nowhere;

	if (table->next == table->column_count) {
		nowhere = (struct cell){ 0 };
		return &nowhere;
	}
	return &table->cells[table->row_count * table->column_count + table->next++];
}

void table_null(struct table *table)
{
	next_cell(table)->is_null = true;
}

void table_text(struct table *table, const char *text)
{
	struct cell *cell;

	if (table->next == table->column_count)
		return;
	cell = next_cell(table);
	cell->text = text ? strdup(text) : NULL;
	cell->is_null = !cell->text;
}

void table_textf(struct table *table, const char *format, ...)
{
	char text[2048];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	table_text(table, text);
}

void table_integer(struct table *table, int64_t value)
{
	next_cell(table)->integer = value;
}

void table_ms(struct table *table, double ms)
{
	struct cell *cell = next_cell(table);

	cell->is_null = !(ms >= 0);
	cell->ms = ms;
}

void table_bool(struct table *table, bool value)
{
	next_cell(table)->integer = value;
}

void table_time(struct table *table, int64_t ms)
{
	struct cell *cell = next_cell(table);

	cell->is_null = !ms;
	cell->integer = ms;
}

bool table_end_row(struct answer *answer, struct table *table)
{
	if (table->row_count == table->room)
		return true; /* it was dropped */
	while (table->next < table->column_count)
		table_null(table);
	table->row_count++;
	table->ended++;
	return !answer->on_row || answer->on_row(answer->owner, table);
}

void answer_end(struct answer *answer, enum answer_result result, const char *advice, const char *summary, ...)
{
	va_list args;

	answer->result = result;
	va_start(args, summary);
	vsnprintf(answer->summary, sizeof(answer->summary), summary, args);
	va_end(args);
	snprintf(answer->advice, sizeof(answer->advice), "%s", advice ? advice : "");
}

const char *answer_result_name(enum answer_result result)
{
	static const char *const names[] = {
		[ANSWER_DONE] = "done",
		[ANSWER_REFUSED] = "refused",
		[ANSWER_FAILED] = "failed",
		[ANSWER_USAGE] = "usage",
	};

	return names[result];
}

void table_clear(struct table *table)
{
	for (size_t i = 0; i < table->row_count * table->column_count; i++)
		free(table->cells[i].text);
	if (table->cells)
		memset(table->cells, 0, table->room * table->column_count * sizeof(*table->cells));
	table->row_count = 0;
}

static void fini_table(struct table *table)
{
	for (size_t i = 0; i < table->room * table->column_count; i++)
		free(table->cells[i].text);
	free(table->cells);
}

void answer_fini(struct answer *answer)
{
	for (size_t i = 0; i < answer->table_count; i++)
		fini_table(&answer->tables[i]);
	answer->table_count = 0;
}
