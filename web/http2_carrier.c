/*
 * Sessions of HTTP/2. What may be asked of a server without end is counted: streams that are reset before they are answered (each has cost
 * an application its work by then) and frames that bring nothing.
 *
 * nghttp2 calls back while it is given bytes, and while it is asked for some: exchanges may be begun and answered from there, what they send is
 * kept by nghttp2 until the loop turn ends.
 */
#include "web/http2_carrier.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
	STREAMS_MAX = 100,
	STREAM_WINDOW = HOLD_MAX, /* what a client may send ahead on one stream, and on all */
	SESSION_WINDOW = 1024 * 1024,
	UNSENT_MAX = 64 * 1024, /* in the io: no more frames are made */
	FRAMES_BYTES = 64 * 1024,
	FRAME_HEAD = 9,
	ROUNDS_MAX = 16, /* of asking the sources of answers for more; then others have their turn */
	RESETS_MAX = 200,
	RESETS_PER_SECOND = 20,
	BOTHERS_MAX = 1000,
	BOTHERS_PER_SECOND = 100,
};

static struct http2 *http2_of(const struct connection *c)
{
	return c->http2;
}

void http2_wake(struct http2 *h)
{
	if (!h->gone)
		event_active(&h->pump, EV_TIMEOUT, 0);
}

/* ---- What a client may do now and then ---- */

static bool spend(struct http2_budget *b, unsigned max, unsigned per_second, uint64_t now_ms)
{
	uint64_t back = (now_ms - b->at_ms) * per_second;

	b->spent_milli -= back < b->spent_milli ? back : b->spent_milli;
	b->at_ms = now_ms;
	b->spent_milli += 1000;
	return b->spent_milli <= (uint64_t)max * 1000;
}

static void calm(struct http2 *h, const char *why)
{
	log_info(&h->connection->subject, "HTTP/2 connection ended: too many %s", why);
	nghttp2_session_terminate_session(h->session, NGHTTP2_ENHANCE_YOUR_CALM);
	http2_wake(h);
}

bool http2_spend_reset(struct http2 *h)
{
	if (spend(&h->resets, RESETS_MAX, RESETS_PER_SECOND, h->connection->worker->now_ms))
		return true;
	calm(h, "requests that were reset");
	return false;
}

static void spend_bother(struct http2 *h)
{
	if (!spend(&h->bothers, BOTHERS_MAX, BOTHERS_PER_SECOND, h->connection->worker->now_ms))
		calm(h, "frames that bring nothing");
}

/* Window updates are not counted: a fast download has many. */
static bool brings_nothing(const nghttp2_frame_hd *frame)
{
	switch (frame->type) {
	case NGHTTP2_HEADERS:
	case NGHTTP2_WINDOW_UPDATE:
	case NGHTTP2_GOAWAY:
	case NGHTTP2_RST_STREAM: /* counted on its own */
		return false;
	case NGHTTP2_DATA:
		return !frame->length && !(frame->flags & NGHTTP2_FLAG_END_STREAM);
	default:
		return true;
	}
}

/* ---- From nghttp2: what the client sent ---- */

static struct http2_stream *find_stream(const struct http2 *h, int32_t id)
{
	return nghttp2_session_get_stream_user_data(h->session, id);
}

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *frame, void *owner)
{
	const struct http2 *h = owner;

	(void)session;
	if (h->gone)
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	if (brings_nothing(frame))
		spend_bother(owner);
	return 0;
}

static bool is_request(const nghttp2_frame *frame)
{
	return frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h = owner;
	struct http2_stream *s;

	if (!is_request(frame))
		return 0; /* trailers, which nobody looks at */
	s = http2_stream_new(h, frame->hd.stream_id);
	if (!s)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	nghttp2_session_set_stream_user_data(session, s->id, s);
	connection_wait(h->connection, WAIT_HEAD);
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
		     size_t value_len, uint8_t flags, void *owner)
{
	struct http2 *h = owner;
	struct http2_stream *s = is_request(frame) ? find_stream(h, frame->hd.stream_id) : NULL;
	const struct http_limits limits = http_limits_of(h->connection->worker);

	(void)session, (void)flags;
	if (s)
		http2_head_add(&s->head, (struct http_text){ (const char *)name, name_len }, (struct http_text){ (const char *)value, value_len },
			       &limits);
	return 0;
}

