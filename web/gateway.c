/*
 *   CHOOSING ----> CONNECTING ----> ASKED ----> ANSWERING ----> OVER
 *      ^  choose()     |    on_ready() | gateway_begin_answer()  ^ gateway_finish()
 *      |  granted()    v               v            \--> TUNNEL -+
 *      +------------ try_next() <------+
 *
 * A request goes to another server when the first took nothing of it, or when asking twice does no harm (a safe method without a body) and
 * nothing of an answer was passed on. Requests that are not safe never go over a connection that was kept: the server may be closing it at
 * that moment, and nobody could tell whether it had taken the request.
 */
#include "web/gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/log.h"

enum {
	HIGH_MARK = 256 * 1024, /* unsent towards the server: the client is not read */
	ASKED_MAX = 3,		/* servers: a request that brings down whoever reads it does not meet all of them */
};

static const struct io_handler link_handler;
static void choose(struct gateway *g);

/* ---- The end ---- */

/* The server is done with, and how it went is known. */
static void let_go(struct gateway *g, enum upstream_outcome outcome, const char *why)
{
	if (g->since_us)
		g->exchange->upstream_us += clock_us() - g->since_us;
	g->since_us = 0;
	if (g->ticket)
		upstream_ticket_drop(g->ticket);
	if (g->link)
		upstream_link_close(g->link);
	if (g->server)
		upstream_give(g->upstream, g->server, outcome, why);
	g->ticket = NULL;
	g->link = NULL;
	g->server = NULL;
}

static void end(struct exchange *x)
{
	struct gateway *g = x->state;

	if (!g)
		return;
	let_go(g, UPSTREAM_NEITHER, NULL);
	buf_fini(&g->head);
	buf_fini(&g->early);
	buf_fini(&g->errors);
	/* An io handler may be on the stack below: it looks at the flag, and the loop frees. */
	g->ends = true;
	x->state = NULL;
	web_worker_free_later(x->worker, g);
}

/* ---- Failures ---- */

static void tell(const struct gateway *g, const char *why)
{
	const struct exchange *x = g->exchange;

	log_warning(&x->subject, "%s %s: upstream %s%s%s: %s", http_method_name(x->head.method), x->path,
		    upstream_name(g->upstream), g->server ? " " : "", g->server ? g->server->name : "", why);
}

static void answer_status(struct gateway *g, uint16_t status)
{
	struct exchange *x = g->exchange;

	g->state = GATEWAY_OVER;
	x->keeps &= x->body_over;
	response_begin(x, status);
	if (status == 503)
		response_field(x, "Retry-After", "1");
	response_page(x, status);
}

static bool may_ask_again(const struct gateway *g)
{
	const struct exchange *x = g->exchange;

	if (g->state < GATEWAY_ASKED)
		return true;
	return g->state == GATEWAY_ASKED && g->asked < ASKED_MAX && http_method_is_safe(x->head.method) && !x->body_came && x->body_over;
}

/* What the server that failed has left behind. */
static void forget_answer(struct gateway *g)
{
	buf_fini(&g->head);
	buf_fini(&g->errors);
	g->reader = (struct fcgi_reader){ 0 };
	g->chunked = (struct chunked){ 0 };
	g->end_sent = false;
	g->overloaded = false;
	g->end_have = 0;
	g->in_chunks = false;
	g->state = GATEWAY_CHOOSING;
}

static void try_next(struct gateway *g, const char *why)
{
	bool kept = g->link && g->link->was_kept;

	if (kept) {
		/* It has hung up on an idle connection, as it may: the same server by a new one. */
		g->wish.tried &= ~upstream_bit(g->upstream, g->server);
		g->wants_new_link = true;
	} else {
		log_info(&g->exchange->subject, "upstream %s: %s: %s; another is asked", upstream_name(g->upstream),
			 g->server->name, why);
	}
	g->asked -= kept;
	let_go(g, kept ? UPSTREAM_NEITHER : g->state < GATEWAY_ASKED ? UPSTREAM_UNREACHABLE : UPSTREAM_FAILED, why);
	forget_answer(g);
	choose(g);
}

