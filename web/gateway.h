/*
 * Requests answered by the servers of an upstream: which server, waiting for one, trying another, bodies streamed both ways with one side
 * paused while the other is slow. How a server is spoken to is a protocol's (gateway_fastcgi.c, gateway_http.c).
 */
#ifndef TANDEM_WEB_GATEWAY_H
#define TANDEM_WEB_GATEWAY_H

#include "base/fastcgi.h"
#include "web/chunked.h"
#include "web/exchange.h"
#include "web/upstream_link.h"

extern const struct responder gateway_responder;

enum gateway_state {
	GATEWAY_CHOOSING,   /* waits for a server */
	GATEWAY_CONNECTING, /* nothing was sent: another server may be tried */
	GATEWAY_ASKED,	    /* the request is on its way or was sent; no answer yet */
	GATEWAY_ANSWERING,  /* the head was passed on */
	GATEWAY_TUNNEL,	    /* the connection is no longer HTTP: bytes go both ways as they come */
	GATEWAY_OVER,
};

enum { GATEWAY_HEAD_MAX = 64 * 1024 };

struct gateway;

struct gateway_protocol {
	const char *name;
	/* Sends the request's head over g->link. False: memory. */
	bool (*ask)(struct gateway *g);
	void (*send_body)(struct gateway *g, const uint8_t *bytes, size_t len);
	void (*send_end)(struct gateway *g);
	/* Bytes of the answer. Ends by gateway_finish() or gateway_fail(), after which g->ends is set and g is not to be used. */
	void (*take)(struct gateway *g, const uint8_t *bytes, size_t len);
	/* The server closed the connection. True: that was the answer's proper end, and the gateway was finished. */
	bool (*hung_up)(struct gateway *g);
};

extern const struct gateway_protocol gateway_fastcgi;
extern const struct gateway_protocol gateway_http;

struct gateway {
	struct exchange *exchange;
	const struct gateway_protocol *protocol;
	const struct web_upstream *settings;
	struct upstream *upstream;
	struct upstream_wish wish;
	struct upstream_ticket *ticket; /* while it waits in the queue */
	struct upstream_server *server; /* NULL: none at the moment */
	struct upstream_link *link;	/* likewise */
	enum gateway_state state;
	uint64_t since_us;   /* the server has it since then; 0: none has */
	uint16_t failed_with; /* the status of its last failure: the client's when no server is left; 0: none failed */
	unsigned asked;	     /* how many servers have got the request */
	bool wants_new_link; /* a kept one has failed it */
	bool end_sent;	     /* of the request */
	bool holds;	     /* the request's body: the server does not take what it was sent */
	bool ends;	     /* freed at the end of the loop turn: handlers on the stack below look at it */
	struct buf early; /* of the request's body: came before there was a connection */
	struct buf head;  /* of the answer, until it is whole */
	uint64_t left;	  /* of a body with a length; UINT64_MAX: has none */
	/* FastCGI's */
	struct fcgi_reader reader;
	struct buf errors; /* what came on STDERR, for one log line */
	bool overloaded;   /* END_REQUEST says that it has no room for the request, or no such role */
	uint8_t end_have;
	uint8_t end_content[8];
	/* HTTP's */
	struct chunked chunked;
	bool in_chunks;	 /* the answer's body */
	bool link_stays; /* the server takes another request on this connection */
	bool upgrades;	 /* the client asked for another protocol */
};

/* ---- For protocols ---- */

/* The answer begins; fields are added with response_field(), then gateway_send_head(). `length` may be LENGTH_UNKNOWN. */
void gateway_begin_answer(struct gateway *g, uint16_t status);
void gateway_send_head(struct gateway *g, uint64_t length);
/* A piece of the body; what goes beyond the length is dropped. */
void gateway_pass_on(struct gateway *g, const uint8_t *bytes, size_t len);
/* The answer is whole. `keeps`: the server takes another request on this connection; at most `limit` are kept idle. */
void gateway_finish(struct gateway *g, bool keeps, unsigned limit);
/* The server failed: another is asked if that can do no harm, else the client gets `status`, or the end of its connection. */
void gateway_fail(struct gateway *g, uint16_t status, const char *why);
/* It did nothing with the request, and says so: another may be asked whatever the request is, unless part of its body is gone. */
void gateway_refused(struct gateway *g, const char *why);

#endif
