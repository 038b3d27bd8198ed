/* What keeps a session on one connection: taken by statements that succeeded, released by their counterparts. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

#include "proxy/session/client.h"
#include "proxy/session/named.h"
#include "proxy/session/worker.h"

static struct pins *pins_of(struct client *c)
{
	if (!c->pins)
		c->pins = calloc(1, sizeof(*c->pins));
	return c->pins;
}

static bool has_things(const struct pins *p)
{
	return p->temp_tables || p->locks || p->handlers || p->named || p->tables || p->backup || p->xa || p->sequence || p->profiling ||
	       p->untracked || p->opaque;
}

bool client_is_pinned(const struct client *client)
{
	return client->pins && (has_things(client->pins) || client->pins->oneshot.set);
}

bool client_is_stuck(const struct client *client)
{
	return client->pins && (has_things(client->pins) || client->pins->oneshot.fixed);
}

bool client_pins_all(const struct client *client)
{
	const struct pins *p = client->pins;

	return p && client->pinned &&
	       (p->temp_tables || p->locks || p->tables || p->backup || p->xa || p->profiling || p->untracked || p->opaque || p->oneshot.set);
}

void client_pins_clear(struct client *client)
{
	if (!client->pins)
		return;
	free(client->pins->temp);
	oneshot_clear(&client->pins->oneshot);
	memset(client->pins, 0, sizeof(*client->pins));
	client->pinned = NULL;
}

void client_set_oneshot(struct client *client, const struct oneshot *oneshot)
{
	struct pins *p = pins_of(client);

	if (p)
		oneshot_copy(&p->oneshot, oneshot);
}

/* ---- Temporary tables, by the hash of schema and name ---- */

static uint64_t hash_folded(const char *text, size_t len, uint64_t seed)
{
	char folded[256];

	len = len < sizeof(folded) ? len : sizeof(folded);
	for (size_t i = 0; i < len; i++)
		folded[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]);
	return XXH3_64bits_withSeed(folded, len, seed);
}

static uint64_t table_hash(const struct client *c, const struct sql_meaning *m, const char *text)
{
	const char *schema = c->value->schema ? c->value->schema : "";
	uint64_t seed = m->qualifier.len ? hash_folded(text + m->qualifier.at, m->qualifier.len, 1) :
					   hash_folded(schema, strlen(schema), 1);

	return hash_folded(text + m->name.at, m->name.len, seed);
}

static int find_temp(const struct pins *p, uint64_t hash)
{
	for (int i = 0; i < p->temp_tables; i++)
		if (p->temp[i] == hash)
			return i;
	return -1;
}

static void add_temp(struct client *c, const struct sql_meaning *m, const char *text)
{
	struct pins *p = pins_of(c);
	uint64_t hash;

	if (!(m->facts & SQL_F_TEMP_NAMED)) {
		p->opaque = true;
		return;
	}
	hash = table_hash(c, m, text);
	if (find_temp(p, hash) >= 0)
		return;
	if (p->temp_tables == p->temp_size) {
		uint64_t *grown = realloc(p->temp, (p->temp_size + 8u) * sizeof(*grown));

		if (!grown) {
			p->opaque = true;
			return;
		}
		p->temp = grown;
		p->temp_size += 8;
	}
	p->temp[p->temp_tables++] = hash;
}

static void drop_temp(struct client *c, const struct sql_meaning *m, const char *text)
{
	struct pins *p = pins_of(c);
	int at = m->facts & SQL_F_TEMP_NAMED ? find_temp(p, table_hash(c, m, text)) : -1;

	if (at >= 0)
		p->temp[at] = p->temp[--p->temp_tables];
}

/* ---- Statements ---- */

/* What a procedure does is known when its body could be lexed. */
static uint64_t facts_of_call(const struct client *c, const struct sql_meaning *m, const char *text)
{
	const struct routine *r;

	if (m->verb != SQL_CALL || !(m->facts & SQL_F_OPAQUE) || !m->name.len)
		return m->facts;
	r = snapshot_routine(c->worker->snapshot, text + m->name.at, m->name.len);
	if (!r || r->facts & SQL_F_SETS_SESSION) /* not every SET inside is reported by the tracker */
		return m->facts;
	return (m->facts & ~SQL_F_OPAQUE) | (r->facts & ~SQL_F_TEMP_NAMED);
}

static const uint64_t pinning = SQL_F_CREATES_TEMP | SQL_F_DROPS_TABLE | SQL_F_RELEASE_ALL_LOCKS | SQL_F_FLUSH_LOCK |
				SQL_F_BACKUP_STAGE | SQL_F_BACKUP_END | SQL_F_HANDLER_OPEN | SQL_F_HANDLER_CLOSE | SQL_F_XA_OPEN |
				SQL_F_XA_CLOSE | SQL_F_SEQUENCE | SQL_F_PROFILING | SQL_F_UNTRACKED | SQL_F_UNTRACKED_RESET |
				SQL_F_OPAQUE | SQL_F_ONESHOT;

