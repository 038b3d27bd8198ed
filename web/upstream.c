#include "web/upstream.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/log.h"
#include "web/balance.h"
#include "web/server_address.h"

/* Under the upstream's lock, all of it. */
struct upstream_server_state {
	unsigned settings_weight;
	unsigned weight;
	unsigned max_connections; /* 0: no limit */
	bool backup;
	enum upstream_order order;
	bool check_down;
	unsigned good_checks, bad_checks; /* in a row */
	unsigned fails;			  /* since the last answer, within fail_timeout of the first */
	uint64_t fails_since_ms;
	uint64_t down_until_ms; /* by failed requests */
	uint64_t up_since_ms;	/* slow start counts from here; 0: it was never away */
	bool told_down;		/* the log says so */
	unsigned active;
	uint64_t requests, failures;
	char why[UPSTREAM_WHY];
};

TAILQ_HEAD(tickets, upstream_ticket);

struct upstream {
	struct log_subject subject;
	_Atomic unsigned refs;
	char *name;
	_Atomic unsigned kept;
	pthread_mutex_t lock;
	/* The rules, from the settings. */
	enum balance_rule balance;
	unsigned max_connections;
	unsigned queue;
	unsigned fails;
	uint32_t fail_timeout_ms;
	uint32_t slow_start_ms;
	bool checks; /* there are health checks */
	unsigned check_rise, check_fall;
	/* Side by side. */
	size_t count;
	struct upstream_server *servers[UPSTREAM_SERVERS_MAX];
	struct balance_entry entries[UPSTREAM_SERVERS_MAX];
	unsigned active;
	struct tickets waiting; /* in order of arrival */
	unsigned waiting_count;
	unsigned waiting_for_any; /* of these: those that any server would do for */
};

enum { ALL_TRIED = -1, ALL_BUSY = -2, ALL_CLOSED = -3 }; /* in place of a server's index */

/* ---- Servers ---- */

struct upstream_server *upstream_server_ref(struct upstream_server *server)
{
	atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
	return server;
}

void upstream_server_unref(struct upstream_server *server)
{
	if (!server || atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(server->name);
	free(server->state);
	free(server);
}

/* A cookie with the address itself would tell strangers about the network behind. */
static bool make_mark(const char *upstream, const char *name, char mark[UPSTREAM_MARK])
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	char text[512];
	int len = snprintf(text, sizeof(text), "tandem sticky %s %s", upstream, name);

	if (!EVP_Digest(text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1, hash, NULL, EVP_sha256(), NULL))
		return false;
	for (size_t i = 0; i < (UPSTREAM_MARK - 1) / 2; i++)
		snprintf(mark + 2 * i, 3, "%02x", hash[i]);
	return true;
}

static struct upstream_server *new_server(const char *upstream, const struct server_address *said)
{
	struct upstream_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	atomic_init(&s->refs, 1);
	s->name = strdup(said->name);
	s->state = calloc(1, sizeof(*s->state));
	s->address = said->address;
	s->address_len = said->address_len;
	if (!s->name || !s->state || !make_mark(upstream, s->name, s->mark)) {
		upstream_server_unref(s);
		return NULL;
	}
	s->state->weight = s->state->settings_weight = said->weight;
	s->state->max_connections = said->max_connections;
	s->state->backup = said->backup;
	return s;
}

/* ---- Life ---- */

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct upstream *u = (const struct upstream *)((const char *)subject - offsetof(struct upstream, subject));

	snprintf(out, size, "upstream %s", u->name);
}

static bool add_server(struct upstream *u, const char *text, char *why, size_t why_size)
{
	struct server_address said;

	if (!server_address_read(text, &said, why, why_size))
		return false;
	for (size_t i = 0; i < u->count; i++)
		if (!strcmp(u->servers[i]->name, said.name)) {
			snprintf(why, why_size, "%s: is there twice", said.name);
			return false;
		}
	u->servers[u->count] = new_server(u->name, &said);
	return u->servers[u->count++] != NULL;
}

