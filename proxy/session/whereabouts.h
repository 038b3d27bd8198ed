/*
 * Where a session is. Its number names the worker that it began on, its home, and that one knows where it has gone: whoever lets it go tells
 * the home first. So KILL asks the home, is sent on, and sent back by whom the session has left again; news of that is with the home by then.
 * A session on its way home is where it was, for whom asks: he is sent there and back, and it has come before he has.
 */
#ifndef TANDEM_SESSION_WHEREABOUTS_H
#define TANDEM_SESSION_WHEREABOUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shared;
struct worker;

/* Of one home: those that are elsewhere. */
struct whereabouts {
	struct away *away;
	size_t count, size;
};

/* The worker to ask first. */
struct worker *whereabouts_home(struct shared *shared, uint32_t id);
/* The session is not on this worker, whose thread asks: the one to ask next, NULL when there is none of this number. */
struct worker *whereabouts_next(struct worker *worker, uint32_t id);
/* Said by the worker that has it, before it lets go of it. False: memory, and it has to stay. */
bool whereabouts_goes(struct worker *worker, uint32_t id, const struct worker *to) __attribute__((warn_unused_result));
/* It is on this worker now. */
void whereabouts_came(struct worker *worker, uint32_t id);
/* It ends there. */
void whereabouts_ends(struct worker *worker, uint32_t id);
void whereabouts_fini(struct whereabouts *whereabouts);

#endif
