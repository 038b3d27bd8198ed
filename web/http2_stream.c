/* Streams of HTTP/2: requests becoming exchanges, answers becoming frames. */
#include "web/http2_carrier.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	OUT_MAX = 64 * 1024,	       /* of one stream: its source rests */
	OUT_SHARE = 8 * 1024,	       /* of each, once all streams together have more than */
	QUEUED_MAX = 1024 * 1024,
	ANSWER_FIELDS_MAX = 160,
};

static struct http2_stream *stream_of(const struct exchange *x)
{
	return x->carried;
}

static nghttp2_session *session_of(const struct http2_stream *s)
{
	return s->http2->session;
}

/* ---- Life ---- */

static void reset(struct http2_stream *s, uint32_t code)
{
	nghttp2_submit_rst_stream(session_of(s), NGHTTP2_FLAG_NONE, s->id, code);
	http2_wake(s->http2);
}

static void let_exchange_go(struct http2_stream *s)
{
	struct exchange *x = s->exchange;

	s->exchange = NULL;
	if (x)
		exchange_free(x);
}

static void drop_out(struct http2_stream *s)
{
	s->http2->queued -= buf_len(&s->out);
	buf_fini(&s->out);
}

static void on_time_out(struct web_timer *timer)
{
	struct http2_stream *s = (struct http2_stream *)((char *)timer - offsetof(struct http2_stream, timer));

	log_debug(&s->http2->connection->subject, "stream %d: the client takes nothing of the answer", s->id);
	let_exchange_go(s);
	drop_out(s);
	reset(s, NGHTTP2_CANCEL);
}

struct http2_stream *http2_stream_new(struct http2 *h, int32_t id)
{
	struct http2_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->http2 = h;
	s->id = id;
	web_timer_init(&s->timer, on_time_out);
	TAILQ_INSERT_TAIL(&h->streams, s, link);
	h->heads++;
	return s;
}

static void head_is_over(struct http2_stream *s)
{
	http2_head_fini(&s->head);
	if (s->http2->heads)
		s->http2->heads--;
	s->head_over = true;
}

void http2_stream_free(struct http2_stream *s)
{
	if (!s->head_over)
		head_is_over(s);
	let_exchange_go(s);
	drop_out(s);
	web_timer_set(s->http2->connection->worker, &s->timer, WAIT_NOTHING);
	TAILQ_REMOVE(&s->http2->streams, s, link);
	free(s);
}

void http2_stream_abandon(struct http2_stream *s)
{
	let_exchange_go(s);
}

/* ---- The request ---- */

/* The exchange with the head's text, parsed. `size` 0: there is none to parse. */
static struct exchange *new_exchange(struct http2_stream *s, size_t size, bool ended, struct http_verdict *verdict)
{
	struct connection *c = s->http2->connection;
	const struct http_limits limits = http_limits_of(c->worker);
	struct exchange *x = exchange_new(c, NULL, size);

	if (!x)
		return NULL;
	if (size) {
		http2_head_write(&s->head, x->bytes);
		*verdict = http2_parse(x->bytes, size, &limits, ended, &x->head);
	}
	x->head.major = 2;
	x->carried = s;
	x->keeps = true;
	x->whole = ended;
	return x;
}

void http2_stream_begin(struct http2_stream *s, bool ended)
{
	size_t size = http2_head_finish(&s->head);
	struct http_verdict verdict = s->head.verdict;

	s->exchange = new_exchange(s, size, ended, &verdict);
	head_is_over(s);
	if (!s->exchange) {
		reset(s, NGHTTP2_INTERNAL_ERROR);
		return;
	}
	exchange_begin(s->exchange, verdict);
	if (s->exchange && !s->exchange->whole && s->exchange->timer.wait == WAIT_NOTHING)
		exchange_wait(s->exchange, WAIT_BODY);
}

/* The client may send as much again. */
static void tell_taken(struct http2_stream *s)
{
	if (!s->untold)
		return;
	nghttp2_session_consume(session_of(s), s->id, s->untold);
	s->untold = 0;
	http2_wake(s->http2);
}

