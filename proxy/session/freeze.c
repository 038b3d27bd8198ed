#include "proxy/session/freeze.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/session/move.h"
#include "proxy/session/pool.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* The questions, in this order. What reads a table empties the list of warnings, so it comes last. */
enum part { PART_LIST, PART_LAST, PART_NAMES, PART_VALUES };

struct freeze {
	unsigned missing; /* answers */
	bool failed;
	bool listed; /* PART_LIST was among them */
	struct buf names; /* the answer to PART_NAMES, while PART_VALUES is under way */
};

enum { COLUMN_NAME, COLUMN_TYPE, COLUMN_VALUE };	/* of PART_NAMES */
enum { COLUMN_NUMBER, COLUMN_HEX, COLUMN_COLLATION }; /* of PART_VALUES */
enum { COLUMN_LEVEL, COLUMN_CODE, COLUMN_MESSAGE };	/* of PART_LIST */

/* ---- Asking ---- */

static bool ask(struct backend *b, enum part part, const char *text)
{
	b->freeze->missing++;
	if (!backend_command(b, EXPECT_FREEZE, COM_QUERY, text, strlen(text)))
		return false;
	backend_last_expect(b)->slot = part;
	return true;
}

static bool is_mysql(const struct backend *b)
{
	int index = b->pool->index; /* below 0 when the server has left the settings */

	return index >= 0 && b->worker->snapshot->servers[index].flavour == SQL_MYSQL;
}

static bool has_variables(const struct client *c, const struct backend *b)
{
	return c->uvars_at == b && c->has_uvars && !c->uvars;
}

static bool has_list(const struct client *c, const struct backend *b)
{
	return c->diag_at == b && c->diag_open;
}

bool freeze_needed(const struct client *client, const struct backend *backend)
{
	return has_variables(client, backend) || has_list(client, backend) || client->probe == backend ||
	       (client->last_id_at == backend && client->has_last_id) || (client->found_at == backend && client->found_rows_there);
}

/* MySQL shows nobody his user variables. A LIMIT of their own makes the questions independent of sql_select_limit. */
bool freeze_begin(struct backend *backend)
{
	static const char last[] = "SELECT LAST_INSERT_ID(),FOUND_ROWS(),@@warning_count,@@error_count LIMIT 1";
	static const char names[] = "SELECT VARIABLE_NAME,VARIABLE_TYPE,VARIABLE_VALUE FROM information_schema.USER_VARIABLES "
				    "LIMIT 1000000";
	struct client *c = backend->client;
	bool ok = true;

	if (backend->freezing)
		return true;
	backend->freeze = calloc(1, sizeof(*backend->freeze));
	if (!backend->freeze)
		return false;
	buf_fini(&backend->captured);
	backend->freezing = true;
	client_forget_diagnostics(c, backend);
	if (c->probe == backend) {
		ok = client_send_probe(c);
		c->probe = backend; /* until its answer is there, with the first of the others */
	}
	if (ok && has_list(c, backend))
		ok = ask(backend, PART_LIST, "SHOW WARNINGS");
	ok = ok && ask(backend, PART_LAST, last);
	if (ok && has_variables(c, backend) && !is_mysql(backend))
		ok = ask(backend, PART_NAMES, names);
	else if (has_variables(c, backend))
		backend->freeze->failed = true;
	return ok;
}

void freeze_end(struct backend *backend)
{
	if (!backend->freeze)
		return;
	buf_fini(&backend->freeze->names);
	free(backend->freeze);
	backend->freeze = NULL;
	backend->freezing = false;
}

/* ---- Text ---- */

struct text {
	char *data;
	size_t len, size;
	bool failed;
};

static void add(struct text *t, const void *bytes, size_t len)
{
	if (t->len + len + 1 > t->size) {
		size_t size = (t->len + len + 64) * 2;
		char *grown = t->failed ? NULL : realloc(t->data, size);

		if (!grown) {
			t->failed = true;
			return;
		}
		t->data = grown;
		t->size = size;
	}
	if (len) /* a NULL has no bytes to point to */
		memcpy(t->data + t->len, bytes, len);
	t->len += len;
	t->data[t->len] = '\0';
}

