/*
 * HTTP/2 (RFC 9113) on a connection: frames, header compression and flow control are nghttp2's, which has no sockets; streams are exchanges.
 * What http2_carrier.c (sessions) and http2_stream.c (streams) share; see carrier.h.
 */
#ifndef TANDEM_WEB_HTTP2_CARRIER_H
#define TANDEM_WEB_HTTP2_CARRIER_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <nghttp2/nghttp2.h>
#include <sys/queue.h>

#include "web/exchange.h"
#include "web/http2_head.h"

enum http2_going {
	HTTP2_STAYS,
	HTTP2_WARNED, /* told that no new streams are wanted soon; those on their way are served */
	HTTP2_GOES,   /* told which stream is the last */
};

/* Things that a client may do now and then: so many at once, and then so many a second. */
struct http2_budget {
	uint64_t spent_milli;
	uint64_t at_ms;
};

TAILQ_HEAD(http2_stream_list, http2_stream);

struct http2 {
	struct connection *connection;
	nghttp2_session *session;
	struct http2_stream_list streams;
	struct event pump; /* made active when there is something to send: it goes out at the end of the loop turn */
	enum http2_going going;
	bool entered; /* one of the functions that use the session is on the stack: it frees what was closed meanwhile */
	bool gone;    /* the connection is closed */
	bool greeted; /* the client's preface came */
	bool has_drained; /* some stream's `out` has become empty: whoever fills it is to be told */
	unsigned heads; /* streams whose head is on its way: 0 or 1 */
	size_t queued;	/* in the `out` of all streams */
	struct http2_budget resets;
	struct http2_budget bothers;
	uint8_t *frames; /* while pumping: where frames are gathered */
	size_t frames_len;
	bool full; /* the next one has no room there */
};

/* From a request's first frame until both sides are done with it, or it was reset. */
struct http2_stream {
	TAILQ_ENTRY(http2_stream) link;
	struct http2 *http2;
	int32_t id;
	struct http2_head head;	   /* until it is whole */
	struct exchange *exchange; /* NULL before the head is whole, and once the answer is */
	struct web_timer timer;	   /* runs while there is something that the client does not take */
	struct buf out;		   /* of the answer's body */
	size_t untold;		   /* bytes of the request's body of which the client was not told that they were taken */
	bool head_over;		   /* it is whole, or will never be */
	bool held;		   /* the request's body is not wanted for now */
	bool whole;		   /* the answer's body ends with `out` */
	bool sleeps;		   /* nghttp2 was told that there is nothing to send */
	bool drained;		   /* `out` has become empty, of which the exchange was not told yet */
	bool broken;		   /* memory ran out: it is being reset */
};

/* ---- http2_carrier.c ---- */

/* Something was given to the session to send. */
void http2_wake(struct http2 *h);
/* The client has done a thing of which it may not do many: false when it has done too many, and the session is about to end. */
bool http2_spend_reset(struct http2 *h);

/* ---- http2_stream.c ---- */

/* A request begins. NULL: memory. */
struct http2_stream *http2_stream_new(struct http2 *h, int32_t id) __attribute__((warn_unused_result));
void http2_stream_free(struct http2_stream *s);
/* The client is gone: ends the exchange. */
void http2_stream_abandon(struct http2_stream *s);
/* The head is whole; `ended`: so is the request. */
void http2_stream_begin(struct http2_stream *s, bool ended);
/* Bytes of the request's body. */
void http2_stream_take(struct http2_stream *s, const uint8_t *bytes, size_t len);
/* The request is whole. */
void http2_stream_end(struct http2_stream *s);
/* Tells the exchange that all it gave has been sent. */
void http2_stream_tell_drained(struct http2_stream *s);
/* Puts the next `len` bytes of the answer's body at `out`; false when they cannot be had. */
bool http2_stream_fill(struct http2_stream *s, uint8_t *out, size_t len);

/* The carrier's functions for exchanges. */
void http2_send_head(struct exchange *x, const void *body, size_t len);
void http2_send_body(struct exchange *x, const void *body, size_t len);
void http2_send_file(struct exchange *x);
void http2_finish(struct exchange *x);
bool http2_is_behind(const struct exchange *x);
void http2_go_on(struct exchange *x);
void http2_hold(struct exchange *x);
void http2_release(struct exchange *x);
void http2_break_off(struct exchange *x, const char *why);

#endif
