#include "proxy/cluster/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum {
	SLICE_MS = 50, /* how long nobody looks at `stop` and at the child */
	LINE_BYTES = 512,
	EVENTS_AT_ONCE = 16,
};

extern char **environ;

__attribute__((format(printf, 3, 4))) static enum hook_outcome end_with(struct hook_run *run, enum hook_outcome outcome, const char *format,
									...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(run->why, sizeof(run->why), format, args);
	va_end(args);
	return outcome;
}

/* What must end a run from outside: HOOK_DONE while nothing does. */
static enum hook_outcome interrupted(struct hook_run *run, uint64_t deadline_ms)
{
	if (run->stop && atomic_load(run->stop))
		return end_with(run, HOOK_STOPPED, "Tandem stops");
	if (run->timeout_ms && clock_ms() >= deadline_ms)
		return end_with(run, HOOK_TIMED_OUT, "not over after %u ms", run->timeout_ms);
	return HOOK_DONE;
}

/* ---- Commands ---- */

struct child {
	pid_t pid;
	int fd; /* one socket is its standard input, output and error */
	const char *input;
	size_t input_left;
	char text[LINE_BYTES]; /* a line that has begun */
	size_t len;
};

static int spawn_on(const char *command, int fd, pid_t *pid)
{
	char *const argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int error;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&actions);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_adddup2(&actions, fd, i);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	error = posix_spawn(pid, "/bin/sh", &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static bool start_child(struct child *child, const char *command, struct hook_run *run)
{
	int pair[2], error;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
		end_with(run, HOOK_FAILED, "no socket: %s", strerror(errno));
		return false;
	}
	/* Only this end: the child wants an ordinary standard input. */
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	error = spawn_on(command, pair[1], &child->pid);
	close(pair[1]);
	child->fd = pair[0];
	if (!error)
		return true;
	close(pair[0]);
	end_with(run, HOOK_FAILED, "cannot be started: %s", strerror(error));
	return false;
}

static void feed(struct child *child)
{
	ssize_t n = send(child->fd, child->input, child->input_left, MSG_NOSIGNAL);

	if (n > 0) {
		child->input += n;
		child->input_left -= (size_t)n;
	} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
		child->input_left = 0; /* it does not read: that is its own affair */
	}
	if (!child->input_left)
		shutdown(child->fd, SHUT_WR);
}

static void tell_line(struct child *child, struct hook_run *run)
{
	child->text[child->len] = '\0';
	if (child->len && run->line)
		run->line(run->owner, child->text);
	child->len = 0;
}

static void take_output(struct child *child, struct hook_run *run)
{
	char data[1024];
	ssize_t n;

	while ((n = recv(child->fd, data, sizeof(data), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (data[i] == '\n' || data[i] == '\r' || child->len == sizeof(child->text) - 1)
				tell_line(child, run);
			if (data[i] != '\n' && data[i] != '\r')
				child->text[child->len++] = data[i];
		}
	}
}

/* The shell has ended; what it left in the background is not waited for. */
static bool has_ended(const struct child *child, int *status)
{
	return waitpid(child->pid, status, WNOHANG) == child->pid;
}

static void attend(struct child *child, struct hook_run *run)
{
	struct pollfd fd = { .fd = child->fd, .events = (short)(POLLIN | (child->input_left ? POLLOUT : 0)) };

	poll(&fd, 1, SLICE_MS);
	if (fd.revents & POLLOUT)
		feed(child);
	take_output(child, run);
	/* Its output is closed, its end not seen yet: poll() would return at once for ever. */
	if (fd.revents & POLLHUP)
		poll(NULL, 0, 1);
}

static enum hook_outcome judge_status(int status, struct hook_run *run)
{
	if (WIFSIGNALED(status))
		return end_with(run, HOOK_FAILED, "ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status))
		return end_with(run, HOOK_FAILED, "ended with status %d", WEXITSTATUS(status));
	return HOOK_DONE;
}

enum hook_outcome hook_command(const char *command, struct hook_run *run)
{
	struct child child = { .input = run->input, .input_left = strlen(run->input) };
	uint64_t deadline = clock_ms() + run->timeout_ms;
	enum hook_outcome outcome = HOOK_DONE;
	int status = 0;

	run->why[0] = '\0';
	if (!start_child(&child, command, run))
		return HOOK_FAILED;
	while (!has_ended(&child, &status)) {
		outcome = interrupted(run, deadline);
		if (outcome != HOOK_DONE) {
			kill(-child.pid, SIGKILL);
			waitpid(child.pid, &status, 0);
			break;
		}
		attend(&child, run);
	}
	take_output(&child, run);
	tell_line(&child, run);
	close(child.fd);
	return outcome == HOOK_DONE ? judge_status(status, run) : outcome;
}

/* ---- Posts ---- */

struct target {
	char host[256];
	char port[8];
	const char *path;
};

static bool parse_url(const char *url, struct target *out)
{
	const char *at = strncmp(url, "http://", 7) ? NULL : url + 7;
	size_t len = at ? strcspn(at, "/") : 0;
	const char *colon;

	if (!len || len >= sizeof(out->host))
		return false;
	out->path = at[len] ? at + len : "/";
	snprintf(out->host, sizeof(out->host), "%.*s", (int)len, at);
	colon = strrchr(out->host, ':');
	snprintf(out->port, sizeof(out->port), "%s", colon && !strchr(colon, ']') ? colon + 1 : "80");
	if (colon && !strchr(colon, ']'))
		out->host[colon - out->host] = '\0';
	if (out->host[0] == '[') {
		memmove(out->host, out->host + 1, strlen(out->host));
		out->host[strcspn(out->host, "]")] = '\0';
	}
	return out->host[0] && out->port[0];
}

/* Until the socket is ready, in slices. */
static enum hook_outcome wait_ready(int fd, short events, struct hook_run *run, uint64_t deadline)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		enum hook_outcome outcome = interrupted(run, deadline);

		if (outcome != HOOK_DONE || poll(&p, 1, SLICE_MS) > 0)
			return outcome;
	}
}

