/*
 * A connection is made for each request and closed by the program: FastCGI programs with few processes starve when front ends keep
 * idle connections to them.
 */
#include "web/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fastcgi.h"
#include "web/cgi.h"
#include "web/files.h"
#include "web/upstream.h"

enum {
	HEAD_MAX = 64 * 1024,
	HIGH_MARK = 256 * 1024, /* unsent towards the program: the client is not read */
	REQUEST_ID = 1,
};

enum gateway_state {
	GATEWAY_CONNECTING, /* nothing was sent: another server may be tried */
	GATEWAY_ASKED,	    /* the request is on its way or was sent; no answer yet */
	GATEWAY_ANSWERING,  /* the head was passed on */
	GATEWAY_OVER,	    /* END_REQUEST came, or the whole length */
};

struct gateway {
	struct exchange *exchange;
	struct upstream *upstream;
	struct upstream_server *server; /* NULL: none at the moment */
	uint64_t tried;
	uint64_t since_us; /* the server has it since then; 0: none has */
	enum gateway_state state;
	struct io io;
	struct fcgi_reader reader;
	struct buf head;    /* of the answer, until it is whole */
	struct buf early;   /* of the request's body: came with its head, before there was a connection */
	struct buf errors;  /* the end of what came on STDERR, for one log line */
	uint64_t left;	    /* of a body with a length */
	bool end_of_body_sent;
	bool holds; /* the body: the program does not take what it was sent */
	bool ends; /* closed from within its own io's handler: the rest of the bytes is dropped */
};

static const struct io_handler upstream_handler;

/* ---- The end ---- */

static void let_go(struct gateway *g)
{
	if (g->since_us)
		g->exchange->upstream_us += clock_us() - g->since_us;
	g->since_us = 0;
	if (g->server)
		atomic_fetch_sub_explicit(&g->server->active, 1, memory_order_relaxed);
	g->server = NULL;
	io_close(&g->io);
}

static void end(struct exchange *x)
{
	struct gateway *g = x->state;

	if (!g)
		return;
	let_go(g);
	buf_fini(&g->head);
	buf_fini(&g->early);
	buf_fini(&g->errors);
	/* An io handler may be on the stack below: it looks at the flag, and the loop frees. */
	g->ends = true;
	x->state = NULL;
	web_worker_free_later(x->worker, g);
}

static void fail(struct gateway *g, uint16_t status, const char *why)
{
	struct exchange *x = g->exchange;

	log_warning(&x->subject, "%s: upstream %s %s: %s", x->path, g->upstream->settings->name,
		    g->server ? g->server->name : "", why);
	if (g->state == GATEWAY_ANSWERING) {
		/* Half an answer cannot be taken back. */
		exchange_break_off(x, why);
		return;
	}
	x->keeps &= x->body_over;
	response_begin(x, status);
	response_page(x, status);
}

/* ---- The request ---- */

/* The script of a path that names none: the index of its directory where there is one, else the route's front. */
static void choose_script(const struct exchange *x, char *script, size_t room)
{
	const char *front = x->route->front;
	bool directory = x->path[strlen(x->path) - 1] == '/';

	snprintf(script, room, "%s%s", x->path, directory ? "index.php" : "");
	if (front && !(directory && x->route->files && files_has_script(x, script)))
		snprintf(script, room, "%s", front);
}