/* Left alone it would be dropped as if it had not been sent. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_len, const uint8_t *value,
			     size_t value_len, uint8_t flags, void *owner)
{
	struct http2 *h = owner;

	(void)name, (void)name_len, (void)value, (void)value_len, (void)flags;
	log_info(&h->connection->subject, "stream %d refused: a field that is malformed", frame->hd.stream_id);
	nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* The client has seen the warning: what it began before has come. */
static void name_last_stream(struct http2 *h)
{
	if (h->going != HTTP2_WARNED)
		return;
	h->going = HTTP2_GOES;
	nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h->session), NGHTTP2_NO_ERROR, NULL, 0);
	http2_wake(h);
}

static void take_frame(struct http2 *h, const nghttp2_frame *frame, struct http2_stream *s)
{
	bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	switch (frame->hd.type) {
	case NGHTTP2_HEADERS:
		if (s && is_request(frame))
			http2_stream_begin(s, ends);
		else if (s && ends)
			http2_stream_end(s);
		break;
	case NGHTTP2_DATA:
		if (s && ends)
			http2_stream_end(s);
		break;
	case NGHTTP2_SETTINGS:
		h->greeted = true;
		break;
	case NGHTTP2_PING:
		if (frame->hd.flags & NGHTTP2_FLAG_ACK)
			name_last_stream(h);
		break;
	case NGHTTP2_RST_STREAM:
		http2_spend_reset(h);
		break;
	default:
		break;
	}
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h = owner;

	(void)session;
	take_frame(h, frame, frame->hd.stream_id ? find_stream(h, frame->hd.stream_id) : NULL);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t len, void *owner)
{
	struct http2_stream *s = find_stream(owner, id);

	(void)flags;
	if (s)
		http2_stream_take(s, bytes, len);
	else
		nghttp2_session_consume(session, id, len);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *owner)
{
	struct http2_stream *s = find_stream(owner, id);

	(void)code;
	if (!s)
		return 0;
	if (s->untold)
		nghttp2_session_consume_connection(session, s->untold);
	http2_stream_free(s);
	return 0;
}

/* ---- From nghttp2: what is sent ---- */

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len, nghttp2_data_source *source, void *owner)
{
	struct http2 *h = owner;
	uint8_t *to = h->frames + h->frames_len;

	(void)session, (void)frame;
	h->full = FRAMES_BYTES - h->frames_len < FRAME_HEAD + len;
	if (h->full)
		return NGHTTP2_ERR_WOULDBLOCK;
	memcpy(to, head, FRAME_HEAD);
	if (!http2_stream_fill(source->ptr, to + FRAME_HEAD, len))
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	h->frames_len += FRAME_HEAD + len;
	return 0;
}

/* Answered before the request was whole: the rest of it is not wanted (RFC 9113 section 8.1). */
static int on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *owner)
{
	struct http2 *h = owner;
	uint32_t code = frame->hd.type == NGHTTP2_RST_STREAM ? frame->rst_stream.error_code : NGHTTP2_NO_ERROR;

	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
	    nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
		nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
	/* A client can also have its requests reset by breaking the rules. */
	if (code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR || code == NGHTTP2_STREAM_CLOSED)
		http2_spend_reset(h);
	return 0;
}

/* ---- Sending ---- */

static bool flush(struct http2 *h)
{
	size_t len = h->frames_len;

	h->frames_len = 0;
	return !len || io_send(&h->connection->io, h->frames, len);
}