static enum hook_outcome connect_to(const struct addrinfo *address, struct hook_run *run, uint64_t deadline, int *out)
{
	int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	enum hook_outcome outcome = HOOK_DONE;
	socklen_t len = sizeof(int);
	int error = 0;

	*out = fd;
	if (fd < 0)
		return end_with(run, HOOK_FAILED, "no socket: %s", strerror(errno));
	if (connect(fd, address->ai_addr, address->ai_addrlen) && errno != EINPROGRESS)
		return end_with(run, HOOK_FAILED, "cannot connect: %s", strerror(errno));
	outcome = wait_ready(fd, POLLOUT, run, deadline);
	if (outcome == HOOK_DONE && !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) && error)
		return end_with(run, HOOK_FAILED, "cannot connect: %s", strerror(error));
	return outcome;
}

static enum hook_outcome send_all(int fd, const char *data, size_t len, struct hook_run *run, uint64_t deadline)
{
	while (len) {
		enum hook_outcome outcome = wait_ready(fd, POLLOUT, run, deadline);
		ssize_t n = outcome == HOOK_DONE ? send(fd, data, len, MSG_NOSIGNAL) : 0;

		if (outcome != HOOK_DONE)
			return outcome;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return end_with(run, HOOK_FAILED, "cannot send: %s", strerror(errno));
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return HOOK_DONE;
}

/* The status line is all that matters of the answer. */
static enum hook_outcome read_status(int fd, struct hook_run *run, uint64_t deadline)
{
	char text[256] = "";
	size_t len = 0;
	unsigned status = 0;

	while (!strchr(text, '\n') && len < sizeof(text) - 1) {
		enum hook_outcome outcome = wait_ready(fd, POLLIN, run, deadline);
		ssize_t n = outcome == HOOK_DONE ? recv(fd, text + len, sizeof(text) - 1 - len, 0) : 0;

		if (outcome != HOOK_DONE)
			return outcome;
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			break;
		len += n > 0 ? (size_t)n : 0;
		text[len] = '\0';
	}
	if (sscanf(text, "HTTP/%*u.%*u %u", &status) != 1)
		return end_with(run, HOOK_FAILED, "the answer is no HTTP");
	return status / 100 == 2 ? HOOK_DONE : end_with(run, HOOK_FAILED, "answered with status %u", status);
}

static enum hook_outcome post_to(const struct addrinfo *address, const struct target *target, struct hook_run *run, uint64_t deadline)
{
	char *request = NULL;
	int fd = -1;
	enum hook_outcome outcome = connect_to(address, run, deadline, &fd);
	int len = asprintf(&request,
			   "POST %s HTTP/1.1\r\nHost: %s:%s\r\nUser-Agent: tandem\r\nContent-Type: application/json\r\n"
			   "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
			   target->path, target->host, target->port, strlen(run->input), run->input);

	if (len < 0)
		outcome = end_with(run, HOOK_FAILED, "out of memory");
	if (outcome == HOOK_DONE)
		outcome = send_all(fd, request, (size_t)len, run, deadline);
	if (outcome == HOOK_DONE)
		outcome = read_status(fd, run, deadline);
	if (len >= 0)
		free(request);
	if (fd >= 0)
		close(fd);
	return outcome;
}

enum hook_outcome hook_post(const char *url, struct hook_run *run)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	uint64_t deadline = clock_ms() + run->timeout_ms;
	enum hook_outcome outcome = HOOK_FAILED;
	struct addrinfo *list;
	struct target target;
	int error;

	run->why[0] = '\0';
	if (!parse_url(url, &target))
		return end_with(run, HOOK_FAILED, "%s is no http:// address", url);
	error = getaddrinfo(target.host, target.port, &hints, &list);
	if (error)
		return end_with(run, HOOK_FAILED, "%s: %s", target.host, gai_strerror(error));
	for (const struct addrinfo *at = list; at && outcome == HOOK_FAILED; at = at->ai_next)
		outcome = post_to(at, &target, run, deadline);
	freeaddrinfo(list);
	return outcome;
}