void gateway_fail(struct gateway *g, uint16_t status, const char *why)
{
	struct exchange *x = g->exchange;

	/* One that is slow would only be slow twice. */
	if (g->server && may_ask_again(g) && (status != 504 || g->state == GATEWAY_CONNECTING)) {
		g->failed_with = status;
		try_next(g, why);
		return;
	}
	tell(g, why);
	let_go(g, UPSTREAM_FAILED, why);
	if (g->state < GATEWAY_ANSWERING) {
		answer_status(g, status);
		return;
	}
	/* Half an answer cannot be taken back, and must be seen to be half of one. */
	io_uncork(&x->connection->io);
	exchange_break_off(x, why);
}

void gateway_refused(struct gateway *g, const char *why)
{
	if (g->state == GATEWAY_ASKED && !g->exchange->body_came)
		g->state = GATEWAY_CONNECTING; /* as if nothing had been sent */
	gateway_fail(g, 503, why);
}

/* No server was to be had. */
static void give_up(struct gateway *g, uint16_t status, const char *why)
{
	tell(g, why);
	answer_status(g, status);
}

/* ---- The request's body ---- */

static void send_end(struct gateway *g)
{
	if (g->end_sent)
		return;
	g->end_sent = true;
	g->protocol->send_end(g);
	exchange_wait(g->exchange, WAIT_UPSTREAM);
}

static void body(struct exchange *x, const uint8_t *bytes, size_t len)
{
	struct gateway *g = x->state;

	if (!g || g->state == GATEWAY_OVER)
		return;
	if (g->state < GATEWAY_ASKED) {
		if (!buf_append(&g->early, bytes, len))
			exchange_break_off(x, "out of memory");
		return;
	}
	if (g->state == GATEWAY_TUNNEL) {
		exchange_wait(x, WAIT_TUNNEL);
		io_send(&g->link->io, bytes, len); /* a failure is told by `ended` */
	} else {
		g->protocol->send_body(g, bytes, len);
	}
	if (io_unsent(&g->link->io) <= HIGH_MARK)
		return;
	g->holds = true;
	exchange_hold_body(x);
	if (g->state != GATEWAY_TUNNEL)
		exchange_wait(x, WAIT_UPSTREAM);
}

static void body_over(struct exchange *x)
{
	struct gateway *g = x->state;

	if (g && (g->state == GATEWAY_ASKED || g->state == GATEWAY_ANSWERING))
		send_end(g);
}

/* ---- A server, and the request to it ---- */

static void ask(struct gateway *g)
{
	struct exchange *x = g->exchange;
	struct buf early = g->early;

	g->state = GATEWAY_ASKED;
	g->asked++;
	if (!g->protocol->ask(g)) {
		gateway_fail(g, 502, "the request cannot be sent");
		return;
	}
	g->early = (struct buf){ 0 };
	if (buf_len(&early))
		g->protocol->send_body(g, buf_head(&early), buf_len(&early));
	buf_fini(&early);
	if (x->body_over) {
		send_end(g);
		return;
	}
	exchange_wait(x, WAIT_BODY);
	exchange_want_body(x);
}

/* The client may be asked for its body only once; what is not safe needs a connection of which it is known that nothing was sent. */
static bool takes_kept(const struct gateway *g)
{
	const struct exchange *x = g->exchange;

	return !g->wants_new_link && http_method_is_safe(x->head.method) && x->body_over;
}

static void reach(struct gateway *g)
{
	struct exchange *x = g->exchange;

	g->since_us = clock_us();
	if (takes_kept(g))
		g->link = upstream_link_take(x->worker, g->server, &link_handler, g);
	if (g->link) {
		ask(g);
		return;
	}
	g->state = GATEWAY_CONNECTING;
	g->link = upstream_link_open(x->worker, g->upstream, g->server, &link_handler, g);
	if (g->link)
		exchange_wait(x, WAIT_CONNECT);
	else
		gateway_fail(g, 502, "no socket or memory for a connection");
}

static void granted(void *owner, struct upstream_server *server)
{
	struct gateway *g = owner;

	g->ticket = NULL;
	g->server = server;
	g->wish.tried |= upstream_bit(g->upstream, server);
	reach(g);
}

