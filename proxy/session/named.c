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

static bool drop(struct client *c, const char *name, size_t len)
{
	struct named **at = find(c, name, len), *n = *at;

	if (!n)
		return false;
	*at = n->next;
	free_one(n);
	return true;
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

static void add(struct client *c, const struct sql_meaning *m, const char *text)
{
	struct named *n = calloc(1, sizeof(*n));

	if (!n)
		return;
	n->name = strndup(text + m->name.at, m->name.len);
	if (asprintf(&n->prepare, "PREPARE `%.*s` FROM %.*s", (int)m->name.len, text + m->name.at, (int)m->text.len,
		     text + m->text.at) < 0)
		n->prepare = NULL;
	n->value = state_ref(c->value);
	if (n->prepare && m->text.len && !(m->facts & SQL_F_MULTI))
		n->text = literal(text + m->text.at, m->text.len, &n->len);
	if (n->text)
		sql_classify(&c->sql, n->text, n->len, &n->meaning);
	n->next = c->named;
	c->named = n;
}

bool named_note(struct client *client, const struct sql_meaning *meaning, const char *text)
{
	bool had = drop(client, text + meaning->name.at, meaning->name.len);

	if (meaning->verb == SQL_DEALLOCATE)
		return had;
	add(client, meaning, text);
	return !had;
}

struct named *named_read(struct client *client, const struct sql_meaning *meaning, const char *text)
{
	struct named *n = *find(client, text + meaning->name.at, meaning->name.len);
	const uint64_t elsewhere = SQL_F_READS_UVAR | SQL_F_SETS_UVAR | SQL_F_READS_LAST | SQL_F_READS_LAST_ID;

	if (!n || !n->text || meaning->has_using || n->meaning.target != SQL_TO_REPLICA || n->meaning.facts & elsewhere)
		return NULL;
	return state_equal(n->value, client->value) ? n : NULL;
}

const struct named *named_find(struct client *client, const char *name, size_t len)
{
	return *find(client, name, len);
}

void named_forget_backend(struct client *client, const struct backend *backend)
{
	for (struct named *n = client->named; n; n = n->next)
		if (n->also_at == backend)
			n->also_at = NULL;
}

void named_clear(struct client *client)
{
	struct named *n;

	while ((n = client->named)) {
		client->named = n->next;
		free_one(n);
	}
}
