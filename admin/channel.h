/*
 * A connection of one admin client, for the thread that serves it: blocking calls with a time-out, TLS when it was asked for. Every call
 * returns at once when the daemon stops. Admin clients are few and their commands may take long, so each has a thread and no event loop.
 */
#ifndef TANDEM_ADMIN_CHANNEL_H
#define TANDEM_ADMIN_CHANNEL_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CHANNEL_FOREVER = -1, CHANNEL_WRITE_MS = 30000 };

struct channel {
	int fd;	     /* non-blocking; owned by whoever made the channel */
	int stop_fd; /* readable when the daemon stops */
	SSL *ssl;    /* NULL: in clear */
	bool broken; /* nothing more can be read or written */
};

/* Reads exactly `len` bytes. False at the end of the stream, when the time is over, on an error and when the daemon stops. */
bool channel_read(struct channel *channel, void *out, size_t len, int timeout_ms);
/* Reads a line without its newline into out, NUL-terminated. False as above, and when it is longer than size - 1 bytes or holds a NUL. */
bool channel_read_line(struct channel *channel, char *out, size_t size, int timeout_ms);
bool channel_write(struct channel *channel, const void *bytes, size_t len);
/* The server's side of a handshake. */
bool channel_start_tls(struct channel *channel, SSL_CTX *ctx, int timeout_ms);
/* Sleeps; false at once when the peer goes or the daemon stops. */
bool channel_wait(struct channel *channel, int ms);
/* Frees what TLS has; the socket stays the caller's. */
void channel_fini(struct channel *channel);

#endif
