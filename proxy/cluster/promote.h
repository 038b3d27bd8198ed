/*
 * Planned promotion. The order of the steps is the design; each step's comment says what makes its place.
 */
#ifndef TANDEM_CLUSTER_PROMOTE_H
#define TANDEM_CLUSTER_PROMOTE_H

#include "proxy/cluster/conduct.h"

/* op from conduct_init(); fills the report and gives its result. */
enum operation_result promote_run(struct operation *op);

/* Steps that a failover does in the same way; see promote.c. */
bool promote_reopen(struct operation *op);
bool promote_lead_others(struct operation *op);
bool promote_forget(struct operation *op);
/* Those of op->entry.events, and op->scheduler. */
bool promote_start_events(struct operation *op);
bool promote_move_scheduler(struct operation *op);
bool promote_finish_row(struct operation *op);

/* For recovery: what comes after the point of no return (gives how many steps failed), and the way back from before it. */
unsigned promote_finish(struct operation *op);
void promote_undo(struct operation *op);
#endif
