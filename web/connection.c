/*
 *              first byte            whole head                 answered, keep-alive
 *   IDLE ------------------> HEAD ------------------> ANSWERING ------------------> IDLE or HEAD
 *     |  connection_take()        take_request()         |       connection_answered()
 *     |                                                  | answered, close
 *     |                                                  v                all sent
 *     |                                               FLUSHING -----------------------> LINGERING
 *     +------> CLOSED <--------- from every state -------+------ hung up, timed out -------+
 */
#include "web/connection.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/exchange.h"

/* A body that nobody wants is read to its end if that is not far; else the connection ends. */
enum { UNWANTED_BODY_MAX = 256 * 1024 };

static const struct io_handler io_handler;

/* ---- State ---- */

#define BIT(n) (1u << (n))

static const struct {
	const char *name;
	unsigned next;
} states[] = {
	[CONNECTION_IDLE] = { "idle", BIT(CONNECTION_HEAD) | BIT(CONNECTION_ANSWERING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_HEAD] = { "head", BIT(CONNECTION_IDLE) | BIT(CONNECTION_ANSWERING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_ANSWERING] = { "answering", BIT(CONNECTION_IDLE) | BIT(CONNECTION_HEAD) | BIT(CONNECTION_FLUSHING) |
							BIT(CONNECTION_LINGERING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_FLUSHING] = { "flushing", BIT(CONNECTION_LINGERING) | BIT(CONNECTION_CLOSED) },
	[CONNECTION_LINGERING] = { "lingering", BIT(CONNECTION_CLOSED) },
	[CONNECTION_CLOSED] = { "closed", 0 },
};

static void set_state(struct connection *c, enum connection_state to)
{
	if (c->state == to)
		return;
	assert(states[c->state].next & BIT(to));
	log_debug(&c->subject, "%s -> %s", states[c->state].name, states[to].name);
	c->state = to;
}

void connection_wait(struct connection *c, enum web_wait wait)
{
	TAILQ_REMOVE(&c->worker->waits[c->wait], c, link);
	c->wait = wait;
	c->deadline_ms = c->worker->now_ms + web_worker_timeout(c->worker, wait);
	TAILQ_INSERT_TAIL(&c->worker->waits[wait], c, link);
}

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct connection *c = (const struct connection *)((const char *)subject - offsetof(struct connection, subject));

	snprintf(out, size, "web client %s", c->host);
}

/* ---- Life ---- */

bool connection_new(struct web_worker *worker, int fd, const char *host, bool tls)
{
	struct connection *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return false;
	}
	c->subject.describe = describe;
	c->worker = worker;
	c->tls = tls;
	snprintf(c->host, sizeof(c->host), "%s", host);
	if (!io_init(&c->io, &worker->loop, fd, &io_handler, c)) {
		free(c);
		return false;
	}
	c->wait = WAIT_REQUEST;
	TAILQ_INSERT_TAIL(&worker->waits[WAIT_REQUEST], c, link);
	atomic_fetch_add_explicit(&worker->client_count, 1, memory_order_relaxed);
	if (tls)
		c->certificates = web_config_ref(worker->config);
	if (tls && !io_start_tls(&c->io, worker->config->tls, true, NULL, false, NULL, 0)) {
		connection_close(c, "out of memory");
		return true;
	}
	/* The first request is due as soon as a handshake is. */
	connection_wait(c, WAIT_HEAD);
	return true;
}

void connection_close(struct connection *c, const char *why)
{
	if (c->state == CONNECTION_CLOSED)
		return;
	log_debug(&c->subject, "closed: %s", why);
	if (c->exchange)
		exchange_abort(c->exchange);
	c->exchange = NULL;
	set_state(c, CONNECTION_CLOSED);
	io_close(&c->io);
	web_config_unref(c->certificates);
	buf_fini(&c->in);
	TAILQ_REMOVE(&c->worker->waits[c->wait], c, link);
	atomic_fetch_sub_explicit(&c->worker->client_count, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(c->worker->clients, 1, memory_order_relaxed);
	web_worker_bury(c->worker, c);
}

/* Closing with bytes unread would reset the connection and destroy the answer on its way. */
static void linger(struct connection *c)
{
	set_state(c, CONNECTION_LINGERING);
	buf_fini(&c->in);
	io_finish_sending(&c->io);
	io_resume(&c->io);
	connection_wait(c, WAIT_LINGER);
}

static void finish(struct connection *c)
{
	if (!io_unsent(&c->io)) {
		linger(c);
		return;
	}
	set_state(c, CONNECTION_FLUSHING);
	connection_wait(c, WAIT_SEND);
}

/* ---- The body of the request under way ---- */

static void body_is_over(struct connection *c)
{
	c->body_over = true;
	exchange_body_over(c->exchange);
}

/* All of it counts towards the exchange, which may end with any piece. */
static size_t take_length_body(struct connection *c, const uint8_t *bytes, size_t len)
{
	size_t take = c->body_left < len ? (size_t)c->body_left : len;

	c->body_left -= take;
	if (take)
		exchange_body(c->exchange, bytes, take);
	if (c->exchange && !c->body_left)
		body_is_over(c);
	return take;
}

static size_t take_chunked_body(struct connection *c, const uint8_t *bytes, size_t len)
{
	size_t used = 0;

	while (c->exchange && used < len && c->chunked.state < CHUNKED_END) {
		struct chunked_piece piece;

		used += chunked_take(&c->chunked, bytes + used, len - used, &piece);
		if (piece.len)
			exchange_body(c->exchange, piece.data, piece.len);
	}
	if (!c->exchange)
		return used;
	if (c->chunked.state == CHUNKED_END)
		body_is_over(c);
	else if (c->chunked.state == CHUNKED_BAD)
		connection_close(c, "a body that is not properly chunked");
	return used;
}

/* Returns how many of the bytes belonged to it. */
static size_t take_body(struct connection *c, const uint8_t *bytes, size_t len)
{
	if (!c->exchange || c->body_over)
		return 0;
	if (c->wait == WAIT_BODY)
		connection_wait(c, WAIT_BODY);
	return c->exchange->head.framing == HTTP_CHUNKED ? take_chunked_body(c, bytes, len) : take_length_body(c, bytes, len);
}

/* ---- Requests ---- */

static void begin_request(struct connection *c, const uint8_t *head, size_t len)
{
	struct exchange *x;

	set_state(c, CONNECTION_ANSWERING);
	c->body_over = true; /* until the head is understood */
	c->body_left = 0;
	c->chunked = (struct chunked){ 0 };
	connection_wait(c, WAIT_NOTHING);
	x = exchange_begin(c, (const char *)head, len);
	if (!x)
		connection_close(c, "out of memory");
	else if (c->exchange && !c->body_over && c->wait == WAIT_NOTHING)
		connection_wait(c, WAIT_BODY);
}

static void refuse(struct connection *c, uint16_t status, const char *why)
{
	set_state(c, CONNECTION_ANSWERING);
	c->body_over = true;
	connection_wait(c, WAIT_NOTHING);
	exchange_refuse(c, status, why);
}

static void await_head(struct connection *c)
{
	if (c->state == CONNECTION_HEAD)
		return;
	set_state(c, CONNECTION_HEAD);
	connection_wait(c, WAIT_HEAD);
}

/* Takes a head from the bytes if it is whole; returns how many were taken. */
static size_t take_head(struct connection *c, const uint8_t *bytes, size_t len)
{
	const struct http_limits limits = { .head_bytes = c->worker->config->web->max_header_bytes, .target_bytes = 8192 };
	size_t head;

	switch (http1_scan((const char *)bytes, len, &c->scanned, &limits)) {
	case HTTP_SCAN_MORE:
		await_head(c);
		return 0;
	case HTTP_SCAN_TOO_LONG:
		refuse(c, 431, "the head is too long");
		return len;
	case HTTP_SCAN_WHOLE:
		break;
	}
	head = c->scanned;
	c->scanned = 0;
	begin_request(c, bytes, head);
	return head;
}

static bool takes_requests(const struct connection *c)
{
	return c->state == CONNECTION_IDLE || c->state == CONNECTION_HEAD;
}

/* Takes bodies and heads off the bytes as long as each is answered at once; returns how many bytes were used. */
static size_t take(struct connection *c, const uint8_t *bytes, size_t len)
{
	size_t used = take_body(c, bytes, len);

	c->resuming = true;
	while (takes_requests(c) && used < len) {
		size_t head = take_head(c, bytes + used, len - used);

		used += head;
		if (!head)
			break;
		used += take_body(c, bytes + used, len - used);
	}
	c->resuming = false;
	if (c->state == CONNECTION_IDLE && c->wait != WAIT_REQUEST)
		connection_wait(c, WAIT_REQUEST);
	return used;
}

/* What is not used now waits in `in`: a part of a head, or the next requests while one is being answered. */
static void keep(struct connection *c, const uint8_t *bytes, size_t len)
{
	if (c->state >= CONNECTION_FLUSHING || !len)
		return;
	if (!buf_append(&c->in, bytes, len))
		connection_close(c, "out of memory");
	else if (c->state == CONNECTION_ANSWERING)
		io_pause(&c->io);
}

static void take_kept(struct connection *c)
{
	size_t used = take(c, buf_head(&c->in), buf_len(&c->in));

	if (c->state < CONNECTION_FLUSHING)
		buf_consume(&c->in, used);
}

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct connection *c = owner;

	if (c->state >= CONNECTION_FLUSHING)
		return; /* nobody listens any more */
	if (!buf_len(&c->in)) {
		size_t used = take(c, bytes, len);

		keep(c, bytes + used, len - used);
		return;
	}
	keep(c, bytes, len);
	if (takes_requests(c))
		take_kept(c);
}

/* ---- The answer is complete ---- */

/* The rest of a body that nobody took stands between this request and the next. */
static bool rest_is_short(const struct connection *c)
{
	/* Who was not told to continue sends none of it, or all: one cannot know. */
	if (c->exchange->head.expects_continue && !c->exchange->body_came)
		return false;
	return c->exchange->head.framing == HTTP_LENGTH && c->body_left <= UNWANTED_BODY_MAX;
}

void connection_answered(struct connection *c)
{
	struct exchange *x = c->exchange;
	bool keeps = x->keeps && !c->worker->draining;

	if (keeps && !c->body_over && rest_is_short(c)) {
		/* It is read, and dropped, before the exchange is let go: exchange_body_over() comes here again. */
		connection_wait(c, WAIT_BODY);
		io_resume(&c->io);
		return;
	}
	keeps &= c->body_over;
	c->exchange = NULL;
	exchange_abort(x);
	if (!keeps) {
		finish(c);
		return;
	}
	set_state(c, CONNECTION_IDLE);
	/* Where requests are being taken already, the loop there goes on. */
	if (c->resuming)
		return;
	connection_wait(c, WAIT_REQUEST);
	io_resume(&c->io);
	if (buf_len(&c->in))
		take_kept(c);
}

/* ---- From the io ---- */

static void on_drained(void *owner)
{
	struct connection *c = owner;

	if (c->state == CONNECTION_FLUSHING)
		linger(c);
	else if (c->exchange)
		exchange_drained(c->exchange);
}

static void on_ready(void *owner)
{
	(void)owner; /* the time-out for the first head covers the handshake */
}

static void on_ended(void *owner, enum io_end why)
{
	struct connection *c = owner;

	connection_close(c, io_error_text(&c->io, why));
}

static const struct io_handler io_handler = { on_bytes, on_drained, on_ready, on_ended };

void connection_timed_out(struct connection *c)
{
	/* A client that sent half a head and is slow is told so; one that sent nothing is not. */
	if ((c->wait == WAIT_CONNECT || c->wait == WAIT_UPSTREAM) && c->exchange && c->exchange->responder->timed_out)
		c->exchange->responder->timed_out(c->exchange);
	else if (c->wait == WAIT_HEAD && c->state == CONNECTION_HEAD)
		refuse(c, 408, "the head did not come in time");
	else
		connection_close(c, "timed out");
}
