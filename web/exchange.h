/*
 * One request and its answer. Who answers is a struct responder; it calls the response_ functions, at once or later, always on the worker's
 * thread, and is told when the client can take more and when it is gone.
 */
#ifndef TANDEM_WEB_EXCHANGE_H
#define TANDEM_WEB_EXCHANGE_H

#include "web/connection.h"
#include "web/http1.h"

struct exchange;

/* Who makes the answer. Functions may be NULL where nothing is to be done. */
struct responder {
	const char *name;
	/* The head is there. It may answer whole. */
	void (*begin)(struct exchange *x);
	/* A piece of the body; NULL: bodies are of no interest, they are read and dropped. */
	void (*body)(struct exchange *x, const uint8_t *bytes, size_t len);
	/* All of the request has come. */
	void (*body_over)(struct exchange *x);
	/* The upstream's time is over (WAIT_CONNECT, WAIT_UPSTREAM). */
	void (*timed_out)(struct exchange *x);
	/* All that was answered so far has been sent. */
	void (*drained)(struct exchange *x);
	/* The exchange ends, well or because the client went: its own things are freed here. */
	void (*end)(struct exchange *x);
};

enum answer_state {
	ANSWER_NONE,	/* nothing sent */
	ANSWER_BODY,	/* head sent, more to come */
	ANSWER_FILE,	/* the rest is in `file` */
	ANSWER_DONE,
};

#define LENGTH_UNKNOWN UINT64_MAX

struct exchange {
	struct connection *connection;
	struct web_config *config;
	const struct web_site *site;   /* NULL before it is known */
	const struct web_route *route; /* NULL: none matched */
	const struct responder *responder;
	void *state; /* the responder's own */
	struct http_head head; /* points into `bytes` */
	char *path;  /* normal form; NULL: refused before it was known */
	uint64_t started_us;
	uint64_t body_came; /* bytes of the request's body, for limits */

	enum answer_state answer;
	uint16_t status;
	uint64_t length;    /* of the body, LENGTH_UNKNOWN: chunked or until the end of the connection */
	uint64_t body_sent; /* handed to the io */
	bool keeps; /* the connection takes another request afterwards */
	bool chunks;
	int file; /* ANSWER_FILE, else -1 */
	uint64_t file_at;
	uint64_t file_left;
	char bytes[]; /* the head, then room for `path` */
};

/* Parses a whole head and begins to answer. NULL: memory. The exchange may be over when this returns (connection->exchange is NULL). */
struct exchange *exchange_begin(struct connection *c, const char *head, size_t len);
/* A head that is refused before it is whole: too long, too late. */
void exchange_refuse(struct connection *c, uint16_t status, const char *why);
/* The client went, or the connection is closed. */
void exchange_abort(struct exchange *x);
void exchange_drained(struct exchange *x);
/* Bytes of the request's body. */
void exchange_body(struct exchange *x, const uint8_t *bytes, size_t len);
void exchange_body_over(struct exchange *x);

/*
 * The answer: begin, fields, then send with what there is of the body, then more of it, then end. A HEAD request's body is counted and not
 * sent. Names and values of fields hold no line ends: what an application gave is checked before.
 */
void response_begin(struct exchange *x, uint16_t status);
void response_field(struct exchange *x, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));
void response_send(struct exchange *x, uint64_t length, const void *body, size_t len);
void response_body(struct exchange *x, const void *body, size_t len);
/* The body is `length` bytes of an open file, which is owned from here on. Call after response_send(); ends the answer by itself. */
void response_file(struct exchange *x, int file, uint64_t at, uint64_t length);
void response_end(struct exchange *x);
/* A whole answer with the status' page. Fields added since response_begin() stay. */
void response_page(struct exchange *x, uint16_t status);
/* A redirect: `location` is a URL or path, percent-encoded already. */
void response_redirect(struct exchange *x, uint16_t status, const char *location);

#endif
