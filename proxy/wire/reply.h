/*
 * What servers answer: OK, ERR, EOF, session tracking, and the walker that finds the end of any reply in pieces of any size
 * without copying rows.
 * Source: MariaDB KB "OK_Packet", "ERR_Packet", "EOF_Packet", "Result Set Packets", "COM_STMT_PREPARE"; MySQL Internals
 * "Session State Information".
 */
#ifndef TANDEM_WIRE_REPLY_H
#define TANDEM_WIRE_REPLY_H

#include "proxy/wire/packet.h"
#include "proxy/wire/protocol.h"

/* ---- OK ---------------------------------------------------------------------------------------------------------- */

struct wire_ok {
	uint8_t header; /* 0x00, or 0xfe when it ends a result set */
	uint64_t affected_rows;
	uint64_t insert_id;
	uint16_t status;
	uint16_t warnings;
	struct wire_bytes info;
	struct wire_bytes track; /* session track data without its length; empty when there is none */
};

/* `capabilities` are those of the connection it came from (CLIENT_SESSION_TRACK: tracking data may follow info). */
bool wire_parse_ok(const uint8_t *payload, size_t len, uint64_t capabilities, struct wire_ok *out)
	__attribute__((warn_unused_result));
/* A whole packet, in the format that `capabilities` asks for. Without CLIENT_SESSION_TRACK the tracking is left out and
 * SERVER_SESSION_STATE_CHANGED is cleared. */
void wire_put_ok(struct wire_writer *w, const struct wire_ok *ok, uint64_t capabilities, uint8_t seq);

/* One entry of the tracking data. */
struct wire_track_entry {
	enum wire_track type;
	struct wire_bytes name;	 /* SYSTEM_VARIABLES: the variable */
	struct wire_bytes value; /* the variable's value, schema, GTID text, characteristics, state, "1" */
};
/* Iterates: false at the end (reader then not bad) or at malformed data (reader bad). One SYSTEM_VARIABLES entry may hold several
 * pairs; each is given on its own. `inner` is the iterator's own state, zeroed by the caller before the first call. */
struct wire_track_iter {
	struct wire_reader outer;
	struct wire_reader inner;
};
struct wire_track_iter wire_track_iter(struct wire_bytes track);
bool wire_track_next(struct wire_track_iter *it, struct wire_track_entry *out);

/* ---- ERR, EOF ---------------------------------------------------------------------------------------------------- */

struct wire_err {
	uint16_t code;
	char sqlstate[6];
	struct wire_bytes message;
};
bool wire_parse_err(const uint8_t *payload, size_t len, struct wire_err *out) __attribute__((warn_unused_result));
/* A whole packet; `message` is cut at 512 bytes as servers do. Before login (`pre_login`) some clients expect no SQLSTATE:
 * the marker and state are written always, as MariaDB does from protocol 4.1 on. */
void wire_put_err(struct wire_writer *w, uint16_t code, const char *sqlstate, const char *message, uint8_t seq);
void wire_put_eof(struct wire_writer *w, uint16_t warnings, uint16_t status, uint8_t seq);
bool wire_parse_eof(const uint8_t *payload, size_t len, uint16_t *warnings, uint16_t *status) __attribute__((warn_unused_result));

/* ---- The walker -------------------------------------------------------------------------------------------------- */

enum reply_kind {
	REPLY_RESULT,	 /* OK, ERR, LOCAL INFILE or result sets, several in a row: QUERY, EXECUTE, PROCESS_INFO, ... */
	REPLY_PREPARE,	 /* STMT_PREPARE */
	REPLY_FIELDS,	 /* FIELD_LIST: column definitions up to EOF or ERR */
	REPLY_ROWS,	 /* STMT_FETCH: rows up to EOF or ERR */
	REPLY_ONE,	 /* exactly one packet, OK, EOF or ERR: PING, INIT_DB, SET_OPTION, RESET_CONNECTION, ... */
	REPLY_TEXT,	 /* exactly one packet of any content, or ERR: STATISTICS */
	REPLY_STREAM,	 /* packets up to ERR or EOF: BINLOG_DUMP */
};

enum walk_event {
	WALK_MORE,	   /* nothing left: everything given was consumed; call wire_walk_feed with the next bytes */
	WALK_BYTES,	   /* pass these on: headers and payloads of column counts, definitions, rows; not aligned to packets */
	WALK_COLUMNS_END,  /* no bytes: here a classic client expects an EOF (the backend speaks DEPRECATE_EOF); comes also after
			    * the parameter and the column definitions of a prepare. item.seq is the sequence number that an
			    * inserted packet would have, before seq_shift */
	WALK_OK,	   /* payload of an OK (header 0x00 or 0xfe), complete and contiguous */
	WALK_EOF,	   /* payload of a classic EOF (when the backend does not speak DEPRECATE_EOF; at the end of a
			    * REPLY_STREAM always) */
	WALK_ERR,	   /* payload of an ERR */
	WALK_PREPARED,	   /* payload of a PREPARE_OK */
	WALK_LOCAL_INFILE, /* payload (0xfb, file name): the client must send the file now; the reply goes on afterwards */
	WALK_BROKEN,	   /* not the protocol; the connection cannot be used any more */
};

