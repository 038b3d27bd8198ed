/*
 * Semi-synchronous replication carried over at a promotion: the candidate waits for acknowledgements as the primary did, and the old
 * primary gives them. What a replica applies waits for acknowledgements as well when rpl_semi_sync_master_enabled is on there, and it has
 * nobody to give them: so that one is turned on when the candidate's link is stopped, and off before the old primary's link starts.
 */
#ifndef TANDEM_CLUSTER_SEMISYNC_H
#define TANDEM_CLUSTER_SEMISYNC_H

#include "proxy/cluster/conduct.h"

/* Everything but that: how the candidate will wait, and that the old primary will acknowledge. Sets op->semi_sync. */
bool semisync_prepare(struct operation *op) __attribute__((warn_unused_result));
void semisync_restore(struct operation *op);
/* The switch itself, on whichever server; does nothing where the primary did not use it. False with the line's error. */
bool semisync_switch(struct operation *op, struct actor *actor, bool on) __attribute__((warn_unused_result));
/* After a kill -9: one of the two has it on, if it was used. */
void semisync_recall(struct operation *op);

#endif
