#include "app/fastcgi.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "app/call.h"
#include "app/room.h"
#include "app/settings.h"
#include "base/fastcgi.h"
#include "base/inbox.h"
#include "base/io.h"
#include "base/listen.h"
#include "base/log.h"

enum { PARAMS_MAX = 1024 * 1024, MANAGEMENT_MAX = 1024, HIGH_MARK = 256 * 1024, ACCEPT_BATCH = 16, CONNECTIONS_MAX = 4096, NAME_MAX_BYTES = 64 };

enum asking_state {
	ASKING_NOTHING, /* between requests */
	ASKING_PARAMS,
	ASKING_STDIN,  /* the call is made; its input comes */
	ASKING_ANSWER, /* all of the input has come */
	ASKING_CLOSED, /* on the dead list */
};

struct asking {
	struct log_subject subject;
	TAILQ_ENTRY(asking) link;
	struct app_fastcgi *server;
	struct io io;
	struct fcgi_reader reader;
	enum asking_state state;
	uint16_t id; /* of the request under way */
	bool keeps;
	bool ends; /* after the last byte of the answer */
	bool started; /* the app has a thread, or waits for one */
	bool begun;   /* the head of the answer was sent */
	bool holds; /* its bytes are not received: the app has enough for now */
	struct app_call *call;
	struct buf content; /* of a record that is wanted whole */
	struct buf params;
};

struct port {
	struct app_fastcgi *server;
	struct listen_socket at;
	struct event *event;
};

struct app_fastcgi {
	struct app_room *room;
	char *app; /* of requests that name none; NULL: they are refused */
	struct event_base *base;
	struct io_loop loop;
	bool has_loop;
	struct inbox inbox;
	struct event *reaper;
	pthread_t thread;
	bool started;
	bool draining;
	TAILQ_HEAD(asking_list, asking) all;
	struct asking_list dead;
	_Atomic size_t count;
	size_t port_count;
	struct port *ports;
};

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	(void)subject;
	snprintf(out, size, "FastCGI client");
}

/* ---- The end ---- */

static void close_asking(struct asking *a, const char *why)
{
	struct app_fastcgi *server = a->server;

	if (a->state == ASKING_CLOSED)
		return;
	log_debug(&a->subject, "closed: %s", why);
	a->state = ASKING_CLOSED;
	if (a->call)
		app_call_leave(a->call);
	a->call = NULL;
	io_close(&a->io);
	buf_fini(&a->content);
	buf_fini(&a->params);
	TAILQ_REMOVE(&server->all, a, link);
	TAILQ_INSERT_TAIL(&server->dead, a, link);
	atomic_fetch_sub_explicit(&server->count, 1, memory_order_relaxed);
	event_active(server->reaper, EV_TIMEOUT, 0);
}

static void on_reap(evutil_socket_t fd, short what, void *arg)
{
	struct app_fastcgi *server = arg;
	struct asking *a;

	(void)fd, (void)what;
	while ((a = TAILQ_FIRST(&server->dead))) {
		TAILQ_REMOVE(&server->dead, a, link);
		free(a);
	}
}

/* ---- Answering ---- */

static void send_stream(struct asking *a, enum fcgi_type type, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len) {
		size_t take = len < FCGI_CONTENT_MAX ? len : FCGI_CONTENT_MAX;
		uint8_t header[FCGI_HEADER_BYTES];
		const struct iovec pieces[] = { { header, sizeof(header) }, { (void *)at, take } };

		fcgi_put_header(header, type, a->id, take);
		io_sendv(&a->io, pieces, 2); /* a failure is told by `ended` */
		at += take;
		len -= take;
	}
}

static void send_end(struct asking *a, uint16_t id, uint32_t status, enum fcgi_end end)
{
	uint8_t record[FCGI_END_BYTES];

	fcgi_put_end(record, id, status, end);
	io_send(&a->io, record, sizeof(record));
}