void http2_stream_take(struct http2_stream *s, const uint8_t *bytes, size_t len)
{
	struct exchange *x = s->exchange;

	s->untold += len;
	if (x && x->timer.wait == WAIT_BODY)
		exchange_wait(x, WAIT_BODY);
	if (x)
		exchange_body(x, bytes, len);
	/* A body that nobody wants, or wants no more, is dropped. */
	if (!s->held || !s->exchange)
		tell_taken(s);
}

void http2_stream_end(struct http2_stream *s)
{
	if (s->exchange && !s->exchange->whole)
		exchange_body_over(s->exchange);
}

void http2_hold(struct exchange *x)
{
	stream_of(x)->held = true;
}

void http2_release(struct exchange *x)
{
	struct http2_stream *s = stream_of(x);

	s->held = false;
	tell_taken(s);
}

void http2_go_on(struct exchange *x)
{
	struct http2_stream *s = stream_of(x);
	nghttp2_nv status = { (uint8_t *)":status", (uint8_t *)"100", 7, 3, NGHTTP2_NV_FLAG_NONE };

	nghttp2_submit_headers(session_of(s), NGHTTP2_FLAG_NONE, s->id, NULL, &status, 1, NULL);
	http2_wake(s->http2);
}

/* ---- The head of the answer ---- */

static nghttp2_nv field(const char *name, size_t name_len, const char *value, size_t value_len)
{
	return (nghttp2_nv){ (uint8_t *)name, (uint8_t *)value, name_len, value_len, NGHTTP2_NV_FLAG_NONE };
}

static void lower(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (text[i] >= 'A' && text[i] <= 'Z')
			text[i] |= 0x20;
}

/* What applications say of the connection that they believe to be on. */
static bool is_of_connection(struct http_text name)
{
	return http_text_is(name, "connection") || http_text_is(name, "keep-alive") || http_text_is(name, "proxy-connection") ||
	       http_text_is(name, "transfer-encoding") || http_text_is(name, "upgrade");
}

/* Takes "Name: value\r\n" lines apart; the names are made lower-case where they stand. Returns how many there are. */
static size_t take_fields(char *lines, size_t len, nghttp2_nv *out, size_t max)
{
	char *end = lines + len;
	size_t count = 0;

	while (lines < end && count < max) {
		char *line_end = memmem(lines, (size_t)(end - lines), "\r\n", 2);
		char *colon = line_end ? memchr(lines, ':', (size_t)(line_end - lines)) : NULL;
		struct http_text name = { lines, colon ? (size_t)(colon - lines) : 0 };

		if (!colon)
			break;
		lower(lines, name.len);
		if (!is_of_connection(name))
			out[count++] = field(name.at, name.len, colon + 2, (size_t)(line_end - colon - 2));
		lines = line_end + 2;
	}
	return count;
}

static size_t put_fields(struct exchange *x, char status[8], char length[24], nghttp2_nv *out)
{
	struct buf *fields = &x->worker->fields;
	size_t count = 0;

	snprintf(status, 8, "%u", x->status);
	out[count++] = field(":status", 7, status, strlen(status));
	if (x->length != LENGTH_UNKNOWN && x->status != 204 && x->status != 304) {
		snprintf(length, 24, "%llu", (unsigned long long)x->length);
		out[count++] = field("content-length", 14, length, strlen(length));
	}
	return count + take_fields((char *)buf_head(fields), buf_len(fields), out + count, ANSWER_FIELDS_MAX - count);
}

static ssize_t give_length(nghttp2_session *session, int32_t id, uint8_t *bytes, size_t size, uint32_t *flags, nghttp2_data_source *source,
			   void *owner)
{
	struct http2_stream *s = source->ptr;
	struct exchange *x = s->exchange;
	bool file = x && x->answer == ANSWER_FILE;
	uint64_t left = file ? x->file_left : buf_len(&s->out);

	(void)session, (void)id, (void)bytes, (void)owner;
	if (!left && !s->whole && !file) {
		s->sleeps = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (left <= size && (file || s->whole))
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)(left < size ? left : size);
}

