/*
 * The other Tandems of the cluster ([peer NAME]). Each tells the others twice a second what it knows: its epoch, its primary, and the
 * newest write of which a client of its was told. Whoever leads an operation has them hold writes meanwhile (the gate and the grip of
 * control.h, there), and release them on the new primary.
 *
 * A held peer that loses the connection opens its gate again: whether writes may go then is for the votes to say.
 */
#ifndef TANDEM_CLUSTER_PEER_H
#define TANDEM_CLUSTER_PEER_H

#include "proxy/cluster/gtid.h"
#include "proxy/cluster/cluster.h"

enum { PEERS_MAX = 16 };

struct peer_view {
	char name[64];
	char address[256];
	bool is_connected;
	bool leads;
	uint64_t epoch;
	char primary[64];  /* as it names it; "" none */
	char trouble[200]; /* why it is not connected; "" */
};

/* Starts what the settings ask for, which may be nothing; cluster->peers is set. False, with a logged reason: the address cannot be
 * listened on, or no thread. */
bool peers_start(struct cluster *cluster, struct settings *settings) __attribute__((warn_unused_result));
/* Peers are not served any more, and what they had held is let go, soon. */
void peers_hang_up(struct cluster *cluster);
/* No call to or from a peer is under way afterwards. */
void peers_stop(struct cluster *cluster);

size_t peers_count(struct cluster *cluster);
size_t peers_status(struct cluster *cluster, struct peer_view out[PEERS_MAX]);
/* The name of a peer that says it leads; false: none does. */
bool peers_leader(struct cluster *cluster, char name[64]);

/* What the leader of an operation does, in this order; each blocks for `timeout_ms` per peer at the most. */

struct member;

struct peers_answer {
	unsigned answered;
	unsigned open_writes; /* at those that answered, all workers counted; UINT_MAX: one has not counted yet */
	char missing[64];     /* a peer that did not answer, or refused */
	char why[300];
};

/* Asks whether they are there, and whether one of them reaches the primary (`reaches` is its name, "" none); one that has not yet noticed
 * its death is made to look. */
void peers_ask(struct cluster *cluster, struct peers_answer *out, char reaches[64]);
/* Those that answer keep writes back as `gate` says, and their roles as they are, until peers_finish(). To be asked again until nothing is
 * open. The newest writes that their clients were told of are on the primary's board then. `epoch`: of the operation. */
void peers_hold(struct cluster *cluster, const char *what, enum gate gate, uint64_t epoch, struct peers_answer *out);
/* `primary` is the primary; `fork` "" when nothing was lost (see control_adopt()). */
void peers_release(struct cluster *cluster, const struct member *primary, const char *fork);
/* They judge by themselves again. Harmless when nobody holds. */
void peers_finish(struct cluster *cluster);

#endif
