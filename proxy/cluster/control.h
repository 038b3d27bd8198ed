/*
 * The grip that an operation has on the coordinator: while it lasts the roles in force stay as they are, whatever the servers show, and
 * the gate is the operation's. One operation at a time. Blocking calls for the thread that runs it.
 */
#ifndef TANDEM_CLUSTER_CONTROL_H
#define TANDEM_CLUSTER_CONTROL_H

#include "proxy/cluster/member.h"

/* Takes the grip. False: another operation has it (its name is put into `busy`), or the cluster watch is stopping. */
bool control_begin(struct cluster *cluster, const char *what, char busy[CONTROL_NAME]) __attribute__((warn_unused_result));
/* Lets go, after a fresh look at each server that is up (bounded): what is judged then is what the operation has left. */
void control_end(struct cluster *cluster);
/* True when the daemon stops: an operation before its point of no return gives up. */
bool control_is_stopping(struct cluster *cluster);

/* Has a snapshot with this gate published; returns at once. */
void control_set_gate(struct cluster *cluster, enum gate gate);
/* What the workers have in flight under the gate last set. False while not all of them have adopted it. */
bool control_count(struct cluster *cluster, struct gate_count *out);
/* Until a count may have changed, or `timeout_ms` at the most. */
void control_wait_moved(struct cluster *cluster, int timeout_ms);

/*
 * `primary` is the primary from now on and all other replicas follow it, before the servers show it. Planned (`fork` NULL): nothing was
 * lost, so every token holds, and the gate opens in the same snapshot. Otherwise tokens above `fork` are void and the gate stays as it
 * is: it may be opened once all workers have adopted (control_count), because a worker that clamped later would also clamp what another
 * has written on the new primary meanwhile.
 */
void control_adopt(struct cluster *cluster, struct member *primary, const struct gtid_set *fork);

#endif
