/*
 * Planned promotion, and what is left of one after the daemon was killed in it. The order of the steps is the design; each step's
 * comment says what makes its place.
 */
#ifndef TANDEM_CLUSTER_PROMOTE_H
#define TANDEM_CLUSTER_PROMOTE_H

#include "proxy/cluster/conduct.h"

/* op from conduct_init(); fills the report and gives its result. */
enum operation_result promote_run(struct operation *op);

/* True when the newest of what the servers and state_dir say is a promotion that was not ended; fills op->entry. */
bool promote_is_open(struct operation *op);
/* Steps that a failover does in the same way; see promote.c. */
bool promote_reopen(struct operation *op);
bool promote_lead_others(struct operation *op);
bool promote_forget(struct operation *op);
bool promote_finish_row(struct operation *op);

/*
 * At start: what the journal says was begun and not ended is finished when the candidate is writable, undone when it is not. After
 * promote_is_open(). False: a server it needs does not answer.
 */
bool promote_recover(struct operation *op);

#endif
