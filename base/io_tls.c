/*
 * TLS behind the socket seam. The BIO below each SSL has no memory of its own: it reads from the bytes just received and
 * writes to the thread's staging area, which leaves in one send. So an idle TLS connection holds its SSL and nothing
 * else, and bytes are copied by the cipher alone.
 */
#include "base/io_tls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

enum {
	RECORD_BYTES = SSL3_RT_MAX_PLAIN_LENGTH,
	SMALL_PIECE_BYTES =
		4096, /* smaller pieces are copied together: a record costs more than the copy */
};

struct io_tls {
	struct io *io;
	SSL *ssl;
	const uint8_t *in; /* ciphertext being worked on; NULL outside io_tls_receive() */
	size_t in_len;
	struct buf held;    /* ciphertext received while the owner did not want more */
	struct buf waiting; /* plaintext sent before the handshake was done */
	bool started;	    /* the first handshake step was taken */
	bool done;	    /* the handshake is over */
	bool broken;	    /* SSL reported a failure; it must not be asked for a shutdown */
	bool end_seen;	    /* the stream is over, but the owner paused before it could be told */
	char why[160];
};

/* --- the BIO --- */

static int take_ciphertext(BIO *bio, char *out, int want)
{
	struct io_tls *tls = BIO_get_data(bio);
	size_t len = (size_t)want < tls->in_len ? (size_t)want : tls->in_len;

	BIO_clear_retry_flags(bio);
	if (len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(out, tls->in, len);
	tls->in += len;
	tls->in_len -= len;
	return (int)len;
}

/* Sends what is staged. A failure is remembered in the io and told from the loop. */
static void flush(struct io *io)
{
	size_t len = io->loop->tls_out_len;

	if (len == 0)
		return;
	io->loop->tls_out_len = 0;
	if (io->state == IO_OPEN)
		io_push(io, io->loop->tls_out, len);
}

static int give_ciphertext(BIO *bio, const char *bytes, int len)
{
	struct io_tls *tls = BIO_get_data(bio);
	struct io_loop *loop = tls->io->loop;

	/* Never refuses: what cannot be sent ends the connection by its own way, and SSL needs no second error. */
	BIO_clear_retry_flags(bio);
	if (loop->tls_out_len + (size_t)len > IO_SCRATCH_BYTES)
		flush(tls->io);
	memcpy(loop->tls_out + loop->tls_out_len, bytes, (size_t)len);
	loop->tls_out_len += (size_t)len;
	return len;
}

static long control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void free_method(void)
{
	BIO_meth_free(method);
}

static void make_method(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tandem io");
	if (!method)
		return;
	BIO_meth_set_read(method, take_ciphertext);
	BIO_meth_set_write(method, give_ciphertext);
	BIO_meth_set_ctrl(method, control);
	atexit(free_method);
}

static BIO *new_bio(struct io_tls *tls)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *bio;

	pthread_once(&once, make_method);
	bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return NULL;
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	return bio;
}

/* --- failure --- */

static void note_failure(struct io_tls *tls, const char *doing)
{
	unsigned long error = ERR_get_error();
	const char *reason = error ? ERR_reason_error_string(error) : NULL;

	if (ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		reason = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
	snprintf(tls->why, sizeof(tls->why), "TLS %s failed: %s", doing,
		 reason ? reason : "protocol error");
	ERR_clear_error();
	tls->broken = true;
}

/* From the loop: ends the io. The alert that SSL wrote goes out first. */
static enum io_received end_broken(struct io *io, const char *doing)
{
	if (!io->tls->broken)
		note_failure(io->tls, doing);
	flush(io);
	io_finish(io, IO_END_TLS);
	return IO_OVER;
}

/* --- sending --- */

static bool seal(struct io_tls *tls, const void *bytes, size_t len)
{
	const uint8_t *next = bytes;
	size_t taken;

	ERR_clear_error();
	while (len) {
		if (SSL_write_ex(tls->ssl, next, len, &taken) != 1) {
			note_failure(tls, "send");
			io_fail(tls->io, IO_END_TLS);
			return false;
		}
		next += taken;
		len -= taken;
	}
	return true;
}

/* Small pieces share a record; large ones are sealed where they lie. */
static bool seal_pieces(struct io_tls *tls, const struct iovec *pieces, int count)
{
	uint8_t together[RECORD_BYTES];
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		const struct iovec *piece = &pieces[i];
		bool is_alone = len == 0 && i == count - 1;

		if (len + piece->iov_len > sizeof(together) || is_alone ||
		    piece->iov_len > SMALL_PIECE_BYTES) {
			if (!seal(tls, together, len) ||
			    !seal(tls, piece->iov_base, piece->iov_len))
				return false;
			len = 0;
			continue;
		}
		memcpy(together + len, piece->iov_base, piece->iov_len);
		len += piece->iov_len;
	}
	return seal(tls, together, len);
}

