#include "proxy/session/sessions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* ---- One session, on its worker ---- */

static const char *wait_words(const struct turn *t)
{
	switch (t->wait) {
	case WAIT_CONNECTION:
		return "waits for a connection at the server's limit";
	case WAIT_CONNECT:
		return "waits for a connection being made";
	case WAIT_FIT:
		return "brings its connection to the session's state";
	case WAIT_CAPTURE:
		return "asks about the session's own state";
	case WAIT_PRIMARY:
		switch (t->client->worker->snapshot->gate) {
		case GATE_OPEN:
		case GATE_SHUT:
			return "waits for a primary that takes writes";
		default:
			return "waits for a promotion to end";
		}
	case WAIT_POSITION:
		return "waits for a replica to have its last write";
	case WAIT_KILL:
		return "looks for the session to kill";
	default:
		return t->passed ? "reads its result" : "runs";
	}
}

static const char *state_words(const struct client *c)
{
	if (c->turn)
		return wait_words(c->turn);
	if (c->state == CLIENT_LOGIN)
		return "logs in";
	if (c->state == CLIENT_CLOSING || c->state == CLIENT_CLOSED)
		return "leaves";
	return c->trx ? "idle in a transaction" : "idle";
}

static void add_word(char *list, size_t size, const char *word)
{
	size_t len = strlen(list);

	snprintf(list + len, size - len, "%s%s", len ? ", " : "", word);
}

static void add_count(char *list, size_t size, unsigned count, const char *one, const char *many)
{
	char word[64];

	if (!count)
		return;
	snprintf(word, sizeof(word), "%u %s", count, count == 1 ? one : many);
	add_word(list, size, word);
}

static void list_pins(const struct pins *p, char *list, size_t size)
{
	const struct {
		bool held;
		const char *word;
	} words[] = {
		{ p->tables, "LOCK TABLES" },
		{ p->backup, "BACKUP STAGE" },
		{ p->xa, "XA" },
		{ p->sequence, "LASTVAL of a sequence" },
		{ p->profiling, "profiling" },
		{ p->untracked, "SET timestamp or the like" },
		{ p->opaque, "a CALL whose effects are not known" },
		{ p->oneshot.set, "SET TRANSACTION for the next one" },
	};

	add_count(list, size, p->temp_tables, "temporary table", "temporary tables");
	add_count(list, size, p->locks, "GET_LOCK", "GET_LOCKs");
	add_count(list, size, p->handlers, "HANDLER", "HANDLERs");
	add_count(list, size, p->named, "PREPARE", "PREPAREs");
	add_count(list, size, p->cursors, "cursor", "cursors");
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].held)
			add_word(list, size, words[i].word);
}

static void list_servers(const struct client *c, char *list, size_t size)
{
	const struct backend *now = c->turn ? c->turn->backend : NULL;

	if (now)
		add_word(list, size, now->server_name);
	for (const struct backend *b = c->attached; b; b = b->next_attached)
		if (b != now)
			add_word(list, size, b->server_name);
}

static void describe_client(const struct client *c, struct session_view *out)
{
	if (c->port)
		snprintf(out->client, sizeof(out->client), strchr(c->host, ':') ? "[%s]:%u" : "%s:%u", c->host, c->port);
	else
		snprintf(out->client, sizeof(out->client), "%s", c->host ? c->host : "");
	if (c->credentials)
		snprintf(out->user, sizeof(out->user), "%s", c->credentials->user);
	if (c->value && c->value->schema)
		snprintf(out->schema, sizeof(out->schema), "%s", c->value->schema);
}

static void describe_statement(const struct client *c, struct session_view *out)
{
	const struct turn *t = c->turn;

	if (!t || t->task != TASK_COMMAND)
		return;
	if (t->text)
		sql_normalise(&c->sql, t->text, t->text_len, out->statement, sizeof(out->statement));
	else
		snprintf(out->statement, sizeof(out->statement), "(command %u of the protocol)", t->command);
}

static void describe_session(const struct client *c, uint64_t now, struct session_view *out)
{
	memset(out, 0, sizeof(*out));
	out->id = c->id;
	out->worker = c->worker->number;
	out->state = state_words(c);
	out->state_ms = now > c->active_ms ? now - c->active_ms : 0;
	out->is_busy = c->turn || c->trx;
	describe_client(c, out);
	describe_statement(c, out);
	list_servers(c, out->servers, sizeof(out->servers));
	if (c->pins)
		list_pins(c->pins, out->pins, sizeof(out->pins));
	if (c->uvars_fixed)
		add_word(out->pins, sizeof(out->pins), "user variables that cannot be written down");
	if (c->trx)
		snprintf(out->transaction, sizeof(out->transaction), "%.60s%s", c->trx->server_name,
			 c->trx->status & SERVER_STATUS_IN_TRANS_READONLY ? ", read only" : "");
}