static void add_text(struct text *t, const char *text)
{
	add(t, text, strlen(text));
}

static void add_bytes(struct text *t, struct wire_bytes v)
{
	add(t, v.data, v.len);
}

static void add_hex(struct text *t, const uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < len; i++) {
		char two[2] = { digits[bytes[i] >> 4], digits[bytes[i] & 15] };

		add(t, two, 2);
	}
}

/* A name that means the same in every character set. */
static void add_name(struct text *t, struct wire_bytes name)
{
	add(t, "@`", 2);
	for (size_t i = 0; i < name.len; i++) {
		t->failed |= name.data[i] < 0x20 || name.data[i] > 0x7e;
		if (name.data[i] == '`')
			add(t, "`", 1);
		add(t, &name.data[i], 1);
	}
	add(t, "`", 1);
}

static bool is(struct wire_bytes v, const char *text)
{
	return v.len == strlen(text) && !memcmp(v.data, text, v.len);
}

static bool is_made_of(struct wire_bytes v, const char *characters)
{
	for (size_t i = 0; i < v.len; i++)
		if (!memchr(characters, v.data[i], strlen(characters)))
			return false;
	return v.len > 0;
}

/* ---- User variables ---- */

/* The table shows text cut at 2,048 characters and in the character set of the results: it is asked for, digit by digit. */
static char *values_question(struct buf *names)
{
	struct wire_reader at;
	struct captured_row row;
	struct text t = { 0 };
	unsigned columns, n = 0;

	if (!captured_first(names, &at, &columns) || columns != 3)
		return NULL;
	for (; captured_next(&at, columns, &row); n++) {
		char number[32];

		if (!is(row.columns[COLUMN_TYPE], "VARCHAR"))
			continue;
		snprintf(number, sizeof(number), "%s%u,HEX(", t.len ? " UNION ALL SELECT " : "SELECT ", n);
		add_text(&t, number);
		add_name(&t, row.columns[COLUMN_NAME]);
		add_text(&t, "),COLLATION(");
		add_name(&t, row.columns[COLUMN_NAME]);
		add_text(&t, ")");
	}
	if (t.len)
		add_text(&t, " LIMIT 1000000");
	else
		add_text(&t, "");
	if (t.failed) {
		free(t.data);
		return NULL;
	}
	return t.data;
}

/* A NULL of the type that the variable has. */
static void add_null(struct text *t, struct wire_bytes type)
{
	static const struct {
		const char *type, *null;
	} nulls[] = {
		{ "INT", "CAST(NULL AS SIGNED)" },
		{ "INT UNSIGNED", "CAST(NULL AS UNSIGNED)" },
		{ "DOUBLE", "CAST(NULL AS DOUBLE)" },
		{ "DECIMAL", "CAST(NULL AS DECIMAL)" },
	};

	for (size_t i = 0; i < sizeof(nulls) / sizeof(nulls[0]); i++)
		if (is(type, nulls[i].type)) {
			add_text(t, nulls[i].null);
			return;
		}
	t->failed = true;
}

static void add_number(struct text *t, struct wire_bytes type, struct wire_bytes value)
{
	t->failed |= !is_made_of(value, "0123456789.+-e");
	if (is(type, "INT")) {
		add_bytes(t, value);
	} else if (is(type, "INT UNSIGNED")) {
		add_text(t, "CAST(");
		add_bytes(t, value);
		add_text(t, " AS UNSIGNED)");
	} else if (is(type, "DOUBLE")) {
		add_bytes(t, value);
		if (!memchr(value.data, 'e', value.len))
			add_text(t, "e0");
	} else if (is(type, "DECIMAL")) {
		bool whole = !memchr(value.data, '.', value.len);

		add_text(t, whole ? "CAST(" : "");
		add_bytes(t, value);
		add_text(t, whole ? " AS DECIMAL(65,0))" : "");
	} else {
		t->failed = true;
	}
}

