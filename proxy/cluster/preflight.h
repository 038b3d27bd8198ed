/*
 * What has to be true before a promotion touches anything. Each check adds its findings to the report: a refusal says why and what to do,
 * a warning names what is not as it should be and does not stop it.
 */
#ifndef TANDEM_CLUSTER_PREFLIGHT_H
#define TANDEM_CLUSTER_PREFLIGHT_H

#include "proxy/cluster/conduct.h"

/* Finds op->to by the request, opens the lines, checks, and fills op->entry, op->has_row and op->link_tls. False: refused. Changes
 * nothing on any server, but that tandem.cluster is made when it is missing and nothing else speaks against the promotion. */
bool preflight_promote(struct operation *op) __attribute__((warn_unused_result));

/* For a failover, which has its own checks: op->entry with the epoch after the newest one known, for op->from and op->to. */
void preflight_begin_entry(struct operation *op);

/* The settings and rights of one server, for preflight and for `tandem -t --online`. */
void preflight_server(struct operation *op, struct actor *actor, bool is_replica);
/* Its link, and what a promotion of it would need besides: op->to and op->from are set and their lines open. */
void preflight_replica(struct operation *op);

#endif
