#include "web/exchange.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "web/app_responder.h"
#include "web/files.h"
#include "web/gateway.h"
#include "web/guard.h"
#include "web/path.h"
#include "web/ready.h"
#include "web/security.h"
#include "web/spool.h"
#include "web/status.h"

/* ---- Whom a request is for ---- */

static void redirect_begin(struct exchange *x)
{
	response_redirect(x, 302, x->route->argument);
}
static const struct responder redirect_responder = { .name = "redirect", .begin = redirect_begin };

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
	log_info(&x->subject, "refused with %u: %s", status, why);
	x->keeps = false;
	response_begin(x, status);
	response_page(x, status);
}

/* The same for a request that is understood: the next one may be another matter. */
static void deny(struct exchange *x, struct http_verdict verdict, unsigned retry_s)
{
	log_info(&x->subject, "refused with %u: %s", verdict.status, verdict.why);
	x->keeps &= verdict.status != 413;
	response_begin(x, verdict.status);
	if (retry_s)
		response_field(x, "Retry-After", "%u", retry_s);
	response_page(x, verdict.status);
}

static const struct responder *choose(struct exchange *x)
{
	x->route = web_find_route(x->config->web, x->site, x->path);
	if (x->route && x->route->target == WEB_READY)
		return &ready_responder; /* balancers ask in clear */
	if (x->site->redirect_https && !x->tls)
		return &https_responder;
	if (x->route && x->route->target == WEB_REDIRECT)
		return &redirect_responder;
	if (x->route && x->route->target == WEB_APP)
		return &app_responder;
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

/* False: answered already. */
static bool is_let_in(struct exchange *x)
{
	unsigned retry_s;
	struct http_verdict verdict = guard_request(x, &retry_s);

	if (!verdict.status && !find_site(x))
		return false;
	if (!verdict.status)
		verdict = guard_site(x);
	if (verdict.status)
		deny(x, verdict, retry_s);
	return !verdict.status;
}

static void dispatch(struct exchange *x, char *room)
{
	guard_identify(x);
	if (!is_let_in(x) || !find_path(x, room))
		return;
	if (!x->body_over)
		guard_body_wanted(x, true);
	x->responder = choose(x);
	if (!x->responder) {
		response_begin(x, 404);
		response_page(x, 404);
		return;
	}
	if (x->head.framing == HTTP_CHUNKED && x->responder->needs_length && x->responder->needs_length(x))
		spool_begin(x, x->responder);
	else
		x->responder->begin(x);
}

/* ---- Life ---- */

struct http_limits http_limits_of(const struct web_worker *worker)
{
	return (struct http_limits){ .head_bytes = worker->config->web->max_header_bytes, .target_bytes = 8192 };
}

static void on_time_out(struct web_timer *timer)
{
	struct exchange *x = (struct exchange *)((char *)timer - offsetof(struct exchange, timer));

	if (timer->was >= WAIT_QUEUE && x->responder && x->responder->timed_out)
		x->responder->timed_out(x);
	else
		x->carrier->break_off(x, "timed out");
}

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct exchange *x = (const struct exchange *)((const char *)subject - offsetof(struct exchange, subject));
	bool is_behind_proxy = !address_equal(&x->client, &x->connection->address);

	snprintf(out, size, "web client %s%s%s%s%s", x->client_text, is_behind_proxy ? " by way of " : "",
		 is_behind_proxy ? x->connection->host : "", x->id[0] ? " request " : "", x->id);
}

struct exchange *exchange_new(struct connection *c, const void *head, size_t len)
{
	/* The normal form of a path is never longer than the head it stands in. */
	struct exchange *x = malloc(sizeof(*x) + 2 * len + 1);

	if (!x)
		return NULL;
	/* The array of fields, last in the head, needs no zeroing. */
	memset(x, 0, offsetof(struct exchange, head.fields));
	memset(&x->path, 0, offsetof(struct exchange, bytes) - offsetof(struct exchange, path));
	if (head)
		memcpy(x->bytes, head, len);
	x->bytes_len = len;
	x->carrier = c->carrier;
	x->connection = c;
	x->worker = c->worker;
	x->config = web_config_ref(c->worker->config);
	x->started_us = clock_us();
	x->file = -1;
	x->subject.describe = describe;
	x->client = c->address;
	x->tls = c->is_secure;
	memcpy(x->client_text, c->host, sizeof(x->client_text));
	web_timer_init(&x->timer, on_time_out);
	return x;
}

void exchange_begin(struct exchange *x, struct http_verdict verdict)
{
	x->body_over = x->whole;
	if (verdict.status)
		refuse(x, verdict.status, verdict.why);
	else
		dispatch(x, x->bytes + x->bytes_len);
}

static void note(struct exchange *x)
{
	struct web_worker *w = x->worker;

	if (x->status)
		access_log_add(w->log, &w->lines, x);
}

