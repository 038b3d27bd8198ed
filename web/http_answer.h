/*
 * The head of an HTTP/1.x answer, as an upstream server gives it: bytes in, meaning out. No sockets, no allocation. As strict as http1.h where
 * two readers could see two different ends of the body (RFC 9112 sections 4 to 6): who is in doubt gives the answer up.
 */
#ifndef TANDEM_WEB_HTTP_ANSWER_H
#define TANDEM_WEB_HTTP_ANSWER_H

#include "web/http1.h"

enum http_answer_framing {
	HTTP_ANSWER_EMPTY,	 /* no body by its nature: to HEAD, 204, 304, 1xx */
	HTTP_ANSWER_LENGTH,	 /* `length` bytes follow, maybe 0 */
	HTTP_ANSWER_CHUNKED,	 /* see chunked.h */
	HTTP_ANSWER_UNTIL_CLOSE, /* the end of the connection is its end */
};

struct http_answer {
	uint16_t status; /* 100 to 599 */
	uint8_t minor;	 /* HTTP/1.minor */
	enum http_answer_framing framing;
	uint64_t length;	    /* as stated, also where framing is EMPTY; UINT64_MAX: not stated */
	bool keep_alive;	    /* the server takes another request on this connection */
	struct http_text upgrade;   /* of a 101: the protocol; else empty */
	size_t field_count;
	struct http_field fields[HTTP_MAX_FIELDS]; /* to be passed on: those between two neighbours, and what Tandem says itself, are left out */
};

/* Parses the `len` bytes of a whole head, as http1_scan() found it. NULL when it is fine, else why not: static text. `to_head`: it answers HEAD. */
const char *http_answer_parse(const char *bytes, size_t len, bool to_head, struct http_answer *out);

#endif