static bool add_servers(struct upstream *u, const struct web_upstream *settings, char *why, size_t why_size)
{
	if (settings->server_count > UPSTREAM_SERVERS_MAX) {
		snprintf(why, why_size, "%s: more than %d servers", settings->servers[UPSTREAM_SERVERS_MAX], UPSTREAM_SERVERS_MAX);
		return false;
	}
	for (size_t i = 0; i < settings->server_count; i++)
		if (!add_server(u, settings->servers[i], why, why_size))
			return false;
	return true;
}

struct upstream *upstream_new(const struct web_upstream *settings, char *why, size_t why_size)
{
	struct upstream *u = calloc(1, sizeof(*u));

	snprintf(why, why_size, "out of memory");
	if (!u)
		return NULL;
	u->subject.describe = describe;
	atomic_init(&u->refs, 1);
	pthread_mutex_init(&u->lock, NULL);
	TAILQ_INIT(&u->waiting);
	u->balance = (enum balance_rule)settings->balance;
	u->max_connections = settings->max_connections;
	u->queue = settings->queue;
	u->fails = settings->fails;
	u->fail_timeout_ms = settings->fail_timeout_ms;
	u->slow_start_ms = settings->slow_start_ms;
	u->checks = settings->check != WEB_CHECK_OFF;
	u->check_rise = settings->check_rise;
	u->check_fall = settings->check_fall;
	u->name = strdup(settings->name);
	if (u->name && add_servers(u, settings, why, why_size))
		return u;
	upstream_unref(u);
	return NULL;
}

struct upstream *upstream_ref(struct upstream *upstream)
{
	atomic_fetch_add_explicit(&upstream->refs, 1, memory_order_relaxed);
	return upstream;
}

