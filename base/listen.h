/*
 * Listening sockets, TCP and Unix, by the address a settings file gives, and who a peer is.
 */
#ifndef TANDEM_BASE_LISTEN_H
#define TANDEM_BASE_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { LISTEN_BACKLOG = 4096 };

struct listen_socket {
	int fd;	    /* non-blocking, listening; -1 when closed */
	char *path; /* of a Unix socket: removed by listen_close() */
};

/*
 * Binds "host:port", "[v6]:port", "*:port" or "unix:/path" and listens. An address that is not on this machine yet (a virtual IP) can be bound.
 * A Unix socket left by a process that is gone is replaced, one that somebody listens on is not; it gets `mode`. On failure false with a
 * reason that says what to do and does not name the setting.
 */
bool listen_open(struct listen_socket *s, const char *address, unsigned mode, char *why, size_t why_size)
	__attribute__((warn_unused_result));
/* Closes, and removes a Unix socket's path. A closed one may be closed again. */
void listen_close(struct listen_socket *s);

/* Has the kernel ask a silent TCP peer now and then whether it is still there: one that went without a word ends the connection within a
 * minute. Connections inherit it from the socket that accepts them, as the sockets of listen_open() do. Without effect on a Unix socket. */
void peer_keep_alive(int fd);

/* Writes a peer's address without its port: "10.0.0.7", also for an IPv4 one in IPv6 form, "2001:db8::1", "localhost" for a Unix socket. */
void peer_describe(const struct sockaddr_storage *peer, char *host, size_t size, uint16_t *port);

#endif
