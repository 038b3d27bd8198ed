/*
 * What base/io.c and base/io_tls.c need of each other. Nobody else includes this.
 */
#ifndef TANDEM_BASE_IO_TLS_H
#define TANDEM_BASE_IO_TLS_H

#include <sys/types.h>

#include "base/io.h"

enum io_received {
	IO_RECEIVED, /* something came; the io is alive */
	IO_NOTHING,  /* nothing there yet */
	IO_OVER,     /* `ended` was called or the owner closed the io: touch it no more */
};

/* io.c, for the TLS side: */
/* Hands bytes to the owner. False when the owner closed the io meanwhile. */
bool io_deliver(struct io *io, uint8_t *bytes, size_t len) __attribute__((warn_unused_result));
/* Tells the owner that the connection or handshake is made; false as above. */
bool io_announce(struct io *io) __attribute__((warn_unused_result));
/* Ends the io now, from the loop; it may be freed afterwards. */
void io_finish(struct io *io, enum io_end why);
/* Ends the io later, from the loop. */
void io_fail(struct io *io, enum io_end why);
/* A recv() that gave `n` <= 0, with errno. */
enum io_received io_receive_stopped(struct io *io, ssize_t n);
/* Sends or queues. False when the io failed. */
bool io_push(struct io *io, const uint8_t *bytes, size_t len);

/* io_tls.c, for the socket side: */
enum io_received io_tls_receive(struct io *io);
bool io_tls_sendv(struct io *io, const struct iovec *pieces, int count);
/* True when bytes received earlier, or the start of the handshake, wait to be worked on. */
bool io_tls_has_work(const struct io *io);
bool io_tls_attach(struct io *io);
/* Sends close_notify if that does not block. */
void io_tls_finish_sending(struct io *io);
void io_tls_close(struct io *io);
const char *io_tls_error_text(const struct io *io);
bool io_tls_speaks(const struct io *io, const char *protocol);

#endif