/* Frames other than those of bodies, which come by on_send_data(). */
static bool gather(struct http2 *h, const uint8_t *bytes, size_t len)
{
	if (len > FRAMES_BYTES - h->frames_len && !flush(h))
		return false;
	if (len > FRAMES_BYTES)
		return io_send(&h->connection->io, bytes, len);
	memcpy(h->frames + h->frames_len, bytes, len);
	h->frames_len += len;
	return true;
}

/* Frames until the socket takes no more. False: the connection is over, which `ended` will tell, or memory ran out. */
static bool send_frames(struct http2 *h)
{
	struct io *io = &h->connection->io;
	ssize_t len;

	do {
		const uint8_t *bytes;

		h->full = false;
		len = nghttp2_session_mem_send(h->session, &bytes);
		if (len < 0 || (len > 0 && !gather(h, bytes, (size_t)len)) || (h->full && !flush(h)))
			return false;
	} while ((len || h->full) && io_unsent(io) < UNSENT_MAX);
	return flush(h);
}

/* Whoever fills streams that have become empty; true when there may be more to send now. */
static bool tell_drained(struct http2 *h)
{
	struct http2_stream *s, *next;

	if (!h->has_drained)
		return false;
	h->has_drained = false;
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		/* An exchange that ends leaves its stream where it is: nghttp2 is not called here. */
		next = TAILQ_NEXT(s, link);
		if (s->drained)
			http2_stream_tell_drained(s);
	}
	return true;
}

static bool send_all(struct http2 *h)
{
	uint8_t frames[FRAMES_BYTES];
	bool ok;

	for (int round = 0; round < ROUNDS_MAX; round++) {
		h->frames = frames;
		ok = send_frames(h);
		h->frames = NULL;
		if (!ok || h->gone || io_unsent(&h->connection->io) || !tell_drained(h) || h->gone)
			return ok;
	}
	http2_wake(h);
	return true;
}

/* ---- What the connection waits for ---- */

static enum web_wait wait_of(const struct http2 *h)
{
	if (io_unsent(&h->connection->io))
		return WAIT_SEND;
	if (!h->greeted || h->heads)
		return WAIT_HEAD;
	if (h->going == HTTP2_WARNED)
		return WAIT_LINGER;
	return TAILQ_EMPTY(&h->streams) ? WAIT_REQUEST : WAIT_NOTHING;
}

/* After anything happened: sends what is to be sent, and sees whether it is over. The connection may be closed when this returns. */
static void settle(struct http2 *h)
{
	struct connection *c = h->connection;
	struct http2_stream *s;

	if (c->state != CONNECTION_OPEN)
		return;
	if (!send_all(h)) {
		if (!h->gone && c->io.state == IO_OPEN)
			connection_close(c, "out of memory");
		return;
	}
	if (h->gone)
		return;
	if (!nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session)) {
		TAILQ_FOREACH(s, &h->streams, link)
			http2_stream_abandon(s);
		connection_finish(c);
		return;
	}
	/* Who takes nothing is not heard: answers to what it sends would pile up. */
	if (io_unsent(&c->io) >= UNSENT_MAX)
		io_pause(&c->io);
	else
		io_resume(&c->io);
	if (c->timer.wait != wait_of(h))
		connection_wait(c, wait_of(h));
}

/* ---- In and out of a session ---- */

static void free_http2(struct http2 *h)
{
	struct http2_stream *s;

	while ((s = TAILQ_FIRST(&h->streams)))
		http2_stream_free(s);
	nghttp2_session_del(h->session);
	free(h);
}

static struct http2 *enter(const struct connection *c)
{
	struct http2 *h = http2_of(c);

	h->entered = true;
	return h;
}

/* Settles, and frees what was closed while it was in use. */
static void leave(struct http2 *h)
{
	if (!h->gone)
		settle(h);
	h->entered = false;
	if (h->gone)
		free_http2(h);
}

