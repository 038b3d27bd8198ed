/*
 * A client's connection: socket, TLS, time-outs and the end. What its bytes mean is its carrier's (carrier.h).
 */
#ifndef TANDEM_WEB_CONNECTION_H
#define TANDEM_WEB_CONNECTION_H

#include "base/address.h"
#include "base/log.h"
#include "web/carrier.h"
#include "web/http1_carrier.h"
#include "web/worker.h"

enum connection_state {
	CONNECTION_ANNOUNCED, /* a PROXY header has to come first; part of it may be in `early` */
	CONNECTION_SHAKING,   /* TLS shakes hands; there is no carrier yet */
	CONNECTION_OPEN,      /* the carrier has it */
	CONNECTION_FLUSHING,  /* answered for the last time; bytes are still on their way */
	CONNECTION_LINGERING, /* our side is shut; what comes is dropped until the client hangs up */
	CONNECTION_CLOSED,    /* on the dead list */
};

struct http2;

struct connection {
	struct log_subject subject;
	struct web_worker *worker;
	struct io io;
	TAILQ_ENTRY(connection) link; /* of the worker's */
	struct web_timer timer;
	enum connection_state state;
	bool tls;		       /* it came to a TLS listener */
	bool is_secure;		       /* that, or the load balancer in front says that it has TLS with the client */
	const struct carrier *carrier; /* NULL before OPEN */
	union {
		struct http1 http1;  /* http1_carrier's */
		struct http2 *http2; /* http2_carrier's */
	};
	struct web_config *certificates; /* TLS: those that the handshake chooses from; NULL in clear */
	struct limit_entry *place;	 /* its part of what its address may have; NULL: not counted */
	struct buf early;		 /* ANNOUNCED: what has come */
	struct address address;		 /* the client's; behind a load balancer as that has told it */
	char host[ADDRESS_TEXT_BYTES];	 /* in words */
};

/* Takes the socket; false when memory ran out (the socket is closed then). */
bool connection_new(struct web_worker *worker, int fd, const struct address *peer, bool tls);
/* Closes at once. */
void connection_close(struct connection *c, const char *why);
/* No further request is wanted. */
void connection_drain(struct connection *c);

/* For carriers. */
/* Starts the connection's own time-out anew; WAIT_NOTHING: none. */
void connection_wait(struct connection *c, enum web_wait wait);
/* Nothing more will be sent: what is unsent goes out, then the connection ends in an order that destroys no answer. The carrier hears nothing
 * of it any more but `end`. */
void connection_finish(struct connection *c);

#endif
