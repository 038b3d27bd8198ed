/*
 * The socket seam. Above it a connection is handed bytes that arrived and hands over bytes to send; it never calls
 * read or write and does not know whether TLS lies between. Behind it: readiness (watch.h), one receive per event
 * into a scratch area shared by all connections of a thread, the send tried at once, writability asked for only
 * after a short one. TLS reads from the bytes just received and is drained to the end of them.
 *
 * An io belongs to one thread at a time. None of the handler's functions is called from inside io_init, io_send or
 * io_pause; io_resume may deliver TLS bytes that were held back, from the loop and not from inside the call.
 */
#ifndef TANDEM_BASE_IO_H
#define TANDEM_BASE_IO_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/watch.h"

enum { IO_SCRATCH_BYTES = 64 * 1024 };

/* Per thread: the loop and the receive area. All io of the thread point at it. */
struct io_loop {
	struct poller poller;
	uint8_t *scratch;	/* IO_SCRATCH_BYTES, overwritten by the next receive */
	uint8_t *tls_scratch;	/* IO_SCRATCH_BYTES, ciphertext on its way in; made at the first TLS connection */
	uint8_t *tls_out;	/* IO_SCRATCH_BYTES, ciphertext on its way out; empty between calls */
	size_t tls_out_len;
};

/* `base` as for poller_init(): NULL where the thread runs nothing but poller_run(&loop->poller). */
bool io_loop_init(struct io_loop *loop, struct event_base *base) __attribute__((warn_unused_result));
/* All io of the loop are closed. */
void io_loop_fini(struct io_loop *loop);

enum io_end {
	IO_END_PEER,	/* orderly end of stream */
	IO_END_RESET,	/* connection reset, broken pipe */
	IO_END_TIMEOUT, /* ETIMEDOUT from the kernel */
	IO_END_TLS,	/* TLS protocol or certificate failure; io_error_text() says what */
	IO_END_MEMORY,
	IO_END_REFUSED, /* connect failed; io_error_text() says why */
};

struct io;

struct io_handler {
	/* Bytes arrived. They live in the thread's scratch area until this returns and may be changed in place.
	 * The receiver takes all of them. It may close or free its own io (then it must not touch it again). */
	void (*bytes)(void *owner, uint8_t *bytes, size_t len);
	/* The out queue, which had been above zero, is empty again. */
	void (*drained)(void *owner);
	/* An io_connect() finished well, or a TLS handshake begun by io_start_tls() did. */
	void (*ready)(void *owner);
	/* The connection is over. No further call follows; the owner calls io_close(). */
	void (*ended)(void *owner, enum io_end why);
};

struct io_tls; /* SSL and its BIOs; private to io_tls.c */

enum io_state {
	IO_CLOSED,     /* no socket; also what a struct io of zeros is */
	IO_CONNECTING, /* sends are queued; then `ready` or `ended` */
	IO_OPEN,
	IO_FAILED, /* a send failed: `ended` is due from the loop, after what the peer still said */
	IO_ENDED,  /* `ended` was called; only io_close is left to do */
};

struct io {
	struct watch watch;
	const struct io_handler *handler;
	void *owner;
	struct io_tls *tls; /* NULL: in clear */
	struct io_loop *loop;
	struct buf out;	    /* what the socket did not take yet */
	int fd;		    /* -1 when closed */
	int error;	    /* errno of the failure, 0 */
	enum io_state state;
	enum io_end why; /* of IO_FAILED and IO_ENDED */
	bool paused;	 /* reads stopped by io_pause */
	bool corked;	 /* between io_cork() and io_uncork(): small pieces wait in `out` */
	bool awaited;	 /* `drained` is due although nothing is queued: io_send_file() found the socket full */
	bool *gone;	 /* set to true by io_close while the io's own receive function is on the stack */
};

/* Takes the non-blocking socket `fd` (owned from here on, closed on failure) and starts receiving. */
bool io_init(struct io *io, struct io_loop *loop, int fd, const struct io_handler *handler, void *owner)
	__attribute__((warn_unused_result));
/* Starts a non-blocking connect. `ready` or `ended` will be called. False (errno set) when no socket can be had. */
bool io_connect(struct io *io, struct io_loop *loop, const struct sockaddr *address, socklen_t address_len,
		const struct io_handler *handler, void *owner) __attribute__((warn_unused_result));
/* Closes the socket (sending a TLS close_notify if that does not block) and frees what the io owns, not the io
 * itself. Unsent bytes are dropped. Calling it on a closed io does nothing. */
void io_close(struct io *io);

/* Sends `count` pieces, in order, at once if the socket takes them; what it does not take is copied and sent later.
 * False: memory ran out or the connection is broken; `ended` will NOT be called from inside, the caller closes or waits
 * for `ended`, which follows from the loop. */
bool io_sendv(struct io *io, const struct iovec *pieces, int count);
bool io_send(struct io *io, const void *bytes, size_t len);

/*
 * Small pieces that are sent between the two go out together, by one system call. Whoever corks uncorks before the loop goes on; `drained`
 * may be called from io_uncork(), as for anything that was queued. Nothing happens on an io that is closed by then, or has a queue already.
 */
void io_cork(struct io *io);
void io_uncork(struct io *io);
/* Bytes accepted by io_send that the socket has not taken yet. */
static inline size_t io_unsent(const struct io *io)
{
	return buf_len(&io->out);
}

/*
 * Sends from an open file: up to `len` bytes from `offset`, straight from the page cache where the connection is in clear. Nothing may be
 * unsent. Returns how many bytes were taken (fewer than `len` is usual); 0 when the socket takes none now, and `drained` will be called;
 * -1 when it cannot go on: the connection failed (`ended` follows) or the file ended or could not be read (errno tells, 0 for its end).
 */
ssize_t io_send_file(struct io *io, int file, off_t offset, size_t len);
/* Says that nothing more will be sent, once all is sent: the other side sees the end, what it still says can be received. */
void io_finish_sending(struct io *io);

/* Stop and restart receiving: the partner cannot take more. Idempotent. Paused io still notice nothing of their
 * peer; bytes wait in the kernel. */
void io_pause(struct io *io);
void io_resume(struct io *io);

/* From here on the connection speaks TLS, as server or as client by what `ctx` is for. `early` are bytes already received
 * that belong to the handshake (may be NULL). `host` (client side, may be NULL) is sent as SNI and verified when
 * `verify_host`. `ready` is called when the handshake is done. False: memory. */
bool io_start_tls(struct io *io, SSL_CTX *ctx, bool server, const char *host, bool verify_host, const uint8_t *early,
		  size_t early_len) __attribute__((warn_unused_result));

/* The protocol that both sides have agreed on while TLS shook hands (ALPN). */
bool io_speaks(const struct io *io, const char *protocol);

/* Nothing is in flight on it: it may be detached now. */
bool io_can_detach(const struct io *io);
/* Moves a connection between threads: io_detach on the old thread (nothing may be in flight on it: no unsent bytes,
 * no bytes held back), then io_attach on the new one. TLS state moves along. */
void io_detach(struct io *io);
bool io_attach(struct io *io, struct io_loop *loop, const struct io_handler *handler, void *owner)
	__attribute__((warn_unused_result));

/* A short text for logs and error packets; static or per io, valid until the io is closed. */
const char *io_error_text(const struct io *io, enum io_end why);

#endif
