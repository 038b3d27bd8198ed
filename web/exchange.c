#include "web/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/files.h"
#include "web/gateway.h"
#include "web/path.h"
#include "web/status.h"

/* ---- Whom a request is for ---- */

static void redirect_begin(struct exchange *x)
{
	response_redirect(x, 302, x->route->argument);
}
static const struct responder redirect_responder = { .name = "redirect", .begin = redirect_begin };

static void absent_begin(struct exchange *x)
{
	response_begin(x, 503);
	response_page(x, 503);
}
static const struct responder absent_responder = { .name = "absent", .begin = absent_begin };

/* The same URL by https. The port of the TLS listener is not known to be the one people see: the default is assumed. */
static void https_begin(struct exchange *x)
{
	char location[9216];

	snprintf(location, sizeof(location), "https://%.*s%.*s%s%.*s", (int)x->head.host.len, x->head.host.at, (int)x->head.path.len,
		 x->head.path.at, x->head.query.at ? "?" : "", (int)x->head.query.len, x->head.query.at ? x->head.query.at : "");
	response_redirect(x, 308, location);
}
static const struct responder https_responder = { .name = "https", .begin = https_begin };

/* An answer that is only a status. */
static void refuse(struct exchange *x, uint16_t status, const char *why)
{
	log_info(&x->connection->subject, "refused with %u: %s", status, why);
	x->keeps = false;
	response_begin(x, status);
	response_page(x, status);
}

static const struct responder *choose(struct exchange *x)
{
	if (x->site->redirect_https && !x->connection->tls)
		return &https_responder;
	x->route = web_find_route(x->config->web, x->site, x->path);
	if (x->route && x->route->target == WEB_REDIRECT)
		return &redirect_responder;
	if (x->route && x->route->target == WEB_ABSENT)
		return &absent_responder;
	if (x->route && x->route->target == WEB_UPSTREAM && !(x->route->files && files_has(x)))
		return &gateway_responder;
	return x->site->root ? &files_responder : NULL;
}

/* False: answered already. */
static bool find_site(struct exchange *x)
{
	x->site = web_find_site(x->config->web, x->head.host.at ? x->head.host.at : "", x->head.host.len);
	if (!x->site) {
		refuse(x, 421, "no site of that name");
		return false;
	}
	return true;
}

