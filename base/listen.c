#include "base/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static bool fail(char *why, size_t size, const char *what)
{
	snprintf(why, size, "%s%s", what, errno == EADDRINUSE ? ": stop what listens there, or change the setting" : "");
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

	errno = 0;
	if (strlen(path) >= sizeof(address.sun_path))
		return fail(why, size, "the path is too long for a Unix socket");
	strcpy(address.sun_path, path);
	if (somebody_listens(&address)) {
		errno = EADDRINUSE;
		return fail(why, size, strerror(errno));
	}
	unlink(path);
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&address, sizeof(address)))
		return fail(why, size, strerror(errno));
	s->path = strdup(path);
	if (!s->path || chmod(path, mode) || listen(s->fd, LISTEN_BACKLOG))
		return fail(why, size, strerror(errno));
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
	return !bind(s->fd, to->ai_addr, to->ai_addrlen) && !listen(s->fd, LISTEN_BACKLOG);
}

static bool bind_tcp(struct listen_socket *s, const char *address, char *why, size_t size)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *found;
	char host[256];
	const char *port;
	int error;
	bool ok;

	errno = 0;
	if (!split(address, host, sizeof(host), &port))
		return fail(why, size, "expected host:port or unix:/path");
	error = getaddrinfo(!strcmp(host, "*") || !host[0] ? NULL : host, port, &hints, &found);
	if (error)
		return fail(why, size, gai_strerror(error));
	ok = bind_and_listen(s, found);
	freeaddrinfo(found);
	return ok || fail(why, size, strerror(errno));
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