static bool send_params(struct gateway *g)
{
	struct exchange *x = g->exchange;
	uint8_t begin[FCGI_BEGIN_BYTES], header[FCGI_HEADER_BYTES];
	struct buf params = { 0 };
	char script[4096];
	const char *info = "";
	struct cgi_request request = {
		.head = &x->head,
		.path = x->path,
		.script_name = script,
		.root = x->site->root ? x->site->root : "",
		.client = x->client_text,
		.request_id = x->id,
		.server_name = x->site->host,
		.server_port = x->head.port.len ? "" : x->tls ? "443" : "80",
		.tls = x->tls,
	};
	char port[8];
	bool ok;

	if (x->head.port.len) {
		snprintf(port, sizeof(port), "%.*s", (int)x->head.port.len, x->head.port.at);
		request.server_port = port;
	}
	if (!cgi_split_script(x->path, script, sizeof(script), &info))
		choose_script(x, script, sizeof(script));
	request.path_info = info;
	ok = cgi_put_params(&params, &request);
	fcgi_put_begin(begin, REQUEST_ID, FCGI_RESPONDER, false);
	ok = ok && io_send(&g->io, begin, sizeof(begin));
	for (size_t at = 0; ok && at < buf_len(&params);) {
		size_t take = buf_len(&params) - at < FCGI_CONTENT_MAX ? buf_len(&params) - at : FCGI_CONTENT_MAX;
		const struct iovec pieces[] = { { header, sizeof(header) }, { buf_head(&params) + at, take } };

		fcgi_put_header(header, FCGI_PARAMS, REQUEST_ID, take);
		ok = io_sendv(&g->io, pieces, 2);
		at += take;
	}
	buf_fini(&params);
	fcgi_put_header(header, FCGI_PARAMS, REQUEST_ID, 0);
	return ok && io_send(&g->io, header, sizeof(header));
}

static void send_body(struct gateway *g, const uint8_t *bytes, size_t len)
{
	while (len) {
		size_t take = len < FCGI_CONTENT_MAX ? len : FCGI_CONTENT_MAX;
		uint8_t header[FCGI_HEADER_BYTES];
		const struct iovec pieces[] = { { header, sizeof(header) }, { (void *)bytes, take } };

		fcgi_put_header(header, FCGI_STDIN, REQUEST_ID, take);
		io_sendv(&g->io, pieces, 2); /* a failure is told by `ended` */
		bytes += take;
		len -= take;
	}
}

static void send_end_of_body(struct gateway *g)
{
	uint8_t header[FCGI_HEADER_BYTES];

	if (g->end_of_body_sent)
		return;
	g->end_of_body_sent = true;
	fcgi_put_header(header, FCGI_STDIN, REQUEST_ID, 0);
	io_send(&g->io, header, sizeof(header));
	exchange_wait(g->exchange, WAIT_UPSTREAM);
}

static void body(struct exchange *x, const uint8_t *bytes, size_t len)
{
	struct gateway *g = x->state;

	if (!g || g->state == GATEWAY_OVER)
		return;
	if (g->state == GATEWAY_CONNECTING) {
		if (!buf_append(&g->early, bytes, len))
			exchange_break_off(x, "out of memory");
		return;
	}
	send_body(g, bytes, len);
	if (io_unsent(&g->io) > HIGH_MARK) {
		g->holds = true;
		exchange_hold_body(x);
		exchange_wait(x, WAIT_UPSTREAM);
	}
}

static void body_over(struct exchange *x)
{
	struct gateway *g = x->state;

	if (g && g->state != GATEWAY_CONNECTING && g->state != GATEWAY_OVER)
		send_end_of_body(g);
}

/* ---- Connecting ---- */

static void connect_next(struct gateway *g)
{
	struct exchange *x = g->exchange;
	struct web_worker *w = x->worker;

	for (;;) {
		g->server = upstream_pick(g->upstream, g->tried, clock_ms());
		if (!g->server) {
			fail(g, 502, "no server could be reached");
			return;
		}
		atomic_fetch_add_explicit(&g->server->active, 1, memory_order_relaxed);
		g->since_us = clock_us();
		g->tried |= (uint64_t)1 << (g->server - g->upstream->servers);
		exchange_wait(x, WAIT_CONNECT);
		if (io_connect(&g->io, &w->loop, (struct sockaddr *)&g->server->address, g->server->address_len, &upstream_handler, g))
			return;
		let_go(g);
	}
}

