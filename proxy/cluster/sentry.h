/*
 * The watch over a missing primary: collects the evidence, and at a verdict of death has the cluster fail over, or says what a person
 * would do. It also brings servers back that return. A thread of its own, since both block.
 */
#ifndef TANDEM_CLUSTER_SENTRY_H
#define TANDEM_CLUSTER_SENTRY_H

#include "proxy/cluster/evidence.h"
#include "proxy/cluster/member.h"

/* Judges the primary from what is known at this moment, and has its replicas looked at again when that is not enough. Any thread that
 * may block for a fifth of a second; not under cluster.lock. */
void sentry_judge(struct cluster *cluster, struct evidence_verdict *out);

bool sentry_start(struct cluster *cluster) __attribute__((warn_unused_result));
/* Something was seen or judged. Any thread. */
void sentry_wake(struct cluster *cluster);
/* An operation that it has begun is finished or undone first. */
void sentry_stop(struct cluster *cluster);

#endif