/* The request is answered: the next one, or the end once all is sent. */
static void finish(struct asking *a, uint32_t status)
{
	uint8_t header[FCGI_HEADER_BYTES];

	fcgi_put_header(header, FCGI_STDOUT, a->id, 0);
	io_send(&a->io, header, sizeof(header));
	send_end(a, a->id, status, FCGI_REQUEST_COMPLETE);
	if (a->call)
		app_call_leave(a->call);
	a->call = NULL;
	a->state = ASKING_NOTHING;
	buf_fini(&a->params);
	a->ends = !a->keeps || a->server->draining;
	if (a->ends && !io_unsent(&a->io))
		io_finish_sending(&a->io);
	if (a->holds)
		io_resume(&a->io);
	a->holds = false;
}

static void refuse(struct asking *a, unsigned status, const char *why)
{
	char page[512];
	int len = snprintf(page, sizeof(page), "Status: %u\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%u: %s\n", status, status, why);

	log_warning(&a->subject, "refused with %u: %s", status, why);
	send_stream(a, FCGI_STDOUT, page, (size_t)len);
	finish(a, 1);
}

static void send_head(struct asking *a, const struct app_output *out)
{
	const char *name, *value;
	struct buf head = { 0 };
	char line[9000];
	bool fine;

	snprintf(line, sizeof(line), "Status: %u\r\n", out->status);
	fine = buf_append(&head, line, strlen(line));
	for (size_t at = 0; fine && app_head_next(&out->head, &at, &name, &value);) {
		snprintf(line, sizeof(line), "%s: %s\r\n", name, value);
		fine = buf_append(&head, line, strlen(line));
	}
	a->begun = true;
	if (fine && buf_append(&head, "\r\n", 2))
		send_stream(a, FCGI_STDOUT, buf_head(&head), buf_len(&head));
	else
		close_asking(a, "out of memory");
	buf_fini(&head);
}

static void pass_on(struct asking *a, const struct app_output *out)
{
	if (out->failed) {
		/* Who has seen part of the answer can only be told by the end of the connection. */
		if (a->begun)
			close_asking(a, "out of memory, or a body that was cut");
		else
			refuse(a, 500, "out of memory, or a body that was cut");
		return;
	}
	if (out->status)
		send_head(a, out);
	if (a->state == ASKING_CLOSED)
		return;
	send_stream(a, FCGI_STDOUT, buf_head(&out->body), buf_len(&out->body));
	if (out->over) {
		finish(a, 0);
	} else if (out->room && a->holds) {
		a->holds = false;
		io_resume(&a->io);
	}
}

static void news(struct app_call *call, void *owner)
{
	struct asking *a = owner;
	struct app_output out;

	if (io_unsent(&a->io) > HIGH_MARK)
		return; /* on_drained() comes here again */
	app_call_take(call, &out);
	pass_on(a, &out);
	buf_fini(&out.head);
	buf_fini(&out.body);
}

/* ---- Asking ---- */

/* A variable of those that came; an empty text when it is not there. False: too long. */
static bool find_param(const struct buf *params, const char *name, char *out, size_t size)
{
	struct fcgi_pair pair;
	size_t used;

	*out = '\0';
	for (size_t at = 0; at < buf_len(params); at += used) {
		if (fcgi_take_pair(buf_head(params) + at, buf_len(params) - at, buf_len(params), &used, &pair) != FCGI_PAIR)
			return false;
		if (pair.name_len == strlen(name) && !memcmp(pair.name, name, pair.name_len)) {
			if (pair.value_len >= size)
				return false;
			memcpy(out, pair.value, pair.value_len);
			out[pair.value_len] = '\0';
		}
	}
	return true;
}

