/*
 *              first byte            whole head                 answered, keep-alive
 *   IDLE ------------------> PART ------------------> ANSWERING ------------------> IDLE or PART
 *     |       take_head()            take_head()         |          finish()
 *     |                                                  | answered, close
 *     +-----------> OVER <-------------------------------+
 */
#include "web/http1_carrier.h"

#include <assert.h>
#include <stdio.h>

#include "web/exchange.h"
#include "web/status.h"

enum {
	/* A body that nobody wants is read to its end if that is not far; else the connection ends. */
	UNWANTED_BODY_MAX = 256 * 1024,
	UNSENT_MAX = 256 * 1024,
};

/* ---- State ---- */

#define BIT(n) (1u << (n))

static const struct {
	const char *name;
	unsigned next;
} states[] = {
	[HTTP1_IDLE] = { "idle", BIT(HTTP1_PART) | BIT(HTTP1_ANSWERING) | BIT(HTTP1_OVER) },
	[HTTP1_PART] = { "part of a head", BIT(HTTP1_IDLE) | BIT(HTTP1_ANSWERING) | BIT(HTTP1_OVER) },
	[HTTP1_ANSWERING] = { "answering", BIT(HTTP1_IDLE) | BIT(HTTP1_PART) | BIT(HTTP1_OVER) },
	[HTTP1_OVER] = { "over", 0 },
};

static void set_state(struct connection *c, enum http1_state to)
{
	struct http1 *h = &c->http1;

	if (h->state == to)
		return;
	assert(states[h->state].next & BIT(to));
	log_debug(&c->subject, "%s -> %s", states[h->state].name, states[to].name);
	h->state = to;
}

static bool begin(struct connection *c)
{
	(void)c; /* zeroed is begun; the time-out for the first head runs since the client was accepted */
	return true;
}

static void let_exchange_go(struct http1 *h)
{
	struct exchange *x = h->exchange;

	h->exchange = NULL;
	if (x)
		exchange_free(x);
}

static void end(struct connection *c)
{
	let_exchange_go(&c->http1);
	set_state(c, HTTP1_OVER);
	buf_fini(&c->http1.in);
}

/* ---- The body of the request under way ---- */

/* All of it counts towards the exchange, which may end with any piece. */
static size_t take_length_body(struct http1 *h, const uint8_t *bytes, size_t len)
{
	size_t take = h->body_left < len ? (size_t)h->body_left : len;

	h->body_left -= take;
	if (take)
		exchange_body(h->exchange, bytes, take);
	if (h->exchange && !h->body_left)
		exchange_body_over(h->exchange);
	return take;
}

static size_t take_chunked_body(struct http1 *h, const uint8_t *bytes, size_t len)
{
	size_t used = 0;

	while (h->exchange && used < len && h->chunked.state < CHUNKED_END) {
		struct chunked_piece piece;

		used += chunked_take(&h->chunked, bytes + used, len - used, &piece);
		if (piece.len)
			exchange_body(h->exchange, piece.data, piece.len);
	}
	if (!h->exchange)
		return used;
	if (h->chunked.state == CHUNKED_END)
		exchange_body_over(h->exchange);
	else if (h->chunked.state == CHUNKED_BAD)
		connection_close(h->exchange->connection, "a body that is not properly chunked");
	return used;
}

/* Returns how many of the bytes belonged to it. */
static size_t take_body(struct http1 *h, const uint8_t *bytes, size_t len)
{
	struct exchange *x = h->exchange;

	if (!x || x->whole)
		return 0;
	if (x->timer.wait == WAIT_BODY)
		exchange_wait(x, WAIT_BODY);
	if (h->tunnel) {
		exchange_body(x, bytes, len);
		return len;
	}
	return x->head.framing == HTTP_CHUNKED ? take_chunked_body(h, bytes, len) : take_length_body(h, bytes, len);
}

/* ---- Requests ---- */