static void choose(struct gateway *g)
{
	struct exchange *x = g->exchange;
	const struct upstream_waiter waiter = { &x->worker->inbox, granted, g };

	switch (upstream_take(g->upstream, &g->wish, &waiter, &g->server, &g->ticket)) {
	case UPSTREAM_TAKEN:
		reach(g);
		break;
	case UPSTREAM_WAITS:
		exchange_wait(x, WAIT_QUEUE);
		break;
	case UPSTREAM_FULL:
		give_up(g, 503, "all servers are at max_connections, and the queue is full");
		break;
	case UPSTREAM_NONE_LEFT:
		give_up(g, g->failed_with ? g->failed_with : 502, "no server is left to ask");
		break;
	case UPSTREAM_CLOSED:
		give_up(g, 503, "all servers are drained or set down");
		break;
	}
}

/* ---- The sticky cookie ---- */

/* The value of `name` in a Cookie field: pairs parted by semicolons. */
static struct http_text cookie_value(struct http_text cookies, const char *name)
{
	size_t name_len = strlen(name);
	const char *at = cookies.at, *end = cookies.at + cookies.len;

	while (at < end) {
		const char *stop = memchr(at, ';', (size_t)(end - at));

		if (!stop)
			stop = end;
		while (at < stop && *at == ' ')
			at++;
		if ((size_t)(stop - at) > name_len && !memcmp(at, name, name_len) && at[name_len] == '=')
			return (struct http_text){ at + name_len + 1, (size_t)(stop - at) - name_len - 1 };
		at = stop + 1;
	}
	return (struct http_text){ NULL, 0 };
}

static void read_mark(struct gateway *g)
{
	const struct http_head *head = &g->exchange->head;
	struct http_text mark = { NULL, 0 };

	/* HTTP/2 may part cookies into several fields. */
	for (size_t i = 0; i < head->field_count && !mark.at; i++)
		if (http_text_is(head->fields[i].name, "Cookie"))
			mark = cookie_value(head->fields[i].value, g->settings->sticky);
	if (mark.len != UPSTREAM_MARK - 1)
		return;
	g->wish.mark = mark.at;
	g->wish.mark_len = mark.len;
}

static void put_mark(struct gateway *g)
{
	const struct exchange *x = g->exchange;
	const char *mark = g->server->mark;

	if (g->wish.mark && !memcmp(g->wish.mark, mark, UPSTREAM_MARK - 1))
		return;
	response_field(g->exchange, "Set-Cookie", "%s=%s; Path=/; HttpOnly; SameSite=Lax%s", g->settings->sticky, mark,
		       x->tls ? "; Secure" : "");
}

/* ---- The answer ---- */

void gateway_begin_answer(struct gateway *g, uint16_t status)
{
	g->state = GATEWAY_ANSWERING;
	response_begin(g->exchange, status);
}

void gateway_send_head(struct gateway *g, uint64_t length)
{
	g->left = length;
	if (g->settings->sticky)
		put_mark(g);
	response_send(g->exchange, length, NULL, 0);
}

/* The client takes less than comes: the server is not read for now. */
static void look_at_client(struct gateway *g)
{
	struct exchange *x = g->exchange;

	if (g->ends || !exchange_is_behind(x))
		return;
	io_pause(&g->link->io);
	exchange_wait(x, WAIT_SEND);
}

void gateway_pass_on(struct gateway *g, const uint8_t *bytes, size_t len)
{
	if (len > g->left)
		len = (size_t)g->left; /* more than was announced is not the client's */
	if (g->left != LENGTH_UNKNOWN)
		g->left -= len;
	response_body(g->exchange, bytes, len);
	look_at_client(g);
}

void gateway_finish(struct gateway *g, bool keeps, unsigned limit)
{
	struct exchange *x = g->exchange;
	struct upstream_link *l = g->link;

	/* A server that answered before it had all of the request still has the rest to come. */
	keeps &= g->end_sent;
	g->state = GATEWAY_OVER;
	g->link = NULL;
	if (keeps)
		upstream_link_keep(l, limit);
	else
		upstream_link_close(l);
	let_go(g, UPSTREAM_SERVED, NULL);
	response_end(x);
}

/* ---- From the server's side ---- */