static void note_flags(struct pins *p, uint64_t facts)
{
	if (facts & SQL_F_RELEASE_ALL_LOCKS)
		p->locks = 0;
	p->tables |= (facts & SQL_F_FLUSH_LOCK) != 0;
	p->backup = facts & SQL_F_BACKUP_STAGE ? true : facts & SQL_F_BACKUP_END ? false : p->backup;
	p->handlers += (facts & SQL_F_HANDLER_OPEN) != 0;
	if (facts & SQL_F_HANDLER_CLOSE && p->handlers)
		p->handlers--;
	p->xa = facts & SQL_F_XA_OPEN ? true : facts & SQL_F_XA_CLOSE ? false : p->xa;
	p->sequence |= (facts & SQL_F_SEQUENCE) != 0;
	p->profiling |= (facts & SQL_F_PROFILING) != 0;
	p->untracked = facts & SQL_F_UNTRACKED ? true : facts & SQL_F_UNTRACKED_RESET ? false : p->untracked;
	p->opaque |= (facts & SQL_F_OPAQUE) != 0;
}

/* One whose text is known is prepared again elsewhere when it is wanted there. */
static void note_named(struct client *c, struct backend *b, const struct sql_meaning *m, const char *text)
{
	bool known = named_note(c, b, m, text);
	uint16_t fixed = named_fixed(c);

	if (b && m->verb == SQL_PREPARE)
		b->tainted = true;
	if (!known && pins_of(c))
		c->pins->opaque = true;
	if (c->pins || (fixed && pins_of(c)))
		c->pins->named = fixed;
}

static void note_verb(struct client *c, struct backend *b, const struct sql_meaning *m, const char *text)
{
	if (m->verb == SQL_LOCK_TABLES)
		pins_of(c)->tables = true;
	else if (m->verb == SQL_UNLOCK_TABLES && c->pins)
		c->pins->tables = false;
	else if (m->verb == SQL_PREPARE || m->verb == SQL_DEALLOCATE)
		note_named(c, b, m, text);
}

void client_note_lock(struct client *client, struct backend *backend, int change)
{
	struct pins *p = pins_of(client);

	if (!p || (change < 0 && !p->locks))
		return;
	p->locks = (uint16_t)(p->locks + change);
	if (p->locks)
		backend->tainted = true;
}

/* Is there a FROM outside of quotes and comments? */
static bool has_from(const char *text, size_t len)
{
	for (size_t i = 0; i + 5 < len; i++) {
		if (text[i] == '\'' || text[i] == '"' || text[i] == '`') {
			const char *end = memchr(text + i + 1, text[i], len - i - 1);

			if (!end)
				return false;
			i = (size_t)(end - text);
		} else if (text[i] == '/' && text[i + 1] == '*') {
			const char *end = memmem(text + i + 2, len - i - 2, "*/", 2);

			if (!end)
				return false;
			i = (size_t)(end - text) + 1;
		} else if (!strncasecmp(text + i, "from", 4) && (text[i + 4] == ' ' || text[i + 4] == '\n' || text[i + 4] == '`')) {
			return true;
		}
	}
	return false;
}

/* SET TRANSACTION holds until a transaction has begun and ended; a SELECT without tables is none. */
static bool ends_oneshot(const struct client *c, const struct sql_meaning *m, const char *text, size_t len)
{
	if (c->trx)
		return false;
	switch (m->verb) {
	case SQL_COMMIT:
	case SQL_ROLLBACK:
	case SQL_INSERT:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_REPLACE:
		return true;
	case SQL_SELECT:
		return has_from(text, len);
	default:
		return false;
	}
}

/* A READ ONLY block may have left something on a replica that only that connection knows. It is given up for what a statement that writes leaves
 * on the primary. */
static struct backend *pinned_at(const struct client *c, struct backend *b)
{
	return !c->pinned || (c->pinned->is_replica && !b->is_replica) ? b : c->pinned;
}

void client_note_statement(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text,
			   size_t len)
{
	uint64_t facts = facts_of_call(client, meaning, text);

	if (client->pins && client->pins->oneshot.set && ends_oneshot(client, meaning, text, len))
		oneshot_clear(&client->pins->oneshot);
	if (meaning->verb == SQL_DIAGNOSTICS)
		facts |= SQL_F_SETS_UVAR;
	if (facts & pinning && pins_of(client)) {
		note_flags(client->pins, facts);
		if (facts & SQL_F_CREATES_TEMP)
			add_temp(client, meaning, text);
		if (facts & SQL_F_DROPS_TABLE)
			drop_temp(client, meaning, text);
		if (facts & SQL_F_ONESHOT)
			oneshot_note(&client->pins->oneshot, facts, text, len);
	}
	note_verb(client, backend, meaning, text);
	if (facts & (SQL_F_SETS_UVAR | SQL_F_OPAQUE)) {
		client->has_uvars = backend->has_uvars = true;
		client->uvars_fixed = false; /* perhaps no longer */
		client->uvars_at = backend;
		free(client->uvars);
		client->uvars = NULL;
	}
	if (facts & (SQL_F_SETS_LAST_ID | SQL_F_OPAQUE)) {
		client->has_last_id = backend->has_last_id = true;
		client->last_id_at = backend;
		client->last_id_lost = false;
	}
	client->pinned = client_is_pinned(client) ? pinned_at(client, backend) : NULL;
	if (backend && client->pinned == backend)
		backend->tainted = true;
}
