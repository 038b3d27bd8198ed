/*
 * Which server answered the last statement of a session, for whoever shows it beside the result: asked of the session's worker, so that the
 * statement's own road knows nothing of it.
 */
#ifndef TANDEM_SESSION_ANSWERED_H
#define TANDEM_SESSION_ANSWERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shared;

/* False, and `out` is "", when there is no such session, the connection was given to another one meanwhile, or no answer came in time. Not
 * to be called on a worker. */
bool session_answered_by(struct shared *shared, uint32_t id, unsigned timeout_ms, char *out, size_t size);

#endif
