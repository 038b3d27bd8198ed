/* Upstream servers that speak HTTP/1.1. */
#include "web/gateway.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "web/http_answer.h"

enum { KEEPALIVE = 64 /* idle connections of an upstream, where the settings do not say */ };

static const char last_chunk[] = "0\r\n\r\n";

/* ---- The request ---- */

static bool put(struct buf *out, const char *text, size_t len)
{
	return buf_append(out, text, len);
}

static bool put_text(struct buf *out, const char *text)
{
	return put(out, text, strlen(text));
}

static bool put_field(struct buf *out, const char *name, struct http_text value)
{
	return put_text(out, name) && put(out, ": ", 2) && put(out, value.at, value.len) && put(out, "\r\n", 2);
}

static bool put_target(struct buf *out, const struct http_head *head)
{
	return put_text(out, http_method_name(head->method)) && put(out, " ", 1) && put(out, head->path.at, head->path.len) &&
	       (!head->query.at || (put(out, "?", 1) && put(out, head->query.at, head->query.len))) && put_text(out, " HTTP/1.1\r\n");
}

static struct http_text text_of(const char *text)
{
	return (struct http_text){ text, strlen(text) };
}

/* host[:port] as the client named it. */
static struct http_text client_host(const struct exchange *x, char *room, size_t size)
{
	int len;

	if (!x->head.host.len)
		return text_of(x->site->host);
	len = snprintf(room, size, "%.*s%s%.*s", (int)x->head.host.len, x->head.host.at, x->head.port.len ? ":" : "", (int)x->head.port.len,
		       x->head.port.at);
	return (struct http_text){ room, (size_t)len < size ? (size_t)len : size - 1 };
}

static bool put_origin(struct buf *out, const struct gateway *g)
{
	const struct exchange *x = g->exchange;
	char room[512];
	struct http_text host = client_host(x, room, sizeof(room));

	return put_field(out, "Host", g->settings->host ? text_of(g->settings->host) : host) &&
	       put_field(out, "X-Forwarded-For", text_of(x->client_text)) &&
	       put_field(out, "X-Forwarded-Proto", text_of(x->tls ? "https" : "http")) &&
	       put_field(out, "X-Forwarded-Host", host) && (!x->id[0] || put_field(out, "X-Request-Id", text_of(x->id)));
}

static bool is_one_of(struct http_text name, const char *const *names)
{
	for (; *names; names++)
		if (http_text_is(name, *names))
			return true;
	return false;
}

static bool is_named(const struct http_head *head, struct http_text name)
{
	char word[64];

	if (name.len >= sizeof(word))
		return false;
	memcpy(word, name.at, name.len);
	word[name.len] = '\0';
	for (size_t i = 0; i < head->field_count; i++)
		if (http_text_is(head->fields[i].name, "Connection") && http_list_has(head->fields[i].value, word))
			return true;
	return false;
}

/*
 * Not: what is between the client and us; what is said above in its place, since a client could forge it; and names with an underscore, which
 * programs behind the server cannot tell from those with a hyphen. Nobody can make us drop Cookie or the like by naming it in Connection:
 * only the request that names it loses it.
 */
static bool is_passed(const struct http_head *head, struct http_text name)
{
	static const char *const kept_back[] = { "Connection", "Keep-Alive", "Proxy-Connection",  "TE",	       "Trailer",	  "Transfer-Encoding",
						 "Upgrade",    "Expect",     "Host",		  "Forwarded", "X-Forwarded-For", "X-Forwarded-Host",
						 "X-Forwarded-Proto", "X-Request-Id", "Content-Length", "Proxy", NULL };

	return !is_one_of(name, kept_back) && !memchr(name.at, '_', name.len) && !is_named(head, name);
}

static bool put_fields(struct buf *out, const struct http_head *head)
{
	for (size_t i = 0; i < head->field_count; i++) {
		const struct http_field *f = &head->fields[i];

		if (!is_passed(head, f->name))
			continue;
		if (!put(out, f->name.at, f->name.len) || !put(out, ": ", 2) || !put(out, f->value.at, f->value.len) || !put(out, "\r\n", 2))
			return false;
	}
	return true;
}