/* ---- Collecting ---- */

/* What one worker has to say. */
struct part {
	struct inbox_message message;
	struct collection *collection;
	struct session_view *views;
	size_t count;
	bool failed;
};

/* Held by the asker and by each worker that has not answered yet; the last one frees it. */
struct collection {
	pthread_mutex_t lock;
	pthread_cond_t answered;
	unsigned waiting;
	bool abandoned; /* the asker has given up */
	unsigned count;
	struct part parts[];
};

static void free_collection(struct collection *c)
{
	for (unsigned i = 0; i < c->count; i++)
		free(c->parts[i].views);
	pthread_cond_destroy(&c->answered);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static void copy_sessions(struct worker *w, struct part *part)
{
	const struct client *c;
	uint64_t now = clock_ms();
	size_t n = 0;

	TAILQ_FOREACH(c, &w->clients, link)
		n++;
	part->views = n ? malloc(n * sizeof(*part->views)) : NULL;
	part->failed = n && !part->views;
	if (!part->views)
		return;
	TAILQ_FOREACH(c, &w->clients, link)
		describe_session(c, now, &part->views[part->count++]);
}

static void deliver(struct inbox_message *message, void *owner)
{
	struct part *part = (struct part *)message;
	struct collection *c = part->collection;
	bool last;

	copy_sessions(owner, part);
	pthread_mutex_lock(&c->lock);
	last = --c->waiting == 0 && c->abandoned;
	pthread_cond_signal(&c->answered);
	pthread_mutex_unlock(&c->lock);
	if (last)
		free_collection(c);
}

static struct collection *new_collection(unsigned count)
{
	struct collection *c = calloc(1, sizeof(*c) + count * sizeof(c->parts[0]));
	pthread_condattr_t attributes;

	if (!c)
		return NULL;
	c->waiting = c->count = count;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&c->answered, &attributes);
	pthread_condattr_destroy(&attributes);
	return c;
}

/* False when the time is over: then the collection belongs to the workers that still owe their part. */
static bool wait_for_all(struct collection *c, unsigned timeout_ms)
{
	uint64_t until = clock_ms() + timeout_ms;
	struct timespec end = { (time_t)(until / 1000), (long)(until % 1000 * 1000000) };
	bool all;

	pthread_mutex_lock(&c->lock);
	while (c->waiting && pthread_cond_timedwait(&c->answered, &c->lock, &end) == 0)
		;
	all = c->waiting == 0;
	c->abandoned = !all;
	pthread_mutex_unlock(&c->lock);
	return all;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = ((const struct session_view *)a)->id, y = ((const struct session_view *)b)->id;

	return x < y ? -1 : x > y;
}

/* By id. Who moved to another worker meanwhile may have been listed by both. */
static size_t without_doubles(struct session_view *views, size_t n)
{
	size_t kept = 0;

	qsort(views, n, sizeof(*views), by_id);
	for (size_t i = 0; i < n; i++)
		if (!kept || views[kept - 1].id != views[i].id)
			views[kept++] = views[i];
	return kept;
}

static struct session_view *merge(const struct collection *c, size_t *count)
{
	struct session_view *views;
	size_t n = 0, at = 0;
	bool failed = false;

	for (unsigned i = 0; i < c->count; i++) {
		n += c->parts[i].count;
		failed |= c->parts[i].failed;
	}
	views = n && !failed ? malloc(n * sizeof(*views)) : NULL;
	*count = failed || (n && !views) ? SIZE_MAX : n;
	for (unsigned i = 0; views && i < c->count; at += c->parts[i++].count)
		if (c->parts[i].count)
			memcpy(views + at, c->parts[i].views, c->parts[i].count * sizeof(*views));
	if (views)
		*count = without_doubles(views, n);
	return views;
}

struct session_view *sessions_collect(struct shared *shared, unsigned timeout_ms, size_t *count)
{
	struct collection *c = new_collection(shared->worker_count);
	struct session_view *views;

	*count = SIZE_MAX;
	if (!c)
		return NULL;
	for (unsigned i = 0; i < shared->worker_count; i++) {
		c->parts[i].message.deliver = deliver;
		c->parts[i].collection = c;
		inbox_post(&shared->workers[i].inbox, &c->parts[i].message);
	}
	if (!wait_for_all(c, timeout_ms))
		return NULL;
	views = merge(c, count);
	free_collection(c);
	return views;
}