static void on_ready(void *owner)
{
	struct gateway *g = owner;
	struct upstream_link *link = g->link;

	io_cork(&link->io);
	ask(g);
	io_uncork(&link->io);
}

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct gateway *g = owner;
	struct exchange *x = g->exchange;

	if (x->timer.wait == WAIT_UPSTREAM)
		exchange_wait(x, WAIT_UPSTREAM);
	if (g->state != GATEWAY_TUNNEL) {
		struct io *client = &x->connection->io; /* freed after this turn of the loop at the earliest */

		io_cork(client);
		g->protocol->take(g, bytes, len);
		io_uncork(client);
		return;
	}
	exchange_wait(x, WAIT_TUNNEL);
	x->carrier->send_body(x, bytes, len);
	look_at_client(g);
}

static void on_drained(void *owner)
{
	struct gateway *g = owner;
	struct exchange *x = g->exchange;

	if (!g->holds || x->body_over)
		return;
	g->holds = false;
	exchange_wait(x, g->state == GATEWAY_TUNNEL ? WAIT_TUNNEL : WAIT_BODY);
	exchange_want_body(x);
}

static void on_ended(void *owner, enum io_end why)
{
	struct gateway *g = owner;
	char text[UPSTREAM_WHY];

	/* A copy: the io is closed before it is told. */
	snprintf(text, sizeof(text), "%s", io_error_text(&g->link->io, why));
	if (g->state == GATEWAY_TUNNEL)
		gateway_finish(g, false, 0);
	else if (g->state == GATEWAY_CONNECTING)
		gateway_fail(g, 502, text);
	else if (why != IO_END_PEER || !g->protocol->hung_up(g))
		gateway_fail(g, 502, g->state == GATEWAY_ANSWERING ? "it hung up within its answer" :
				     why == IO_END_PEER		   ? "it hung up without an answer" :
								     text);
}

static const struct io_handler link_handler = { on_bytes, on_drained, on_ready, on_ended };

/* ---- From the client's side ---- */

static void refuse(struct exchange *x, uint16_t status)
{
	x->keeps = false;
	response_begin(x, status);
	response_page(x, status);
}

static const struct web_upstream *settings_of(const struct exchange *x, const char *name)
{
	const struct web_settings *web = x->config->web;
	size_t i = 0;

	while (strcmp(web->upstreams[i].name, name))
		i++; /* the settings were checked: it is there */
	return &web->upstreams[i];
}

/* FastCGI programs see a body without CONTENT_LENGTH as empty. */
static bool needs_length(const struct exchange *x)
{
	return settings_of(x, x->route->argument)->protocol == WEB_FASTCGI;
}

static void begin(struct exchange *x)
{
	const struct web_upstream *settings = settings_of(x, x->route->argument);
	struct gateway *g;

	g = calloc(1, sizeof(*g));
	if (!g) {
		refuse(x, 503);
		return;
	}
	x->state = g;
	g->exchange = x;
	g->settings = settings;
	g->protocol = settings->protocol == WEB_HTTP ? &gateway_http : &gateway_fastcgi;
	g->upstream = web_config_upstream(x->config, settings->name);
	if (settings->sticky)
		read_mark(g);
	/* What comes of the body waits in the kernel until there is somebody to take it. */
	exchange_hold_body(x);
	choose(g);
}

static void drained(struct exchange *x)
{
	struct gateway *g = x->state;

	if (!g || !g->link || !g->link->io.paused)
		return;
	exchange_wait(x, g->state == GATEWAY_TUNNEL ? WAIT_TUNNEL : WAIT_UPSTREAM);
	io_resume(&g->link->io);
}

static void timed_out(struct exchange *x)
{
	struct gateway *g = x->state;

	if (g->state == GATEWAY_CHOOSING)
		let_go(g, UPSTREAM_NEITHER, NULL);
	if (g->state == GATEWAY_CHOOSING)
		give_up(g, 503, "all servers are at max_connections, and none came free within queue_timeout");
	else if (g->state == GATEWAY_TUNNEL)
		gateway_finish(g, false, 0);
	else if (g->state == GATEWAY_CONNECTING)
		gateway_fail(g, 504, "it did not take the connection within connect_timeout");
	else
		gateway_fail(g, 504, "it said nothing for upstream_timeout");
}

const struct responder gateway_responder = {
	.name = "upstream",
	.needs_length = needs_length,
	.begin = begin,
	.body = body,
	.body_over = body_over,
	.drained = drained,
	.timed_out = timed_out,
	.end = end,
};
