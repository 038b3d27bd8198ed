#include "base/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool fail(char *why, size_t size, const char *what)
{
	snprintf(why, size, "%s", what);
	return false;
}

/* The system's words for the last failure, and what can be done about it. */
static bool fail_with_advice(char *why, size_t size)
{
	static const struct {
		int error;
		const char *advice;
	} rows[] = {
		{ EADDRINUSE, ": stop what listens there, or change the setting" },
		{ EACCES, ": a port below 1024 needs root or CAP_NET_BIND_SERVICE, a Unix socket a directory one can write to" },
		{ ENOENT, ": make the directory, or change the setting" },
	};
	int error = errno;

	snprintf(why, size, "%s", strerror(error));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].error == error)
			snprintf(why, size, "%s%s", strerror(error), rows[i].advice);
	return false;
}

static bool somebody_listens(const struct sockaddr_un *address)
{
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answered = probe >= 0 && connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0;

	if (probe >= 0)
		close(probe);
	return answered;
}

static bool bind_unix(struct listen_socket *s, const char *path, unsigned mode, char *why, size_t size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct stat status;

	if (strlen(path) >= sizeof(address.sun_path))
		return fail(why, size, "the path is too long for a Unix socket");
	memcpy(address.sun_path, path, strlen(path) + 1);
	/* What a process that is gone has left is removed, but only a socket: a wrong path may name anything. */
	if (lstat(path, &status) == 0) {
		if (!S_ISSOCK(status.st_mode))
			return fail(why, size, "there is a file of that name that is no socket: remove it, or change the setting");
		errno = EADDRINUSE;
		if (somebody_listens(&address) || unlink(path))
			return fail_with_advice(why, size);
	}
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&address, sizeof(address)))
		return fail_with_advice(why, size);
	s->path = strdup(path);
	if (!s->path || chmod(path, mode) || listen(s->fd, LISTEN_BACKLOG))
		return fail_with_advice(why, size);
	return true;
}

static bool split(const char *address, char *host, size_t host_size, const char **port)
{
	const char *colon = strrchr(address, ':');
	size_t len;

	if (!colon)
		return false;
	len = (size_t)(colon - address);
	*port = colon + 1;
	if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
		address++;
		len -= 2;
	}
	if (len >= host_size)
		return false;
	memcpy(host, address, len);
	host[len] = '\0';
	return true;
}

static bool bind_and_listen(struct listen_socket *s, const struct addrinfo *to)
{
	int on = 1;

	s->fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return false;
	setsockopt(s->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(s->fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
	peer_keep_alive(s->fd);
	return !bind(s->fd, to->ai_addr, to->ai_addrlen) && !listen(s->fd, LISTEN_BACKLOG);
}

static bool bind_tcp(struct listen_socket *s, const char *address, char *why, size_t size)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *found;
	char host[256];
	const char *port;
	int error;
	bool ok;

	if (!split(address, host, sizeof(host), &port))
		return fail(why, size, "expected host:port or unix:/path");
	error = getaddrinfo(!strcmp(host, "*") || !host[0] ? NULL : host, port, &hints, &found);
	if (error)
		return fail(why, size, gai_strerror(error));
	ok = bind_and_listen(s, found);
	if (!ok)
		fail_with_advice(why, size);
	freeaddrinfo(found);
	return ok;
}

bool listen_open(struct listen_socket *s, const char *address, unsigned mode, char *why, size_t why_size)
{
	bool ok;

	*s = (struct listen_socket){ .fd = -1 };
	ok = !strncmp(address, "unix:", 5) ? bind_unix(s, address + 5, mode, why, why_size) : bind_tcp(s, address, why, why_size);
	if (!ok)
		listen_close(s);
	return ok;
}

void listen_close(struct listen_socket *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (s->path)
		unlink(s->path);
	free(s->path);
	s->path = NULL;
}

void peer_keep_alive(int fd)
{
	const int on = 1, idle = 30, interval = 10, probes = 3; /* seconds */

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

void peer_describe(const struct sockaddr_storage *peer, char *host, size_t size, uint16_t *port)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)peer;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)peer;

	*port = 0;
	if (peer->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, host, (socklen_t)size);
		*port = ntohs(v4->sin_port);
	} else if (peer->ss_family == AF_INET6) {
		if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
			inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, (socklen_t)size);
		else
			inet_ntop(AF_INET6, &v6->sin6_addr, host, (socklen_t)size);
		*port = ntohs(v6->sin6_port);
	} else {
		snprintf(host, size, "localhost");
	}
}
