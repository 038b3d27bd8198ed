#include "web/health.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/fastcgi.h"
#include "base/inbox.h"
#include "base/io.h"
#include "web/cgi.h"
#include "web/http_answer.h"
#include "web/upstream.h"
#include "web/worker.h"

enum { ANSWER_MAX = 16 * 1024, REQUEST_ID = 1 };

/* Of one server. Its timer either waits for the next check or bounds the one under way. */
struct check {
	TAILQ_ENTRY(check) link;
	struct health *health;
	const struct web_upstream *settings; /* within health->config */
	struct upstream *upstream;
	struct upstream_server *server;
	struct event *timer;
	struct io io; /* open: a check is under way */
	struct fcgi_reader reader;
	struct buf answer;
};

struct health {
	pthread_t thread;
	struct event_base *base;
	struct io_loop loop;
	struct inbox inbox;
	struct web_config *config;
	TAILQ_HEAD(, check) checks;
};

static const struct io_handler io_handler;

/* ---- The result ---- */

static void set_timer(struct check *c, uint32_t ms)
{
	const struct timeval in = { ms / 1000, (suseconds_t)(ms % 1000) * 1000 };

	event_add(c->timer, &in);
}

static void conclude(struct check *c, bool good, const char *why)
{
	char text[UPSTREAM_WHY];

	/* A copy: it may be the io's own text. */
	snprintf(text, sizeof(text), "%s", why);
	io_close(&c->io);
	buf_fini(&c->answer);
	c->reader = (struct fcgi_reader){ 0 };
	upstream_checked(c->upstream, c->server, good, text);
	set_timer(c, c->settings->check_interval_ms);
}

static void judge_status(struct check *c, unsigned status)
{
	unsigned wanted = c->settings->check_status;
	char why[64];

	snprintf(why, sizeof(why), "it answered with status %u", status);
	conclude(c, wanted ? status == wanted : status >= 200 && status < 400, why);
}

/* ---- HTTP ---- */

static bool ask_http(struct check *c)
{
	char request[2048];
	const char *host = c->settings->host;
	int len = snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Tandem-health-check\r\nConnection: close\r\n\r\n",
			   c->settings->check_path, host ? host : strncmp(c->server->name, "unix:", 5) ? c->server->name : "localhost");

	return len < (int)sizeof(request) && io_send(&c->io, request, (size_t)len);
}

static void look_at_http(struct check *c)
{
	static const struct http_limits limits = { .head_bytes = ANSWER_MAX };
	static __thread struct http_answer answer; /* too large for the stack of a callback */
	const char *bytes = (const char *)buf_head(&c->answer), *why;
	size_t whole = 0;

	if (http1_scan(bytes, buf_len(&c->answer), &whole, &limits) != HTTP_SCAN_WHOLE)
		return;
	why = http_answer_parse(bytes, whole, false, &answer);
	if (why)
		conclude(c, false, why);
	else
		judge_status(c, answer.status);
}

/* ---- FastCGI ---- */

static size_t put_pair(uint8_t *out, const char *name, const char *value)
{
	return fcgi_put_pair(out, name, strlen(name), value, strlen(value));
}

static bool ask_fastcgi(struct check *c)
{
	const char *path = c->settings->check_path;
	uint8_t request[4096], *at = request + FCGI_BEGIN_BYTES + FCGI_HEADER_BYTES;

	if (strlen(path) > 1000)
		return false;
	at += put_pair(at, "REQUEST_METHOD", "GET");
	at += put_pair(at, "SCRIPT_NAME", path);
	at += put_pair(at, "SCRIPT_FILENAME", path);
	at += put_pair(at, "REQUEST_URI", path);
	at += put_pair(at, "QUERY_STRING", "");
	at += put_pair(at, "SERVER_PROTOCOL", "HTTP/1.1");
	at += put_pair(at, "GATEWAY_INTERFACE", "CGI/1.1");
	at += put_pair(at, "SERVER_SOFTWARE", "Tandem");
	at += put_pair(at, "HTTP_USER_AGENT", "Tandem-health-check");
	fcgi_put_begin(request, REQUEST_ID, FCGI_RESPONDER, false);
	fcgi_put_header(request + FCGI_BEGIN_BYTES, FCGI_PARAMS, REQUEST_ID, (size_t)(at - request) - FCGI_BEGIN_BYTES - FCGI_HEADER_BYTES);
	fcgi_put_header(at, FCGI_PARAMS, REQUEST_ID, 0);
	fcgi_put_header(at + FCGI_HEADER_BYTES, FCGI_STDIN, REQUEST_ID, 0);
	return io_send(&c->io, request, (size_t)(at - request) + 2ul * FCGI_HEADER_BYTES);
}

static void look_at_output(struct check *c)
{
	static __thread struct cgi_answer answer;
	const char *bytes = (const char *)buf_head(&c->answer);
	size_t whole = cgi_head_length(bytes, buf_len(&c->answer));

	if (!whole)
		return;
	if (cgi_parse_head(bytes, whole, &answer))
		judge_status(c, answer.status);
	else
		conclude(c, false, "the head of its answer is malformed");
}

static void look_at_record(struct check *c, const uint8_t *piece, size_t len)
{
	if (c->reader.record.type == FCGI_END_REQUEST)
		conclude(c, false, "it ended without an answer");
	else if (c->reader.record.type == FCGI_STDOUT && buf_len(&c->answer) + len <= ANSWER_MAX && buf_append(&c->answer, piece, len))
		look_at_output(c);
}

