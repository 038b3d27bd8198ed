#include "proxy/session/whereabouts.h"

#include <stdlib.h>

#include "base/log.h"
#include "proxy/session/worker.h"

struct away {
	uint32_t id;
	unsigned number; /* of the worker */
};

struct worker *whereabouts_home(struct shared *shared, uint32_t id)
{
	return &shared->workers[(id & 0x7fffffffu) % shared->worker_count];
}

static struct away *find(struct whereabouts *w, uint32_t id)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->away[i].id == id)
			return &w->away[i];
	return NULL;
}

struct worker *whereabouts_next(struct worker *worker, uint32_t id)
{
	struct worker *home = whereabouts_home(worker->shared, id);
	const struct away *a;

	if (home != worker)
		return home;
	a = find(&worker->whereabouts, id);
	return a ? &worker->shared->workers[a->number] : NULL;
}

static bool reserve(struct whereabouts *w)
{
	size_t size = w->size ? w->size * 2 : 16;
	struct away *grown;

	if (w->count < w->size)
		return true;
	grown = realloc(w->away, size * sizeof(*grown));
	if (!grown)
		return false;
	w->away = grown;
	w->size = size;
	return true;
}

/* The home's own number: it is there, or nowhere any more. */
static bool note(struct worker *home, uint32_t id, unsigned number)
{
	struct whereabouts *w = &home->whereabouts;
	struct away *a = find(w, id);

	if (number == home->number) {
		if (a)
			*a = w->away[--w->count];
	} else if (a) {
		a->number = number;
	} else if (reserve(w)) {
		w->away[w->count++] = (struct away){ id, number };
	} else {
		return false;
	}
	return true;
}

struct news {
	struct inbox_message message;
	uint32_t id;
	unsigned number;
};

static void deliver(struct inbox_message *message, void *owner)
{
	struct news *m = (struct news *)message;

	if (!note(owner, m->id, m->number))
		log_error(NULL, "out of memory: KILL will not find session %u", m->id);
	free(m);
}

static bool tell(struct worker *home, uint32_t id, unsigned number)
{
	struct news *m = malloc(sizeof(*m));

	if (!m)
		return false;
	*m = (struct news){ { .deliver = deliver }, id, number };
	inbox_post(&home->inbox, &m->message);
	return true;
}

bool whereabouts_goes(struct worker *worker, uint32_t id, const struct worker *to)
{
	struct worker *home = whereabouts_home(worker->shared, id);

	if (home == to)
		return true;
	return home == worker ? note(home, id, to->number) : tell(home, id, to->number);
}

void whereabouts_came(struct worker *worker, uint32_t id)
{
	if (whereabouts_home(worker->shared, id) == worker)
		(void)note(worker, id, worker->number); /* taking out needs no memory */
}

/* A home that did not hear of it would send KILL here and get it back for ever. */
void whereabouts_ends(struct worker *worker, uint32_t id)
{
	struct worker *home = whereabouts_home(worker->shared, id);

	if (home != worker && !worker->stopping && !tell(home, id, home->number)) {
		log_error(NULL, "out of memory for a message to worker %u", home->number);
		abort();
	}
}

void whereabouts_fini(struct whereabouts *whereabouts)
{
	free(whereabouts->away);
	*whereabouts = (struct whereabouts){ 0 };
}
