/*
 * What an operation that changes the primary agrees on with others: it has the votes, and its peers hold writes meanwhile or were given
 * the time to lose their lease.
 */
#ifndef TANDEM_CLUSTER_ACCORD_H
#define TANDEM_CLUSTER_ACCORD_H

#include "proxy/cluster/conduct.h"

/* After preflight, before anything is touched. False: refused, and the report says why and what to do. */
bool accord_begin(struct operation *op) __attribute__((warn_unused_result));
/* After the last step, or the undoing: peers judge by themselves again, votes are given back. Harmless when there was none. */
void accord_end(struct operation *op);

/* A peer that does not answer loses its lease: from then on nobody else writes. Waits for that, when there is such a peer. With `always` the
 * word is withdrawn in any case, and those that answer hold at once (a failover does not let writes end). False with op->note. */
bool accord_clear(struct operation *op, bool always) __attribute__((warn_unused_result));

/* Peers hold as `gate` says: the first call has them do it. True when none of them has an open write. False with op->note when one does not
 * want, or was lost. */
bool accord_hold(struct operation *op, enum gate gate, bool *is_clear) __attribute__((warn_unused_result));

/* Just before the point of no return, and before others hear of it: this Tandem still leads. False with op->note. */
bool accord_stands(struct operation *op) __attribute__((warn_unused_result));

/* op->to is the primary in force here: votes and peers are told. `fork` "": nothing was lost. */
void accord_release(struct operation *op, const char *fork);

#endif