static bool put_framing(struct buf *out, const struct http_head *head)
{
	char line[64];

	if (head->framing == HTTP_NO_BODY)
		return true;
	if (head->framing == HTTP_CHUNKED)
		return put_text(out, "Transfer-Encoding: chunked\r\n");
	snprintf(line, sizeof(line), "Content-Length: %llu\r\n", (unsigned long long)head->content_length);
	return put_text(out, line);
}

static unsigned keepalive(const struct gateway *g)
{
	return g->settings->keepalive == WEB_KEEPALIVE_AUTO ? KEEPALIVE : g->settings->keepalive;
}

/* What the client asks for in its Upgrade field; only where the carrier can do it, and a body would not be in the way. */
static const struct http_text *wanted_upgrade(const struct gateway *g)
{
	const struct exchange *x = g->exchange;
	const struct http_text *connection = http_head_field(&x->head, "Connection");

	if (!x->carrier->tunnel || x->head.minor == 0 || x->head.framing != HTTP_NO_BODY || !connection || !http_list_has(*connection, "upgrade"))
		return NULL;
	return http_head_field(&x->head, "Upgrade");
}

static bool put_connection(struct buf *out, struct gateway *g)
{
	const struct http_text *upgrade = wanted_upgrade(g);

	g->upgrades = upgrade != NULL;
	if (upgrade)
		return put_text(out, "Connection: upgrade\r\n") && put_field(out, "Upgrade", *upgrade);
	return keepalive(g) || put_text(out, "Connection: close\r\n");
}

static bool ask(struct gateway *g)
{
	const struct http_head *head = &g->exchange->head;
	struct buf out = { 0 };
	bool ok = put_target(&out, head) && put_origin(&out, g) && put_fields(&out, head) && put_framing(&out, head) &&
		  put_connection(&out, g) && put_text(&out, "\r\n") && io_send(&g->link->io, buf_head(&out), buf_len(&out));

	buf_fini(&out);
	return ok;
}

/* Failures are told by `ended`. */
static void send_body(struct gateway *g, const uint8_t *bytes, size_t len)
{
	char size[24];
	const struct iovec pieces[] = { { size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", len) }, { (void *)bytes, len }, { (void *)"\r\n", 2 } };

	if (g->exchange->head.framing == HTTP_CHUNKED)
		io_sendv(&g->link->io, pieces, 3);
	else
		io_send(&g->link->io, bytes, len);
}

static void send_end(struct gateway *g)
{
	if (g->exchange->head.framing == HTTP_CHUNKED)
		io_send(&g->link->io, last_chunk, sizeof(last_chunk) - 1);
}

/* ---- The answer ---- */

static void put_answer_fields(struct gateway *g, const struct http_answer *answer)
{
	for (size_t i = 0; i < answer->field_count; i++) {
		const struct http_field *f = &answer->fields[i];
		char name[256];

		if (f->name.len >= sizeof(name))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)f->name.len, f->name.at);
		response_field(g->exchange, name, "%.*s", (int)f->value.len, f->value.at);
	}
}

/* From here on bytes are passed as they come, both ways. */
static void begin_tunnel(struct gateway *g, const struct http_answer *answer)
{
	struct exchange *x = g->exchange;

	if (!g->upgrades || !answer->upgrade.len) {
		gateway_fail(g, 502, "it changes to a protocol that was not asked for");
		return;
	}
	gateway_begin_answer(g, 101);
	response_field(x, "Connection", "upgrade");
	response_field(x, "Upgrade", "%.*s", (int)answer->upgrade.len, answer->upgrade.at);
	put_answer_fields(g, answer);
	gateway_send_head(g, LENGTH_UNKNOWN);
	if (g->ends)
		return;
	g->state = GATEWAY_TUNNEL;
	g->wants_new_link = true;
	exchange_wait(x, WAIT_TUNNEL);
	x->carrier->tunnel(x);
}

static void begin_answer(struct gateway *g, const struct http_answer *answer)
{
	if (answer->status == 101) {
		begin_tunnel(g, answer);
		return;
	}
	gateway_begin_answer(g, answer->status);
	put_answer_fields(g, answer);
	g->link_stays = answer->keep_alive;
	g->in_chunks = answer->framing == HTTP_ANSWER_CHUNKED;
	gateway_send_head(g, answer->length);
	if (g->ends)
		return;
	if (answer->framing == HTTP_ANSWER_EMPTY)
		g->left = 0;
}