static bool keep_for_later(struct io_tls *tls, const struct iovec *pieces, int count)
{
	for (int i = 0; i < count; i++) {
		if (!buf_append(&tls->waiting, pieces[i].iov_base, pieces[i].iov_len)) {
			io_fail(tls->io, IO_END_MEMORY);
			return false;
		}
	}
	return true;
}

bool io_tls_sendv(struct io *io, const struct iovec *pieces, int count)
{
	bool ok;

	if (!io->tls->done)
		return keep_for_later(io->tls, pieces, count);
	ok = seal_pieces(io->tls, pieces, count);
	flush(io);
	return ok && io->state == IO_OPEN;
}

/* --- receiving --- */

static enum io_received shake_hands(struct io *io)
{
	struct io_tls *tls = io->tls;
	int result;

	tls->started = true;
	ERR_clear_error();
	result = SSL_do_handshake(tls->ssl);
	if (result != 1 && SSL_get_error(tls->ssl, result) != SSL_ERROR_WANT_READ)
		return end_broken(io, "handshake");
	flush(io);
	if (result != 1)
		return IO_RECEIVED;
	tls->done = true;
	if (seal(tls, buf_head(&tls->waiting), buf_len(&tls->waiting)))
		flush(io);
	buf_fini(&tls->waiting);
	return io_announce(io) ? IO_RECEIVED : IO_OVER;
}

static bool is_end(int error)
{
	return error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ;
}

/* Fills the scratch area with plaintext as far as it goes; `*error` says why it stopped. */
static size_t unseal(struct io *io, int *error)
{
	SSL *ssl = io->tls->ssl;
	uint8_t *out = io->loop->scratch;
	size_t len = 0, got;

	*error = SSL_ERROR_NONE;
	ERR_clear_error();
	while (len + RECORD_BYTES <= IO_SCRATCH_BYTES) {
		if (SSL_read_ex(ssl, out + len, IO_SCRATCH_BYTES - len, &got) != 1) {
			*error = SSL_get_error(ssl, 0);
			break;
		}
		len += got;
	}
	if (is_end(*error) && *error != SSL_ERROR_ZERO_RETURN && !io->tls->broken)
		note_failure(io->tls, "receive");
	flush(io); /* answers to key updates */
	return len;
}

/* Delivers until the ciphertext is used up, the owner pauses or the connection ends. */
static enum io_received drain(struct io *io)
{
	int error = SSL_ERROR_NONE;

	while (!io->paused && error != SSL_ERROR_WANT_READ) {
		size_t len = unseal(io, &error);

		/* An end behind good bytes comes again at the next turn of this loop, or after the pause. */
		if (len) {
			if (!io_deliver(io, io->loop->scratch, len))
				return IO_OVER;
		} else if (error == SSL_ERROR_ZERO_RETURN) {
			io_finish(io, IO_END_PEER);
			return IO_OVER;
		} else if (is_end(error)) {
			return end_broken(io, "receive");
		}
	}
	io->tls->end_seen = is_end(error);
	return IO_RECEIVED;
}

/* Takes what was held back, else what the socket has. */
static enum io_received begin_input(struct io *io)
{
	struct io_tls *tls = io->tls;
	ssize_t n;

	if (io_tls_has_work(io)) {
		tls->in = buf_head(&tls->held);
		tls->in_len = buf_len(&tls->held);
		return IO_RECEIVED;
	}
	n = recv(io->fd, io->loop->tls_scratch, IO_SCRATCH_BYTES, 0);
	if (n <= 0)
		return io_receive_stopped(io, n);
	tls->in = io->loop->tls_scratch;
	tls->in_len = (size_t)n;
	return IO_RECEIVED;
}