static void make_call(struct asking *a)
{
	char app[NAME_MAX_BYTES + 1], prefix[1024];
	struct app_module *module;

	a->state = ASKING_STDIN;
	a->started = a->begun = false;
	if (!find_param(&a->params, "TANDEM_APP", app, sizeof(app)) || !find_param(&a->params, "TANDEM_PREFIX", prefix, sizeof(prefix))) {
		refuse(a, 400, "its variables are malformed, or TANDEM_APP or TANDEM_PREFIX is too long");
		return;
	}
	if (!*app && a->server->app)
		snprintf(app, sizeof(app), "%s", a->server->app);
	module = *app ? app_room_find(a->server->room, app) : NULL;
	if (!module) {
		refuse(a, 404, *app ? "there is no app of the name that TANDEM_APP gives"
				    : "the variable TANDEM_APP is missing: nginx sets it by \"fastcgi_param TANDEM_APP NAME;\"");
		return;
	}
	a->call = app_call_new(a->server->room, module, prefix, &a->server->inbox, news, a);
	if (!a->call) {
		refuse(a, 503, "out of memory");
		return;
	}
	a->call->params = a->params;
	a->params = (struct buf){ 0 };
}

static void start(struct asking *a)
{
	if (a->started)
		return;
	a->started = true;
	if (!app_call_start(a->call))
		refuse(a, 503, "too many requests wait for a thread of [app] threads");
}

static void on_begin(struct asking *a)
{
	uint16_t role;
	bool keeps;

	if (a->ends)
		return;
	if (!fcgi_parse_begin(buf_head(&a->content), buf_len(&a->content), &role, &keeps)) {
		close_asking(a, "a malformed record");
	} else if (a->state != ASKING_NOTHING) {
		send_end(a, a->reader.record.id, 0, FCGI_CANT_MPX_CONN);
	} else if (role != FCGI_RESPONDER) {
		send_end(a, a->reader.record.id, 0, FCGI_UNKNOWN_ROLE);
	} else {
		a->id = a->reader.record.id;
		a->keeps = keeps;
		a->state = ASKING_PARAMS;
	}
}

static bool put_answer(struct buf *out, const char *name, const char *value)
{
	size_t len = fcgi_pair_bytes(strlen(name), strlen(value));
	uint8_t *at = buf_reserve(out, len);

	if (at)
		buf_commit(out, fcgi_put_pair(at, name, strlen(name), value, strlen(value)));
	return at != NULL;
}

/* FastCGI section 4.1: what this server can. */
static void on_get_values(struct asking *a)
{
	static const struct {
		const char *name, *value;
	} known[] = { { "FCGI_MAX_CONNS", "4096" }, { "FCGI_MAX_REQS", "4096" }, { "FCGI_MPXS_CONNS", "0" } };
	struct buf answer = { 0 };
	struct fcgi_pair pair;
	size_t used;

	for (size_t at = 0; at < buf_len(&a->content); at += used) {
		if (fcgi_take_pair(buf_head(&a->content) + at, buf_len(&a->content) - at, MANAGEMENT_MAX, &used, &pair) != FCGI_PAIR)
			break;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			if (pair.name_len == strlen(known[i].name) && !memcmp(pair.name, known[i].name, pair.name_len) &&
			    !put_answer(&answer, known[i].name, known[i].value))
				break;
	}
	{
		uint8_t header[FCGI_HEADER_BYTES];

		fcgi_put_header(header, FCGI_GET_VALUES_RESULT, 0, buf_len(&answer));
		io_send(&a->io, header, sizeof(header));
		if (buf_len(&answer))
			io_send(&a->io, buf_head(&answer), buf_len(&answer));
	}
	buf_fini(&answer);
}

static void on_unknown(struct asking *a)
{
	uint8_t record[FCGI_HEADER_BYTES + 8] = { 0 };

	fcgi_put_header(record, FCGI_UNKNOWN_TYPE, 0, 8);
	record[FCGI_HEADER_BYTES] = a->reader.record.type;
	io_send(&a->io, record, sizeof(record));
}

/* ---- Records ---- */

static bool is_ours(const struct asking *a, enum asking_state state)
{
	return a->state == state && a->reader.record.id == a->id;
}

/* Content of a record that is wanted whole, or of the variables, collected. */
static void collect(struct asking *a, struct buf *into, size_t limit, const uint8_t *piece, size_t len)
{
	if (buf_len(into) + len > limit || !buf_append(into, piece, len))
		close_asking(a, "more variables than allowed, or out of memory");
}