/* Whether the answer's end is known by what has come. */
static bool is_whole(const struct gateway *g)
{
	return g->in_chunks ? g->chunked.state == CHUNKED_END : !g->left;
}

static void finish(struct gateway *g, size_t behind)
{
	gateway_finish(g, g->link_stays && !behind, keepalive(g));
}

/* Returns how many bytes belonged to it. */
static size_t take_chunks(struct gateway *g, const uint8_t *bytes, size_t len)
{
	size_t used = 0;

	while (used < len && !g->ends && g->chunked.state < CHUNKED_END) {
		struct chunked_piece piece;

		used += chunked_take(&g->chunked, bytes + used, len - used, &piece);
		if (piece.len)
			gateway_pass_on(g, piece.data, piece.len);
	}
	if (!g->ends && g->chunked.state == CHUNKED_BAD)
		gateway_fail(g, 502, "its answer is not properly chunked");
	return used;
}

static size_t take_plain(struct gateway *g, const uint8_t *bytes, size_t len)
{
	if (len > g->left)
		len = (size_t)g->left;
	gateway_pass_on(g, bytes, len);
	return len;
}

static void take_body(struct gateway *g, const uint8_t *bytes, size_t len)
{
	size_t used = 0;

	if (len)
		used = g->in_chunks ? take_chunks(g, bytes, len) : take_plain(g, bytes, len);
	if (!g->ends && is_whole(g))
		finish(g, len - used);
}

static void tunnel_on(struct gateway *g, const uint8_t *bytes, size_t len)
{
	if (len)
		g->exchange->carrier->send_body(g->exchange, bytes, len);
}

/* One head, of the answer or of an interim one; what follows it is given on. Returns false when more is needed or it is over. */
static bool take_head(struct gateway *g)
{
	static const struct http_limits limits = { .head_bytes = GATEWAY_HEAD_MAX };
	static __thread struct http_answer answer; /* too large for the stack of a callback */
	const char *bytes = (const char *)buf_head(&g->head), *why;
	size_t whole = 0;

	/* Empty lines in front, which http1_scan() would take, are of a server that miscounts. */
	if (bytes[0] == '\r' || bytes[0] == '\n')
		why = "no HTTP/1.x status line";
	else if (http1_scan(bytes, buf_len(&g->head), &whole, &limits) == HTTP_SCAN_MORE)
		return false;
	else if (whole > GATEWAY_HEAD_MAX)
		why = "the head of its answer is too long";
	else
		why = http_answer_parse(bytes, whole, g->exchange->head.method == HTTP_HEAD, &answer);
	if (why) {
		gateway_fail(g, 502, why);
		return false;
	}
	/* 100 (Continue) was said by us; 103 is a hint. */
	if (answer.status < 200 && answer.status != 101) {
		buf_consume(&g->head, whole);
		return buf_len(&g->head) > 0;
	}
	begin_answer(g, &answer);
	if (!g->ends && g->state >= GATEWAY_ANSWERING)
		buf_consume(&g->head, whole);
	return false;
}

static void take(struct gateway *g, const uint8_t *bytes, size_t len)
{
	struct upstream_link *l = g->link;
	struct buf rest;

	if (g->state == GATEWAY_ANSWERING) {
		take_body(g, bytes, len);
		return;
	}
	if (!buf_append(&g->head, bytes, len)) {
		gateway_fail(g, 502, "out of memory");
		return;
	}
	while (take_head(g))
		;
	if (g->ends || g->link != l || g->state < GATEWAY_ANSWERING)
		return;
	rest = g->head;
	g->head = (struct buf){ 0 };
	if (g->state == GATEWAY_TUNNEL)
		tunnel_on(g, buf_head(&rest), buf_len(&rest));
	else
		take_body(g, buf_head(&rest), buf_len(&rest));
	buf_fini(&rest);
}

static bool hung_up(struct gateway *g)
{
	if (g->state != GATEWAY_ANSWERING || g->in_chunks || g->left != LENGTH_UNKNOWN)
		return false;
	gateway_finish(g, false, 0);
	return true;
}

const struct gateway_protocol gateway_http = {
	.name = "HTTP",
	.ask = ask,
	.send_body = send_body,
	.send_end = send_end,
	.take = take,
	.hung_up = hung_up,
};
