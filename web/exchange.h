/*
 * One request and its answer. Who answers is a struct responder; it calls the response_ functions, at once or later, always on the worker's
 * thread, and is told when the client can take more and when it is gone.
 */
#ifndef TANDEM_WEB_EXCHANGE_H
#define TANDEM_WEB_EXCHANGE_H

#include "web/connection.h"
#include "web/http1.h"
#include "web/worker.h"

struct exchange;

/* Who makes the answer. Functions may be NULL where nothing is to be done. */
struct responder {
	const char *name;
	/* It has to know how long a body is before it begins: one of unknown length is kept until it is whole (spool.h). NULL: it has not. */
	bool (*needs_length)(const struct exchange *x);
	/* The head is there. It may answer whole. */
	void (*begin)(struct exchange *x);
	/* A piece of the body; NULL: bodies are of no interest, they are read and dropped. */
	void (*body)(struct exchange *x, const uint8_t *bytes, size_t len);
	/* All of the request has come. */
	void (*body_over)(struct exchange *x);
	/* The upstream's time is over (WAIT_QUEUE and the following). */
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

enum { EXCHANGE_ID_BYTES = 65 };

struct exchange {
	const struct carrier *carrier;
	void *carried; /* the carrier's own */
	struct connection *connection; /* the client's, or a proxy's. Its io is the carrier's */
	struct web_worker *worker;
	struct web_timer timer;
	struct web_config *config;
	const struct web_site *site;   /* NULL before it is known */
	const struct web_route *route; /* NULL: none matched */
	const struct responder *responder;
	void *state; /* the responder's own */
	struct spool *spool; /* where its body is kept, of unknown length as it came; NULL: none is */
	struct http_head head; /* points into `bytes` */
	char *path;  /* normal form; NULL: refused before it was known */
	uint64_t started_us;
	uint64_t upstream_us; /* that a server or an application had it; 0: none did */
	uint64_t sql_us;      /* of that in its database, as the application says */
	struct log_subject subject;
	struct address client; /* who asks; behind a trusted proxy as that tells it */
	bool tls;	       /* ... by TLS, maybe with a load balancer in front */
	uint8_t security_set;  /* fields that the answer has itself, see security.h */
	char client_text[ADDRESS_TEXT_BYTES];
	char id[EXCHANGE_ID_BYTES]; /* in logs; "" before the head was understood */
	uint64_t body_came;	    /* bytes of the request's body, for limits */
	uint64_t body_waited_us;    /* that we have waited for them */
	uint64_t body_since_us;	    /* waiting, as of now; 0: not */
	bool whole;	/* all of the request has come */
	bool body_over; /* and its responder has got all of it */
	bool told_to_go_on; /* 100 was sent */
	bool keeps; /* the carrier may take more from this client afterwards; HTTP/2 takes more anyway */

	enum answer_state answer;
	uint16_t status;
	uint64_t length;    /* of the body, LENGTH_UNKNOWN: ends where it ends */
	uint64_t body_sent; /* handed to the carrier */
	int file; /* ANSWER_FILE, else -1 */
	uint64_t file_at;
	uint64_t file_left;
	size_t bytes_len; /* of the head in `bytes` */
	char bytes[];	  /* the head, then room for `path` */
};

/* ---- For carriers ---- */

/* The limits of heads that the worker's settings tell. */
struct http_limits http_limits_of(const struct web_worker *worker);
/* With a copy of the head's bytes in x->bytes (NULL: the carrier writes them there), for the carrier to parse into x->head; it sets `whole` and
 * `keeps` too. NULL: memory. */
struct exchange *exchange_new(struct connection *c, const void *head, size_t len) __attribute__((warn_unused_result));
/* Begins to answer: a refusal when the verdict is one. May be over (carrier->finish() was called) when this returns. */
void exchange_begin(struct exchange *x, struct http_verdict verdict);
/* Bytes of the request's body, and its end. */
void exchange_body(struct exchange *x, const uint8_t *bytes, size_t len);
void exchange_body_over(struct exchange *x);
/* All that was answered so far has left. */
void exchange_drained(struct exchange *x);
/* The head promised more than the file has: says so in the log and breaks the exchange off. */
void exchange_file_failed(struct exchange *x);
/* It was answered, or the client went. Notes it in the access log. */
void exchange_free(struct exchange *x);
/* An answer without a body by its nature (RFC 9112 section 6.3). */
bool exchange_has_no_body(const struct exchange *x);

/* ---- For responders ---- */

/* The time for what it waits for starts anew; WAIT_NOTHING: none runs. After WAIT_QUEUE and the following the responder is told, the others
 * break it off. */
void exchange_wait(struct exchange *x, enum web_wait wait);
/* The client does not keep up with the answer: its source should rest until `drained`. */
bool exchange_is_behind(const struct exchange *x);
/* The body is not wanted for now: at most HOLD_MAX bytes of it still come. And: it is wanted again; who waits for 100 (Continue) is told. */
void exchange_hold_body(struct exchange *x);
void exchange_want_body(struct exchange *x);
/* Half an answer cannot be taken back: ends it so that the client sees that it is not whole. The exchange is gone when this returns. */
void exchange_break_off(struct exchange *x, const char *why);

/*
 * The answer: begin, fields, then send with what there is of the body, then more of it, then end. A HEAD request's body is dropped. Names and values of fields hold no line ends: what an application gave is checked before.
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
