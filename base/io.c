#include "base/io.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io_tls.h"
#include "base/listen.h"

bool io_loop_init(struct io_loop *loop, struct event_base *base)
{
	*loop = (struct io_loop){ .scratch = malloc(IO_SCRATCH_BYTES) };
	if (!loop->scratch || !poller_init(&loop->poller, base)) {
		free(loop->scratch);
		loop->scratch = NULL;
	}
	return loop->scratch != NULL;
}

void io_loop_fini(struct io_loop *loop)
{
	if (loop->scratch)
		poller_fini(&loop->poller);
	free(loop->scratch);
	free(loop->tls_scratch);
	free(loop->tls_out);
	*loop = (struct io_loop){ 0 };
}

/* --- the end of a connection --- */

static enum io_end end_of_errno(int error)
{
	switch (error) {
	case ETIMEDOUT:
		return IO_END_TIMEOUT;
	case ENOMEM:
	case ENOBUFS:
		return IO_END_MEMORY;
	default:
		return IO_END_RESET;
	}
}

/* Nothing is wanted any more: the error of a dead socket would be reported again and again. */
static void go_quiet(struct io *io)
{
	watch_leave(&io->watch, WATCH_READ | WATCH_WRITE);
	buf_fini(&io->out);
}

void io_finish(struct io *io, enum io_end why)
{
	go_quiet(io);
	io->state = IO_ENDED;
	io->why = why;
	io->handler->ended(io->owner, why);
}

void io_fail(struct io *io, enum io_end why)
{
	if (io->state != IO_OPEN && io->state != IO_CONNECTING)
		return;
	go_quiet(io);
	io->state = IO_FAILED;
	io->why = why;
	watch_wake(&io->watch, WATCH_WRITE);
}

static __attribute__((cold)) void fail_errno(struct io *io)
{
	io->error = errno;
	io_fail(io, end_of_errno(io->error));
}

/* glibc's own are cancellation points: every call in a process with threads pays for making itself cancellable and back. Nobody is
 * cancelled here. */
static ssize_t receive_bytes(int fd, void *bytes, size_t size)
{
	return syscall(SYS_recvfrom, fd, bytes, size, 0, NULL, NULL);
}

static ssize_t send_bytes(int fd, const void *bytes, size_t len)
{
	return syscall(SYS_sendto, fd, bytes, len, MSG_NOSIGNAL, NULL, 0);
}

/* --- receiving --- */

bool io_deliver(struct io *io, uint8_t *bytes, size_t len)
{
	bool gone = false;

	io->gone = &gone; /* cppcheck-suppress autoVariables ; taken back below, or io is gone */
	io->handler->bytes(io->owner, bytes, len);
	if (gone)
		return false;
	io->gone = NULL;
	return true;
}

bool io_announce(struct io *io)
{
	bool gone = false;

	io->gone = &gone; /* cppcheck-suppress autoVariables ; taken back below, or io is gone */
	io->handler->ready(io->owner);
	if (gone)
		return false;
	io->gone = NULL;
	return true;
}

enum io_received io_receive_stopped(struct io *io, ssize_t n)
{
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return IO_NOTHING;
	io->error = n < 0 ? errno : 0;
	io_finish(io, n < 0 ? end_of_errno(errno) : IO_END_PEER);
	return IO_OVER;
}

static enum io_received receive(struct io *io)
{
	ssize_t n;

	if (io->tls)
		return io_tls_receive(io);
	n = receive_bytes(io->fd, io->loop->scratch, IO_SCRATCH_BYTES);
	if (n <= 0)
		return io_receive_stopped(io, n);
	return io_deliver(io, io->loop->scratch, (size_t)n) ? IO_RECEIVED : IO_OVER;
}

static void on_readable(struct io *io)
{
	/* io_pause() only sets the flag: most pauses are over before anything arrives, and cost no system call. */
	if (io->paused)
		watch_leave(&io->watch, WATCH_READ);
	else if (io->state == IO_OPEN)
		receive(io);
}

/* --- sending --- */