static struct exchange *new_exchange(struct connection *c, const uint8_t *head, size_t len)
{
	struct http1 *h = &c->http1;

	set_state(c, HTTP1_ANSWERING);
	connection_wait(c, WAIT_NOTHING);
	h->body_left = 0;
	h->chunked = (struct chunked){ 0 };
	h->exchange = exchange_new(c, head, len);
	if (!h->exchange)
		connection_close(c, "out of memory");
	return h->exchange;
}

static void begin_request(struct connection *c, const uint8_t *head, size_t len)
{
	const struct http_limits limits = http_limits_of(c->worker);
	struct http1 *h = &c->http1;
	struct exchange *x = new_exchange(c, head, len);
	struct http_verdict verdict;

	if (!x)
		return;
	verdict = http1_parse(x->bytes, len, &limits, &x->head);
	x->keeps = x->head.keep_alive;
	if (verdict.status)
		x->head.framing = HTTP_NO_BODY; /* where the request ends is not known: nothing that follows can be trusted */
	else if (x->head.framing == HTTP_LENGTH)
		h->body_left = x->head.content_length;
	x->whole = x->head.framing == HTTP_NO_BODY || (x->head.framing == HTTP_LENGTH && !h->body_left);
	exchange_begin(x, verdict);
	if (h->exchange && !h->exchange->whole && h->exchange->timer.wait == WAIT_NOTHING)
		exchange_wait(h->exchange, WAIT_BODY);
}

/* A head that is refused before it is whole: too long, too late. */
static void refuse(struct connection *c, uint16_t status, const char *why)
{
	struct exchange *x = new_exchange(c, NULL, 0);

	if (!x)
		return;
	x->head.major = 1;
	x->whole = true;
	exchange_begin(x, (struct http_verdict){ status, why });
}

static void await_head(struct connection *c)
{
	if (c->http1.state == HTTP1_PART)
		return;
	set_state(c, HTTP1_PART);
	connection_wait(c, WAIT_HEAD);
}

/* Takes a head from the bytes if it is whole; returns how many were taken. */
static size_t take_head(struct connection *c, const uint8_t *bytes, size_t len)
{
	const struct http_limits limits = http_limits_of(c->worker);
	struct http1 *h = &c->http1;
	size_t head;

	switch (http1_scan((const char *)bytes, len, &h->scanned, &limits)) {
	case HTTP_SCAN_MORE:
		await_head(c);
		return 0;
	case HTTP_SCAN_TOO_LONG:
		refuse(c, 431, "the head is too long");
		return len;
	case HTTP_SCAN_WHOLE:
		break;
	}
	head = h->scanned;
	h->scanned = 0;
	begin_request(c, bytes, head);
	return head;
}

static bool takes_requests(const struct http1 *h)
{
	return h->state == HTTP1_IDLE || h->state == HTTP1_PART;
}

/* Takes bodies and heads off the bytes as long as each is answered at once; returns how many bytes were used. */
static size_t take(struct connection *c, const uint8_t *bytes, size_t len)
{
	struct http1 *h = &c->http1;
	size_t used = take_body(h, bytes, len);

	h->resuming = true;
	while (takes_requests(h) && used < len) {
		size_t head = take_head(c, bytes + used, len - used);

		used += head;
		if (!head)
			break;
		used += take_body(h, bytes + used, len - used);
	}
	h->resuming = false;
	if (h->state == HTTP1_IDLE && c->timer.wait != WAIT_REQUEST)
		connection_wait(c, WAIT_REQUEST);
	return used;
}

/* What is not used now waits in `in`: a part of a head, or the next requests while one is being answered. */
static void keep(struct connection *c, const uint8_t *bytes, size_t len)
{
	if (c->http1.state == HTTP1_OVER || !len)
		return;
	if (!buf_append(&c->http1.in, bytes, len))
		connection_close(c, "out of memory");
	else if (c->http1.state == HTTP1_ANSWERING)
		io_pause(&c->io);
}

