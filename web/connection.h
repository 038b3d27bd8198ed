/*
 * A client's connection: bytes to requests, one after the other, and answers back in their order. HTTP/1.x; what a request means and what is
 * answered is exchange.c's.
 */
#ifndef TANDEM_WEB_CONNECTION_H
#define TANDEM_WEB_CONNECTION_H

#include "base/log.h"
#include "web/chunked.h"
#include "web/worker.h"

enum connection_state {
	CONNECTION_IDLE,      /* nothing of a request has come; owns no buffer */
	CONNECTION_HEAD,      /* part of a head is in `in`, or TLS shakes hands */
	CONNECTION_ANSWERING, /* `exchange` is under way; what came behind its body waits in `in` and the io is paused */
	CONNECTION_FLUSHING,  /* answered for the last time; bytes are still on their way */
	CONNECTION_LINGERING, /* our side is shut; what comes is dropped until the client hangs up */
	CONNECTION_CLOSED,    /* on the dead list */
};

struct exchange;

struct connection {
	struct log_subject subject;
	struct web_worker *worker;
	struct io io;
	TAILQ_ENTRY(connection) link;
	enum connection_state state;
	enum web_wait wait; /* the list it is on */
	uint64_t deadline_ms;
	struct buf in;
	size_t scanned; /* of the head in `in` */
	struct exchange *exchange;
	uint64_t body_left; /* of a body with a length */
	struct chunked chunked;
	bool body_over; /* the whole request has come */
	struct web_config *certificates; /* TLS: those that the handshake chooses from; NULL in clear */
	bool tls;
	bool resuming; /* next requests are being taken: a finished answer must not take them once more */
	char host[48]; /* the client's address */
};

/* Takes the socket; false when memory ran out (the socket is closed then). */
bool connection_new(struct web_worker *worker, int fd, const char *host, bool tls);
/* Closes at once. */
void connection_close(struct connection *c, const char *why);
/* Its time is over. */
void connection_timed_out(struct connection *c);
/* Puts it on a wait's list with a fresh deadline. */
void connection_wait(struct connection *c, enum web_wait wait);

/* exchange.c says: the answer is complete. */
void connection_answered(struct connection *c);

#endif
