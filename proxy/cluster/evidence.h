/*
 * Is the primary dead? Pure: the same facts give the same verdict. What counts is whether anybody hears the primary: Tandem itself, or a
 * replica whose heartbeat count or received position still moves. That a replica's receiving thread says it runs proves nothing: it
 * says so for a minute after its primary fell silent.
 */
#ifndef TANDEM_CLUSTER_EVIDENCE_H
#define TANDEM_CLUSTER_EVIDENCE_H

#include <stddef.h>
#include <stdint.h>

#include "proxy/cluster/observation.h"

/* What one replica of the primary tells. All times are clock_ms(). */
struct evidence_replica {
	const char *name;
	bool up;	       /* it answers Tandem; others tell nothing */
	uint64_t looked_ms;    /* when Tandem last had an answer from it */
	enum thread_state io;  /* of its link to the primary, as of that look */
	uint64_t heard_ms;     /* the look at which heartbeats or received position were last seen to move */
	uint32_t heartbeat_ms; /* period of the link; 0: none or not known */
};

struct evidence {
	uint64_t now_ms;
	uint32_t patience_ms;
	const char *primary;
	bool up;	  /* it answers Tandem */
	uint64_t heard_ms; /* its last answer */
	uint64_t lost_ms; /* when it was declared down */
	bool refused;	  /* a connection to its own address was refused or reset after that */
	bool majority;	  /* more than half of the servers answer Tandem: without it silence proves nothing */
	const struct evidence_replica *replicas;
	size_t count;
};

enum evidence_kind {
	EVIDENCE_ALIVE,
	EVIDENCE_WAIT, /* not enough yet: judge again at again_ms, with fresh looks */
	EVIDENCE_UNPROVEN, /* silent for longer than failover_patience, but it may be Tandem that is cut off: no failover */
	EVIDENCE_CUT,  /* Tandem does not reach it, a replica does: no failover */
	EVIDENCE_DEAD,
};

struct evidence_verdict {
	enum evidence_kind kind;
	uint64_t again_ms;
	char why[300]; /* in words; "" when alive */
};

void evidence_judge(const struct evidence *evidence, struct evidence_verdict *out);

#endif