static void take_content(struct asking *a, const uint8_t *piece, size_t len)
{
	switch (a->reader.record.type) {
	case FCGI_BEGIN_REQUEST:
	case FCGI_GET_VALUES:
		collect(a, &a->content, MANAGEMENT_MAX, piece, len);
		break;
	case FCGI_PARAMS:
		if (is_ours(a, ASKING_PARAMS))
			collect(a, &a->params, PARAMS_MAX, piece, len);
		break;
	case FCGI_STDIN:
		if (!is_ours(a, ASKING_STDIN) || app_call_feed(a->call, piece, len))
			break;
		a->holds = true;
		io_pause(&a->io);
		start(a);
		break;
	default:
		break;
	}
}

static void end_of_stream(struct asking *a)
{
	if (a->reader.record.type == FCGI_PARAMS && is_ours(a, ASKING_PARAMS)) {
		make_call(a);
	} else if (a->reader.record.type == FCGI_STDIN && is_ours(a, ASKING_STDIN)) {
		a->state = ASKING_ANSWER;
		app_call_feed_over(a->call, true);
		start(a);
	}
}

static void take_record(struct asking *a)
{
	switch (a->reader.record.type) {
	case FCGI_BEGIN_REQUEST:
		on_begin(a);
		break;
	case FCGI_GET_VALUES:
		on_get_values(a);
		break;
	case FCGI_ABORT_REQUEST:
		if (a->state != ASKING_NOTHING && a->reader.record.id == a->id)
			finish(a, 1);
		break;
	case FCGI_PARAMS:
	case FCGI_STDIN:
		if (!a->reader.record.content_len)
			end_of_stream(a);
		break;
	default:
		if (!a->reader.record.id)
			on_unknown(a);
		break;
	}
	if (a->state != ASKING_CLOSED)
		buf_fini(&a->content);
}

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct asking *a = owner;

	while (len && a->state != ASKING_CLOSED) {
		const uint8_t *piece;
		size_t used, piece_len;

		switch (fcgi_read(&a->reader, bytes, len, &used, &piece, &piece_len)) {
		case FCGI_CONTENT:
			take_content(a, piece, piece_len);
			break;
		case FCGI_DONE:
			take_record(a);
			break;
		case FCGI_BAD:
			close_asking(a, "what it sends is not FastCGI");
			return;
		case FCGI_RECORD:
		case FCGI_MORE:
			break;
		}
		bytes += used;
		len -= used;
		/* A record without content or padding ends with its header. */
		if (!len && a->state != ASKING_CLOSED && a->reader.inside && !a->reader.left && !a->reader.padding &&
		    fcgi_read(&a->reader, bytes, 0, &used, &piece, &piece_len) == FCGI_DONE)
			take_record(a);
	}
}

static void on_drained(void *owner)
{
	struct asking *a = owner;

	if (a->call)
		news(a->call, a);
	else if (a->ends)
		io_finish_sending(&a->io);
}

static void on_ended(void *owner, enum io_end why)
{
	struct asking *a = owner;

	close_asking(a, io_error_text(&a->io, why));
}

static const struct io_handler handler = { .bytes = on_bytes, .drained = on_drained, .ended = on_ended };

/* ---- Accepting ---- */

