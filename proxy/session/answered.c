#include "proxy/session/answered.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "proxy/session/client.h"
#include "proxy/session/worker.h"

/* Held by the asker and by the message; the last one frees it. */
struct question {
	struct inbox_message message;
	_Atomic unsigned refs;
	uint32_t id;
	pthread_mutex_t lock;
	pthread_cond_t answered;
	bool is_answered;
	char server[65];
};

static void unref(struct question *q)
{
	if (atomic_fetch_sub_explicit(&q->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_cond_destroy(&q->answered);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

static void deliver(struct inbox_message *message, void *owner)
{
	struct question *q = (struct question *)message;
	const struct client *c = worker_find_client(owner, q->id);
	struct worker *next = c ? NULL : whereabouts_next(owner, q->id);

	if (next) {
		inbox_post(&next->inbox, &q->message);
		return;
	}
	pthread_mutex_lock(&q->lock);
	if (c && (c->last || c->answered))
		snprintf(q->server, sizeof(q->server), "%s", c->last ? c->last->server_name : c->answered->name);
	q->is_answered = true;
	pthread_cond_signal(&q->answered);
	pthread_mutex_unlock(&q->lock);
	unref(q);
}

static struct question *new_question(uint32_t id)
{
	struct question *q = calloc(1, sizeof(*q));
	pthread_condattr_t attributes;

	if (!q)
		return NULL;
	q->message.deliver = deliver;
	q->id = id;
	atomic_init(&q->refs, 2);
	pthread_mutex_init(&q->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&q->answered, &attributes);
	pthread_condattr_destroy(&attributes);
	return q;
}

bool session_answered_by(struct shared *shared, uint32_t id, unsigned timeout_ms, char *out, size_t size)
{
	struct question *q = new_question(id);
	uint64_t until = clock_ms() + timeout_ms;
	struct timespec end = { (time_t)(until / 1000), (long)(until % 1000 * 1000000) };

	out[0] = '\0';
	if (!q)
		return false;
	inbox_post(&whereabouts_home(shared, id)->inbox, &q->message);
	pthread_mutex_lock(&q->lock);
	while (!q->is_answered && pthread_cond_timedwait(&q->answered, &q->lock, &end) == 0)
		;
	snprintf(out, size, "%s", q->server);
	pthread_mutex_unlock(&q->lock);
	unref(q);
	return out[0] != '\0';
}