static bool find_path(struct exchange *x, char *room)
{
	if (http_text_is(x->head.path, "*")) {
		response_begin(x, 204);
		response_field(x, "Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
		response_send(x, 0, NULL, 0);
		response_end(x);
		return false;
	}
	if (!path_normalise(x->head.path.at, x->head.path.len, room)) {
		refuse(x, 400, "a path that leads nowhere");
		return false;
	}
	x->path = room;
	return true;
}

static void dispatch(struct exchange *x, char *room)
{
	if (!find_site(x) || !find_path(x, room))
		return;
	x->responder = choose(x);
	if (!x->responder) {
		response_begin(x, 404);
		response_page(x, 404);
		return;
	}
	x->responder->begin(x);
}

/* ---- Life ---- */

static struct exchange *new_exchange(struct connection *c, const char *head, size_t len)
{
	/* The normal form of a path is never longer than the head it stands in. */
	struct exchange *x = malloc(sizeof(*x) + 2 * len + 1);

	if (!x)
		return NULL;
	memset(x, 0, offsetof(struct exchange, head));
	memset(&x->path, 0, offsetof(struct exchange, bytes) - offsetof(struct exchange, path));
	x->head.field_count = 0;
	memcpy(x->bytes, head, len);
	x->connection = c;
	x->config = web_config_ref(c->worker->config);
	x->started_us = clock_us();
	x->file = -1;
	c->exchange = x;
	return x;
}

static void begin_body(struct exchange *x)
{
	struct connection *c = x->connection;

	c->body_left = x->head.framing == HTTP_LENGTH ? x->head.content_length : 0;
	c->body_over = x->head.framing == HTTP_NO_BODY || (x->head.framing == HTTP_LENGTH && !c->body_left);
}

struct exchange *exchange_begin(struct connection *c, const char *head, size_t len)
{
	const struct http_limits limits = { .head_bytes = c->worker->config->web->max_header_bytes, .target_bytes = 8192 };
	struct exchange *x = new_exchange(c, head, len);
	struct http_verdict verdict;

	if (!x)
		return NULL;
	verdict = http1_parse(x->bytes, len, &limits, &x->head);
	if (verdict.status) {
		/* Where the request ends is not known: nothing that follows can be trusted. */
		x->head.framing = HTTP_NO_BODY;
		refuse(x, verdict.status, verdict.why);
		return x;
	}
	x->keeps = x->head.keep_alive;
	begin_body(x);
	dispatch(x, x->bytes + len);
	return x;
}

void exchange_refuse(struct connection *c, uint16_t status, const char *why)
{
	struct exchange *x = new_exchange(c, "", 0);

	if (!x) {
		connection_close(c, "out of memory");
		return;
	}
	memset(&x->head, 0, offsetof(struct http_head, fields));
	refuse(x, status, why);
}

static void note(struct exchange *x)
{
	struct web_worker *w = x->connection->worker;

	if (w->log && x->status)
		access_log_add(w->log, &w->lines, x);
}

void exchange_abort(struct exchange *x)
{
	note(x);
	if (x->responder && x->responder->end)
		x->responder->end(x);
	if (x->file >= 0)
		close(x->file);
	web_config_unref(x->config);
	free(x);
}

void exchange_body(struct exchange *x, const uint8_t *bytes, size_t len)
{
	x->body_came += len;
	if (x->responder && x->responder->body && x->answer != ANSWER_DONE)
		x->responder->body(x, bytes, len);
}

void exchange_body_over(struct exchange *x)
{
	if (x->answer == ANSWER_DONE)
		connection_answered(x->connection);
	else if (x->responder && x->responder->body_over)
		x->responder->body_over(x);
}

/* ---- The answer ---- */

void response_begin(struct exchange *x, uint16_t status)
{
	x->status = status;
	buf_fini(&x->connection->worker->fields);
}

void response_field(struct exchange *x, const char *name, const char *format, ...)
{
	struct buf *fields = &x->connection->worker->fields;
	char line[9500];
	va_list args;
	size_t len = (size_t)snprintf(line, sizeof(line), "%s: ", name);

	va_start(args, format);
	len += (size_t)vsnprintf(line + len, sizeof(line) - len - 2, format, args);
	va_end(args);
	if (len > sizeof(line) - 3)
		return; /* longer than any field has reason to be */
	memcpy(line + len, "\r\n", 2);
	if (!buf_append(fields, line, len + 2))
		x->keeps = false;
}

/* RFC 9112 section 6.3: an answer without a body by its nature. */
static bool has_no_body(const struct exchange *x)
{
	return x->head.method == HTTP_HEAD || x->status == 304 || x->status == 204 || x->status < 200;
}

static const char *framing_field(struct exchange *x, char line[64])
{
	/* A 304 would state the length of what it does not send; 204 may state none. */
	if (x->status == 204 || x->status == 304)
		return "";
	if (x->length != LENGTH_UNKNOWN) {
		snprintf(line, 64, "Content-Length: %llu\r\n", (unsigned long long)x->length);
		return line;
	}
	if (x->head.minor >= 1) {
		x->chunks = true;
		return "Transfer-Encoding: chunked\r\n";
	}
	x->keeps = false;
	return "";
}

static const char *connection_field(const struct exchange *x)
{
	if (!x->keeps)
		return "Connection: close\r\n";
	return x->head.minor == 0 ? "Connection: keep-alive\r\n" : "";
}

static struct iovec piece(const void *bytes, size_t len)
{
	return (struct iovec){ (void *)bytes, len };
}

/* Sends pieces of a body in the answer's framing, with `head` in front. */
static void send_pieces(struct exchange *x, struct iovec head, struct iovec fields, const void *body, size_t len)
{
	struct iovec pieces[5];
	char size[24];
	int count = 0;

	if (head.iov_len)
		pieces[count++] = head;
	if (fields.iov_len)
		pieces[count++] = fields;
	if (len && !has_no_body(x)) {
		if (x->chunks)
			pieces[count++] = piece(size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", len));
		pieces[count++] = piece(body, len);
		if (x->chunks)
			pieces[count++] = piece("\r\n", 2);
		x->body_sent += len;
	}
	/* A failure is told by the io's `ended`. */
	io_sendv(&x->connection->io, pieces, count);
}

void response_send(struct exchange *x, uint64_t length, const void *body, size_t len)
{
	struct web_worker *w = x->connection->worker;
	char head[512], framing[64];
	size_t head_len;

	x->length = length;
	x->answer = ANSWER_BODY;
	x->keeps &= !w->draining;
	{
		const char *frame = framing_field(x, framing);

		head_len = (size_t)snprintf(head, sizeof(head), "HTTP/1.1 %u %s\r\nDate: %s\r\nServer: Tandem\r\n%s%s", x->status,
					    status_name(x->status), w->date, frame, connection_field(x));
	}
	if (!buf_append(&w->fields, "\r\n", 2)) {
		connection_close(x->connection, "out of memory");
		return;
	}
	send_pieces(x, piece(head, head_len), piece(buf_head(&w->fields), buf_len(&w->fields)), body, len);
	buf_fini(&w->fields);
}

void response_body(struct exchange *x, const void *body, size_t len)
{
	if (len)
		send_pieces(x, piece(NULL, 0), piece(NULL, 0), body, len);
}

static void complete(struct exchange *x)
{
	x->answer = ANSWER_DONE;
	connection_answered(x->connection);
}

void response_end(struct exchange *x)
{
	if (x->chunks && !has_no_body(x))
		io_send(&x->connection->io, "0\r\n\r\n", 5);
	complete(x);
}

void response_page(struct exchange *x, uint16_t status)
{
	char page[STATUS_PAGE_BYTES];
	size_t len = status_page(status, page);

	response_field(x, "Content-Type", "text/html; charset=utf-8");
	response_field(x, "X-Content-Type-Options", "nosniff");
	response_send(x, len, page, len);
	response_end(x);
}

void response_redirect(struct exchange *x, uint16_t status, const char *location)
{
	response_begin(x, status);
	response_field(x, "Location", "%s", location);
	response_page(x, status);
}

/* ---- Files ---- */

/* The head promised more than there is: the only honest end is the connection's. */
static void break_off(struct exchange *x, const char *why)
{
	log_warning(&x->connection->subject, "%s: %s", x->path, why);
	connection_close(x->connection, why);
}

static void pump_file(struct exchange *x)
{
	struct io *io = &x->connection->io;

	while (x->file_left && !io_unsent(io)) {
		ssize_t n = io_send_file(io, x->file, (off_t)x->file_at, x->file_left < SIZE_MAX / 2 ? (size_t)x->file_left : SIZE_MAX / 2);

		if (n < 0) {
			if (io->state == IO_OPEN)
				break_off(x, "the file became shorter or unreadable while it was sent");
			return;
		}
		if (n == 0)
			break;
		x->file_at += (uint64_t)n;
		x->file_left -= (uint64_t)n;
		x->body_sent += (uint64_t)n;
	}
	if (x->file_left || io_unsent(io)) {
		connection_wait(x->connection, WAIT_SEND);
		return;
	}
	complete(x);
}

void response_file(struct exchange *x, int file, uint64_t at, uint64_t length)
{
	x->file = file;
	x->file_at = at;
	x->file_left = has_no_body(x) ? 0 : length;
	x->answer = ANSWER_FILE;
	pump_file(x);
}

void exchange_drained(struct exchange *x)
{
	if (x->answer == ANSWER_FILE)
		pump_file(x);
	else if (x->answer == ANSWER_BODY && x->responder && x->responder->drained)
		x->responder->drained(x);
}