static void on_ready(void *owner)
{
	struct gateway *g = owner;
	struct exchange *x = g->exchange;

	g->state = GATEWAY_ASKED;
	if (!send_params(g)) {
		fail(g, 502, "the request cannot be sent");
		return;
	}
	send_body(g, buf_head(&g->early), buf_len(&g->early));
	buf_fini(&g->early);
	if (x->body_over) {
		send_end_of_body(g);
		return;
	}
	exchange_wait(x, WAIT_BODY);
	exchange_want_body(x);
}

static void begin(struct exchange *x)
{
	struct gateway *g;

	/* Programs see a body without CONTENT_LENGTH as empty. */
	if (x->head.framing == HTTP_CHUNKED) {
		x->keeps = false;
		response_begin(x, 411);
		response_page(x, 411);
		return;
	}
	g = calloc(1, sizeof(*g));
	if (!g) {
		response_begin(x, 503);
		response_page(x, 503);
		return;
	}
	x->state = g;
	g->exchange = x;
	g->upstream = web_config_upstream(x->config, x->route->argument);
	/* What comes of the body waits in the kernel until there is somebody to take it. */
	exchange_hold_body(x);
	connect_next(g);
}

/* ---- The answer ---- */

static void begin_answer(struct gateway *g, const struct cgi_answer *answer)
{
	struct exchange *x = g->exchange;

	g->state = GATEWAY_ANSWERING;
	g->left = answer->length;
	response_begin(x, answer->status);
	for (size_t i = 0; i < answer->field_count; i++) {
		char name[128];

		snprintf(name, sizeof(name), "%.*s", (int)answer->fields[i].name.len, answer->fields[i].name.at);
		response_field(x, name, "%.*s", (int)answer->fields[i].value.len, answer->fields[i].value.at);
	}
	response_send(x, answer->length, NULL, 0);
}

static void pass_on(struct gateway *g, const uint8_t *bytes, size_t len)
{
	struct exchange *x = g->exchange;

	if (len > g->left)
		len = (size_t)g->left; /* more than was announced is not the client's */
	if (g->left != UINT64_MAX)
		g->left -= len;
	response_body(x, bytes, len);
	if (exchange_is_behind(x)) {
		io_pause(&g->io);
		exchange_wait(x, WAIT_SEND);
	}
}

/* Collects the head; what follows it in the same piece is body. */
static void take_head(struct gateway *g, const uint8_t *bytes, size_t len)
{
	static __thread struct cgi_answer answer; /* too large for the stack of a callback */
	struct buf head;
	size_t whole;

	if (buf_len(&g->head) + len > HEAD_MAX || !buf_append(&g->head, bytes, len)) {
		fail(g, 502, "the head of its answer is too long");
		return;
	}
	whole = cgi_head_length((const char *)buf_head(&g->head), buf_len(&g->head));
	if (!whole)
		return;
	if (!cgi_parse_head((const char *)buf_head(&g->head), whole, &answer)) {
		fail(g, 502, "the head of its answer is malformed");
		return;
	}
	begin_answer(g, &answer);
	head = g->head;
	g->head = (struct buf){ 0 };
	if (!g->ends && buf_len(&head) > whole)
		pass_on(g, buf_head(&head) + whole, buf_len(&head) - whole);
	buf_fini(&head);
}

static void take_output(struct gateway *g, const uint8_t *bytes, size_t len)
{
	if (g->state == GATEWAY_ASKED)
		take_head(g, bytes, len);
	else if (g->state == GATEWAY_ANSWERING)
		pass_on(g, bytes, len);
}

static void take_errors(struct gateway *g, const uint8_t *bytes, size_t len)
{
	if (buf_len(&g->errors) + len <= 2048 && !buf_append(&g->errors, bytes, len))
		return;
}