static void take_kept(struct connection *c)
{
	struct http1 *h = &c->http1;
	size_t used = take(c, buf_head(&h->in), buf_len(&h->in));

	if (h->state != HTTP1_OVER)
		buf_consume(&h->in, used);
}

static void on_bytes(struct connection *c, const uint8_t *bytes, size_t len)
{
	if (!buf_len(&c->http1.in)) {
		size_t used = take(c, bytes, len);

		keep(c, bytes + used, len - used);
		return;
	}
	keep(c, bytes, len);
	if (takes_requests(&c->http1))
		take_kept(c);
}

/* ---- The answer ---- */

static bool answers_in_chunks(const struct exchange *x)
{
	return x->length == LENGTH_UNKNOWN && x->head.minor >= 1 && x->status != 204 && x->status != 304 && x->status >= 200;
}

/* How the client finds the end of the body. */
static const char *framing_field(struct exchange *x, char line[64])
{
	/* A 304 would state the length of what it does not send; 204 may state none. */
	if (x->status == 204 || x->status == 304 || x->status < 200)
		return "";
	if (answers_in_chunks(x))
		return "Transfer-Encoding: chunked\r\n";
	if (x->length == LENGTH_UNKNOWN) {
		x->keeps = false;
		return "";
	}
	snprintf(line, 64, "Content-Length: %llu\r\n", (unsigned long long)x->length);
	return line;
}

static const char *connection_field(const struct exchange *x)
{
	if (x->status == 101)
		return ""; /* the responder's */
	if (!x->keeps)
		return "Connection: close\r\n";
	return x->head.minor == 0 ? "Connection: keep-alive\r\n" : "";
}

static struct iovec piece(const void *bytes, size_t len)
{
	return (struct iovec){ (void *)bytes, len };
}

