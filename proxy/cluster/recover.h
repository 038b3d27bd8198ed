/*
 * What is left of a promotion after the daemon was killed in it: judged by what the servers say, at the next start.
 */
#ifndef TANDEM_CLUSTER_RECOVER_H
#define TANDEM_CLUSTER_RECOVER_H

#include "proxy/cluster/conduct.h"

/* True when the newest of what the servers and state_dir say is a promotion that was not ended; fills op->entry. */
bool recover_is_open(struct operation *op);
/* After that: finished when the candidate had been made writable, undone when not. False: a server it needs does not answer. */
bool recover_run(struct operation *op);

#endif