enum { CORK_BYTES = 8192 }; /* above it a copy costs more than a system call */

static ssize_t send_pieces(int fd, const struct iovec *pieces, int count)
{
	struct msghdr message = {
		.msg_iov = (struct iovec *)pieces,
		.msg_iovlen = (size_t)(count < IOV_MAX ? count : IOV_MAX),
	};

	if (count == 1)
		return send_bytes(fd, pieces->iov_base, pieces->iov_len);
	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* Bytes the socket took, 0 when it takes none now, -1 when the io failed. */
static ssize_t try_send(struct io *io, const struct iovec *pieces, int count)
{
	ssize_t n = send_pieces(io->fd, pieces, count);

	if (n >= 0)
		return n;
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	fail_errno(io);
	return -1;
}

/* Queues what follows the first `skip` bytes. */
static __attribute__((cold)) bool queue_pieces(struct io *io, const struct iovec *pieces, int count, size_t skip)
{
	bool ok = true;

	for (int i = 0; ok && i < count; i++) {
		size_t len = pieces[i].iov_len;
		size_t taken = skip < len ? skip : len;

		skip -= taken;
		ok = buf_append(&io->out, (const uint8_t *)pieces[i].iov_base + taken, len - taken);
	}
	if (ok && io->state == IO_OPEN && !io->corked)
		ok = watch_want(&io->watch, WATCH_WRITE);
	if (!ok)
		io_fail(io, IO_END_MEMORY);
	return ok;
}

/* Sends what was held back; what the socket does not take is queued as ever. False: the io failed. */
static bool flush_corked(struct io *io)
{
	struct iovec piece = { buf_head(&io->out), buf_len(&io->out) };
	ssize_t taken;

	io->corked = false;
	if (!piece.iov_len || io->state != IO_OPEN)
		return true;
	taken = try_send(io, &piece, 1);
	if (taken < 0)
		return false;
	if ((size_t)taken == piece.iov_len) {
		buf_fini(&io->out);
		return true;
	}
	buf_consume(&io->out, (size_t)taken);
	if (watch_want(&io->watch, WATCH_WRITE))
		return true;
	io_fail(io, IO_END_MEMORY);
	return false;
}

void io_cork(struct io *io)
{
	io->corked = io->state == IO_OPEN && buf_len(&io->out) == 0;
}

void io_uncork(struct io *io)
{
	bool held = io->corked && buf_len(&io->out);

	if (held && flush_corked(io) && io->state == IO_OPEN && buf_len(&io->out) == 0)
		io->handler->drained(io->owner);
	io->corked = false;
}

static bool send_or_queue(struct io *io, const struct iovec *pieces, int count)
{
	size_t total = 0;
	ssize_t taken = 0;

	for (int i = 0; i < count; i++)
		total += pieces[i].iov_len;
	if (total == 0)
		return true;
	if (io->corked && buf_len(&io->out) + total <= CORK_BYTES)
		return queue_pieces(io, pieces, count, 0);
	if (io->corked && !flush_corked(io))
		return false;
	if (io->state == IO_OPEN && buf_len(&io->out) == 0) {
		taken = try_send(io, pieces, count);
		if (taken < 0)
			return false;
		if ((size_t)taken == total)
			return true;
	}
	return queue_pieces(io, pieces, count, (size_t)taken);
}

bool io_push(struct io *io, const uint8_t *bytes, size_t len)
{
	struct iovec piece = { (void *)bytes, len };

	return send_or_queue(io, &piece, 1);
}

bool io_sendv(struct io *io, const struct iovec *pieces, int count)
{
	if (io->state != IO_OPEN && io->state != IO_CONNECTING)
		return false;
	if (io->tls)
		return io_tls_sendv(io, pieces, count);
	return send_or_queue(io, pieces, count);
}

bool io_send(struct io *io, const void *bytes, size_t len)
{
	struct iovec piece = { (void *)bytes, len };

	return io_sendv(io, &piece, 1);
}

static void send_queued(struct io *io)
{
	struct iovec piece = { buf_head(&io->out), buf_len(&io->out) };
	ssize_t taken = piece.iov_len ? try_send(io, &piece, 1) : 0;

	if (taken < 0)
		return;
	if ((size_t)taken < piece.iov_len) {
		buf_consume(&io->out, (size_t)taken);
		return;
	}
	watch_leave(&io->watch, WATCH_WRITE);
	buf_fini(&io->out);
	if (piece.iov_len || io->awaited) {
		io->awaited = false;
		io->handler->drained(io->owner);
	}
}

/* --- files --- */

enum { FILE_PIECE = 1024 * 1024, TLS_FILE_PIECE = 16 * 1024 };

/* TLS has to see the bytes. */
static ssize_t copy_file(struct io *io, int file, off_t offset, size_t len)
{
	uint8_t bytes[TLS_FILE_PIECE];
	ssize_t n = pread(file, bytes, len < sizeof(bytes) ? len : sizeof(bytes), offset);

	if (n <= 0) {
		errno = n ? errno : 0;
		return -1;
	}
	return io_send(io, bytes, (size_t)n) ? n : -1;
}

/* A file that fails is not the connection's fault; which of both it was, sendfile() tells by its errno only. */
static ssize_t stop_file(struct io *io, ssize_t n)
{
	if (n == 0) {
		errno = 0;
		return -1;
	}
	if (errno == EAGAIN || errno == EINTR) {
		io->awaited = true;
		return watch_want(&io->watch, WATCH_WRITE) ? 0 : -1;
	}
	if (errno != EIO && errno != EINVAL)
		fail_errno(io);
	return -1;
}

ssize_t io_send_file(struct io *io, int file, off_t offset, size_t len)
{
	ssize_t n;

	assert(io_unsent(io) == 0);
	if (io->state != IO_OPEN)
		return -1;
	if (io->tls)
		return copy_file(io, file, offset, len);
	n = sendfile(io->fd, file, &offset, len < FILE_PIECE ? len : FILE_PIECE);
	return n > 0 ? n : stop_file(io, n);
}

void io_finish_sending(struct io *io)
{
	if (io->state != IO_OPEN)
		return;
	if (io->tls)
		io_tls_finish_sending(io);
	shutdown(io->fd, SHUT_WR);
}

/* --- connecting --- */

/* Fails silently on Unix sockets, which have no such option and no delay. */
static void set_no_delay(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static __attribute__((cold)) void connected(struct io *io)
{
	int error = io->error;
	socklen_t len = sizeof(error);

	if (!error && getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error) {
		io->error = error;
		io_finish(io, IO_END_REFUSED);
		return;
	}
	io->state = IO_OPEN;
	set_no_delay(io->fd);
	peer_keep_alive(io->fd);
	if (!watch_want(&io->watch, WATCH_READ)) {
		io_finish(io, IO_END_MEMORY);
		return;
	}
	if (!io_unsent(io))
		watch_leave(&io->watch, WATCH_WRITE);
	io->handler->ready(io->owner);
}

/* What the peer said before it hung up is still to be heard: a server that closes says why first. */
static __attribute__((cold)) void hear_out(struct io *io)
{
	enum io_received received = io->paused ? IO_NOTHING : receive(io);

	if (received == IO_RECEIVED)
		watch_wake(&io->watch, WATCH_WRITE);
	else if (received == IO_NOTHING)
		io_finish(io, io->why);
}

static void on_writable(struct io *io)
{
	switch (io->state) {
	case IO_CONNECTING:
		connected(io);
		break;
	case IO_OPEN:
		send_queued(io);
		break;
	case IO_FAILED:
		hear_out(io);
		break;
	case IO_CLOSED:
	case IO_ENDED:
		break;
	}
}

/* --- life --- */

/* Either may end the io and free it: one at a time. */
static void on_possible(void *arg, unsigned what)
{
	struct io *io = arg;

	if (what == (WATCH_READ | WATCH_WRITE))
		watch_wake(&io->watch, WATCH_WRITE);
	if (what & WATCH_READ)
		on_readable(io);
	else
		on_writable(io);
}

static bool start_watching(struct io *io, unsigned what)
{
	if (!watch_init(&io->watch, &io->loop->poller, io->fd, on_possible, io))
		return false;
	if (!what || watch_want(&io->watch, what))
		return true;
	watch_stop(&io->watch);
	return false;
}

static void set_up(struct io *io, struct io_loop *loop, int fd, const struct io_handler *handler,
		   void *owner)
{
	*io = (struct io){ .loop = loop, .handler = handler, .owner = owner, .fd = fd };
}

bool io_init(struct io *io, struct io_loop *loop, int fd, const struct io_handler *handler,
	     void *owner)
{
	set_up(io, loop, fd, handler, owner);
	if (!start_watching(io, WATCH_READ)) {
		close(fd);
		io->fd = -1;
		return false;
	}
	io->state = IO_OPEN;
	set_no_delay(fd);
	return true;
}

/* Starts the connect; an answer that is there at once is also told from the loop. */
static bool begin_connect(struct io *io, const struct sockaddr *address, socklen_t address_len)
{
	if (connect(io->fd, address, address_len) != 0) {
		if (errno == EINPROGRESS)
			return watch_want(&io->watch, WATCH_WRITE);
		io->error = errno;
	}
	watch_wake(&io->watch, WATCH_WRITE);
	return true;
}

bool io_connect(struct io *io, struct io_loop *loop, const struct sockaddr *address,
		socklen_t address_len, const struct io_handler *handler, void *owner)
{
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	set_up(io, loop, fd, handler, owner);
	if (fd < 0)
		return false;
	if (!start_watching(io, 0) || !begin_connect(io, address, address_len)) {
		watch_stop(&io->watch);
		close(fd);
		io->fd = -1;
		errno = ENOMEM;
		return false;
	}
	io->state = IO_CONNECTING;
	return true;
}

void io_close(struct io *io)
{
	if (io->state == IO_CLOSED)
		return;
	if (io->gone)
		*io->gone = true;
	io->gone = NULL;
	if (io->tls)
		io_tls_close(io);
	buf_fini(&io->out);
	watch_stop(&io->watch);
	close(io->fd);
	io->fd = -1;
	io->state = IO_CLOSED;
}

/* --- flow --- */

void io_pause(struct io *io)
{
	io->paused = true;
}

void io_resume(struct io *io)
{
	if (!io->paused)
		return;
	io->paused = false;
	if (io->state != IO_OPEN)
		return;
	if (!watch_want(&io->watch, WATCH_READ))
		io_fail(io, IO_END_MEMORY);
	else if (io->tls && io_tls_has_work(io))
		watch_wake(&io->watch, WATCH_READ);
}

bool io_speaks(const struct io *io, const char *protocol)
{
	return io->tls && io_tls_speaks(io, protocol);
}

bool io_can_detach(const struct io *io)
{
	return io->state == IO_OPEN && io_unsent(io) == 0 && !(io->tls && io_tls_has_work(io));
}

void io_detach(struct io *io)
{
	assert(io_can_detach(io));
	watch_stop(&io->watch);
}

bool io_attach(struct io *io, struct io_loop *loop, const struct io_handler *handler, void *owner)
{
	io->loop = loop;
	io->handler = handler;
	io->owner = owner;
	io->paused = false;
	io->gone = NULL;
	return (!io->tls || io_tls_attach(io)) && start_watching(io, WATCH_READ);
}

const char *io_error_text(const struct io *io, enum io_end why)
{
	const char *text = io->error ? strerrordesc_np(io->error) : NULL;

	switch (why) {
	case IO_END_PEER:
		return "closed by the other side";
	case IO_END_TLS:
		return io->tls ? io_tls_error_text(io) : "TLS failure";
	case IO_END_MEMORY:
		return "out of memory";
	case IO_END_RESET:
		return text ? text : "connection reset";
	case IO_END_TIMEOUT:
		return text ? text : "connection timed out";
	case IO_END_REFUSED:
		return text ? text : "connection refused";
	}
	return "unknown reason";
}