/* Keeps what was not used. */
static void end_input(struct io *io)
{
	struct io_tls *tls = io->tls;
	size_t held = buf_len(&tls->held);

	if (held)
		buf_consume(&tls->held, held - tls->in_len);
	else if (!buf_append(&tls->held, tls->in, tls->in_len))
		io_fail(io, IO_END_MEMORY);
	tls->in = NULL;
	tls->in_len = 0;
}

enum io_received io_tls_receive(struct io *io)
{
	enum io_received received = begin_input(io);

	if (received == IO_RECEIVED && !io->tls->done)
		received = shake_hands(io);
	if (received == IO_RECEIVED && io->tls->done)
		received = drain(io);
	if (received == IO_RECEIVED)
		end_input(io);
	return received;
}

bool io_tls_has_work(const struct io *io)
{
	return !io->tls->started || io->tls->end_seen || buf_len(&io->tls->held) > 0;
}

/* --- life --- */

/* The staging area and the receive area belong to the thread; only threads with TLS have them. */
static bool equip(struct io_loop *loop)
{
	if (!loop->tls_scratch)
		loop->tls_scratch = malloc(IO_SCRATCH_BYTES);
	if (!loop->tls_out)
		loop->tls_out = malloc(IO_SCRATCH_BYTES);
	return loop->tls_scratch && loop->tls_out;
}

static void free_tls(struct io_tls *tls)
{
	SSL_free(tls->ssl);
	buf_fini(&tls->held);
	buf_fini(&tls->waiting);
	free(tls);
}

/* An address is compared with the certificate's addresses, a name with its names; only names go into SNI. */
static bool name_peer(SSL *ssl, const char *host, bool verify_host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
	bool is_address = address != NULL;

	ASN1_OCTET_STRING_free(address);
	if (is_address)
		return !verify_host || X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
	return SSL_set_tlsext_host_name(ssl, host) == 1 &&
	       (!verify_host || SSL_set1_host(ssl, host) == 1);
}

static struct io_tls *new_tls(struct io *io, SSL_CTX *ctx)
{
	struct io_tls *tls = calloc(1, sizeof(*tls));
	BIO *bio;

	if (!tls)
		return NULL;
	tls->io = io;
	tls->ssl = SSL_new(ctx);
	bio = tls->ssl ? new_bio(tls) : NULL;
	if (!bio) {
		free_tls(tls);
		return NULL;
	}
	SSL_set_bio(tls->ssl, bio, bio);
	return tls;
}

bool io_start_tls(struct io *io, SSL_CTX *ctx, bool server, const char *host, bool verify_host,
		  const uint8_t *early, size_t early_len)
{
	struct io_tls *tls = equip(io->loop) ? new_tls(io, ctx) : NULL;

	if (!tls)
		return false;
	if (server)
		SSL_set_accept_state(tls->ssl);
	else
		SSL_set_connect_state(tls->ssl);
	if ((host && !name_peer(tls->ssl, host, verify_host)) ||
	    !buf_append(&tls->held, early, early_len)) {
		free_tls(tls);
		return false;
	}
	io->tls = tls;
	/* The first step is taken from the loop: the owner may be in the middle of its own bytes(). */
	watch_wake(&io->watch, WATCH_READ);
	return true;
}

bool io_tls_attach(struct io *io)
{
	io->tls->io = io;
	return equip(io->loop);
}

void io_tls_finish_sending(struct io *io)
{
	struct io_tls *tls = io->tls;

	/* Behind unsent bytes a close_notify would be a lie, and waiting is not our business here. */
	if (!tls->done || tls->broken || io->state != IO_OPEN || io_unsent(io))
		return;
	ERR_clear_error();
	SSL_shutdown(tls->ssl);
	flush(io);
	ERR_clear_error();
}

void io_tls_close(struct io *io)
{
	io_tls_finish_sending(io);
	free_tls(io->tls);
	io->tls = NULL;
}

bool io_tls_speaks(const struct io *io, const char *protocol)
{
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(io->tls->ssl, &name, &len);
	return len == strlen(protocol) && !memcmp(name, protocol, len);
}

const char *io_tls_error_text(const struct io *io)
{
	return io->tls->why[0] ? io->tls->why : "TLS failure";
}
