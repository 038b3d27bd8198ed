/*
 * Runs a reply through the walker in given pieces and writes down what came out, so that two ways of cutting the same bytes
 * can be compared. Shared by the unit tests and the fuzzer.
 */
#ifndef TANDEM_TESTS_WIRE_TRACE_H
#define TANDEM_TESTS_WIRE_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/wire/reply.h"

/* A captured reply: the head of a file in tests/corpus/walker (see wire_capture.py) and the stream behind it. */
struct trace_input {
	enum reply_kind kind;
	bool deprecate_eof;
	bool any_start; /* as after a command of several packets */
	uint8_t resume_seq;
	uint8_t seq_shift;
	const uint8_t *stream;
	size_t len;
};

enum { TRACE_HEAD = 5, TRACE_EVENTS = 64 };

struct trace {
	char events[TRACE_EVENTS]; /* a letter for each event, runs of passed bytes as one; "." at the end of the reply */
	size_t count;		   /* events, which may be more than fit above */
	uint8_t *out;		   /* bytes passed on; for other events letter, seq, payload */
	size_t len;
	size_t size;
	size_t consumed; /* stream bytes accounted for by items */
	bool over;
	bool is_broken;
};

static inline void trace_put(struct trace *t, const void *bytes, size_t len)
{
	if (t->len + len > t->size) {
		t->size = 2 * (t->len + len) + 256;
		t->out = realloc(t->out, t->size);
		if (!t->out)
			abort();
	}
	if (len)
		memcpy(t->out + t->len, bytes, len);
	t->len += len;
}

static inline void trace_letter(struct trace *t, char letter)
{
	if (letter == 'B' && t->count > 0 && t->count <= TRACE_EVENTS && t->events[t->count - 1] == 'B')
		return;
	if (t->count < TRACE_EVENTS - 1)
		t->events[t->count] = letter;
	t->count++;
}

static inline void trace_item(struct trace *t, const struct walk_item *item)
{
	static const char letters[] = { '-', 'B', 'C', 'K', 'F', 'X', 'P', 'L', '!' };
	char letter = letters[item->event];

	if (item->event == WALK_OK && item->ends_rows)
		letter = 'E';
	if (item->event == WALK_EOF && !item->ends_rows)
		letter = 'f';
	trace_letter(t, letter);
	if (item->event != WALK_BYTES) {
		uint8_t head[] = { (uint8_t)letter, item->seq };

		trace_put(t, head, sizeof(head));
	}
	if (item->event != WALK_COLUMNS_END && item->event != WALK_BROKEN) {
		trace_put(t, item->data, item->len);
		t->consumed += item->len + (item->event == WALK_BYTES ? 0 : WIRE_HEADER_BYTES);
	}
	t->is_broken = item->event == WALK_BROKEN;
	t->over = item->last;
	if (item->last)
		trace_letter(t, '.');
}

/* One piece, in memory of exactly its size so that a sanitizer sees the smallest step outside. */
static inline size_t trace_piece(struct trace *t, struct wire_walker *w, const struct trace_input *in, size_t at, size_t len)
{
	uint8_t *piece = malloc(len ? len : 1);
	size_t unread;

	if (!piece)
		abort();
	if (len)
		memcpy(piece, in->stream + at, len);
	wire_walk_feed(w, piece, len);
	for (;;) {
		struct walk_item item = wire_walk_next(w);

		if (item.event == WALK_MORE)
			break;
		trace_item(t, &item);
		if (item.last)
			break;
		if (item.event == WALK_LOCAL_INFILE)
			wire_walk_resume(w, in->resume_seq);
	}
	unread = wire_walk_unread(w);
	free(piece);
	return len - unread;
}

/* Cuts the stream at `first` and from there on every `step` bytes (0: not at all). Returns how many bytes were taken. */
static inline size_t trace_run(struct trace *t, const struct trace_input *in, size_t first, size_t step)
{
	struct wire_walker w = { 0 };
	size_t at = 0;

	*t = (struct trace){ 0 };
	wire_walk_start(&w, in->kind, in->deprecate_eof);
	if (in->any_start)
		wire_walk_after_long_command(&w);
	w.seq_shift = in->seq_shift;
	while (at < in->len && !t->over) {
		size_t len = at < first ? first - at : step ? step : in->len - at;

		if (len > in->len - at)
			len = in->len - at;
		at += trace_piece(t, &w, in, at, len);
	}
	wire_walk_fini(&w);
	return at;
}

static inline bool trace_same(const struct trace *a, const struct trace *b)
{
	return a->count == b->count && a->len == b->len && a->over == b->over && strcmp(a->events, b->events) == 0 &&
		(a->len == 0 || memcmp(a->out, b->out, a->len) == 0);
}

static inline void trace_fini(struct trace *t)
{
	free(t->out);
}

#endif
