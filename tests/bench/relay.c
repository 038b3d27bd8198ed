/*
 * The floor: what a proxy costs that understands nothing. A TCP relay on epoll, N threads (default two), both sockets of a
 * connection on one thread, one receive and one send per direction and turn. The benchmark divides Tandem's cost by this one's.
 *
 * It stays deliberately plain: no splice, no edge triggering, no timers, no limits. It is no example of a robust proxy.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_PER_TURN = 64, BUFFER_BYTES = 65536, MAX_THREADS = 64 };

struct pair;

struct side {
	struct pair *pair;
	struct side *other;
	int fd;
	char *held;	/* bytes for this side that its socket did not take; NULL almost always */
	size_t held_at; /* first byte of `held` that is still to be sent */
	size_t held_end;
};

struct pair {
	struct side side[2];
	bool dead;
	struct pair *next_dead; /* freed at the end of the turn: later events of the turn may name it */
};

struct worker {
	pthread_t thread;
	int epoll;
	int inbox[2]; /* a pipe of pointers: pairs that the accepting thread gives away */
	struct pair *dead;
	char buffer[BUFFER_BYTES];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int side_watch(struct worker *w, struct side *s, int operation, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = s };

	return epoll_ctl(w->epoll, operation, s->fd, &event);
}

static void pair_kill(struct worker *w, struct pair *p)
{
	if (p->dead)
		return;
	p->dead = true;
	p->next_dead = w->dead;
	w->dead = p;
}

static void pair_free(struct pair *p)
{
	for (int i = 0; i < 2; i++) {
		close(p->side[i].fd);
		free(p->side[i].held);
	}
	free(p);
}

static void bury_dead(struct worker *w)
{
	while (w->dead) {
		struct pair *p = w->dead;

		w->dead = p->next_dead;
		pair_free(p);
	}
}

/* The socket of `to` is full: keep the rest, and read no more from its partner until it is gone. */
static bool hold_rest(struct worker *w, struct side *to, const char *bytes, size_t len)
{
	to->held = malloc(len);
	if (!to->held)
		return false;
	memcpy(to->held, bytes, len);
	to->held_at = 0;
	to->held_end = len;
	return side_watch(w, to, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT) == 0 &&
	       side_watch(w, to->other, EPOLL_CTL_MOD, to->other->held ? EPOLLOUT : 0) == 0;
}

static bool flush_held(struct worker *w, struct side *to)
{
	ssize_t sent = send(to->fd, to->held + to->held_at, to->held_end - to->held_at, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EAGAIN || errno == EINTR;
	to->held_at += (size_t)sent;
	if (to->held_at < to->held_end)
		return true;
	free(to->held);
	to->held = NULL;
	/* This side may itself be unread because its partner is full: then it stays so. */
	return side_watch(w, to, EPOLL_CTL_MOD, to->other->held ? 0 : EPOLLIN) == 0 &&
	       side_watch(w, to->other, EPOLL_CTL_MOD, EPOLLIN | (to->other->held ? EPOLLOUT : 0)) == 0;
}

static bool pass_on(struct worker *w, struct side *from)
{
	struct side *to = from->other;
	ssize_t got = recv(from->fd, w->buffer, sizeof(w->buffer), 0);
	ssize_t sent;

	if (got < 0)
		return errno == EAGAIN || errno == EINTR;
	if (got == 0)
		return false;
	sent = send(to->fd, w->buffer, (size_t)got, MSG_NOSIGNAL);
	if (sent == got)
		return true;
	if (sent < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return false;
		sent = 0;
	}
	return hold_rest(w, to, w->buffer + sent, (size_t)(got - sent));
}

static bool side_serve(struct worker *w, struct side *s, uint32_t events)
{
	if ((events & EPOLLOUT) && s->held && !flush_held(w, s))
		return false;
	if ((events & EPOLLIN) && !s->other->held)
		return pass_on(w, s);
	return !(events & (EPOLLERR | EPOLLHUP));
}

static void adopt_pair(struct worker *w)
{
	struct pair *p;

	if (read(w->inbox[0], &p, sizeof(p)) != sizeof(p))
		die("relay: read");
	if (side_watch(w, &p->side[0], EPOLL_CTL_ADD, EPOLLIN) ||
	    side_watch(w, &p->side[1], EPOLL_CTL_ADD, EPOLLIN))
		die("relay: epoll_ctl");
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct epoll_event events[EVENTS_PER_TURN];

	for (;;) {
		int n = epoll_wait(w->epoll, events, EVENTS_PER_TURN, -1);

		for (int i = 0; i < n; i++) {
			struct side *s = events[i].data.ptr;

			if (!s)
				adopt_pair(w);
			else if (!s->pair->dead && !side_serve(w, s, events[i].events))
				pair_kill(w, s->pair);
		}
		bury_dead(w);
	}
	return NULL;
}

static struct worker *worker_start(void)
{
	struct worker *w = calloc(1, sizeof(*w));
	struct epoll_event event = { .events = EPOLLIN };

	if (!w)
		die("relay: calloc");
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0 || pipe2(w->inbox, O_CLOEXEC) ||
	    epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->inbox[0], &event))
		die("relay: epoll");
	if (pthread_create(&w->thread, NULL, worker_run, w))
		die("relay: pthread_create");
	return w;
}

static struct addrinfo *resolve(char *address, int flags)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags }, *found;
	char *colon = strrchr(address, ':');

	if (!colon) {
		fprintf(stderr, "relay: %s is not HOST:PORT\n", address);
		exit(2);
	}
	*colon = '\0';
	if (getaddrinfo(address, colon + 1, &hints, &found)) {
		fprintf(stderr, "relay: cannot resolve %s\n", address);
		exit(2);
	}
	return found;
}

static int listen_at(const struct addrinfo *at)
{
	int on = 1, fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("relay: socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, at->ai_addr, at->ai_addrlen) || listen(fd, 4096))
		die("relay: listen");
	return fd;
}

static void side_prepare(struct side *s, struct pair *p, int index, int fd)
{
	int on = 1;

	s->pair = p;
	s->other = &p->side[1 - index];
	s->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK))
		die("relay: fcntl");
}

/* The connect blocks, in the accepting thread: the cost of connecting is not what is measured. */
static void pair_start(struct worker *w, int client, const struct addrinfo *server)
{
	struct pair *p = calloc(1, sizeof(*p));
	int fd = socket(server->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!p || fd < 0 || connect(fd, server->ai_addr, server->ai_addrlen)) {
		perror("relay: connect");
		if (fd >= 0)
			close(fd);
		close(client);
		free(p);
		return;
	}
	side_prepare(&p->side[0], p, 0, client);
	side_prepare(&p->side[1], p, 1, fd);
	if (write(w->inbox[1], &p, sizeof(p)) != sizeof(p))
		die("relay: write");
}

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	static struct worker *workers[MAX_THREADS];
	unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 2;
	struct addrinfo *server;
	int listener;

	if (argc < 3 || argc > 4 || threads < 1 || threads > MAX_THREADS) {
		fprintf(stderr, "usage: relay LISTEN_HOST:PORT SERVER_HOST:PORT [THREADS]\n");
		return 2;
	}
	raise_file_limit();
	listener = listen_at(resolve(argv[1], AI_PASSIVE));
	server = resolve(argv[2], 0);
	for (unsigned i = 0; i < threads; i++)
		workers[i] = worker_start();
	for (unsigned turn = 0;; turn++) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0)
			pair_start(workers[turn % threads], client, server);
	}
}
