/*
 * Binary execution: the client's statement number becomes the server's, and parameter types that the client sent once are repeated for
 * servers that have not seen them.
 */
#ifndef TANDEM_SESSION_EXECUTE_H
#define TANDEM_SESSION_EXECUTE_H

#include "proxy/session/turn.h"

/* Reads what an EXECUTE tells of its parameters' types and keeps it in the statement. False when the packet is malformed. */
bool execute_note_types(struct turn *turn);
/* Makes an EXECUTE tell the types of its parameters, whether its client did so with this one or before. */
bool execute_complete(struct turn *turn);
/* Makes the packet fit for turn->backend. False when that cannot be done (memory, a packet of many parts that would have to grow). */
bool execute_rewrite(struct turn *turn);

#endif