/* ---- The events ---- */

struct hooks {
	pthread_t thread;
	struct history *history;
	_Atomic bool stop;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct settings *settings; /* under the lock */
	bool noted;		   /* under the lock: there is something new */
};

static void wake(void *owner)
{
	struct hooks *h = owner;

	pthread_mutex_lock(&h->lock);
	h->noted = true;
	pthread_cond_signal(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

static char *event_json(const struct history_event *event)
{
	char time_text[40], host[256] = "";
	time_t seconds = (time_t)(event->time_ms / 1000);
	struct tm parts;
	json_t *object;
	char *text;
	size_t len;

	gethostname(host, sizeof(host) - 1);
	gmtime_r(&seconds, &parts);
	len = strftime(time_text, sizeof(time_text), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(time_text + len, sizeof(time_text) - len, ".%03dZ", (int)(event->time_ms % 1000));
	object = json_pack("{s:I, s:s, s:s, s:s, s:s, s:s}", "number", (json_int_t)event->number, "time", time_text, "kind", event->kind,
			   "server", event->server, "text", event->text, "host", host);
	text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	json_decref(object);
	return text;
}

static void log_outcome(const char *what, const struct history_event *event, enum hook_outcome outcome, const struct hook_run *run,
			uint64_t started_ms)
{
	unsigned long long number = event->number, ms = clock_ms() - started_ms;

	if (outcome == HOOK_DONE)
		log_info(NULL, "%s for event %llu: done in %llu ms", what, number, ms);
	else
		log_warning(NULL, "%s for event %llu: failed after %llu ms: %s", what, number, ms, run->why);
}

static void log_line(void *owner, const char *text)
{
	log_info(NULL, "%s: %s", (const char *)owner, text);
}

static void deliver(struct hooks *h, const struct monitor_settings *settings, const struct history_event *event)
{
	char *text = event_json(event);
	struct hook_run run = { .input = text ? text : "{}", .timeout_ms = settings->hook_timeout_ms, .stop = &h->stop,
				.line = log_line, .owner = (void *)"event_command" };
	uint64_t start = clock_ms();

	if (settings->event_command)
		log_outcome("event_command", event, hook_command(settings->event_command, &run), &run, start);
	start = clock_ms();
	if (settings->event_url && !atomic_load(&h->stop))
		log_outcome("event_url", event, hook_post(settings->event_url, &run), &run, start);
	free(text);
}

/* Sleeps until there is something new. NULL: the end. */
static struct settings *next_round(struct hooks *h)
{
	struct settings *settings = NULL;

	pthread_mutex_lock(&h->lock);
	while (!h->noted && !atomic_load(&h->stop))
		pthread_cond_wait(&h->changed, &h->lock);
	h->noted = false;
	if (!atomic_load(&h->stop))
		settings = settings_ref(h->settings);
	pthread_mutex_unlock(&h->lock);
	return settings;
}

static uint64_t deliver_new(struct hooks *h, const struct settings *settings, uint64_t after)
{
	const struct monitor_settings *m = &settings->monitor;
	struct history_event *events = calloc(HISTORY_KEPT, sizeof(*events));
	size_t n = events ? history_read(h->history, after, events, HISTORY_KEPT) : 0;

	if (n && after && events[0].number > after + 1)
		log_warning(NULL, "event hooks: %llu events came faster than they could be told",
			    (unsigned long long)(events[0].number - after - 1));
	for (size_t i = 0; i < n && !atomic_load(&h->stop); i++) {
		if (m->event_command || m->event_url)
			deliver(h, m, &events[i]);
		after = events[i].number;
	}
	free(events);
	return after;
}

static void *run_hooks(void *arg)
{
	struct hooks *h = arg;
	struct settings *settings;
	uint64_t after = 0;

	while ((settings = next_round(h))) {
		after = deliver_new(h, settings, after);
		settings_unref(settings);
	}
	return NULL;
}

static void free_hooks(struct hooks *h)
{
	settings_unref(h->settings);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

struct hooks *hooks_start(struct history *history, struct settings *settings)
{
	struct hooks *h = calloc(1, sizeof(*h));
	int error;

	if (!h)
		return NULL;
	h->history = history;
	h->settings = settings_ref(settings);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	error = pthread_create(&h->thread, NULL, run_hooks, h);
	if (error) {
		free_hooks(h);
		errno = error;
		return NULL;
	}
	history_listen(history, wake, h);
	return h;
}

void hooks_reload(struct hooks *hooks, struct settings *settings)
{
	struct settings *before;

	pthread_mutex_lock(&hooks->lock);
	before = hooks->settings;
	hooks->settings = settings_ref(settings);
	pthread_mutex_unlock(&hooks->lock);
	settings_unref(before);
}

void hooks_stop(struct hooks *hooks)
{
	if (!hooks)
		return;
	history_listen(hooks->history, NULL, NULL);
	atomic_store(&hooks->stop, true);
	wake(hooks);
	pthread_join(hooks->thread, NULL);
	free_hooks(hooks);
}
