#include "admin/channel.h"

#include <errno.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

/* Time left until `end_ms`; 0 is no end. */
static int time_left(uint64_t end_ms)
{
	uint64_t now = clock_ms();

	if (!end_ms)
		return -1;
	return end_ms > now ? (int)(end_ms - now) : 0;
}

static uint64_t end_of(int timeout_ms)
{
	return timeout_ms < 0 ? 0 : clock_ms() + (uint64_t)timeout_ms;
}

/* Until the socket is ready. False, and the channel is broken, when the time is over or the daemon stops. */
static bool wait_ready(struct channel *channel, short events, uint64_t end_ms)
{
	struct pollfd fds[] = { { .fd = channel->fd, .events = events }, { .fd = channel->stop_fd, .events = POLLIN } };
	int ready;

	do
		ready = poll(fds, 2, time_left(end_ms));
	while (ready < 0 && errno == EINTR);
	if (ready > 0 && !fds[1].revents)
		return true;
	channel->broken = true;
	return false;
}

/* What TLS waits for; false when the connection is over. */
static bool wait_tls(struct channel *channel, int result, uint64_t end_ms)
{
	switch (SSL_get_error(channel->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return wait_ready(channel, POLLIN, end_ms);
	case SSL_ERROR_WANT_WRITE:
		return wait_ready(channel, POLLOUT, end_ms);
	default:
		ERR_clear_error();
		channel->broken = true;
		return false;
	}
}

/* At least one byte; 0 when the channel is broken. */
static size_t read_some(struct channel *channel, void *out, size_t len, uint64_t end_ms)
{
	while (!channel->broken) {
		if (channel->ssl) {
			int got = SSL_read(channel->ssl, out, (int)len);

			if (got > 0)
				return (size_t)got;
			wait_tls(channel, got, end_ms);
		} else {
			ssize_t got = recv(channel->fd, out, len, 0);

			if (got > 0)
				return (size_t)got;
			if (got < 0 && (errno == EAGAIN || errno == EINTR))
				wait_ready(channel, POLLIN, end_ms);
			else
				channel->broken = true;
		}
	}
	return 0;
}

bool channel_read(struct channel *channel, void *out, size_t len, int timeout_ms)
{
	uint64_t end_ms = end_of(timeout_ms);
	uint8_t *at = out;

	while (len) {
		size_t got = read_some(channel, at, len, end_ms);

		if (!got)
			return false;
		at += got;
		len -= got;
	}
	return true;
}

/* A byte at a time: there is one line in a connection's life. */
bool channel_read_line(struct channel *channel, char *out, size_t size, int timeout_ms)
{
	uint64_t end_ms = end_of(timeout_ms);
	size_t len = 0;

	while (len < size - 1) {
		if (!read_some(channel, out + len, 1, end_ms) || !out[len])
			return false;
		if (out[len] == '\n') {
			out[len] = '\0';
			return true;
		}
		len++;
	}
	return false;
}

bool channel_write(struct channel *channel, const void *bytes, size_t len)
{
	uint64_t end_ms = end_of(CHANNEL_WRITE_MS);
	const uint8_t *at = bytes;

	while (len && !channel->broken) {
		ssize_t sent;

		if (channel->ssl) {
			sent = SSL_write(channel->ssl, at, len < 16384 ? (int)len : 16384);
			if (sent <= 0 && !wait_tls(channel, (int)sent, end_ms))
				return false;
		} else {
			sent = send(channel->fd, at, len, MSG_NOSIGNAL);
			if (sent < 0 && errno == EAGAIN)
				wait_ready(channel, POLLOUT, end_ms);
			else if (sent < 0 && errno != EINTR)
				channel->broken = true;
		}
		if (sent > 0) {
			at += sent;
			len -= (size_t)sent;
		}
	}
	return !channel->broken;
}

bool channel_start_tls(struct channel *channel, SSL_CTX *ctx, int timeout_ms)
{
	uint64_t end_ms = end_of(timeout_ms);
	int result;

	channel->ssl = SSL_new(ctx);
	if (!channel->ssl || SSL_set_fd(channel->ssl, channel->fd) != 1)
		return false;
	while ((result = SSL_accept(channel->ssl)) != 1)
		if (!wait_tls(channel, result, end_ms))
			return false;
	return true;
}

bool channel_wait(struct channel *channel, int ms)
{
	struct pollfd fds[] = { { .fd = channel->fd, .events = POLLRDHUP }, { .fd = channel->stop_fd, .events = POLLIN } };

	if (channel->broken)
		return false;
	if (poll(fds, 2, ms) > 0)
		channel->broken = true;
	return !channel->broken;
}

void channel_fini(struct channel *channel)
{
	if (channel->ssl && !channel->broken)
		SSL_shutdown(channel->ssl);
	SSL_free(channel->ssl);
	channel->ssl = NULL;
}
