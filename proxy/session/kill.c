/* KILL of sessions: found by number on whichever worker has them, checked there, and carried out on the server by a connection of the
 * victim's own user. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "proxy/session/pool.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* A short-lived extra connection that says KILL QUERY and goes: outside the pool, since the pool may be at its limit because of the very
 * statement that is to end. */
void kill_statement(struct backend *victim)
{
	struct server_pool *pool = victim->pool;
	struct backend *b;
	const char *why;
	char text[64];

	atomic_fetch_add(&pool->server->connections, 1);
	b = backend_open(pool, victim->credentials, victim->kind, victim->charset, false, &why);
	if (!b) {
		log_warning(&victim->subject, "cannot be told to stop: %s", why);
		return;
	}
	snprintf(text, sizeof(text), "KILL QUERY %u", victim->connection_id);
	b->errand = strdup(text);
	b->retire = true;
}

static bool may_kill(const struct client *killer, const struct client *victim)
{
	return killer->credentials->is_super || !strcmp(killer->credentials->user, victim->credentials ? victim->credentials->user : "");
}

static void carry_out(struct client *victim, bool query_only)
{
	struct turn *t = victim->turn;

	if (t && t->wait == WAIT_REPLY && t->backend)
		kill_statement(t->backend);
	else if (t && query_only && t->wait != WAIT_REPLY)
		turn_fail(t, ER_QUERY_INTERRUPTED, "70100", "Query execution was interrupted");
	if (!query_only)
		client_close(victim, "killed");
}

/* ---- Across workers ---- */

struct kill_request {
	struct inbox_message message;
	struct worker *asker;
	uint32_t asker_id;
	uint32_t victim_id;
	char *user;
	bool is_super;
	bool query_only;
	uint16_t code; /* of the answer */
};

static void answer(struct turn *t, uint32_t id, uint16_t code)
{
	if (!code)
		turn_ok(t);
	else if (code == ER_NO_SUCH_THREAD)
		turn_fail(t, code, "HY000", "Unknown thread id: %u", id);
	else
		turn_fail(t, code, "HY000", "You are not owner of thread %u", id);
}

static void deliver_answer(struct inbox_message *message, void *owner)
{
	struct kill_request *r = (struct kill_request *)message;
	struct client *asker = worker_find_client(owner, r->asker_id);

	if (asker && asker->turn && asker->turn->wait == WAIT_KILL)
		answer(asker->turn, r->victim_id, r->code);
	free(r->user);
	free(r);
}

static void deliver_request(struct inbox_message *message, void *owner)
{
	struct kill_request *r = (struct kill_request *)message;
	struct client *victim = worker_find_client(owner, r->victim_id);
	struct worker *next = victim ? NULL : whereabouts_next(owner, r->victim_id);

	if (next) {
		inbox_post(&next->inbox, &r->message);
		return;
	}
	if (!victim)
		r->code = ER_NO_SUCH_THREAD;
	else if (!r->is_super && (!victim->credentials || strcmp(r->user, victim->credentials->user)))
		r->code = ER_KILL_DENIED_ERROR;
	else
		carry_out(victim, r->query_only);
	r->message.deliver = deliver_answer;
	inbox_post(&r->asker->inbox, &r->message);
}

static void ask_other(struct turn *t, struct worker *whose, uint32_t id, bool query_only)
{
	struct client *c = t->client;
	struct kill_request *r = calloc(1, sizeof(*r));

	if (!r) {
		turn_fail(t, ER_OUT_OF_RESOURCES, "HY000", "tandem: out of memory");
		return;
	}
	r->message.deliver = deliver_request;
	r->asker = c->worker;
	r->asker_id = c->id;
	r->victim_id = id;
	r->user = strdup(c->credentials->user);
	r->is_super = c->credentials->is_super;
	r->query_only = query_only;
	t->wait = WAIT_KILL;
	inbox_post(&whose->inbox, &r->message);
}

void kill_session(struct turn *turn, uint32_t id, bool query_only)
{
	struct client *c = turn->client, *victim;
	struct worker *whose;

	victim = worker_find_client(c->worker, id);
	whose = victim ? NULL : whereabouts_next(c->worker, id);
	if (whose) {
		ask_other(turn, whose, id, query_only);
	} else if (!victim) {
		answer(turn, id, ER_NO_SUCH_THREAD);
	} else if (!may_kill(c, victim)) {
		answer(turn, id, ER_KILL_DENIED_ERROR);
	} else if (victim == c) {
		if (query_only)
			turn_fail(turn, ER_QUERY_INTERRUPTED, "70100", "Query execution was interrupted");
		else
			client_fatal(c, ER_CONNECTION_KILLED, "70100", "Connection was killed");
	} else {
		carry_out(victim, query_only);
		turn_ok(turn);
	}
}
