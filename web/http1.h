/*
 * HTTP/1.0 and 1.1 requests: bytes in, meaning out. No sockets, no allocation; everything found points into the caller's bytes.
 *
 * Strict where leniency has been used to smuggle requests past a front end (RFC 9112 sections 2.2, 5 and 6): line ends are CRLF, one
 * Host, one Content-Length, never a length beside Transfer-Encoding, no space in front of a colon, no folded lines. What is refused
 * has a status and a one-line reason for the log; the reason never repeats what the client sent.
 */
#ifndef TANDEM_WEB_HTTP1_H
#define TANDEM_WEB_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A piece of the caller's bytes, not terminated. */
struct http_text {
	const char *at;
	size_t len;
};

/* Equal without regard to ASCII case. */
bool http_text_is(struct http_text text, const char *word);
/* True when `word` is an element of a comma-separated list ("keep-alive, Upgrade"). */
bool http_list_has(struct http_text list, const char *word);

enum http_method {
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_PATCH,
	HTTP_METHODS,
};
const char *http_method_name(enum http_method method);
/* GET, HEAD and OPTIONS: doing it twice is doing it once (RFC 9110 section 9.2.1). */
bool http_method_is_safe(enum http_method method);

struct http_field {
	struct http_text name;	/* as sent; compare with http_text_is() */
	struct http_text value; /* without blanks at its ends; holds no control character but tab */
};

enum { HTTP_MAX_FIELDS = 100 };

enum http_framing {
	HTTP_NO_BODY,
	HTTP_LENGTH,  /* content_length bytes follow, maybe 0 */
	HTTP_CHUNKED, /* of unknown length: chunked.h, or streamed by HTTP/2 */
};

struct http_head {
	enum http_method method;
	uint8_t major; /* HTTP/major.minor: 1.0, 1.1 or 2.0 */
	uint8_t minor;
	struct http_text target; /* as sent, for logs */
	struct http_text path;	 /* begins with '/', still percent-encoded; "*" for OPTIONS * */
	struct http_text query;	 /* behind the first '?'; at == NULL when there is none */
	struct http_text host;	 /* of an absolute target, else of Host; without the port; empty when HTTP/1.0 sent none */
	struct http_text port;	 /* digits, or empty */
	enum http_framing framing;
	uint64_t content_length; /* of HTTP_LENGTH */
	bool keep_alive; /* the client would send another request here */
	bool expects_continue; /* it waits for 100 before it sends the body */
	size_t field_count;
	struct http_field fields[HTTP_MAX_FIELDS];
};

struct http_limits {
	size_t head_bytes;   /* request line and fields with their line ends; 32 KiB is usual */
	size_t target_bytes; /* 8 KiB is usual */
};

/* The answer to a head: 0, or the status to refuse it with. */
struct http_verdict {
	uint16_t status;
	const char *why; /* static text; NULL when status is 0 */
};

enum http_scan { HTTP_SCAN_MORE, HTTP_SCAN_WHOLE, HTTP_SCAN_TOO_LONG };

/*
 * Looks for the end of a head in the `len` bytes that have come so far. `*seen` is where the last call stopped (0 at first), so that
 * a head in many pieces is looked at once. Empty lines in front of a request line are counted as part of the head. On WHOLE `*seen` is the
 * length of the head with its empty line.
 */
enum http_scan http1_scan(const char *bytes, size_t len, size_t *seen, const struct http_limits *limits);

/* Parses the `len` bytes of a whole head. On a verdict other than 0 only `target` may be looked at. */
struct http_verdict http1_parse(const char *bytes, size_t len, const struct http_limits *limits, struct http_head *out);

/* For the other direction, http_answer.c: takes a line with its CRLF off the rest of a whole head; a field line. */
struct http_text http_take_line(struct http_text *rest);
struct http_verdict http_parse_field(struct http_text line, struct http_field *out);

/* The first field of that name, or NULL. */
const struct http_text *http_head_field(const struct http_head *head, const char *name);

#endif