void upstream_unref(struct upstream *upstream)
{
	if (!upstream || atomic_fetch_sub_explicit(&upstream->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < upstream->count; i++)
		upstream_server_unref(upstream->servers[i]);
	pthread_mutex_destroy(&upstream->lock);
	free(upstream->name);
	free(upstream);
}

const char *upstream_name(const struct upstream *upstream)
{
	return upstream->name;
}

/* ---- Choosing ---- */

static int index_of(const struct upstream *u, const struct upstream_server *server)
{
	for (size_t i = 0; i < u->count; i++)
		if (u->servers[i] == server)
			return (int)i;
	return -1;
}

static bool was_tried(uint64_t tried, size_t i)
{
	return tried >> i & 1;
}

static bool is_up(const struct upstream_server_state *s, uint64_t now_ms)
{
	return !s->check_down && s->down_until_ms <= now_ms;
}

static bool is_full(const struct upstream_server_state *s)
{
	return s->max_connections && s->active >= s->max_connections;
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static unsigned weight_now(const struct upstream *u, const struct upstream_server_state *s, uint64_t now_ms)
{
	uint64_t since = later(s->up_since_ms, s->down_until_ms);

	return balance_weight(s->weight, since && since <= now_ms ? now_ms - since : UINT64_MAX, u->slow_start_ms);
}

/* The server that the client belongs to, if it can be had at all. */
static int pick_marked(struct upstream *u, const struct upstream_wish *wish, uint64_t now_ms)
{
	for (size_t i = 0; i < u->count; i++) {
		const struct upstream_server_state *s = u->servers[i]->state;

		if (strlen(u->servers[i]->mark) != wish->mark_len || memcmp(u->servers[i]->mark, wish->mark, wish->mark_len))
			continue;
		if (was_tried(wish->tried, i) || s->order == UPSTREAM_OUT || !is_up(s, now_ms))
			return ALL_TRIED;
		return is_full(s) ? ALL_BUSY : (int)i;
	}
	return ALL_TRIED;
}

/* Among those that are backups or not, up or not. */
static int pick_kind(struct upstream *u, const struct upstream_wish *wish, uint64_t now_ms, bool backups, bool up)
{
	bool any = false;
	int i;

	for (size_t k = 0; k < u->count; k++) {
		const struct upstream_server_state *s = u->servers[k]->state;
		struct balance_entry *e = &u->entries[k];
		bool fits = s->backup == backups && is_up(s, now_ms) == up && s->order == UPSTREAM_IN_USE && !was_tried(wish->tried, k);

		any |= fits;
		e->usable = fits && !is_full(s);
		e->weight = weight_now(u, s, now_ms);
		e->active = s->active;
	}
	i = balance_pick(u->balance, u->entries, u->count);
	return i >= 0 ? i : any ? ALL_BUSY : ALL_TRIED;
}

static int pick(struct upstream *u, const struct upstream_wish *wish, uint64_t now_ms)
{
	int i = wish->mark ? pick_marked(u, wish, now_ms) : ALL_TRIED;

	if (u->max_connections && u->active >= u->max_connections)
		return ALL_BUSY;
	for (int kind = 0; i == ALL_TRIED && kind < 4; kind++)
		i = pick_kind(u, wish, now_ms, kind & 1, kind < 2);
	if (i != ALL_TRIED)
		return i;
	for (size_t k = 0; k < u->count; k++)
		if (u->servers[k]->state->order == UPSTREAM_IN_USE)
			return ALL_TRIED;
	return ALL_CLOSED;
}

static struct upstream_server *seize(struct upstream *u, int i)
{
	struct upstream_server_state *s = u->servers[i]->state;

	s->active++;
	s->requests++;
	u->active++;
	return upstream_server_ref(u->servers[i]);
}

/* ---- The queue ---- */

enum { MARK_MAX = UPSTREAM_MARK };

struct upstream_ticket {
	struct inbox_message message;
	TAILQ_ENTRY(upstream_ticket) link;
	struct upstream *upstream;
	struct upstream_waiter waiter; /* its owner is NULL when nobody waits any more */
	struct upstream_wish wish;
	char mark[MARK_MAX];
	struct upstream_server *server; /* granted, and on its way in the owner's inbox; NULL: in the queue */
};

static bool takes_any(const struct upstream_ticket *t)
{
	return !t->wish.mark && !t->wish.tried;
}

static void unqueue(struct upstream *u, struct upstream_ticket *t)
{
	TAILQ_REMOVE(&u->waiting, t, link);
	u->waiting_count--;
	u->waiting_for_any -= takes_any(t);
}

static void free_ticket(struct upstream_ticket *t)
{
	upstream_unref(t->upstream);
	free(t);
}

static void deliver_grant(struct inbox_message *message, void *owner)
{
	struct upstream_ticket *t = (struct upstream_ticket *)message;

	(void)owner;
	if (t->waiter.owner)
		t->waiter.granted(t->waiter.owner, t->server);
	else
		upstream_give(t->upstream, t->server, UPSTREAM_NEITHER, NULL);
	free_ticket(t);
}

/* Whoever has waited longest and can be served is; until nobody can. */
static void serve(struct upstream *u, uint64_t now_ms)
{
	struct upstream_ticket *t = TAILQ_FIRST(&u->waiting), *next;

	for (; t; t = next) {
		int i = pick(u, &t->wish, now_ms);

		next = TAILQ_NEXT(t, link);
		if (i < 0 && takes_any(t))
			return; /* nobody behind it can be served but at its cost */
		if (i < 0)
			continue;
		unqueue(u, t);
		t->server = seize(u, i);
		inbox_post(t->waiter.inbox, &t->message);
	}
}

static struct upstream_ticket *queue_up(struct upstream *u, const struct upstream_wish *wish, const struct upstream_waiter *waiter)
{
	struct upstream_ticket *t = u->waiting_count < u->queue ? calloc(1, sizeof(*t)) : NULL;

	if (!t)
		return NULL;
	t->message.deliver = deliver_grant;
	t->upstream = upstream_ref(u);
	t->waiter = *waiter;
	t->wish = *wish;
	if (wish->mark && wish->mark_len <= MARK_MAX) {
		memcpy(t->mark, wish->mark, wish->mark_len);
		t->wish.mark = t->mark;
	} else {
		t->wish.mark = NULL;
	}
	TAILQ_INSERT_TAIL(&u->waiting, t, link);
	u->waiting_count++;
	u->waiting_for_any += takes_any(t);
	return t;
}

void upstream_ticket_drop(struct upstream_ticket *ticket)
{
	struct upstream *u = ticket->upstream;
	bool queued;

	pthread_mutex_lock(&u->lock);
	queued = !ticket->server;
	if (queued)
		unqueue(u, ticket);
	else
		ticket->waiter.owner = NULL; /* looked at on this thread only */
	pthread_mutex_unlock(&u->lock);
	if (queued)
		free_ticket(ticket);
}

/* ---- Taking and giving ---- */

static enum upstream_taken take(struct upstream *u, struct upstream_wish *wish, const struct upstream_waiter *waiter,
				struct upstream_server **server, struct upstream_ticket **ticket)
{
	/* Who comes later goes behind those that wait for any server. */
	int i = u->waiting_for_any && !wish->tried ? ALL_BUSY : pick(u, wish, clock_ms());

	if (i >= 0) {
		*server = seize(u, i);
		wish->tried |= (uint64_t)1 << i;
		return UPSTREAM_TAKEN;
	}
	if (i == ALL_TRIED)
		return UPSTREAM_NONE_LEFT;
	if (i == ALL_CLOSED)
		return UPSTREAM_CLOSED;
	*ticket = queue_up(u, wish, waiter);
	return *ticket ? UPSTREAM_WAITS : UPSTREAM_FULL;
}

enum upstream_taken upstream_take(struct upstream *upstream, struct upstream_wish *wish, const struct upstream_waiter *waiter,
				  struct upstream_server **server, struct upstream_ticket **ticket)
{
	enum upstream_taken taken;

	*server = NULL;
	*ticket = NULL;
	pthread_mutex_lock(&upstream->lock);
	taken = take(upstream, wish, waiter, server, ticket);
	pthread_mutex_unlock(&upstream->lock);
	return taken;
}

uint64_t upstream_bit(struct upstream *upstream, const struct upstream_server *server)
{
	int i;

	pthread_mutex_lock(&upstream->lock);
	i = index_of(upstream, server);
	pthread_mutex_unlock(&upstream->lock);
	return i < 0 ? 0 : (uint64_t)1 << i;
}

static void tell_down(struct upstream *u, struct upstream_server *server, const char *why)
{
	struct upstream_server_state *s = server->state;

	atomic_fetch_add_explicit(&server->generation, 1, memory_order_relaxed);
	if (s->told_down)
		return;
	s->told_down = true;
	log_warning(&u->subject, "server %s is left out: %s", server->name, why);
}

static void tell_up(struct upstream *u, struct upstream_server *server)
{
	if (!server->state->told_down)
		return;
	server->state->told_down = false;
	log_info(&u->subject, "server %s answers again", server->name);
}

static void note_failure(struct upstream *u, struct upstream_server *server, bool reached, const char *why, uint64_t now_ms)
{
	struct upstream_server_state *s = server->state;

	s->failures++;
	snprintf(s->why, sizeof(s->why), "%s", why);
	if (!s->fails || now_ms - s->fails_since_ms > u->fail_timeout_ms) {
		s->fails = 0;
		s->fails_since_ms = now_ms;
	}
	if (++s->fails < u->fails && reached)
		return;
	s->down_until_ms = now_ms + u->fail_timeout_ms;
	s->fails = 0;
	tell_down(u, server, why);
}

static void note_answer(struct upstream *u, struct upstream_server *server)
{
	struct upstream_server_state *s = server->state;

	s->fails = 0;
	if (s->check_down)
		return;
	if (s->down_until_ms && s->told_down)
		s->up_since_ms = later(s->up_since_ms, s->down_until_ms);
	s->down_until_ms = 0;
	tell_up(u, server);
}

void upstream_give(struct upstream *upstream, struct upstream_server *server, enum upstream_outcome outcome, const char *why)
{
	uint64_t now_ms = clock_ms();

	pthread_mutex_lock(&upstream->lock);
	server->state->active--;
	upstream->active--;
	if (outcome == UPSTREAM_FAILED || outcome == UPSTREAM_UNREACHABLE)
		note_failure(upstream, server, outcome == UPSTREAM_FAILED, why, now_ms);
	else if (outcome == UPSTREAM_SERVED)
		note_answer(upstream, server);
	serve(upstream, now_ms);
	pthread_mutex_unlock(&upstream->lock);
	upstream_server_unref(server);
}

bool upstream_keep(struct upstream *upstream, unsigned limit)
{
	if (atomic_fetch_add_explicit(&upstream->kept, 1, memory_order_relaxed) < limit)
		return true;
	upstream_unkeep(upstream);
	return false;
}

void upstream_unkeep(struct upstream *upstream)
{
	atomic_fetch_sub_explicit(&upstream->kept, 1, memory_order_relaxed);
}

/* ---- Commands ---- */

void upstream_look(struct upstream *upstream, void (*see)(void *arg, const struct upstream_view *view), void *arg)
{
	uint64_t now_ms = clock_ms();

	pthread_mutex_lock(&upstream->lock);
	for (size_t i = 0; i < upstream->count; i++) {
		const struct upstream_server_state *s = upstream->servers[i]->state;

		see(arg, &(struct upstream_view){
				 .upstream = upstream->name,
				 .name = upstream->servers[i]->name,
				 .weight = s->weight,
				 .settings_weight = s->settings_weight,
				 .backup = s->backup,
				 .order = s->order,
				 .up = is_up(s, now_ms),
				 .active = s->active,
				 .max_connections = s->max_connections,
				 .waiting = upstream->waiting_count,
				 .requests = s->requests,
				 .failures = s->failures,
				 .why = s->why,
			 });
	}
	pthread_mutex_unlock(&upstream->lock);
}

static struct upstream_server *find(const struct upstream *u, const char *name)
{
	for (size_t i = 0; i < u->count; i++)
		if (!strcmp(u->servers[i]->name, name))
			return u->servers[i];
	return NULL;
}

bool upstream_set_weight(struct upstream *upstream, const char *server, unsigned weight)
{
	struct upstream_server *s;

	pthread_mutex_lock(&upstream->lock);
	s = find(upstream, server);
	if (s) {
		s->state->weight = weight;
		log_info(&upstream->subject, "server %s has weight %u by command", s->name, weight);
	}
	pthread_mutex_unlock(&upstream->lock);
	return s != NULL;
}

static const char *const orders[] = { "is in use again", "is drained", "is set down" };

bool upstream_set_order(struct upstream *upstream, const char *server, enum upstream_order order)
{
	uint64_t now_ms = clock_ms();
	struct upstream_server *s;

	pthread_mutex_lock(&upstream->lock);
	s = find(upstream, server);
	if (s && s->state->order != order) {
		s->state->order = order;
		if (order == UPSTREAM_IN_USE)
			s->state->up_since_ms = now_ms;
		atomic_fetch_add_explicit(&s->generation, order == UPSTREAM_OUT, memory_order_relaxed);
		log_info(&upstream->subject, "server %s %s by command", s->name, orders[order]);
		serve(upstream, now_ms);
	}
	pthread_mutex_unlock(&upstream->lock);
	return s != NULL;
}

/* ---- Health checks ---- */

size_t upstream_servers(struct upstream *upstream, struct upstream_server *out[UPSTREAM_SERVERS_MAX])
{
	size_t count;

	pthread_mutex_lock(&upstream->lock);
	count = upstream->count;
	for (size_t i = 0; i < count; i++)
		out[i] = upstream_server_ref(upstream->servers[i]);
	pthread_mutex_unlock(&upstream->lock);
	return count;
}

static void good_check(struct upstream *u, struct upstream_server *server, uint64_t now_ms)
{
	struct upstream_server_state *s = server->state;

	s->bad_checks = 0;
	if (!s->check_down || ++s->good_checks < u->check_rise)
		return;
	s->check_down = false;
	s->down_until_ms = 0;
	s->up_since_ms = now_ms;
	tell_up(u, server);
	serve(u, now_ms);
}

static void bad_check(struct upstream *u, struct upstream_server *server, const char *why)
{
	struct upstream_server_state *s = server->state;

	s->good_checks = 0;
	if (s->check_down || ++s->bad_checks < u->check_fall)
		return;
	s->check_down = true;
	snprintf(s->why, sizeof(s->why), "health check: %s", why);
	tell_down(u, server, s->why);
}

void upstream_checked(struct upstream *upstream, struct upstream_server *server, bool good, const char *why)
{
	pthread_mutex_lock(&upstream->lock);
	if (good)
		good_check(upstream, server, clock_ms());
	else
		bad_check(upstream, server, why);
	pthread_mutex_unlock(&upstream->lock);
}

/* ---- Reload ---- */

static bool same_place(const struct upstream_server *a, const struct upstream_server *b)
{
	return !strcmp(a->name, b->name) && a->address_len == b->address_len && !memcmp(&a->address, &b->address, a->address_len);
}

/* Brings what is known of a server to what the settings say now. */
static void follow_settings(struct upstream_server_state *s, const struct upstream_server_state *now, bool checks)
{
	if (s->settings_weight != now->settings_weight)
		s->weight = s->settings_weight = now->settings_weight;
	s->max_connections = now->max_connections;
	s->backup = now->backup;
	s->check_down &= checks; /* nobody would say that it is up again */
}

static void adopt_server(struct upstream *u, struct upstream *fresh, size_t i)
{
	for (size_t k = 0; k < u->count; k++) {
		if (!same_place(u->servers[k], fresh->servers[i]))
			continue;
		follow_settings(u->servers[k]->state, fresh->servers[i]->state, fresh->checks);
		upstream_server_unref(fresh->servers[i]);
		fresh->servers[i] = upstream_server_ref(u->servers[k]);
		fresh->entries[i].credit = u->entries[k].credit;
		return;
	}
}

static void adopt_rules(struct upstream *u, const struct upstream *fresh)
{
	u->balance = fresh->balance;
	u->max_connections = fresh->max_connections;
	u->queue = fresh->queue;
	u->fails = fresh->fails;
	u->fail_timeout_ms = fresh->fail_timeout_ms;
	u->slow_start_ms = fresh->slow_start_ms;
	u->checks = fresh->checks;
	u->check_rise = fresh->check_rise;
	u->check_fall = fresh->check_fall;
}

void upstream_update(struct upstream *upstream, struct upstream *fresh)
{
	struct upstream_server *gone[UPSTREAM_SERVERS_MAX];
	size_t gone_count = upstream->count;

	pthread_mutex_lock(&upstream->lock);
	for (size_t i = 0; i < fresh->count; i++)
		adopt_server(upstream, fresh, i);
	adopt_rules(upstream, fresh);
	memcpy(gone, upstream->servers, sizeof(gone));
	memcpy(upstream->servers, fresh->servers, sizeof(fresh->servers));
	memcpy(upstream->entries, fresh->entries, sizeof(fresh->entries));
	upstream->count = fresh->count;
	fresh->count = 0;
	serve(upstream, clock_ms());
	pthread_mutex_unlock(&upstream->lock);
	for (size_t i = 0; i < gone_count; i++)
		upstream_server_unref(gone[i]);
}
