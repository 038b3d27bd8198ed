#include "proxy/session/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/listen.h"
#include "base/log.h"
#include "proxy/session/worker.h"

enum { ACCEPT_BATCH = 64 };

struct listener;

struct socket {
	struct log_subject subject;
	struct listener *listener;
	char *address;
	struct watch watch;
	struct listen_socket at;
};

struct listener {
	struct shared *shared;
	struct poller poller;
	struct inbox inbox;
	pthread_t thread;
	bool started;
	int spare_fd; /* given up for a moment to tell a client that there are no more files */
	_Atomic unsigned max_clients;
	size_t count;
	struct socket sockets[];
};

/* ---- Accepting ---- */

/* A greeting would come first: an ERR in its place is how servers say it. */
static void turn_away(int fd)
{
	uint8_t memory[64];
	struct wire_writer w = wire_writer(memory, sizeof(memory));

	wire_put_err(&w, ER_CON_COUNT_ERROR, "08004", "Too many connections", 0);
	if (write(fd, w.data, w.len) < 0)
		log_debug(NULL, "client gone before it could be turned away");
	close(fd);
}

static void out_of_files(struct socket *s)
{
	int fd;

	log_warning(&s->subject, "out of file descriptors: raise LimitNOFILE or ulimit -n; clients are turned away");
	close(s->listener->spare_fd);
	fd = accept4(s->at.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		turn_away(fd);
	s->listener->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Clients on their way to a worker count as well. */
static bool is_full(const struct listener *l)
{
	unsigned limit = l->max_clients, count = 0;

	for (unsigned i = 0; limit && i < l->shared->worker_count; i++)
		count += atomic_load_explicit(&l->shared->workers[i].client_count, memory_order_relaxed);
	return limit && count >= limit;
}

static bool accept_one(struct socket *s)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	struct shared *shared = s->listener->shared;
	int fd = accept4(s->at.fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	char host[64];
	uint16_t port;

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE)
			out_of_files(s);
		return errno == ECONNABORTED || errno == EINTR;
	}
	if (is_full(s->listener)) {
		turn_away(fd);
		return true;
	}
	peer_describe(&peer, host, sizeof(host), &port);
	worker_post_client(placement_worker(shared), fd, host, port);
	return true;
}

static void on_accept(void *arg, unsigned what)
{
	(void)what;
	for (int i = 0; i < ACCEPT_BATCH && accept_one(arg); i++)
		;
}

/* ---- Life ---- */

static void describe(const struct log_subject *subject, char *out, size_t size)
{
	const struct socket *s = (const struct socket *)((const char *)subject - offsetof(struct socket, subject));

	snprintf(out, size, "listener %s", s->address);
}

static bool open_socket(struct socket *s, const char *address, char *why, size_t why_size)
{
	char what[256];

	if (!listen_open(&s->at, address, 0777, what, sizeof(what))) {
		snprintf(why, why_size, "[proxy] listen %s: %s", address, what);
		return false;
	}
	return watch_init(&s->watch, &s->listener->poller, s->at.fd, on_accept, s) && watch_want(&s->watch, WATCH_READ);
}

struct listener *listener_open(const struct settings *settings, struct shared *shared, char *why, size_t why_size)
{
	size_t count = settings->proxy.listen_count;
	struct listener *l = calloc(1, sizeof(*l) + count * sizeof(l->sockets[0]));

	snprintf(why, why_size, "out of memory");
	if (!l)
		return NULL;
	l->shared = shared;
	l->max_clients = settings->proxy.max_clients;
	l->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (size_t i = 0; i < count; i++)
		l->sockets[i] = (struct socket){ { describe }, .listener = l, .at = { .fd = -1 } };
	l->count = count;
	if (!poller_init(&l->poller, NULL) || !inbox_init(&l->inbox, &l->poller, l)) {
		poller_fini(&l->poller);
		free(l);
		return NULL;
	}
	for (size_t i = 0; i < count; i++)
		if (!(l->sockets[i].address = strdup(settings->proxy.listen[i])) || !open_socket(&l->sockets[i], settings->proxy.listen[i], why, why_size)) {
			listener_free(l);
			return NULL;
		}
	return l;
}

void listener_set_limit(struct listener *listener, unsigned max_clients)
{
	listener->max_clients = max_clients;
}

static void *run(void *arg)
{
	poller_run(&((struct listener *)arg)->poller);
	return NULL;
}

bool listener_start(struct listener *listener)
{
	listener->started = pthread_create(&listener->thread, NULL, run, listener) == 0;
	return listener->started;
}

static void close_sockets(struct listener *l)
{
	for (size_t i = 0; i < l->count; i++) {
		struct socket *s = &l->sockets[i];

		watch_stop(&s->watch);
		listen_close(&s->at);
	}
}

static void deliver_stop(struct inbox_message *message, void *owner)
{
	struct listener *l = owner;

	close_sockets(l);
	poller_stop(&l->poller);
	free(message);
}

void listener_stop(struct listener *listener)
{
	struct inbox_message *m;

	if (!listener->started)
		return;
	m = calloc(1, sizeof(*m));
	if (!m)
		abort();
	m->deliver = deliver_stop;
	inbox_post(&listener->inbox, m);
	pthread_join(listener->thread, NULL);
	listener->started = false;
}

void listener_free(struct listener *listener)
{
	listener_stop(listener);
	close_sockets(listener);
	for (size_t i = 0; i < listener->count; i++)
		free(listener->sockets[i].address);
	inbox_fini(&listener->inbox);
	poller_fini(&listener->poller);
	if (listener->spare_fd >= 0)
		close(listener->spare_fd);
	free(listener);
}
