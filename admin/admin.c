#include "admin/room.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/tls.h"

enum { STACK_BYTES = 512 * 1024 };

/* ---- Ways in ---- */

static bool give_to_group(const char *path, const char *name, char *why, size_t size)
{
	const struct group *group = getgrnam(name); /* at start only: no other thread asks */

	if (!group)
		snprintf(why, size, "[admin] socket_group %s: there is no such group", name);
	else if (chown(path, (uid_t)-1, group->gr_gid) || chmod(path, 0660))
		snprintf(why, size, "[admin] socket_group %s: %s", name, strerror(errno));
	else
		return true;
	return false;
}

static bool open_way(struct admin *a, const struct face *face, const char *name, const char *address, unsigned mode, char *why, size_t size)
{
	struct way_in *way = &a->ways[a->way_count];
	char reason[256];

	if (a->way_count == ADMIN_LISTENERS) {
		snprintf(why, size, "[admin] %s %s: too many addresses", name, address);
		return false;
	}
	way->face = face;
	if (!listen_open(&way->socket, address, mode, reason, sizeof(reason))) {
		snprintf(why, size, "[admin] %s %s: %s", name, address, reason);
		return false;
	}
	a->way_count++;
	return true;
}

/* `name` is "" when `place` is the whole path. */
static bool open_socket_at(struct admin *a, const char *place, const char *name, char *why, size_t size)
{
	char address[330];

	snprintf(a->socket_path, sizeof(a->socket_path), "%s%s", place, name);
	snprintf(address, sizeof(address), "unix:%s", a->socket_path);
	return open_way(a, &face_socket, "socket", address, 0600, why, size);
}

/* The usual place may be another daemon's: then it is in state_dir, which is not. */
static bool open_socket(struct admin *a, char *why, size_t size)
{
	const struct admin_settings *own = admin_settings_of(a->settings);
	bool ok;

	if (own->socket)
		ok = open_socket_at(a, own->socket, "", why, size);
	else
		ok = (access(ADMIN_RUN_DIR, W_OK | X_OK) == 0 && open_socket_at(a, ADMIN_RUN_DIR, "/" ADMIN_SOCKET_NAME, why, size)) ||
		     open_socket_at(a, a->settings->state_dir, "/" ADMIN_SOCKET_NAME, why, size);
	return ok && (!own->socket_group || give_to_group(a->socket_path, own->socket_group, why, size));
}

static bool open_console(struct admin *a, char *why, size_t size)
{
	const struct admin_settings *own = admin_settings_of(a->settings);
	const struct proxy_settings *proxy = &a->settings->proxy;

	if (!own->console_count)
		return true;
	if (proxy->tls != TLS_OFF) {
		a->tls = tls_server_context(proxy->tls_certificate, proxy->tls_key, a->settings->state_dir, why, size);
		if (!a->tls || !tls_fingerprint(a->tls, a->fingerprint))
			return false;
		a->self_signed = tls_is_self_signed(a->tls);
	}
	for (size_t i = 0; i < own->console_count; i++)
		if (!open_way(a, &face_console, "console", own->console[i], 0600, why, size))
			return false;
	return true;
}

/* ---- Clients ---- */

struct guest {
	struct visitor visitor;
	const struct face *face;
};

static void leave(struct admin *a)
{
	pthread_mutex_lock(&a->lock);
	if (--a->clients == 0)
		pthread_cond_signal(&a->all_gone);
	pthread_mutex_unlock(&a->lock);
}

static void *serve(void *arg)
{
	struct guest *guest = arg;
	struct admin *a = guest->visitor.admin;

	guest->face->serve(&guest->visitor);
	channel_fini(&guest->visitor.channel);
	close(guest->visitor.channel.fd);
	free(guest);
	OPENSSL_thread_stop();
	leave(a);
	return NULL;
}

static bool start_thread(struct guest *guest)
{
	pthread_attr_t attributes;
	pthread_t thread;
	bool ok;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	ok = pthread_create(&thread, &attributes, serve, guest) == 0;
	pthread_attr_destroy(&attributes);
	return ok;
}