static void add_string(struct text *t, struct wire_bytes hex, struct wire_bytes collation)
{
	const uint8_t *end = memchr(collation.data ? collation.data : (const uint8_t *)"", '_', collation.len);
	struct wire_bytes charset = { collation.data, end ? (size_t)(end - collation.data) : collation.len };
	bool binary = is(collation, "binary");

	t->failed |= !is_made_of(collation, "abcdefghijklmnopqrstuvwxyz0123456789_") || (hex.len && !is_made_of(hex, "0123456789ABCDEF"));
	if (!hex.data && binary) {
		add_text(t, "CAST(NULL AS BINARY)");
		return;
	}
	add_text(t, hex.data ? (binary ? "" : "_") : "CAST(NULL AS CHAR CHARACTER SET ");
	if (!binary)
		add_bytes(t, charset);
	add_text(t, hex.data ? " x'" : ")");
	add_bytes(t, hex);
	add_text(t, hex.data ? "'" : "");
	if (binary)
		return;
	add_text(t, " COLLATE ");
	add_bytes(t, collation);
}

/* Adds "@`name`=value"; a text's value is the next row of `values`. */
static void add_variable(struct text *t, const struct captured_row *row, unsigned number, struct wire_reader *values)
{
	struct captured_row value;
	char expected[16];

	add_text(t, t->len ? "," : "SET ");
	add_name(t, row->columns[COLUMN_NAME]);
	add_text(t, "=");
	if (!is(row->columns[COLUMN_TYPE], "VARCHAR")) {
		if (row->columns[COLUMN_VALUE].data)
			add_number(t, row->columns[COLUMN_TYPE], row->columns[COLUMN_VALUE]);
		else
			add_null(t, row->columns[COLUMN_TYPE]);
		return;
	}
	snprintf(expected, sizeof(expected), "%u", number);
	if (captured_next(values, 3, &value) && is(value.columns[COLUMN_NUMBER], expected))
		add_string(t, value.columns[COLUMN_HEX], value.columns[COLUMN_COLLATION]);
	else
		t->failed = true;
}

/* All variables as one SET statement. `values`: NULL when there is no text among them. */
static bool take_variables(struct client *c, struct backend *b, struct buf *names, struct buf *values)
{
	struct wire_reader at, more = wire_reader(NULL, 0);
	struct captured_row row;
	struct text t = { 0 };
	unsigned columns, n = 0;

	if (c->uvars_at != b)
		return true;
	if (!captured_first(names, &at, &columns) || columns != 3)
		return false;
	if (values && (!captured_first(values, &more, &columns) || columns != 3))
		return false;
	while (captured_next(&at, 3, &row) && !t.failed)
		add_variable(&t, &row, n++, &more);
	if (t.failed) {
		free(t.data);
		return false;
	}
	free(c->uvars);
	c->uvars = t.data;
	c->uvars_at = NULL;
	c->has_uvars = t.data != NULL;
	return true;
}

/* True when the values of texts have to be waited for. */
static bool ask_values(struct backend *b)
{
	struct freeze *f = b->freeze;
	char *question = values_question(&b->captured);
	bool asked = question && *question;

	if (!question) {
		f->failed = true;
		return false;
	}
	if (asked) {
		f->names = b->captured;
		memset(&b->captured, 0, sizeof(b->captured));
		f->failed |= !ask(b, PART_VALUES, question);
	} else if (!take_variables(b->client, b, &b->captured, NULL)) {
		f->failed = true;
	}
	free(question);
	return asked;
}

/* ---- The last statement ---- */

static uint64_t number_of(struct wire_bytes digits)
{
	uint64_t n = 0;

	for (size_t i = 0; i < digits.len; i++)
		n = n * 10 + (uint64_t)(digits.data[i] - '0');
	return n;
}

void freeze_forget_list(struct client *client)
{
	struct frozen_list *list = client->list;

	if (!list)
		return;
	client->list = NULL;
	buf_fini(&list->shown);
	free(list->message);
	free(list);
}

static struct frozen_list *new_list(struct client *c, const char *charset)
{
	freeze_forget_list(c);
	c->list = calloc(1, sizeof(*c->list));
	if (c->list) {
		snprintf(c->list->charset, sizeof(c->list->charset), "%s", charset);
		c->diag_at = NULL;
		c->diag_open = true;
	}
	return c->list;
}

