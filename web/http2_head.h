/*
 * The head of an HTTP/2 request, put together from its fields into the text that http1_parse() reads, so that both versions obey the same
 * rules and whoever looks at a head sees one form. Pure: no session, no sockets.
 *
 * What only HTTP/2 demands is checked here (RFC 9113 section 8): pseudo-fields in front, once each and no others, names in lower case, nothing
 * of the connection, one authority, a path that is one.
 */
#ifndef TANDEM_WEB_HTTP2_HEAD_H
#define TANDEM_WEB_HTTP2_HEAD_H

#include "base/buf.h"
#include "web/http1.h"

struct http2_part {
	uint32_t at;
	uint32_t len;
	bool is_there;
};

/* All zero is an empty one. */
struct http2_head {
	struct buf values; /* of the pseudo-fields and of host */
	struct http2_part method, scheme, authority, path, host;
	struct buf fields; /* as lines */
	struct buf cookies; /* sent in crumbs, which programs expect as one field */
	uint32_t count;
	struct http_verdict verdict; /* the first thing that was wrong */
};

void http2_head_fini(struct http2_head *head);
/* One field, in the order in which they came. What is wrong is remembered; what is beyond `limits` is dropped. */
void http2_head_add(struct http2_head *head, struct http_text name, struct http_text value, const struct http_limits *limits);
/* All have come. Bytes that http2_head_write() needs; 0: the verdict tells why there is none. */
size_t http2_head_finish(struct http2_head *head);
/* Writes the text. */
void http2_head_write(const struct http2_head *head, char *out);
/* Parses what was written. `ended`: no body follows. */
struct http_verdict http2_parse(const char *bytes, size_t len, const struct http_limits *limits, bool ended, struct http_head *out);

#endif