void http2_send_head(struct exchange *x, const void *body, size_t len)
{
	struct http2_stream *s = stream_of(x);
	nghttp2_data_provider provider = { .source.ptr = s, .read_callback = give_length };
	bool bare = exchange_has_no_body(x) || x->length == 0;
	nghttp2_nv fields[ANSWER_FIELDS_MAX];
	char status[8], length[24];
	size_t count = put_fields(x, status, length, fields);

	if (nghttp2_submit_response(session_of(s), s->id, fields, count, bare ? NULL : &provider)) {
		s->broken = true;
		reset(s, NGHTTP2_INTERNAL_ERROR);
		return;
	}
	http2_wake(s->http2);
	if (len)
		http2_send_body(x, body, len);
}

/* ---- Its body ---- */

static void wake(struct http2_stream *s)
{
	if (s->sleeps)
		nghttp2_session_resume_data(session_of(s), s->id);
	s->sleeps = false;
	http2_wake(s->http2);
}

void http2_send_body(struct exchange *x, const void *body, size_t len)
{
	struct http2_stream *s = stream_of(x);

	if (s->broken)
		return;
	if (!buf_append(&s->out, body, len)) {
		s->broken = true;
		reset(s, NGHTTP2_INTERNAL_ERROR);
		return;
	}
	if (buf_len(&s->out) == len)
		web_timer_set(x->worker, &s->timer, WAIT_SEND);
	s->http2->queued += len;
	wake(s);
}

bool http2_is_behind(const struct exchange *x)
{
	const struct http2_stream *s = stream_of(x);

	return buf_len(&s->out) > (s->http2->queued > QUEUED_MAX ? OUT_SHARE : OUT_MAX);
}

void http2_send_file(struct exchange *x)
{
	struct http2_stream *s = stream_of(x);

	if (!x->file_left) {
		response_end(x);
		return;
	}
	web_timer_set(x->worker, &s->timer, WAIT_SEND);
	wake(s);
}

static bool fill_from_file(struct http2_stream *s, uint8_t *out, size_t len)
{
	struct exchange *x = s->exchange;
	ssize_t n = pread(x->file, out, len, (off_t)x->file_at);

	if (n != (ssize_t)len) {
		exchange_file_failed(x);
		return false;
	}
	x->file_at += len;
	x->file_left -= len;
	x->body_sent += len;
	if (!x->file_left)
		response_end(x);
	return true;
}

static bool has_more(const struct http2_stream *s)
{
	return buf_len(&s->out) || (s->exchange && s->exchange->answer == ANSWER_FILE);
}

bool http2_stream_fill(struct http2_stream *s, uint8_t *out, size_t len)
{
	if (s->exchange && s->exchange->answer == ANSWER_FILE) {
		if (!fill_from_file(s, out, len))
			return false;
	} else if (len) {
		memcpy(out, buf_head(&s->out), len);
		buf_consume(&s->out, len);
		s->http2->queued -= len;
		s->drained = !buf_len(&s->out) && s->exchange;
		s->http2->has_drained |= s->drained;
	}
	web_timer_set(s->http2->connection->worker, &s->timer, has_more(s) ? WAIT_SEND : WAIT_NOTHING);
	return true;
}

void http2_stream_tell_drained(struct http2_stream *s)
{
	s->drained = false;
	if (s->exchange)
		exchange_drained(s->exchange);
}

/* ---- Its end ---- */

void http2_finish(struct exchange *x)
{
	struct http2_stream *s = stream_of(x);

	s->whole = true;
	let_exchange_go(s);
	wake(s);
}

void http2_break_off(struct exchange *x, const char *why)
{
	struct http2_stream *s = stream_of(x);

	log_debug(&x->connection->subject, "stream %d broken off: %s", s->id, why);
	let_exchange_go(s);
	drop_out(s);
	s->broken = true;
	reset(s, NGHTTP2_INTERNAL_ERROR);
}
