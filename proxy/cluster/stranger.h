/*
 * Another Tandem on the same servers that is none of the [peer]s: each of the two would change the primary without the other's knowledge. It is
 * seen by its votes, where votes are held all the time, and by what it writes into tandem.cluster. Looked for only where there are no
 * [peer] sections at all: a peer that is missing is told of by name.
 */
#ifndef TANDEM_CLUSTER_STRANGER_H
#define TANDEM_CLUSTER_STRANGER_H

#include "proxy/cluster/cluster.h"

/* The sentry's, now and then: tells of it once. */
void stranger_look(struct cluster *cluster);

#endif
