/*
 * Semi-synchronous replication carried over at a promotion, before the fence: the candidate will wait for acknowledgements as the
 * primary did, and the old primary will give them.
 */
#ifndef TANDEM_CLUSTER_SEMISYNC_H
#define TANDEM_CLUSTER_SEMISYNC_H

#include "proxy/cluster/conduct.h"

bool semisync_prepare(struct operation *op) __attribute__((warn_unused_result));
void semisync_restore(struct operation *op);

#endif