void freeze_error(struct client *client, uint16_t code, const char *sqlstate, const char *message)
{
	struct frozen_list *list = new_list(client, "utf8");

	if (!list)
		return;
	list->rows = 1;
	list->warnings = list->errors = 1;
	list->is_error = true;
	list->code = code;
	memcpy(list->state, sqlstate, 5);
	list->message = strdup(message);
}

void freeze_results(const struct state *value, const struct snapshot *snapshot, char *out, size_t size)
{
	snprintf(out, size, "%s %s", state_get(value, snapshot, "character_set_results"), state_get(value, snapshot, "results_collation"));
}

/* Messages come in the character set of the results; where that is none or binary, as the server has them. */
static const char *charset_of_messages(const struct backend *b)
{
	const char *name = state_get(b->value, b->worker->snapshot, "character_set_results");

	return *name && strcmp(name, "binary") ? name : "utf8";
}

static bool take_list(struct client *c, struct backend *b)
{
	struct wire_reader at;
	struct captured_row row;
	struct frozen_list *list;
	unsigned columns;

	if (c->diag_at != b)
		return true; /* a statement elsewhere has made a new one meanwhile */
	if (!captured_first(&b->captured, &at, &columns) || columns != 3)
		return false;
	list = new_list(c, charset_of_messages(b));
	if (!list)
		return false;
	freeze_results(b->value, b->worker->snapshot, list->results, sizeof(list->results));
	b->freeze->listed = true;
	while (captured_next(&at, columns, &row)) {
		bool error = is(row.columns[COLUMN_LEVEL], "Error");

		list->warnings++;
		list->errors += error;
		if (list->rows++)
			continue;
		list->is_error = error;
		list->code = (uint16_t)number_of(row.columns[COLUMN_CODE]);
		list->message = strndup((const char *)row.columns[COLUMN_MESSAGE].data, row.columns[COLUMN_MESSAGE].len);
		if (error && list->code == c->error_code)
			memcpy(list->state, c->error_state, sizeof(list->state));
		else if (is(row.columns[COLUMN_LEVEL], "Warning"))
			memcpy(list->state, "01000", 6);
	}
	if (!list->rows) {
		freeze_forget_list(c);
		c->diag_open = false;
		return true;
	}
	list->shown = b->captured;
	memset(&b->captured, 0, sizeof(b->captured));
	return true;
}

static bool take_last(struct client *c, struct backend *b)
{
	struct wire_reader at;
	struct captured_row row;
	unsigned columns;

	if (!captured_first(&b->captured, &at, &columns) || columns != 4 || !captured_next(&at, columns, &row))
		return false;
	if (c->found_at == b && c->found_rows_there) {
		c->found_rows = number_of(row.columns[1]);
		c->found_rows_there = false;
		c->found_at = NULL;
	}
	if (c->last_id_at == b) {
		c->last_id = number_of(row.columns[0]);
		c->last_id_at = NULL;
	}
	if (b->freeze->listed && c->list && !is_mysql(b)) { /* MySQL warns of FOUND_ROWS(), which makes a new list */
		c->list->warnings = number_of(row.columns[2]);
		c->list->errors = number_of(row.columns[3]);
	}
	return true;
}

char *freeze_signal(const struct client *client)
{
	enum { LONGEST = 512 };
	const struct frozen_list *list = client->list;
	struct text t = { 0 };
	char code[64];
	bool unclear = !list || list->rows != 1 || list->warnings != 1 || !list->state[0] || !list->message ||
		       strlen(list->message) > LONGEST || list->is_error != (list->state[0] != '0' || list->state[1] > '2');

	if (unclear)
		return NULL;
	add_text(&t, "SIGNAL SQLSTATE '");
	add_text(&t, list->state);
	snprintf(code, sizeof(code), "' SET MYSQL_ERRNO=%u,MESSAGE_TEXT=_", list->code);
	add_text(&t, code);
	add_text(&t, list->charset);
	add_text(&t, " x'");
	add_hex(&t, (const uint8_t *)list->message, strlen(list->message));
	add_text(&t, "'");
	if (t.failed) {
		free(t.data);
		return NULL;
	}
	return t.data;
}

/* ---- Answers ---- */

