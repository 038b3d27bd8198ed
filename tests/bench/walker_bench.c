/*
 * What the walker costs: nanoseconds per row and GB/s over a result set of short rows and one of long rows, in pieces as a
 * worker receives them (into the same 64 KiB, which stay in the cache), with and without a shift of sequence numbers; and per
 * small reply, as most are.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proxy/wire/reply.h"

enum { PIECE = 64 * 1024, ROUNDS = 20, WALKS = 1000, POINTS = 2000000 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t put_packet(uint8_t *at, size_t len, uint8_t seq, const void *payload)
{
	wire_put_header(at, (uint32_t)len, seq);
	if (payload)
		memcpy(at + WIRE_HEADER_BYTES, payload, len);
	else
		memset(at + WIRE_HEADER_BYTES, 'x', len);
	return WIRE_HEADER_BYTES + len;
}

static const uint8_t definition[40] = "\3def\4shop\1t\1t\2id\2id\x0c\x3f";
static const uint8_t end_of_rows[] = { 0xfe, 0, 0, 2, 0, 0, 0 };

/* A result set of about `total` bytes in rows of `row` bytes; returns its length. */
static size_t make_result(uint8_t *out, size_t total, size_t row, size_t *rows)
{
	uint8_t seq = 1;
	size_t len = put_packet(out, 1, seq++, "\1");

	len += put_packet(out + len, sizeof(definition), seq++, definition);
	for (*rows = 0; len + row + 64 < total; (*rows)++)
		len += put_packet(out + len, row, seq++, NULL);
	return len + put_packet(out + len, sizeof(end_of_rows), seq, end_of_rows);
}

/* Walks a reply whose numbers begin with `first`; returns the number of items. */
static size_t walk(uint8_t *reply, size_t len, uint8_t first, uint8_t shift)
{
	struct wire_walker w = { 0 };
	size_t items = 0;

	wire_walk_start(&w, REPLY_RESULT, true);
	wire_walk_resume(&w, first);
	w.seq_shift = shift;
	wire_walk_feed(&w, reply, len);
	for (;;) {
		struct walk_item item = wire_walk_next(&w);

		if (item.event == WALK_BROKEN || item.event == WALK_MORE)
			abort();
		items++;
		if (item.last)
			break;
	}
	wire_walk_fini(&w);
	return items;
}

/* Twice, so that the second walk takes back what the first one did to the numbers of passed packets. The last one, an OK,
 * keeps its number: it is set by hand. */
static size_t walk_twice(uint8_t *reply, size_t len, uint8_t shift)
{
	uint8_t *last = reply + len - sizeof(end_of_rows) - 1;
	const uint8_t seq = *last;
	size_t items = walk(reply, len, 1, shift);

	*last = (uint8_t)(seq + shift);
	items += walk(reply, len, (uint8_t)(1 + shift), (uint8_t)-shift);
	*last = seq;
	return items;
}

static void measure_rows(uint8_t *reply, size_t row, uint8_t shift)
{
	size_t rows, len = make_result(reply, PIECE, row, &rows);
	double best = 1e9;

	for (int round = 0; round < ROUNDS; round++) {
		double start = now(), spent;

		for (int i = 0; i < WALKS; i++)
			walk_twice(reply, len, shift);
		spent = (now() - start) / (2 * WALKS);
		best = spent < best ? spent : best;
	}
	printf("rows of %5zu bytes, %s shift: %6.2f ns/row %7.2f GB/s\n", row, shift ? "with   " : "without",
	       best * 1e9 / (double)rows, (double)len / best / 1e9);
}

static void measure_small(uint8_t *reply, uint8_t shift)
{
	size_t rows, len = make_result(reply, 200, 20, &rows), items = 0;
	double start = now();

	for (int i = 0; i < POINTS; i++)
		items += walk_twice(reply, len, shift);
	printf("small result (%zu rows, %zu bytes), %s shift: %6.1f ns/reply, %.1f items\n", rows, len,
	       shift ? "with   " : "without", (now() - start) * 1e9 / (2 * POINTS), (double)items / (2 * POINTS));
}

int main(void)
{
	static const size_t sizes[] = { 20, 100, 1000, 16000 };
	uint8_t *reply = malloc(PIECE);

	if (!reply)
		return 1;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		measure_rows(reply, sizes[i], 0);
		measure_rows(reply, sizes[i], 1);
	}
	measure_small(reply, 0);
	measure_small(reply, 1);
	free(reply);
	return 0;
}
