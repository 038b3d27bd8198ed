/* Inside peer.c and peer_server.c. */
#ifndef TANDEM_CLUSTER_PEER_INSIDE_H
#define TANDEM_CLUSTER_PEER_INSIDE_H

#include "base/listen.h"
#include "proxy/cluster/member.h"
#include "proxy/cluster/peer.h"
#include "proxy/cluster/peer_wire.h"

enum { PEER_CALLERS = 16 }; /* connections from peers at a time, those included that have not proven themselves */

/* One to which this Tandem connects. */
struct peer {
	struct peers *peers;
	const char *name, *address; /* of the settings */
	pthread_t thread;
	pthread_mutex_t link_lock; /* one question at a time; taken before peers->lock */
	struct peer_link link;
	/* Under peers->lock: */
	struct peer_view view;
	bool reaches_primary;
	bool is_told; /* whether it is connected was told once */
};

/* A connection from a peer. */
struct caller {
	struct peers *peers;
	pthread_t thread;
	bool is_used;	  /* under peers->lock: the thread is to be joined */
	_Atomic bool is_over;
	int fd;
	char from[64]; /* its address */
	char name[PEER_NAME];
	struct peer_link link;
	bool holds;	    /* it has the grip here */
	bool is_failover;
};

struct peers {
	struct cluster *cluster;
	struct settings *settings;
	const char *secret;
	char name[PEER_NAME];
	_Atomic bool stop;
	_Atomic bool is_deaf; /* peers are not served any more */
	pthread_mutex_t lock;
	struct peer list[PEERS_MAX];
	size_t count;
	/* peer_server.c: */
	struct listen_socket listener;
	pthread_t thread;
	bool is_serving;
	struct caller callers[PEER_CALLERS];
};

bool peer_server_start(struct peers *peers) __attribute__((warn_unused_result));
void peer_server_stop(struct peers *peers);

/* A message that also tells the state of this Tandem. Never NULL but for want of memory, which every user of it bears. */
json_t *peers_make_state(struct cluster *cluster, const char *say);
/* The newest writes that the sender's clients were told of, if it has the same primary. */
void peers_take_acknowledged(struct cluster *cluster, const json_t *state);

#endif