static void tell_errors(struct gateway *g)
{
	if (buf_len(&g->errors))
		log_warning(&g->exchange->subject, "%s: upstream %s says: %.*s", g->exchange->path, g->server->name,
			    (int)buf_len(&g->errors), (const char *)buf_head(&g->errors));
	buf_fini(&g->errors);
}

/* END_REQUEST, or the end of its connection. */
static void finish(struct gateway *g)
{
	struct exchange *x = g->exchange;

	tell_errors(g);
	if (g->state != GATEWAY_ANSWERING) {
		fail(g, 502, "it ended without an answer");
		return;
	}
	if (g->left && g->left != UINT64_MAX && x->head.method != HTTP_HEAD) {
		fail(g, 502, "its answer is shorter than it said");
		return;
	}
	g->state = GATEWAY_OVER;
	let_go(g);
	response_end(x);
}

static void take_content(struct gateway *g, const uint8_t *piece, size_t len)
{
	if (g->reader.record.type == FCGI_STDOUT)
		take_output(g, piece, len);
	else if (g->reader.record.type == FCGI_STDERR)
		take_errors(g, piece, len);
}

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct gateway *g = owner;

	if (g->exchange->timer.wait == WAIT_UPSTREAM)
		exchange_wait(g->exchange, WAIT_UPSTREAM);
	while (len && !g->ends && g->state != GATEWAY_OVER) {
		const uint8_t *piece;
		size_t used, piece_len;

		switch (fcgi_read(&g->reader, bytes, len, &used, &piece, &piece_len)) {
		case FCGI_CONTENT:
			take_content(g, piece, piece_len);
			break;
		case FCGI_DONE:
		case FCGI_RECORD:
			/* Its content says how the program ended, which the answer has told already. */
			if (g->reader.record.type == FCGI_END_REQUEST && !g->ends) {
				finish(g);
				return;
			}
			break;
		case FCGI_BAD:
			fail(g, 502, "what it sends is not FastCGI");
			return;
		case FCGI_MORE:
			break;
		}
		bytes += used;
		len -= used;
	}
}

static void on_drained(void *owner)
{
	struct gateway *g = owner;
	struct exchange *x = g->exchange;

	if (!g->holds || x->body_over)
		return;
	g->holds = false;
	exchange_wait(x, WAIT_BODY);
	exchange_want_body(x);
}

static void on_ended(void *owner, enum io_end why)
{
	struct gateway *g = owner;
	const char *text = io_error_text(&g->io, why);

	if (g->state == GATEWAY_CONNECTING) {
		log_info(&g->exchange->subject, "upstream %s: %s: %s", g->upstream->settings->name, g->server->name, text);
		upstream_failed(g->server, clock_ms());
		let_go(g);
		connect_next(g);
	} else if (g->state == GATEWAY_ANSWERING && why == IO_END_PEER && g->left == UINT64_MAX) {
		/* Without END_REQUEST an answer of unknown length may be cut: chunked framing can say so. */
		fail(g, 502, "it hung up within its answer");
	} else if (g->state != GATEWAY_OVER) {
		fail(g, 502, text);
	}
}

static const struct io_handler upstream_handler = { on_bytes, on_drained, on_ready, on_ended };

/* ---- From the client's side ---- */

static void drained(struct exchange *x)
{
	struct gateway *g = x->state;

	if (!g || !g->io.paused)
		return;
	exchange_wait(x, WAIT_UPSTREAM);
	io_resume(&g->io);
}

static void timed_out(struct exchange *x)
{
	struct gateway *g = x->state;

	if (g->state == GATEWAY_CONNECTING) {
		upstream_failed(g->server, clock_ms());
		let_go(g);
		connect_next(g);
		return;
	}
	fail(g, 504, "it did not answer in time");
}

const struct responder gateway_responder = {
	.name = "fastcgi",
	.begin = begin,
	.body = body,
	.body_over = body_over,
	.drained = drained,
	.timed_out = timed_out,
	.end = end,
};
