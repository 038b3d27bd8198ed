/*
 * What goes to a client in one go: runs of bytes passed on as they came, and small packets of our own between them. Rows of any size are
 * pointed at, not copied; short runs are gathered so that one reply is one send of one piece.
 */
#ifndef TANDEM_SESSION_OUTPUT_H
#define TANDEM_SESSION_OUTPUT_H

#include "base/io.h"
#include "proxy/wire/packet.h"

enum { OUTPUT_STAGE_BYTES = 16 * 1024, OUTPUT_PIECES = 32, OUTPUT_COPY_BELOW = 2048 };

struct output {
	struct io *to; /* NULL: nothing collected */
	int count;
	size_t staged;
	struct iovec pieces[OUTPUT_PIECES];
	uint8_t stage[OUTPUT_STAGE_BYTES];
};

/* Everything added until the flush goes to `to`. */
void output_begin(struct output *out, struct io *to);
/* Passes bytes on. They must stay where they are until the flush. */
void output_bytes(struct output *out, const uint8_t *bytes, size_t len);
/* Room for a packet of our own of at most `len` bytes (at most OUTPUT_STAGE_BYTES): write there, then output_packet_end(). */
struct wire_writer output_packet(struct output *out, size_t len);
void output_packet_end(struct output *out, const struct wire_writer *w);
/* Sends it all. */
bool output_flush(struct output *out);

#endif
