#include "web/spool.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "proxy/settings.h"

enum {
	MEMORY_MAX = 64 * 1024,
	PIECE = 32 * 1024,
	PIECES_A_TURN = 16, /* then others have their turn */
};

struct spool {
	struct exchange *exchange;
	const struct responder *then;
	struct event feed; /* made active when the responder wants more */
	struct buf memory; /* until there is a file */
	int file;	   /* -1: none */
	uint64_t length;
	uint64_t given;
	bool held;
	bool *gone; /* set when it is freed while it feeds */
};

static const struct responder collector;

/* ---- Keeping ---- */

static void fail(struct exchange *x, uint16_t status, const char *why)
{
	log_warning(&x->subject, "%s %s: %s", http_method_name(x->head.method), x->path, why);
	x->keeps = false;
	response_begin(x, status);
	response_page(x, status);
}

static bool put(int file, const uint8_t *bytes, size_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(file, bytes, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
		at += (uint64_t)n;
	}
	return true;
}

static bool move_to_file(struct spool *s)
{
	s->file = open(s->exchange->config->settings->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (s->file < 0 || !put(s->file, buf_head(&s->memory), buf_len(&s->memory), 0))
		return false;
	buf_fini(&s->memory);
	return true;
}

static bool keep(struct spool *s, const uint8_t *bytes, size_t len)
{
	if (s->file < 0 && buf_len(&s->memory) + len <= MEMORY_MAX)
		return buf_append(&s->memory, bytes, len);
	return (s->file >= 0 || move_to_file(s)) && put(s->file, bytes, len, s->length);
}

static void collect(struct exchange *x, const uint8_t *bytes, size_t len)
{
	struct spool *s = x->spool;
	char why[160];

	if (s->length + len > x->config->web->max_spool_bytes) {
		fail(x, 413, "a body of unknown length is longer than [web] max_spool");
		return;
	}
	if (!keep(s, bytes, len)) {
		snprintf(why, sizeof(why), "a body of unknown length cannot be kept in state_dir: %s", strerror(errno));
		fail(x, 503, why);
		return;
	}
	s->length += len;
}

/* ---- Giving it on ---- */

/* The next piece; 0: it cannot be read. */
static size_t get(const struct spool *s, uint8_t *out)
{
	uint64_t left = s->length - s->given;
	size_t len = left < PIECE ? (size_t)left : PIECE;

	if (s->file >= 0)
		return pread(s->file, out, len, (off_t)s->given) == (ssize_t)len ? len : 0;
	memcpy(out, buf_head(&s->memory) + s->given, len);
	return len;
}

/* Returns whether there may be more to give now. */
static bool give_piece(struct spool *s)
{
	struct exchange *x = s->exchange;
	uint8_t bytes[PIECE];
	size_t len = get(s, bytes);
	bool gone = false;

	if (!len) {
		log_warning(&x->subject, "%s: what was kept of its body cannot be read: %s", x->path, strerror(errno));
		exchange_break_off(x, "a body was lost");
		return false;
	}
	s->given += len;
	s->gone = &gone; /* cppcheck-suppress autoVariables ; taken back below, or s is gone */
	s->then->body(x, bytes, len);
	if (gone)
		return false;
	s->gone = NULL;
	if (s->given < s->length)
		return !s->held;
	x->body_over = true;
	if (s->then->body_over)
		s->then->body_over(x);
	return false;
}

static void on_feed(evutil_socket_t fd, short what, void *arg)
{
	struct spool *s = arg;
	int left = PIECES_A_TURN;

	(void)fd, (void)what;
	if (s->held || s->given == s->length)
		return;
	do {
		if (!give_piece(s))
			return;
	} while (--left);
	event_active(&s->feed, EV_TIMEOUT, 0);
}

void spool_hold(struct spool *s)
{
	s->held = true;
}

void spool_release(struct spool *s)
{
	s->held = false;
	event_active(&s->feed, EV_TIMEOUT, 0);
}

static void collected(struct exchange *x)
{
	struct spool *s = x->spool;

	x->head.framing = HTTP_LENGTH;
	x->head.content_length = s->length;
	x->responder = s->then;
	x->body_over = !s->length;
	exchange_wait(x, WAIT_NOTHING);
	event_active(&s->feed, EV_TIMEOUT, 0);
	x->responder->begin(x);
}

/* ---- Life ---- */

static const struct responder collector = { .name = "spool", .body = collect, .body_over = collected };

void spool_begin(struct exchange *x, const struct responder *then)
{
	struct spool *s = calloc(1, sizeof(*s));

	if (!s || event_assign(&s->feed, x->worker->base, -1, 0, on_feed, s)) {
		free(s);
		fail(x, 503, "out of memory");
		return;
	}
	s->exchange = x;
	s->then = then;
	s->file = -1;
	x->spool = s;
	x->responder = &collector;
	exchange_want_body(x);
}

void spool_free(struct spool *s)
{
	if (s->gone)
		*s->gone = true;
	event_del(&s->feed);
	buf_fini(&s->memory);
	if (s->file >= 0)
		close(s->file);
	free(s);
}
