/* HTTP/1.x on a connection: one request after the other, answers in their order. What it keeps per connection; see carrier.h. */
#ifndef TANDEM_WEB_HTTP1_CARRIER_H
#define TANDEM_WEB_HTTP1_CARRIER_H

#include "base/buf.h"
#include "web/chunked.h"

struct exchange;

enum http1_state {
	HTTP1_IDLE,	 /* nothing of a request has come; owns no buffer */
	HTTP1_PART,	 /* part of a head is in `in` */
	HTTP1_ANSWERING, /* `exchange` is under way; what came behind its body waits in `in` and the io is paused */
	HTTP1_OVER,	 /* the last answer is on its way, or the connection is closed */
};

struct http1 {
	enum http1_state state;
	bool resuming; /* next requests are being taken: a finished answer must not take them once more */
	bool in_chunks; /* the answer */
	bool tunnel;	/* no longer HTTP: what comes is the exchange's */
	struct buf in;
	size_t scanned; /* of the head in `in` */
	struct exchange *exchange;
	uint64_t body_left; /* of a body with a length */
	struct chunked chunked;
};

#endif