/* Sends a piece of a body in the answer's framing, with `head` and `fields` in front. */
static void send_pieces(struct exchange *x, struct iovec head, struct iovec fields, const void *body, size_t len)
{
	bool in_chunks = x->connection->http1.in_chunks;
	struct iovec pieces[5];
	char size[24];
	int count = 0;

	if (head.iov_len)
		pieces[count++] = head;
	if (fields.iov_len)
		pieces[count++] = fields;
	if (len) {
		if (in_chunks)
			pieces[count++] = piece(size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", len));
		pieces[count++] = piece(body, len);
		if (in_chunks)
			pieces[count++] = piece("\r\n", 2);
	}
	/* A failure is told by the io's `ended`. */
	io_sendv(&x->connection->io, pieces, count);
}

static void send_head(struct exchange *x, const void *body, size_t len)
{
	struct web_worker *w = x->worker;
	char head[512], framing[64];
	const char *frame;
	size_t head_len;

	x->connection->http1.in_chunks = answers_in_chunks(x) && !exchange_has_no_body(x);
	x->keeps &= !w->draining;
	if (!buf_append(&w->fields, "\r\n", 2)) {
		connection_close(x->connection, "out of memory");
		return;
	}
	frame = framing_field(x, framing);
	head_len = (size_t)snprintf(head, sizeof(head), "HTTP/1.1 %u %s\r\n%s%s", x->status, status_name(x->status), frame,
				    connection_field(x));
	send_pieces(x, piece(head, head_len), piece(buf_head(&w->fields), buf_len(&w->fields)), body, len);
}

static void send_body(struct exchange *x, const void *body, size_t len)
{
	send_pieces(x, piece(NULL, 0), piece(NULL, 0), body, len);
}

static bool is_behind(const struct exchange *x)
{
	return io_unsent(&x->connection->io) > UNSENT_MAX;
}

static void go_on(struct exchange *x)
{
	io_send(&x->connection->io, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

static void hold(struct exchange *x)
{
	io_pause(&x->connection->io);
}

static void release(struct exchange *x)
{
	io_resume(&x->connection->io);
}

static void tunnel(struct exchange *x)
{
	struct connection *c = x->connection;

	c->http1.tunnel = true;
	x->keeps = false;
	x->whole = x->body_over = false;
	io_resume(&c->io);
}

static void break_off(struct exchange *x, const char *why)
{
	connection_close(x->connection, why);
}

/* ---- Files ---- */

static void finish(struct exchange *x);

static void send_file(struct exchange *x)
{
	struct io *io = &x->connection->io;

	while (x->file_left && !io_unsent(io)) {
		ssize_t n = io_send_file(io, x->file, (off_t)x->file_at, x->file_left < SIZE_MAX / 2 ? (size_t)x->file_left : SIZE_MAX / 2);

		if (n < 0) {
			if (io->state == IO_OPEN)
				exchange_file_failed(x);
			return;
		}
		if (n == 0)
			break;
		x->file_at += (uint64_t)n;
		x->file_left -= (uint64_t)n;
		x->body_sent += (uint64_t)n;
	}
	if (x->file_left || io_unsent(io))
		exchange_wait(x, WAIT_SEND);
	else
		response_end(x);
}

/* ---- The answer is complete ---- */

/* The rest of a body that nobody took stands between this request and the next. */
static bool rest_is_short(const struct exchange *x)
{
	/* Who was not told to continue sends none of it, or all: one cannot know. */
	if (x->head.expects_continue && !x->body_came)
		return false;
	return x->head.framing == HTTP_LENGTH && x->connection->http1.body_left <= UNWANTED_BODY_MAX;
}

static void end_requests(struct connection *c)
{
	set_state(c, HTTP1_OVER);
	buf_fini(&c->http1.in);
	connection_finish(c);
}

static void next_request(struct connection *c)
{
	struct http1 *h = &c->http1;

	set_state(c, HTTP1_IDLE);
	/* Where requests are being taken already, the loop there goes on. */
	if (h->resuming)
		return;
	connection_wait(c, WAIT_REQUEST);
	io_resume(&c->io);
	if (buf_len(&h->in))
		take_kept(c);
}

static void finish(struct exchange *x)
{
	struct connection *c = x->connection;
	bool keeps = x->keeps && !c->worker->draining;

	if (c->http1.in_chunks)
		io_send(&c->io, "0\r\n\r\n", 5);
	c->http1.in_chunks = false;
	if (keeps && !x->whole && rest_is_short(x)) {
		/* It is read, and dropped, before the exchange is let go: exchange_body_over() comes here again. */
		exchange_wait(x, WAIT_BODY);
		io_resume(&c->io);
		return;
	}
	keeps &= x->whole;
	let_exchange_go(&c->http1);
	if (keeps)
		next_request(c);
	else
		end_requests(c);
}

/* ---- From the connection ---- */

static void drained(struct connection *c)
{
	struct exchange *x = c->http1.exchange;

	if (!x)
		return;
	if (x->answer == ANSWER_FILE)
		send_file(x);
	else
		exchange_drained(x);
}

static void timed_out(struct connection *c)
{
	/* A client that sent half a head and is slow is told so; one that sent nothing is not. */
	if (c->http1.state == HTTP1_PART)
		refuse(c, 408, "the head did not come in time");
	else
		connection_close(c, "timed out");
}

static void drain(struct connection *c)
{
	/* Who has just come has a request on its way. */
	if (c->timer.wait == WAIT_REQUEST)
		connection_close(c, "draining");
}

const struct carrier http1_carrier = {
	.name = "HTTP/1.1",
	.begin = begin,
	.bytes = on_bytes,
	.drained = drained,
	.timed_out = timed_out,
	.drain = drain,
	.end = end,
	.send_head = send_head,
	.send_body = send_body,
	.send_file = send_file,
	.finish = finish,
	.is_behind = is_behind,
	.go_on = go_on,
	.hold = hold,
	.release = release,
	.tunnel = tunnel,
	.break_off = break_off,
};