struct walk_item {
	enum walk_event event;
	uint8_t *data; /* WALK_BYTES: raw stream bytes; control events: payload without header */
	size_t len;
	uint8_t seq;	/* control events: the packet's own sequence number, plus seq_shift */
	bool last;	/* this item ends the reply */
	bool ends_rows; /* WALK_OK: it ends a result set (0xfe), so a classic client gets an EOF instead */
};

/*
 * One reply. Bytes are given with wire_walk_feed and taken item by item with wire_walk_next until WALK_MORE. Items point into
 * the bytes given, or, for packets that came in pieces, into the walker's own memory; they are valid until the next call.
 * Control packets larger than `WIRE_CONTROL_MAX` are WALK_BROKEN. Only headers and first bytes of rows are looked at. The
 * 4 header bytes of passed packets get seq_shift added to their sequence number in place.
 *
 * A classic backend (deprecate_eof false) sends an EOF after the definitions too: it comes as WALK_EOF with ends_rows false.
 */
enum { WIRE_CONTROL_MAX = 1 << 20 };

struct wire_walker {
	enum reply_kind kind;
	uint8_t phase;	    /* private */
	uint8_t seq_shift;  /* set by the caller whenever it inserts or drops a packet; added to later sequence numbers */
	uint8_t next_seq;   /* sequence number of the next packet expected, unshifted */
	bool deprecate_eof; /* as agreed with the server */
	bool row_continued; /* the next packet continues one of 16 MiB - 1 */
	bool columns_end_due; /* definitions are through, WALK_COLUMNS_END not reported yet */
	bool any_start;	      /* the next packet's number is taken as it comes */
	bool no_cursor;	      /* the command did not ask for a cursor */
	bool handed_out;      /* `collected` went out with the item before: free it at the next call */
	uint8_t control;      /* the walk_event that is being collected */
	uint8_t carry_len;    /* bytes of `carry` held back */
	uint8_t carry[16];    /* a header and what of its payload is needed to tell what the packet is */
	uint32_t left;	      /* payload bytes of the current packet still to pass on */
	uint64_t columns;     /* definitions still to come */
	uint64_t columns2;    /* prepare: column definitions behind the parameters */
	uint8_t *at;	      /* unread part of the bytes fed */
	uint8_t *end;
	uint8_t *collected; /* a control packet that came in pieces; heap, NULL otherwise */
	uint32_t collected_len;
	uint32_t collected_want;
	uint64_t rows; /* row packets of the current result set seen so far */
};

/* A walker's memory is all zero before its first start; a start frees what the reply before may have left. The first packet is
 * expected to have sequence number 1, unless the next call is made. */
void wire_walk_start(struct wire_walker *w, enum reply_kind kind, bool deprecate_eof);
/* Directly after a start: the command was longer than one packet. Its reply's numbers go on behind the command's, or, when the server
 * gave up in the middle ("bigger than max_allowed_packet"), behind those that it had read, so the first one is taken as it comes. */
void wire_walk_after_long_command(struct wire_walker *w);
/* Directly after a start: the command did not ask for a cursor. "Cursor exists" then speaks of cursors inside routines, which servers
 * also report, and rows or their end still follow the definitions. */
void wire_walk_no_cursor(struct wire_walker *w);
void wire_walk_feed(struct wire_walker *w, uint8_t *bytes, size_t len);
struct walk_item wire_walk_next(struct wire_walker *w);
/* Bytes fed and not yet taken: they belong to the next reply when the item taken was `last`. */
static inline size_t wire_walk_unread(const struct wire_walker *w)
{
	return (size_t)(w->end - w->at);
}
/* After WALK_LOCAL_INFILE the client's file has gone through: the server's packet numbers go on from the client's. Until then
 * wire_walk_next answers WALK_MORE and leaves bytes unread. */
void wire_walk_resume(struct wire_walker *w, uint8_t next_seq);
/* Frees what a reply has left: the last item's memory when it came in pieces, or what was collected of a reply that broke off.
 * Cheap; call it when a reply is over so that an idle connection holds nothing. The next start does it too. */
void wire_walk_fini(struct wire_walker *w);

struct wire_prepared {
	uint32_t id;
	uint16_t columns;
	uint16_t params;
	uint16_t warnings;
};
bool wire_parse_prepared(const uint8_t *payload, size_t len, struct wire_prepared *out) __attribute__((warn_unused_result));

#endif