static bool accept_one(struct port *p)
{
	struct app_fastcgi *server = p->server;
	int fd = accept4(p->at.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct asking *a;

	if (fd < 0)
		return false;
	a = atomic_load(&server->count) < CONNECTIONS_MAX ? calloc(1, sizeof(*a)) : NULL;
	if (!a) {
		close(fd);
		return true;
	}
	a->subject.describe = describe;
	a->server = server;
	if (!io_init(&a->io, &server->loop, fd, &handler, a)) {
		free(a);
		return true;
	}
	TAILQ_INSERT_TAIL(&server->all, a, link);
	atomic_fetch_add_explicit(&server->count, 1, memory_order_relaxed);
	return true;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	for (int i = 0; i < ACCEPT_BATCH && accept_one(arg); i++)
		;
}

static bool open_ports(struct app_fastcgi *server, const struct app_settings *settings, char *why, size_t why_size)
{
	char what[256];

	server->ports = calloc(settings->fastcgi_count, sizeof(*server->ports));
	for (size_t i = 0; server->ports && i < settings->fastcgi_count; i++) {
		struct port *p = &server->ports[server->port_count++];

		*p = (struct port){ .server = server, .at = { .fd = -1 } };
		if (!listen_open(&p->at, settings->fastcgi[i], 0777, what, sizeof(what))) {
			snprintf(why, why_size, "[app] fastcgi %s: %s", settings->fastcgi[i], what);
			return false;
		}
		p->event = event_new(server->base, p->at.fd, EV_READ | EV_PERSIST, on_accept, p);
		if (!p->event || event_add(p->event, NULL))
			return false;
	}
	return server->ports != NULL;
}

static void close_ports(struct app_fastcgi *server)
{
	for (size_t i = 0; i < server->port_count; i++) {
		if (server->ports[i].event)
			event_free(server->ports[i].event);
		listen_close(&server->ports[i].at);
	}
	server->port_count = 0;
}

/* ---- Life ---- */

static void *run(void *arg)
{
	event_base_dispatch(((struct app_fastcgi *)arg)->base);
	return NULL;
}

struct app_fastcgi *app_fastcgi_start(struct app_room *room, const struct settings *settings, char *why, size_t why_size)
{
	struct app_fastcgi *server = calloc(1, sizeof(*server));

	snprintf(why, why_size, "out of memory or threads");
	if (!server)
		return NULL;
	server->room = room;
	if (app_settings_of(settings)->fastcgi_app)
		server->app = strdup(app_settings_of(settings)->fastcgi_app);
	server->inbox.fd = -1;
	TAILQ_INIT(&server->all);
	TAILQ_INIT(&server->dead);
	server->base = event_base_new();
	server->has_loop = server->base && io_loop_init(&server->loop, server->base);
	if (server->has_loop && inbox_init(&server->inbox, &server->loop.poller, server) &&
	    (server->reaper = event_new(server->base, -1, 0, on_reap, server)) &&
	    open_ports(server, app_settings_of(settings), why, why_size))
		server->started = pthread_create(&server->thread, NULL, run, server) == 0;
	if (server->started)
		return server;
	app_fastcgi_stop(server);
	return NULL;
}

static void deliver_drain(struct inbox_message *message, void *owner)
{
	struct app_fastcgi *server = owner;
	struct asking *a, *next;

	free(message);
	server->draining = true;
	close_ports(server);
	for (a = TAILQ_FIRST(&server->all); a; a = next) {
		next = TAILQ_NEXT(a, link);
		if (a->state == ASKING_NOTHING)
			close_asking(a, "drained");
	}
}

static void deliver_stop(struct inbox_message *message, void *owner)
{
	struct app_fastcgi *server = owner;
	struct asking *a;

	free(message);
	close_ports(server);
	while ((a = TAILQ_FIRST(&server->all)))
		close_asking(a, "stopped");
	event_base_loopbreak(server->base);
}

static void tell(struct app_fastcgi *server, void (*deliver)(struct inbox_message *, void *))
{
	struct inbox_message *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->deliver = deliver;
	inbox_post(&server->inbox, m);
}

void app_fastcgi_drain(struct app_fastcgi *server)
{
	tell(server, deliver_drain);
}

bool app_fastcgi_drained(const struct app_fastcgi *server)
{
	return atomic_load(&server->count) == 0;
}

void app_fastcgi_stop(struct app_fastcgi *server)
{
	if (!server)
		return;
	if (server->started) {
		tell(server, deliver_stop);
		pthread_join(server->thread, NULL);
	}
	close_ports(server);
	free(server->ports);
	free(server->app);
	if (server->inbox.fd >= 0)
		inbox_fini(&server->inbox);
	if (server->reaper) {
		on_reap(-1, 0, server);
		event_free(server->reaper);
	}
	if (server->has_loop)
		io_loop_fini(&server->loop);
	if (server->base)
		event_base_free(server->base);
	free(server);
}
