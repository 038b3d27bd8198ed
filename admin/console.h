/*
 * Inside the SQL console: a client and what its two halves share.
 */
#ifndef TANDEM_ADMIN_CONSOLE_H
#define TANDEM_ADMIN_CONSOLE_H

#include "admin/room.h"
#include "proxy/wire/auth.h"
#include "proxy/wire/handshake.h"
#include "proxy/wire/reply.h"

enum { CONSOLE_UTF8 = 45, CONSOLE_BINARY = 63 }; /* collation numbers: utf8mb4_general_ci, binary */

#define CONSOLE_CAPABILITIES                                                                                                 \
	(CLIENT_LONG_PASSWORD | CLIENT_FOUND_ROWS | CLIENT_LONG_FLAG | CLIENT_CONNECT_WITH_DB | CLIENT_PROTOCOL_41 |         \
	 CLIENT_TRANSACTIONS | CLIENT_SECURE_CONNECTION | CLIENT_MULTI_RESULTS | CLIENT_PLUGIN_AUTH | CLIENT_CONNECT_ATTRS | \
	 CLIENT_PLUGIN_AUTH_LENENC | CLIENT_DEPRECATE_EOF)

struct console {
	struct visitor *visitor;
	uint64_t offered;
	uint64_t capabilities;
	uint8_t seq; /* of the next packet to the client */
	uint8_t scramble[WIRE_SCRAMBLE_BYTES];
	uint8_t stored[20];
	size_t stored_len;
	uint8_t *payload; /* the last packet received */
};

bool console_send(struct console *c, const struct wire_writer *w);
void console_ok(struct console *c);
void console_error(struct console *c, uint16_t code, const char *sqlstate, const char *message);

/* console_query.c: a statement and its answer. */
void console_query(struct console *c, const char *text, size_t len);

/* console_small.c: what drivers ask on their own: SET NAMES, SELECT @@version_comment, ... False when it is none of that. */
bool console_small_talk(struct console *c, const char *text, size_t len);

/* A result of one table of texts is sent piece by piece. */
bool console_send_columns(struct console *c, const struct column *columns, size_t count);
/* NULL texts are SQL NULL. */
bool console_send_row(struct console *c, const char *const *texts, size_t count);
bool console_send_end(struct console *c);

#endif
