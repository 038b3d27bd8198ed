/*
 * Unplanned: the primary is gone and a replica takes over. Two rules make its order.
 *
 * A replica whose threads are both stopped throws away what it has received and not applied (MariaDB), so the applying thread is
 * started first where it stands, only the receiving one is stopped, and the rest follows when all is applied.
 *
 * A primary waits for one replica's acknowledgement, so which replica has everything is known only when no replica receives any more.
 */
#ifndef TANDEM_CLUSTER_FAILOVER_H
#define TANDEM_CLUSTER_FAILOVER_H

#include "proxy/cluster/conduct.h"

/* op from conduct_init(); fills the report and gives its result. */
enum operation_result failover_run(struct operation *op);

#endif
