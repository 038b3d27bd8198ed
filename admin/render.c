#include "admin/render.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { GAP = 2, CELL_BYTES = 2048 };

/* ---- Cells ---- */

static void put_ms(double ms, char *out, size_t size)
{
	if (ms < 0.0005)
		snprintf(out, size, "0 ms");
	else if (ms < 10)
		snprintf(out, size, "%.1f ms", ms);
	else if (ms < 1000)
		snprintf(out, size, "%.0f ms", ms);
	else if (ms < 60000)
		snprintf(out, size, "%.1f s", ms / 1000);
	else if (ms < 3600000)
		snprintf(out, size, "%.0f min", ms / 60000);
	else if (ms < 172800000)
		snprintf(out, size, "%.1f h", ms / 3600000);
	else
		snprintf(out, size, "%.0f d", ms / 86400000);
}

/* Of today only the time, in the machine's own zone. */
static void put_time(int64_t ms, bool for_people, char *out, size_t size)
{
	time_t seconds = (time_t)(ms / 1000), now = time(NULL);
	struct tm then, today;
	size_t len;

	localtime_r(&seconds, &then);
	localtime_r(&now, &today);
	if (for_people && then.tm_yday == today.tm_yday && then.tm_year == today.tm_year)
		strftime(out, size, "%H:%M:%S", &then);
	else
		strftime(out, size, "%Y-%m-%d %H:%M:%S", &then);
	len = strlen(out);
	snprintf(out + len, size - len, ".%03d", (int)(ms % 1000));
}

/* Control characters would draw over the terminal; they can stand in anything that came from a client. */
static void put_text(const char *text, char *out, size_t size)
{
	size_t len = 0;

	for (; *text && len + 5 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			len += (size_t)snprintf(out + len, size - len, "\\x%02x", c);
		else
			out[len++] = *text;
	}
	out[len] = '\0';
}

void render_cell(const struct column *column, const struct cell *cell, bool for_people, char *out, size_t size)
{
	out[0] = '\0';
	if (cell->is_null)
		return;
	switch (column->type) {
	case CELL_TEXT:
		if (for_people)
			put_text(cell->text, out, size);
		else
			snprintf(out, size, "%s", cell->text);
		break;
	case CELL_INTEGER:
		snprintf(out, size, "%" PRId64, cell->integer);
		break;
	case CELL_BOOL:
		snprintf(out, size, "%s", cell->integer ? "yes" : "no");
		break;
	case CELL_MS:
		if (for_people)
			put_ms(cell->ms, out, size);
		else
			snprintf(out, size, "%.3f", cell->ms);
		break;
	case CELL_TIME:
		put_time(cell->integer, for_people, out, size);
		break;
	}
}

/* "lag_ms" is the key; people see the unit in the value. */
static size_t label(const struct column *column, bool upper, char *out, size_t size)
{
	size_t len = strlen(column->name);

	if (column->type == CELL_MS && len > 3 && !strcmp(column->name + len - 3, "_ms"))
		len -= 3;
	if (len >= size)
		len = size - 1;
	for (size_t i = 0; i < len; i++)
		out[i] = column->name[i] == '_' ? ' ' : (char)(upper ? toupper((unsigned char)column->name[i]) : column->name[i]);
	out[len] = '\0';
	return len;
}

