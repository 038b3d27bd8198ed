/*
 * Servers that come back. One that lost its role while it was away is asked what it has written: when all of it is also the new
 * primary's it is made a replica without being told to; otherwise it is left alone and what it has of its own is listed.
 */
#ifndef TANDEM_CLUSTER_REJOIN_H
#define TANDEM_CLUSTER_REJOIN_H

#include "proxy/cluster/conduct.h"

/* op from conduct_init(); fills the report and gives its result. */
enum operation_result rejoin_run(struct operation *op);

/* Looks for servers that came back and have not been judged yet, and re-joins those that are clean. Blocks; for the sentry. */
void rejoin_returned(struct cluster *cluster);

#endif
