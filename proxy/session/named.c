#include "proxy/session/named.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static struct named **find(struct client *c, const char *name, size_t len)
{
	struct named **at = &c->named;

	while (*at && (strlen((*at)->name) != len || strncasecmp((*at)->name, name, len)))
		at = &(*at)->next;
	return at;
}

static void free_one(struct named *n)
{
	free(n->name);
	free(n->prepare);
	free(n->text);
	state_unref(n->value);
	free(n);
}

/* The name must not be found there when it comes to an EXECUTE of it. */
static void deallocate(struct client *c, struct backend *b, const struct named *n)
{
	char text[NAMED_STATEMENT_BYTES];
	int len = snprintf(text, sizeof(text), "DEALLOCATE PREPARE `%s`", n->name);

	if (b->state != BACKEND_READY || (size_t)len >= sizeof(text))
		return;
	client_forget_diagnostics(c, b);
	backend_command(b, EXPECT_CLEAN, COM_QUERY, text, (size_t)len);
}

/* `b` knows that it is gone. */
static void drop(struct client *c, const struct backend *b, const char *name, size_t len)
{
	struct named **at = find(c, name, len), *n = *at;

	if (!n)
		return;
	*at = n->next;
	if (n->at && n->at != b)
		deallocate(c, n->at, n);
	if (n->also_at && n->also_at != b && n->also_at != n->at)
		deallocate(c, n->also_at, n);
	free_one(n);
}

/* The literal without its quotes; NULL when something in it would have to be decoded that sql_mode or character set decide. */
static char *literal(const char *quoted, size_t len, size_t *out_len)
{
	char quote = len ? quoted[0] : 0, *out;
	size_t n = 0;

	if (len < 2 || (quote != '\'' && quote != '"') || quoted[len - 1] != quote || memchr(quoted, '\\', len))
		return NULL;
	out = malloc(len);
	for (size_t i = 1; out && i < len - 1; i++) {
		if (quoted[i] == quote)
			i++; /* doubled */
		out[n++] = quoted[i];
	}
	*out_len = n;
	return out;
}

bool named_sets_variables(const struct client *client, const struct sql_meaning *meaning, const char *text)
{
	struct sql_meaning inner = { .facts = 0 };
	size_t len = 0;
	char *prepared = meaning->text.len ? literal(text + meaning->text.at, meaning->text.len, &len) : NULL;

	if (!prepared)
		return true;
	sql_classify(&client->sql, prepared, len, &inner);
	free(prepared);
	return inner.facts & SQL_F_SETS_UVAR;
}

static bool add(struct client *c, struct backend *b, const struct sql_meaning *m, const char *text)
{
	struct named *n = calloc(1, sizeof(*n));

	if (!n)
		return false;
	n->name = strndup(text + m->name.at, m->name.len);
	if (!n->name) {
		free(n);
		return false;
	}
	n->next = c->named;
	c->named = n;
	n->at = b;
	n->value = state_ref(c->value);
	if (asprintf(&n->prepare, "PREPARE `%.*s` FROM %.*s", (int)m->name.len, text + m->name.at, (int)m->text.len,
		     text + m->text.at) < 0)
		n->prepare = NULL;
	if (n->prepare && m->text.len && !(m->facts & SQL_F_MULTI))
		n->text = literal(text + m->text.at, m->text.len, &n->len);
	if (n->text)
		sql_classify(&c->sql, n->text, n->len, &n->meaning);
	n->is_fixed = !n->text || n->meaning.facts & SQL_F_SETS_UVAR;
	return true;
}

bool named_note(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text)
{
	drop(client, backend, text + meaning->name.at, meaning->name.len);
	return meaning->verb == SQL_DEALLOCATE || add(client, backend, meaning, text);
}

void named_note_failure(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text)
{
	if (meaning->text.len)
		drop(client, backend, text + meaning->name.at, meaning->name.len);
}

uint16_t named_fixed(const struct client *client)
{
	uint16_t count = 0;

	for (const struct named *n = client->named; n; n = n->next)
		count += n->is_fixed;
	return count;
}

bool named_is_read(const struct client *client, const struct named *named, const struct sql_meaning *meaning)
{
	const uint64_t elsewhere = SQL_F_READS_UVAR | SQL_F_SETS_UVAR | SQL_F_READS_LAST | SQL_F_READS_LAST_ID;

	return !meaning->has_using && named->meaning.target == SQL_TO_REPLICA && !(named->meaning.facts & elsewhere) &&
	       state_equal(named->value, client->value);
}

struct named *named_find(struct client *client, const char *name, size_t len)
{
	return *find(client, name, len);
}

bool named_is_at(const struct named *named, const struct backend *backend)
{
	return named->at == backend || named->also_at == backend;
}

void named_add_place(struct named *named, struct backend *backend)
{
	if (named->at)
		named->also_at = backend;
	else
		named->at = backend;
}

void named_drop_place(struct named *named, const struct backend *backend)
{
	if (named->also_at == backend)
		named->also_at = NULL;
	if (named->at != backend)
		return;
	named->at = named->also_at;
	named->also_at = NULL;
}

void named_forget_backend(struct client *client, const struct backend *backend)
{
	for (struct named *n = client->named; n; n = n->next)
		named_drop_place(n, backend);
}

void named_clear(struct client *client)
{
	struct named *n;

	while ((n = client->named)) {
		client->named = n->next;
		free_one(n);
	}
}