static void take_records(struct check *c, const uint8_t *bytes, size_t len)
{
	while (len && c->io.state == IO_OPEN) {
		const uint8_t *piece;
		size_t used, piece_len;
		enum fcgi_step step = fcgi_read(&c->reader, bytes, len, &used, &piece, &piece_len);

		if (step == FCGI_BAD)
			conclude(c, false, "what it sends is not FastCGI");
		else if (step == FCGI_CONTENT)
			look_at_record(c, piece, piece_len);
		bytes += used;
		len -= used;
	}
}

/* ---- A check ---- */

static void on_ready(void *owner)
{
	struct check *c = owner;

	if (c->settings->check == WEB_CHECK_TCP)
		conclude(c, true, "");
	else if (!(c->settings->protocol == WEB_HTTP ? ask_http(c) : ask_fastcgi(c)))
		conclude(c, false, "it cannot be asked");
}

static void on_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct check *c = owner;

	if (c->settings->protocol != WEB_HTTP)
		take_records(c, bytes, len);
	else if (buf_len(&c->answer) + len > ANSWER_MAX || !buf_append(&c->answer, bytes, len))
		conclude(c, false, "the head of its answer is too long");
	else
		look_at_http(c);
}

static void on_drained(void *owner)
{
	(void)owner;
}

static void on_ended(void *owner, enum io_end why)
{
	struct check *c = owner;

	conclude(c, false, why == IO_END_PEER ? "it hung up without an answer" : io_error_text(&c->io, why));
}

static const struct io_handler io_handler = { on_bytes, on_drained, on_ready, on_ended };

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct check *c = arg;

	(void)fd, (void)what;
	if (c->io.state != IO_CLOSED) {
		conclude(c, false, c->io.state == IO_CONNECTING ? "it did not take the connection in time" : "it did not answer in time");
		return;
	}
	if (io_connect(&c->io, &c->health->loop, (const struct sockaddr *)&c->server->address, c->server->address_len, &io_handler, c))
		set_timer(c, c->settings->check_timeout_ms);
	else
		set_timer(c, c->settings->check_interval_ms); /* no socket: our own trouble says nothing about the server */
}

/* ---- All of them ---- */

static void free_check(struct check *c)
{
	io_close(&c->io);
	buf_fini(&c->answer);
	if (c->timer)
		event_free(c->timer);
	upstream_server_unref(c->server);
	upstream_unref(c->upstream);
	free(c);
}

/* Takes the reference to the server. */
static void add_check(struct health *h, const struct web_upstream *settings, struct upstream *upstream, struct upstream_server *server)
{
	struct check *c = calloc(1, sizeof(*c));

	if (!c) {
		upstream_server_unref(server);
		return;
	}
	*c = (struct check){ .health = h, .settings = settings, .upstream = upstream_ref(upstream), .server = server };
	TAILQ_INSERT_TAIL(&h->checks, c, link);
	c->timer = evtimer_new(h->base, on_timer, c);
	if (c->timer)
		set_timer(c, 0);
}

static void add_checks(struct health *h)
{
	for (size_t i = 0; i < h->config->web->upstream_count; i++) {
		const struct web_upstream *settings = &h->config->web->upstreams[i];
		struct upstream_server *servers[UPSTREAM_SERVERS_MAX];
		size_t count = settings->check ? upstream_servers(h->config->upstreams[i], servers) : 0;

		for (size_t k = 0; k < count; k++)
			add_check(h, settings, h->config->upstreams[i], servers[k]);
	}
}

static void remove_checks(struct health *h)
{
	struct check *c, *next;

	for (c = TAILQ_FIRST(&h->checks); c; c = next) {
		next = TAILQ_NEXT(c, link);
		free_check(c);
	}
	TAILQ_INIT(&h->checks);
}

/* ---- The thread ---- */

struct message {
	struct inbox_message base;
	struct web_config *config; /* NULL: stop */
};

static void deliver(struct inbox_message *message, void *owner)
{
	struct message *m = (struct message *)message;
	struct health *h = owner;

	remove_checks(h);
	web_config_unref(h->config);
	h->config = m->config;
	if (h->config)
		add_checks(h);
	else
		event_base_loopbreak(h->base);
	free(m);
}

static void post(struct health *h, struct web_config *config)
{
	struct message *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->base.deliver = deliver;
	m->config = config;
	inbox_post(&h->inbox, &m->base);
}

static void *run(void *arg)
{
	event_base_dispatch(((struct health *)arg)->base);
	return NULL;
}

bool health_is_wanted(const struct web_config *config)
{
	for (size_t i = 0; i < config->web->upstream_count; i++)
		if (config->web->upstreams[i].check)
			return true;
	return false;
}

static void free_health(struct health *h)
{
	if (h->inbox.fd >= 0)
		inbox_fini(&h->inbox);
	io_loop_fini(&h->loop);
	if (h->base)
		event_base_free(h->base);
	free(h);
}

struct health *health_start(struct web_config *config)
{
	struct health *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->inbox.fd = -1;
	TAILQ_INIT(&h->checks);
	h->base = event_base_new();
	if (!h->base || !io_loop_init(&h->loop, h->base) || !inbox_init(&h->inbox, &h->loop.poller, h) || pthread_create(&h->thread, NULL, run, h)) {
		free_health(h);
		return NULL;
	}
	post(h, web_config_ref(config));
	return h;
}

void health_reload(struct health *health, struct web_config *config)
{
	post(health, web_config_ref(config));
}

void health_stop(struct health *health)
{
	if (!health)
		return;
	post(health, NULL);
	pthread_join(health->thread, NULL);
	free_health(health);
}