static bool enter(struct admin *a, uint32_t *number)
{
	bool ok;

	pthread_mutex_lock(&a->lock);
	*number = ++a->last_number;
	ok = a->clients < ADMIN_CLIENTS;
	a->clients += ok;
	pthread_mutex_unlock(&a->lock);
	return ok;
}

static void welcome(struct admin *a, const struct way_in *way, int fd, const struct sockaddr_storage *peer)
{
	struct guest *guest = calloc(1, sizeof(*guest));
	bool entered = false;

	if (guest) {
		guest->face = way->face;
		guest->visitor = (struct visitor){ .admin = a, .channel = { .fd = fd, .stop_fd = a->stop_fd } };
		peer_describe(peer, guest->visitor.host, sizeof(guest->visitor.host), &guest->visitor.port);
		entered = enter(a, &guest->visitor.number);
		if (entered && start_thread(guest))
			return;
		way->face->refuse(&guest->visitor);
	}
	if (entered)
		leave(a);
	free(guest);
	close(fd);
}

static void accept_one(struct admin *a, const struct way_in *way)
{
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	int fd = accept4(way->socket.fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	static const struct timespec pause = { 0, 100000000 };

	if (fd >= 0)
		welcome(a, way, fd, &peer);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
		nanosleep(&pause, NULL); /* there is nobody to tell; the client waits in the queue */
}

static void *accept_all(void *arg)
{
	struct admin *a = arg;
	struct pollfd fds[ADMIN_LISTENERS + 1] = { { .fd = a->stop_fd, .events = POLLIN } };

	for (size_t i = 0; i < a->way_count; i++)
		fds[i + 1] = (struct pollfd){ .fd = a->ways[i].socket.fd, .events = POLLIN };
	for (;;) {
		if (poll(fds, a->way_count + 1, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			return NULL;
		for (size_t i = 0; i < a->way_count; i++)
			if (fds[i + 1].revents)
				accept_one(a, &a->ways[i]);
	}
}

/* ---- Life ---- */

static void log_ready(const struct admin *a)
{
	const struct admin_settings *own = admin_settings_of(a->settings);

	log_info(NULL, "admin: tandemctl -s %s%s%s", a->socket_path, own->console_count ? ", SQL console on " : "",
		 own->console_count ? own->console[0] : "");
}

struct admin *admin_start(struct settings *settings, const struct admin_host *host, char *why, size_t why_size)
{
	struct admin *a = calloc(1, sizeof(*a));

	snprintf(why, why_size, "out of memory");
	if (!a)
		return NULL;
	a->host = *host;
	a->settings = settings_ref(settings);
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->all_gone, NULL);
	a->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->stop_fd >= 0 && open_socket(a, why, why_size) && open_console(a, why, why_size)) {
		a->accepting = pthread_create(&a->acceptor, NULL, accept_all, a) == 0;
		if (a->accepting) {
			log_ready(a);
			return a;
		}
		snprintf(why, why_size, "cannot start a thread for the admin socket");
	}
	admin_stop(a);
	return NULL;
}

void admin_reload(struct admin *admin, struct settings *settings)
{
	struct settings *before;

	pthread_mutex_lock(&admin->lock);
	before = admin->settings;
	admin->settings = settings_ref(settings);
	pthread_mutex_unlock(&admin->lock);
	settings_unref(before);
}

void admin_stop(struct admin *admin)
{
	struct admin *a = admin;
	uint64_t one = 1;

	if (!a)
		return;
	if (a->stop_fd >= 0 && write(a->stop_fd, &one, sizeof(one)) < 0)
		log_error(NULL, "admin: cannot be stopped: %s", strerror(errno));
	if (a->accepting)
		pthread_join(a->acceptor, NULL);
	for (size_t i = 0; i < a->way_count; i++)
		listen_close(&a->ways[i].socket);
	pthread_mutex_lock(&a->lock);
	while (a->clients)
		pthread_cond_wait(&a->all_gone, &a->lock);
	pthread_mutex_unlock(&a->lock);
	if (a->stop_fd >= 0)
		close(a->stop_fd);
	SSL_CTX_free(a->tls);
	settings_unref(a->settings);
	pthread_cond_destroy(&a->all_gone);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