void exchange_free(struct exchange *x)
{
	if (x->responder && x->responder->end)
		x->responder->end(x);
	note(x);
	if (x->spool)
		spool_free(x->spool);
	if (x->file >= 0)
		close(x->file);
	exchange_wait(x, WAIT_NOTHING);
	web_config_unref(x->config);
	free(x);
}

/* ---- The request's body, time ---- */

/* Too long or too slow: says so where nothing was answered yet. True: the exchange is gone. */
static bool is_body_refused(struct exchange *x)
{
	struct http_verdict verdict = { 0, NULL };

	/* The rest of a body behind the answer is short, and nobody works for it. */
	if (x->answer != ANSWER_DONE)
		verdict = guard_body(x);
	if (!verdict.status)
		return false;
	if (x->answer == ANSWER_NONE) {
		refuse(x, verdict.status, verdict.why);
		return true;
	}
	log_info(&x->subject, "broken off: %s", verdict.why);
	exchange_break_off(x, verdict.why);
	return true;
}

void exchange_body(struct exchange *x, const uint8_t *bytes, size_t len)
{
	x->body_came += len;
	if (is_body_refused(x))
		return;
	if (x->responder && x->responder->body && x->answer != ANSWER_DONE)
		x->responder->body(x, bytes, len);
}

void exchange_body_over(struct exchange *x)
{
	x->whole = x->body_over = true;
	if (x->answer == ANSWER_DONE)
		x->carrier->finish(x);
	else if (x->responder && x->responder->body_over)
		x->responder->body_over(x);
}

void exchange_hold_body(struct exchange *x)
{
	if (x->whole && x->spool)
		spool_hold(x->spool);
	if (x->whole)
		return;
	guard_body_wanted(x, false);
	x->carrier->hold(x);
}

void exchange_want_body(struct exchange *x)
{
	if (x->whole && x->spool)
		spool_release(x->spool);
	if (x->whole)
		return;
	if (x->head.expects_continue && !x->body_came && !x->told_to_go_on) {
		x->told_to_go_on = true;
		x->carrier->go_on(x);
	}
	guard_body_wanted(x, true);
	x->carrier->release(x);
}

void exchange_wait(struct exchange *x, enum web_wait wait)
{
	web_timer_set(x->worker, &x->timer, wait);
}

bool exchange_is_behind(const struct exchange *x)
{
	return x->carrier->is_behind(x);
}

void exchange_break_off(struct exchange *x, const char *why)
{
	x->carrier->break_off(x, why);
}

/* ---- The answer ---- */

void response_begin(struct exchange *x, uint16_t status)
{
	struct buf *fields = &x->worker->fields;

	x->status = status;
	buf_fini(fields);
	if (!buf_append(fields, x->worker->standing, strlen(x->worker->standing)))
		x->keeps = false;
}

void response_field(struct exchange *x, const char *name, const char *format, ...)
{
	struct buf *fields = &x->worker->fields;
	char line[9500];
	va_list args;
	size_t start = (size_t)snprintf(line, sizeof(line), "%s: ", name), len = start;

	va_start(args, format);
	len += (size_t)vsnprintf(line + len, sizeof(line) - len - 2, format, args);
	va_end(args);
	if (len > sizeof(line) - 3)
		return; /* longer than any field has reason to be */
	if (!security_note_field(x, name, line + start))
		return;
	memcpy(line + len, "\r\n", 2);
	if (!buf_append(fields, line, len + 2))
		x->keeps = false;
}

bool exchange_has_no_body(const struct exchange *x)
{
	return x->head.method == HTTP_HEAD || x->status == 304 || x->status == 204 || x->status < 200;
}

void response_send(struct exchange *x, uint64_t length, const void *body, size_t len)
{
	if (exchange_has_no_body(x))
		len = 0;
	x->length = length;
	x->answer = ANSWER_BODY;
	x->body_sent += len;
	if (!security_put_fields(x))
		x->keeps = false;
	x->carrier->send_head(x, body, len);
}

void response_body(struct exchange *x, const void *body, size_t len)
{
	if (!len || exchange_has_no_body(x))
		return;
	x->body_sent += len;
	x->carrier->send_body(x, body, len);
}

void response_end(struct exchange *x)
{
	x->answer = ANSWER_DONE;
	x->carrier->finish(x);
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

void response_file(struct exchange *x, int file, uint64_t at, uint64_t length)
{
	x->file = file;
	x->file_at = at;
	x->file_left = exchange_has_no_body(x) ? 0 : length;
	x->answer = ANSWER_FILE;
	x->carrier->send_file(x);
}

void exchange_file_failed(struct exchange *x)
{
	log_warning(&x->subject, "%s: the file became shorter or unreadable while it was sent", x->path);
	exchange_break_off(x, "a file failed");
}

void exchange_drained(struct exchange *x)
{
	if (x->answer == ANSWER_BODY && x->responder && x->responder->drained)
		x->responder->drained(x);
}
