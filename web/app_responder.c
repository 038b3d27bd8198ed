/*
 * The app gets a thread when the whole body has come, or as much of it as is kept: a slow client occupies none meanwhile. What it answers is
 * taken when the client has taken what came before.
 */
#include "web/app_responder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/call.h"
#include "app/room.h"
#include "base/clock.h"
#include "web/cgi.h"

struct answering {
	struct app_call *call;
	bool started; /* it has a thread, or waits for one */
	bool holds;   /* the body is not wanted for now */
};

static void refuse(struct exchange *x, uint16_t status, const char *why)
{
	log_warning(&x->subject, "%s: %s: %s", x->path, x->route->to, why);
	x->keeps &= x->body_over;
	response_begin(x, status);
	if (status == 503)
		response_field(x, "Retry-After", "1");
	response_page(x, status);
}

static void end(struct exchange *x)
{
	struct answering *a = x->state;

	x->state = NULL;
	if (!a)
		return;
	if (a->call)
		app_call_leave(a->call);
	free(a);
}

/* ---- The request ---- */

/* What is below the route's prefix is the app's path. */
static bool put_params(struct exchange *x, struct app_call *call)
{
	char port[8];
	const struct cgi_request request = {
		.head = &x->head,
		.path = x->path,
		.script_name = call->prefix,
		.path_info = *(x->path + strlen(call->prefix)) ? x->path + strlen(call->prefix) : "/",
		.root = x->site->root ? x->site->root : "",
		.client = x->client_text,
		.request_id = x->id,
		.server_name = x->site->host,
		.server_port = x->head.port.len ? port : x->tls ? "443" : "80",
		.tls = x->tls,
	};

	snprintf(port, sizeof(port), "%.*s", (int)x->head.port.len, x->head.port.at);
	return cgi_put_params(&call->params, &request);
}

static void start(struct exchange *x)
{
	struct answering *a = x->state;

	a->started = true;
	exchange_wait(x, WAIT_UPSTREAM);
	if (!app_call_start(a->call))
		refuse(x, 503, "too many requests wait for a thread of [app] threads");
}

static void body(struct exchange *x, const uint8_t *bytes, size_t len)
{
	struct answering *a = x->state;

	if (!a || app_call_feed(a->call, bytes, len))
		return;
	a->holds = true;
	exchange_hold_body(x);
	exchange_wait(x, WAIT_UPSTREAM);
	if (!a->started)
		start(x);
}

static void body_over(struct exchange *x)
{
	struct answering *a = x->state;

	if (!a)
		return;
	app_call_feed_over(a->call, true);
	exchange_wait(x, WAIT_UPSTREAM);
	if (!a->started)
		start(x);
}

/* ---- The answer ---- */

static void begin_answer(struct exchange *x, const struct app_output *out)
{
	const char *name, *value;

	response_begin(x, (uint16_t)out->status);
	for (size_t at = 0; app_head_next(&out->head, &at, &name, &value);)
		response_field(x, name, "%s", value);
	response_send(x, out->over ? buf_len(&out->body) : LENGTH_UNKNOWN, buf_head(&out->body), buf_len(&out->body));
}

static void fail(struct exchange *x, uint16_t status, const char *why)
{
	if (x->answer == ANSWER_NONE)
		refuse(x, status, why);
	else
		exchange_break_off(x, why);
}

/* The exchange may be gone when this returns. */
static void pass_on(struct exchange *x, const struct app_output *out)
{
	struct answering *a = x->state;

	x->sql_us = out->sql_us;
	x->upstream_us = clock_us() - x->started_us;
	if (out->failed) {
		fail(x, 500, "out of memory");
		return;
	}
	if (out->status)
		begin_answer(x, out);
	else if (buf_len(&out->body))
		response_body(x, buf_head(&out->body), buf_len(&out->body));
	if (out->over) {
		response_end(x);
		return;
	}
	if (out->room && a->holds) {
		a->holds = false;
		exchange_want_body(x);
		exchange_wait(x, WAIT_BODY);
	} else if (out->status || buf_len(&out->body)) {
		exchange_wait(x, exchange_is_behind(x) ? WAIT_SEND : WAIT_UPSTREAM);
	}
}

static void news(struct app_call *call, void *owner)
{
	struct exchange *x = owner;
	struct app_output out;

	if (exchange_is_behind(x))
		return; /* drained() comes here again */
	app_call_take(call, &out);
	pass_on(x, &out);
	buf_fini(&out.head);
	buf_fini(&out.body);
}

static void drained(struct exchange *x)
{
	struct answering *a = x->state;

	if (a)
		news(a->call, x);
}

static void timed_out(struct exchange *x)
{
	fail(x, 504, "it did not answer in time");
}

static bool begin_call(struct exchange *x, struct answering *a)
{
	struct app_module *module = app_room_find(x->config->apps, x->route->argument);
	char prefix[4096];
	size_t len = strlen(x->route->prefix);

	if (!module)
		return false;
	while (len && x->route->prefix[len - 1] == '/')
		len--;
	snprintf(prefix, sizeof(prefix), "%.*s", (int)len, x->route->prefix);
	a->call = app_call_new(x->config->apps, module, prefix, &x->worker->inbox, news, x);
	return a->call && put_params(x, a->call);
}

static void begin(struct exchange *x)
{
	struct answering *a = calloc(1, sizeof(*a));

	x->state = a;
	if (!a || !begin_call(x, a)) {
		refuse(x, 503, "there is no such app now, or no memory");
		return;
	}
	if (x->body_over) {
		app_call_feed_over(a->call, true);
		start(x);
		return;
	}
	exchange_wait(x, WAIT_BODY);
	exchange_want_body(x);
}

const struct responder app_responder = {
	.name = "app",
	.begin = begin,
	.body = body,
	.body_over = body_over,
	.drained = drained,
	.timed_out = timed_out,
	.end = end,
};
