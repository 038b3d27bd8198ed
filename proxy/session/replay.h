/*
 * Transactions that outlive their primary. While one is open its statements are kept, and of each reply a hash; when the primary is lost
 * or refuses to write, they run again on the next one. If every reply is the same the client goes on where it was and never knows; if
 * one differs, or the record cannot be complete, the transaction ends with error 1213, after which applications try again.
 *
 * A COMMIT (or whatever may have committed) whose answer was lost is never sent again: nobody knows what became of it.
 *
 *   RECORDING --primary lost, or it refuses to write--> LOST --next statement, a primary is there--> RUNNING --all the same--> RECORDING
 *   RECORDING --the transaction ends--> (freed);  LOST, RUNNING --cannot be, or another result--> (freed), 1213
 */
#ifndef TANDEM_SESSION_REPLAY_H
#define TANDEM_SESSION_REPLAY_H

#include "proxy/session/turn.h"

struct replay;

/* turn->backend is about to be sent its statement. Cheap unless a transaction is open or may be opened. */
void replay_note_sent(struct turn *turn);
/* Parts of a recorded turn's reply (turn->recorded). */
void replay_note_bytes(struct turn *turn, const uint8_t *bytes, size_t len);
void replay_note_ok(struct turn *turn, const struct wire_ok *ok, bool ends_rows);
void replay_note_err(struct turn *turn, const struct wire_err *err);
/* The reply has ended: the statement joins the record, or the record ends with the transaction. */
void replay_note_done(struct turn *turn);

/* The connection is lost (it is still attached): true when the session goes on without it, because its transaction can be run again, or
 * because nothing but the transaction is lost. */
bool replay_outlives(struct client *client, struct backend *backend) __attribute__((cold));
/* After that, for the turn whose statement was under way: true when it was dealt with. `sent`: it had gone out. */
bool replay_takes_over(struct turn *turn, bool sent) __attribute__((cold));
/* The server refused a statement of an open transaction because it takes no writes any more: true when the client is not to see it. */
bool replay_refused(struct turn *turn) __attribute__((cold));
/* The transaction is open on a server that is no longer the primary, and this statement needs one. */
void replay_move(struct turn *turn) __attribute__((cold));
/* May the turn's statement have ended a transaction? When in doubt, yes. */
bool replay_may_have_ended(const struct turn *turn);
bool replay_is_lost(const struct client *client);
/* The client's next statement after a loss: waits, runs the transaction again, or ends the turn. True when the turn is not to go on now. */
bool replay_stops(struct turn *turn) __attribute__((cold));
/* It has waited for a primary for too long. */
void replay_give_up(struct turn *turn) __attribute__((cold));

/* Of a turn that runs a recorded statement again (TASK_REPLAY): its reply has ended; it failed; its connection is lost. */
void replay_stepped(struct client *client) __attribute__((cold));
void replay_failed(struct turn *turn, uint16_t code, const char *message) __attribute__((cold));
void replay_interrupted(struct turn *turn) __attribute__((cold));

/* Frees the record, and a turn that waits for its end. */
void replay_drop(struct client *client);
/* Calls `visit` for each place where the client's record has a state of its own. */
void replay_each_state(struct client *client, void (*visit)(void *arg, struct state **place), void *arg);
/* Frees the records that a worker keeps for the next transactions. */
void replay_free_spares(struct worker *worker);

#endif