/* Characters, as far as UTF-8 tells. */
static size_t width_of(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

static bool is_number(const struct column *column)
{
	return column->type == CELL_INTEGER || column->type == CELL_MS;
}

/* ---- Rows ---- */

static void put_padded(const char *text, size_t width, bool right, bool last, FILE *out)
{
	size_t own = width_of(text);
	int pad = own < width ? (int)(width - own) : 0;

	if (right)
		fprintf(out, "%*s%s", pad, "", text);
	else
		fprintf(out, "%s%*s", text, last ? 0 : pad, "");
	if (!last)
		fprintf(out, "%*s", GAP, "");
}

static void put_header(const struct table *table, const size_t *widths, FILE *out)
{
	char text[64];

	for (size_t c = 0; c < table->column_count; c++) {
		label(&table->columns[c], true, text, sizeof(text));
		put_padded(text, widths[c], is_number(&table->columns[c]), c + 1 == table->column_count, out);
	}
	fputc('\n', out);
}

/* Nothing behind the last cell that has something to say. */
static void put_row(const struct table *table, size_t row, const size_t *widths, FILE *out)
{
	char text[CELL_BYTES];
	size_t last = table->column_count - 1;

	while (last && table_cell(table, row, last)->is_null)
		last--;
	for (size_t c = 0; c <= last; c++) {
		const struct cell *cell = table_cell(table, row, c);

		render_cell(&table->columns[c], cell, true, text, sizeof(text));
		put_padded(cell->is_null ? "-" : text, widths[c], is_number(&table->columns[c]), c == last, out);
	}
	fputc('\n', out);
}

enum { COLUMNS_MAX = 24 };

static void measure(const struct table *table, size_t *widths)
{
	char text[CELL_BYTES];

	for (size_t c = 0; c < table->column_count; c++) {
		widths[c] = label(&table->columns[c], true, text, sizeof(text));
		if (widths[c] < table->columns[c].width)
			widths[c] = table->columns[c].width;
		for (size_t r = 0; r < table->row_count; r++) {
			render_cell(&table->columns[c], table_cell(table, r, c), true, text, sizeof(text));
			if (width_of(text) > widths[c])
				widths[c] = width_of(text);
		}
	}
}

static void put_facts(const struct table *table, FILE *out)
{
	char name[64], text[CELL_BYTES];
	size_t width = 0;

	for (size_t c = 0; c < table->column_count; c++) {
		size_t len = label(&table->columns[c], false, name, sizeof(name));

		width = len > width ? len : width;
	}
	for (size_t c = 0; c < table->column_count; c++) {
		const struct cell *cell = table_cell(table, 0, c);

		if (cell->is_null)
			continue;
		label(&table->columns[c], false, name, sizeof(name));
		render_cell(&table->columns[c], cell, true, text, sizeof(text));
		fprintf(out, "%-*s  %s\n", (int)width, name, text);
	}
}

static void put_table(const struct table *table, FILE *out)
{
	size_t widths[COLUMNS_MAX] = { 0 };

	if (table->title && (table->row_count || table->empty))
		fprintf(out, "%s\n", table->title);
	if (!table->row_count) {
		if (table->empty)
			fprintf(out, "%s\n", table->empty);
		return;
	}
	if (table->shape == TABLE_FACTS) {
		put_facts(table, out);
		return;
	}
	measure(table, widths);
	if (table->shape == TABLE_ROWS)
		put_header(table, widths, out);
	for (size_t r = 0; r < table->row_count; r++)
		put_row(table, r, widths, out);
}

void render_last_row(const struct table *table, FILE *out)
{
	size_t widths[COLUMNS_MAX] = { 0 };
	char text[64];

	for (size_t c = 0; c < table->column_count; c++) {
		widths[c] = label(&table->columns[c], true, text, sizeof(text));
		if (widths[c] < table->columns[c].width)
			widths[c] = table->columns[c].width;
	}
	if (table->ended == 1)
		put_header(table, widths, out);
	put_row(table, table->row_count - 1, widths, out);
}

void render_text(const struct answer *answer, unsigned shown, FILE *out, FILE *err)
{
	FILE *to = answer->result == ANSWER_DONE ? out : err;
	bool any = false;

	for (size_t i = 0; i < answer->table_count; i++) {
		const struct table *table = &answer->tables[i];

		if (shown & 1u << i || (!table->row_count && !table->empty))
			continue;
		if (any)
			fputc('\n', out);
		put_table(table, out);
		any = true;
	}
	if (answer->summary[0])
		fprintf(to, "%s\n", answer->summary);
	if (answer->advice[0])
		fprintf(to, "%s\n", answer->advice);
}

/* ---- JSON ---- */

/* Bytes that are no UTF-8 become '?': they can only come from a client's statement. */
static json_t *json_text(const char *text)
{
	json_t *value = json_string(text);
	char *copy;

	if (value)
		return value;
	copy = strdup(text);
	for (char *at = copy; at && *at; at++)
		if (*at & 0x80)
			*at = '?';
	value = copy ? json_string(copy) : NULL;
	free(copy);
	return value;
}

/* RFC 3339, in UTC. */
static json_t *json_moment(int64_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	char text[64];
	struct tm then;
	size_t len;

	gmtime_r(&seconds, &then);
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &then);
	snprintf(text + len, sizeof(text) - len, ".%03dZ", (int)(ms % 1000));
	return json_string(text);
}

static json_t *json_cell(const struct column *column, const struct cell *cell)
{
	if (cell->is_null)
		return json_null();
	switch (column->type) {
	case CELL_TEXT:
		return json_text(cell->text);
	case CELL_INTEGER:
		return json_integer(cell->integer);
	case CELL_BOOL:
		return json_boolean(cell->integer);
	case CELL_MS:
		return json_real(cell->ms);
	case CELL_TIME:
		return json_moment(cell->integer);
	}
	return NULL;
}

static json_t *json_row(const struct table *table, size_t row)
{
	json_t *object = json_object();

	for (size_t c = 0; c < table->column_count; c++)
		json_object_set_new(object, table->columns[c].name, json_cell(&table->columns[c], table_cell(table, row, c)));
	return object;
}

json_t *render_json_last_row(const struct table *table)
{
	return json_row(table, table->row_count - 1);
}

static json_t *json_table(const struct table *table)
{
	json_t *array;

	if (table->shape == TABLE_FACTS)
		return table->row_count ? json_row(table, 0) : json_null();
	array = json_array();
	for (size_t r = 0; r < table->row_count; r++)
		json_array_append_new(array, json_row(table, r));
	return array;
}

json_t *render_json(const struct answer *answer)
{
	json_t *object = json_object();

	json_object_set_new(object, "result", json_string(answer_result_name(answer->result)));
	if (answer->summary[0])
		json_object_set_new(object, "summary", json_text(answer->summary));
	if (answer->advice[0])
		json_object_set_new(object, "advice", json_text(answer->advice));
	for (size_t i = 0; i < answer->table_count; i++)
		json_object_set_new(object, answer->tables[i].name, json_table(&answer->tables[i]));
	return object;
}
