/*
 * The chunked transfer coding (RFC 9112 section 7.1), taken apart as it comes in pieces of any size. Data is pointed at, not copied.
 * Chunk extensions and trailer fields are checked, bounded and dropped.
 */
#ifndef TANDEM_WEB_CHUNKED_H
#define TANDEM_WEB_CHUNKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chunked_state {
	CHUNKED_SIZE,	   /* in the hex digits of a chunk's size; a zeroed struct is at the first */
	CHUNKED_EXTENSION, /* behind ';', to be dropped */
	CHUNKED_SIZE_LF,   /* CR of the size line seen */
	CHUNKED_DATA,
	CHUNKED_DATA_CR,
	CHUNKED_DATA_LF,
	CHUNKED_TRAILER,	/* at the start of a trailer line */
	CHUNKED_TRAILER_NAME,	/* within the name of a trailer field */
	CHUNKED_TRAILER_VALUE,
	CHUNKED_TRAILER_LF,	/* CR of a trailer field seen */
	CHUNKED_LAST_LF,	/* CR of the empty line seen */
	CHUNKED_END,		/* the body is over; bytes that follow are the next request's */
	CHUNKED_BAD,
};

struct chunked {
	enum chunked_state state;
	uint64_t left;	  /* of the size being read, then of the chunk's data */
	unsigned digits;  /* of the size */
	unsigned dropped; /* bytes of extensions and trailers so far, bounded by CHUNKED_DROP_LIMIT */
};

enum { CHUNKED_DROP_LIMIT = 8192 };

struct chunked_piece {
	const uint8_t *data; /* NULL when this step brought none */
	size_t len;
};

/*
 * Takes from the `len` bytes up to and including the next piece of data, or all of them; returns how many. Call again with the rest until
 * all is taken, or state is CHUNKED_END or CHUNKED_BAD.
 */
size_t chunked_take(struct chunked *chunked, const uint8_t *bytes, size_t len, struct chunked_piece *piece);

#endif
