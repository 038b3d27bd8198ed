/*
 * FastCGI 1.0 records, both sides: what a web server sends to a responder, and what a responder answers. No sockets, no allocation.
 * Source: FastCGI Specification, sections 3 (records), 4 (management), 5 (BEGIN, ABORT, END), 6 (roles) and 8 (constants).
 */
#ifndef TANDEM_BASE_FASTCGI_H
#define TANDEM_BASE_FASTCGI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FCGI_HEADER_BYTES = 8,
	FCGI_CONTENT_MAX = 65535,
};

enum fcgi_type {
	FCGI_BEGIN_REQUEST = 1,
	FCGI_ABORT_REQUEST = 2,
	FCGI_END_REQUEST = 3,
	FCGI_PARAMS = 4,
	FCGI_STDIN = 5,
	FCGI_STDOUT = 6,
	FCGI_STDERR = 7,
	FCGI_DATA = 8,
	FCGI_GET_VALUES = 9,
	FCGI_GET_VALUES_RESULT = 10,
	FCGI_UNKNOWN_TYPE = 11,
};

enum fcgi_role { FCGI_RESPONDER = 1, FCGI_AUTHORIZER = 2, FCGI_FILTER = 3 };

enum fcgi_end { FCGI_REQUEST_COMPLETE = 0, FCGI_CANT_MPX_CONN = 1, FCGI_OVERLOADED = 2, FCGI_UNKNOWN_ROLE = 3 };

/* ---- Writing ---- */

/* A record's header; the caller sends `content` bytes and no padding behind it. content is at most FCGI_CONTENT_MAX. */
void fcgi_put_header(uint8_t out[FCGI_HEADER_BYTES], enum fcgi_type type, uint16_t id, size_t content);

enum { FCGI_BEGIN_BYTES = FCGI_HEADER_BYTES + 8, FCGI_END_BYTES = FCGI_HEADER_BYTES + 8 };
void fcgi_put_begin(uint8_t out[FCGI_BEGIN_BYTES], uint16_t id, enum fcgi_role role, bool keep_connection);
void fcgi_put_end(uint8_t out[FCGI_END_BYTES], uint16_t id, uint32_t app_status, enum fcgi_end end);

/* Bytes that a name-value pair takes in a PARAMS stream. */
size_t fcgi_pair_bytes(size_t name_len, size_t value_len);
/* Writes a pair to `out`, which has room for fcgi_pair_bytes(); returns that many. Lengths are below 2^31. */
size_t fcgi_put_pair(uint8_t *out, const char *name, size_t name_len, const char *value, size_t value_len);

/* ---- Reading ---- */

struct fcgi_record {
	uint8_t type; /* enum fcgi_type, or a number nobody knows */
	uint16_t id;
	uint16_t content_len;
	uint8_t padding_len;
};

/* Where a reader of records is; a zeroed struct is in front of a record. */
struct fcgi_reader {
	uint8_t header[FCGI_HEADER_BYTES];
	uint8_t have; /* of header */
	bool inside;  /* a record's header is complete; `left` and `padding` are still to come */
	uint16_t left;
	uint8_t padding;
	struct fcgi_record record;
};

enum fcgi_step {
	FCGI_MORE,    /* all bytes taken, nothing to report yet */
	FCGI_RECORD,  /* a header is complete: reader->record */
	FCGI_CONTENT, /* a piece of the record's content: *piece, *piece_len */
	FCGI_DONE,    /* the record is over, padding and all */
	FCGI_BAD,     /* not FastCGI version 1: the connection is of no use any more */
};

/* Takes from the bytes until there is something to report. `*used` says how many; call again with the rest. Pieces point into `bytes`. */
enum fcgi_step fcgi_read(struct fcgi_reader *reader, const uint8_t *bytes, size_t len, size_t *used, const uint8_t **piece,
			 size_t *piece_len);

/* The eight bytes of an END_REQUEST's content. False when there are fewer. */
bool fcgi_parse_end(const uint8_t *content, size_t len, uint32_t *app_status, uint8_t *end);
/* The eight bytes of a BEGIN_REQUEST's content. */
bool fcgi_parse_begin(const uint8_t *content, size_t len, uint16_t *role, bool *keep_connection);

struct fcgi_pair {
	const char *name;
	size_t name_len;
	const char *value;
	size_t value_len;
};
enum fcgi_pair_result { FCGI_PAIR, FCGI_PAIR_MORE, FCGI_PAIR_BAD };
/*
 * Takes the next pair from a stream of them. MORE: it is not whole within the `len` bytes. BAD: it would take more than `limit` bytes.
 * The pair points into the bytes.
 */
enum fcgi_pair_result fcgi_take_pair(const uint8_t *bytes, size_t len, size_t limit, size_t *used, struct fcgi_pair *out);

#endif