static void on_pump(evutil_socket_t fd, short what, void *arg)
{
	struct http2 *h = arg;

	(void)fd, (void)what;
	leave(enter(h->connection));
}

static void on_bytes(struct connection *c, const uint8_t *bytes, size_t len)
{
	struct http2 *h = enter(c);
	ssize_t used = nghttp2_session_mem_recv(h->session, bytes, len);

	if (used < 0 && !h->gone) {
		log_info(&c->subject, "HTTP/2 connection ended: %s", nghttp2_strerror((int)used));
		connection_close(c, "HTTP/2 error");
	}
	leave(h);
}

static void drained(struct connection *c)
{
	struct http2 *h = enter(c);

	connection_wait(c, WAIT_NOTHING); /* it has taken something: its time begins anew */
	leave(h);
}

static void timed_out(struct connection *c)
{
	struct http2 *h = enter(c);

	if (c->timer.was == WAIT_LINGER)
		name_last_stream(h);
	else if (c->timer.was == WAIT_SEND || !h->greeted)
		connection_close(c, "timed out");
	else
		nghttp2_session_terminate_session(h->session, NGHTTP2_NO_ERROR);
	leave(h);
}

/* Requests may be on their way: the client is warned first, and its answer to a PING shows that it knows (RFC 9113 section 6.8). */
static void warn(struct http2 *h)
{
	if (h->going != HTTP2_STAYS)
		return;
	h->going = HTTP2_WARNED;
	nghttp2_submit_shutdown_notice(h->session);
	nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
}

static void drain(struct connection *c)
{
	struct http2 *h = enter(c);

	warn(h);
	leave(h);
}

static void end(struct connection *c)
{
	struct http2 *h = http2_of(c);
	struct http2_stream *s;

	if (!h || h->gone)
		return;
	h->gone = true;
	event_del(&h->pump);
	TAILQ_FOREACH(s, &h->streams, link)
		http2_stream_abandon(s);
	if (!h->entered)
		free_http2(h);
}

/* ---- Making one ---- */

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *options;

static void free_tables(void)
{
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(options);
}

static void make_tables(void)
{
	if (nghttp2_session_callbacks_new(&callbacks) || nghttp2_option_new(&options))
		return;
	atexit(free_tables);
	nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(callbacks, on_invalid_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_sent);
	nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
	/* Windows open when somebody has taken what came. */
	nghttp2_option_set_no_auto_window_update(options, 1);
}

static bool greet(struct http2 *h)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)http_limits_of(h->connection->worker).head_bytes },
		/* Trees of dependencies have cost servers more than they have brought anybody (RFC 9113 section 5.3). */
		{ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
	};

	return !nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, sizeof(settings) / sizeof(*settings)) &&
	       !nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, SESSION_WINDOW);
}

static bool begin(struct connection *c)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct http2 *h = calloc(1, sizeof(*h));

	pthread_once(&once, make_tables);
	if (!h || !options || nghttp2_session_server_new2(&h->session, callbacks, h, options)) {
		free(h);
		return false;
	}
	c->http2 = h;
	h->connection = c;
	TAILQ_INIT(&h->streams);
	if (event_assign(&h->pump, c->worker->base, -1, 0, on_pump, h) || !greet(h))
		return false; /* end() frees it */
	if (c->worker->draining)
		warn(h);
	http2_wake(h);
	return true;
}

const struct carrier http2_carrier = {
	.name = "HTTP/2",
	.begin = begin,
	.bytes = on_bytes,
	.drained = drained,
	.timed_out = timed_out,
	.drain = drain,
	.end = end,
	.send_head = http2_send_head,
	.send_body = http2_send_body,
	.send_file = http2_send_file,
	.finish = http2_finish,
	.is_behind = http2_is_behind,
	.go_on = http2_go_on,
	.hold = http2_hold,
	.release = http2_release,
	.break_off = http2_break_off,
};
