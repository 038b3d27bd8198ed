/*
 * The seam between what HTTP means and how it travels. Below it lies a connection (socket, TLS, connection.c), above it exchanges (requests
 * with their answers, exchange.c); in between a carrier turns bytes into exchanges and answers into bytes: HTTP/1.x (http1_carrier.c) has one
 * exchange at a time, HTTP/2 (http2_carrier.c) many. Who makes an answer cannot tell which of them carries it.
 *
 * A carrier makes exchanges with exchange_new(), fills their head, and lets them begin; it tells them of the body with exchange_body() and
 * exchange_body_over(), and ends each with exchange_free().
 */
#ifndef TANDEM_WEB_CARRIER_H
#define TANDEM_WEB_CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct connection;
struct exchange;

struct carrier {
	const char *name;

	/* ---- From the connection ---- */

	/* The connection can be used, TLS has shaken hands. False: memory; the caller closes. */
	bool (*begin)(struct connection *c);
	/* Bytes came; all are taken. The connection may be closed when this returns. */
	void (*bytes)(struct connection *c, const uint8_t *bytes, size_t len);
	/* All that was sent has left. */
	void (*drained)(struct connection *c);
	/* The connection's own time (connection_wait()) is over; those of exchanges are theirs. */
	void (*timed_out)(struct connection *c);
	/* No further request is wanted: ends the connection at once when none is under way, else with the last answer. */
	void (*drain)(struct connection *c);
	/* The connection closes: ends the exchanges, frees what the carrier has. Sends nothing. */
	void (*end)(struct connection *c);

	/* ---- From an exchange ---- */

	/* Sends the head (x->status, x->length, the fields in x->worker->fields) with `len` first bytes of the body. */
	void (*send_head)(struct exchange *x, const void *body, size_t len);
	/* More of the body. Takes all of it; is_behind() tells whether the client keeps up. */
	void (*send_body)(struct exchange *x, const void *body, size_t len);
	/* The rest of the body is x->file_left bytes of x->file; finishes by itself. */
	void (*send_file)(struct exchange *x);
	/* The answer is whole. The exchange may be gone when this returns. */
	void (*finish)(struct exchange *x);
	/* So much of the answer is unsent that there should be no more of it for now; exchange_drained() follows. */
	bool (*is_behind)(const struct exchange *x);
	/* Tells a client that waits for it to send the body. */
	void (*go_on)(struct exchange *x);
	/* The body is not wanted for now; what is on its way still comes, at most HOLD_MAX bytes. And: it is wanted again. */
	void (*hold)(struct exchange *x);
	void (*release)(struct exchange *x);
	/* The answer was 101: from here on bytes go both ways as they come, as bodies do. NULL: such requests are not passed on. */
	void (*tunnel)(struct exchange *x);
	/* Ends it in a way that the client takes for no whole answer. The exchange is gone when this returns. */
	void (*break_off)(struct exchange *x, const char *why);
};

/* What can still come of a request's body that is held. */
enum { HOLD_MAX = 256 * 1024 };

extern const struct carrier http1_carrier;
extern const struct carrier http2_carrier;

#endif