static void take(struct client *c, struct backend *b, enum part part)
{
	struct freeze *f = b->freeze;
	bool ok = true;

	switch (part) {
	case PART_LIST:
		ok = take_list(c, b);
		break;
	case PART_LAST:
		ok = take_last(c, b);
		break;
	case PART_NAMES:
		ask_values(b);
		break;
	case PART_VALUES:
		ok = take_variables(c, b, &f->names, &b->captured);
		break;
	}
	f->failed |= !ok;
}

static bool waits_for(const struct client *c, const struct backend *b)
{
	return c->turn && c->turn->wait == WAIT_CAPTURE && c->turn->capture == CAPTURE_FREEZE && c->turn->captured_from == b;
}

/* Whoever wanted the connection gets it; a turn of the session's own that has waited for the values goes on. */
static void ended(struct client *c, struct backend *b, bool failed)
{
	struct turn *own = waits_for(c, b) ? c->turn : NULL;

	c->uvars_fixed |= failed;
	if (c->leaving)
		placement_leave_soon(c->worker);
	if (c->moving && move_frozen(c, b, failed))
		return;
	if (!own && !failed)
		pool_spare(b);
	else if (own)
		turn_advance(own);
	else if (c->turn && c->turn->wait == WAIT_CONNECTION && c->turn->pool == b->pool)
		turn_advance(c->turn);
	else
		pool_wake(b->pool);
}

void freeze_reply(struct backend *backend, const struct expect *expect)
{
	struct backend *b = backend;
	struct client *c = b->client;
	struct freeze *f = b->freeze;
	bool failed;

	if (!c || !f)
		return;
	if (c->probe == b)
		c->probe = NULL;
	f->missing--;
	f->failed |= expect->failed;
	if (!f->failed)
		take(c, b, (enum part)expect->slot);
	buf_fini(&b->captured);
	if (f->missing)
		return;
	failed = f->failed;
	freeze_end(b);
	ended(c, b, failed);
}

/* ---- For a turn ---- */

bool freeze_wait(struct turn *turn, struct backend *backend)
{
	turn->wait = WAIT_CAPTURE;
	turn->capture = CAPTURE_FREEZE;
	turn->captured_from = backend;
	if (freeze_begin(backend))
		return true;
	backend_lost(backend, "its session's values could not be asked for", 0, NULL, NULL);
	return true;
}

/* Whatever is more than a read of tables may look at the session's values, or change them: in a trigger, in a routine, by a USING. */
static bool touches_values(const struct turn *t, const struct backend *b)
{
	const uint64_t touching = SQL_F_READS_UVAR | SQL_F_SETS_UVAR | SQL_F_READS_LAST_ID | SQL_F_SETS_LAST_ID | SQL_F_OPAQUE |
				  SQL_F_OPENS_TRX | SQL_F_ONESHOT_READ_ONLY;
	const struct client *c = t->client;

	if (t->task == TASK_VERIFY)
		return false;
	if (t->meaning->facts & touching || t->meaning->verb == SQL_DIAGNOSTICS)
		return true;
	if (!b->is_replica)
		return !t->is_read;
	return !(c->status & SERVER_STATUS_AUTOCOMMIT) && c->trx != b; /* a block begins */
}

bool freeze_bring(struct turn *turn)
{
	struct client *c = turn->client;
	struct backend *b = turn->backend;

	if ((!c->uvars_at || c->uvars_at == b) && (!c->last_id_at || c->last_id_at == b) && !(b->is_replica && (c->uvars || c->last_id)))
		return false; /* nothing to bring, as nearly always */
	turn->wants_values = touches_values(turn, b);
	if (!turn->wants_values)
		return false;
	if (c->uvars && c->uvars_at != b)
		c->uvars_at = NULL; /* not changed since they were frozen */
	if (c->uvars_at && c->uvars_at != b && c->uvars_fixed) {
		turn_fail(turn, ER_UNKNOWN_ERROR, "HY000",
			  "tandem: user variables that cannot be written down are needed on a connection to another server");
		return true;
	}
	if (c->uvars_at && c->uvars_at != b)
		return freeze_wait(turn, c->uvars_at);
	return c->last_id_at && c->last_id_at != b && c->has_last_id && freeze_wait(turn, c->last_id_at);
}
