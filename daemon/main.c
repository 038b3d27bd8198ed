/*
 * The daemon: reads the settings, starts the proxy, then does what signals ask for. SIGHUP reads the settings again, SIGTERM lets
 * clients finish and stops, SIGINT stops.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef HAVE_LIBSYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "admin/admin.h"
#include "app/fastcgi.h"
#include "app/room.h"
#include "app/settings.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/readiness.h"
#include "daemon/config.h"
#include "proxy/cluster/baseline.h"
#include "daemon/wish.h"
#include "proxy/session/answered.h"
#include "proxy/session/proxy.h"
#include "web/web.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum {
	DRAIN_MS = 30000, /* clients that have not come to an end by then are cut off */
	LOOK_MS = 20, /* between two looks whether all are gone, or all workers have new settings */
	ANSWER_MS = 1000, /* for a worker to tell which server answered */
	REASON_BYTES = 512,
};

enum daemon_state {
	DAEMON_SERVING,
	DAEMON_RELOADING, /* until all workers have adopted the settings; they do so between two events */
	DAEMON_DRAINING, /* no new clients, until the old ones are gone or `deadline_ms` */
	DAEMON_STOPPING,
};

struct daemon {
	const char *path;
	struct settings *settings; /* in force */
	struct proxy *proxy;
	struct app_host app_host;
	struct app_room *apps;
	struct app_fastcgi *fastcgi; /* NULL: none is wanted */
	struct web *_Atomic web; /* NULL: none is wanted */
	struct admin *admin;
	struct wish wish; /* a reload that a command waits for */
	enum daemon_state state;
	uint64_t deadline_ms;
	sigset_t signals;
};

/* What systemd hears, if it listens. A reload begins with a time, so that it can tell it from a late word about one before. */
static void notify(const char *state)
{
#ifdef HAVE_LIBSYSTEMD
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	sd_notifyf(0, "%s\nMONOTONIC_USEC=%llu", state,
		   (unsigned long long)now.tv_sec * 1000000 +
			   (unsigned long long)now.tv_nsec / 1000);
#else
	(void)state;
#endif
}

/* --- settings --- */

/* Reads the file; what it had to say is given as one text of lines, to be freed. */
static struct settings *load_settings(const char *path, char **said)
{
	struct settings *settings;
	size_t len;
	FILE *stream;

	*said = NULL;
	stream = open_memstream(said, &len);
	if (!stream)
		return NULL;
	settings = config_load(path, stream);
	fclose(stream);
	return settings;
}

/* The level stands in front of every line of the log, so the word "warning: " goes out of this one. */
static enum log_level take_level(char *line, enum log_level otherwise)
{
	static const char word[] = "warning: ";
	char *mark = strstr(line, word);

	if (!mark)
		return otherwise;
	memmove(mark, mark + strlen(word), strlen(mark + strlen(word)) + 1);
	return LOG_LEVEL_WARNING;
}

static void log_lines(char *lines)
{
	char *line;

	while (lines && (line = strsep(&lines, "\n")))
		if (*line)
			log_write(take_level(line, LOG_LEVEL_ERROR), NULL, "%s", line);
}

static void use_log_settings(const struct settings *settings)
{
	log_init((enum log_format)settings->log_format, (enum log_level)settings->log_level);
}

/* --- start --- */

static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		log_warning(NULL, "the limit on open files cannot be raised: %s", strerror(errno));
}

static bool make_state_dir(const char *path)
{
	struct stat status;

	if (mkdir(path, 0700) != 0 && errno != EEXIST) {
		log_error(NULL, "[tandem] state_dir %s: cannot be made: %s; make it or set another",
			  path, strerror(errno));
		return false;
	}
	if (stat(path, &status) != 0 || !S_ISDIR(status.st_mode) ||
	    access(path, W_OK | X_OK) != 0) {
		log_error(NULL,
			  "[tandem] state_dir %s: not a directory one can write to; set another",
			  path);
		return false;
	}
	return true;
}

/* The signals are blocked before any thread exists, so that only wait_for_signal() ever sees them. */
static void prepare_signals(struct daemon *daemon)
{
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&daemon->signals);
	sigaddset(&daemon->signals, SIGHUP);
	sigaddset(&daemon->signals, SIGTERM);
	sigaddset(&daemon->signals, SIGINT);
	sigprocmask(SIG_BLOCK, &daemon->signals, NULL);
}

static void log_ready(const struct settings *settings)
{
	char listeners[1024] = "";
	size_t len = 0;

	for (size_t i = 0; i < settings->proxy.listen_count && len < sizeof(listeners); i++)
		len += (size_t)snprintf(listeners + len, sizeof(listeners) - len, "%s%s",
					i ? ", " : "", settings->proxy.listen[i]);
	log_info(NULL, "ready: proxy on %s, %zu server%s", listeners, settings->server_count,
		 settings->server_count == 1 ? "" : "s");
}

static bool start_admin(struct daemon *daemon)
{
	char why[REASON_BYTES] = "unknown reason";
	struct admin_host host = {
		.proxy = daemon->proxy,
		.version = PACKAGE_VERSION,
		.settings_path = daemon->path,
		.started_ms = clock_ms(),
		.reload = wish_reload,
		.web = &daemon->web,
		.owner = &daemon->wish,
	};

	daemon->admin = admin_start(daemon->settings, &host, why, sizeof(why));
	if (!daemon->admin)
		log_error(NULL, "%s", why);
	return daemon->admin != NULL;
}

/* For applications that show which server answered. */
static void answered_by(void *owner, uint32_t session, char *out, size_t size)
{
	const struct daemon *daemon = owner;

	session_answered_by(proxy_shared(daemon->proxy), session, ANSWER_MS, out, size);
}

static bool start_web(struct daemon *daemon, char *why, size_t why_size)
{
	daemon->app_host = (struct app_host){ answered_by, daemon };
	daemon->apps = app_room_start(daemon->settings, &daemon->app_host, why, why_size);
	if (!daemon->apps)
		return false;
	if (app_settings_of(daemon->settings)->fastcgi_count) {
		daemon->fastcgi = app_fastcgi_start(daemon->apps, daemon->settings, why, why_size);
		if (!daemon->fastcgi)
			return false;
	}
	if (!web_is_wanted(daemon->settings))
		return true;
	daemon->web = web_start(daemon->settings, daemon->apps, why, why_size);
	return daemon->web != NULL;
}

static bool start(struct daemon *daemon)
{
	char why[REASON_BYTES] = "unknown reason";

	raise_file_limit();
	if (!make_state_dir(daemon->settings->state_dir))
		return false;
	daemon->proxy = proxy_start(daemon->settings, why, sizeof(why));
	if (!daemon->proxy) {
		log_error(NULL, "%s", why);
		return false;
	}
	if (!start_admin(daemon)) {
		proxy_stop(daemon->proxy);
		return false;
	}
	if (!start_web(daemon, why, sizeof(why))) {
		log_error(NULL, "%s", why);
		admin_stop(daemon->admin);
		app_fastcgi_stop(daemon->fastcgi);
		app_room_stop(daemon->apps);
		proxy_stop(daemon->proxy);
		return false;
	}
	log_ready(daemon->settings);
	readiness_set(UNREADY_STARTING, false);
	notify("READY=1");
	return true;
}

/* --- signals --- */

static bool adopt(struct daemon *daemon, struct settings *wanted)
{
	char why[REASON_BYTES] = "unknown reason";
	struct app_set *set;

	if (config_needs_restart(daemon->settings, wanted, why, sizeof(why))) {
		wish_say(&daemon->wish, LOG_LEVEL_ERROR,
			 "reload refused, nothing was changed: %s needs a restart", why);
		return false;
	}
	/* All have looked at them before the first changes anything; the web's look and its change are one, so it is the last to look. */
	set = app_room_prepare(daemon->apps, wanted, why, sizeof(why));
	if (set && proxy_can_reload(daemon->proxy, wanted, why, sizeof(why)) &&
	    (!daemon->web || web_reload(daemon->web, wanted, why, sizeof(why)))) {
		proxy_reload(daemon->proxy, wanted);
		app_room_adopt(daemon->apps, wanted, set);
		return true;
	}
	app_set_free(set);
	wish_say(&daemon->wish, LOG_LEVEL_ERROR, "reload refused, nothing was changed: %s", why);
	return false;
}

static void say_lines(struct daemon *daemon, char *lines)
{
	char *line;

	while (lines && (line = strsep(&lines, "\n")))
		if (*line)
			wish_say(&daemon->wish, take_level(line, LOG_LEVEL_ERROR), "%s", line);
}

/* What happens between the words RELOADING and READY is a reload to systemd, also one that was refused. */
static void reload(struct daemon *daemon)
{
	char *said;
	struct settings *wanted = load_settings(daemon->path, &said);

	say_lines(daemon, said);
	free(said);
	if (!wanted) {
		wish_say(&daemon->wish, LOG_LEVEL_ERROR,
			 "reload refused, nothing was changed: the settings have faults");
		return;
	}
	if (!adopt(daemon, wanted)) {
		settings_unref(wanted);
		return;
	}
	use_log_settings(wanted);
	admin_reload(daemon->admin, wanted);
	settings_unref(daemon->settings);
	daemon->settings = wanted;
	daemon->state = DAEMON_RELOADING;
}

static void begin_reload(struct daemon *daemon)
{
	enum daemon_state before = daemon->state;

	notify("RELOADING=1");
	wish_begin(&daemon->wish);
	daemon->state = DAEMON_SERVING;
	reload(daemon);
	if (daemon->state == DAEMON_RELOADING)
		return;
	daemon->state = before;
	wish_end(&daemon->wish, false);
	notify("READY=1");
}

static void end_reload(struct daemon *daemon)
{
	size_t count = daemon->settings->server_count;

	wish_say(&daemon->wish, LOG_LEVEL_INFO, "reloaded: %zu server%s", count,
		 count == 1 ? "" : "s");
	wish_end(&daemon->wish, true);
	notify("READY=1");
	daemon->state = DAEMON_SERVING;
}

static void drain(struct daemon *daemon)
{
	log_info(NULL, "draining: clients have %d s to come to an end", DRAIN_MS / 1000);
	notify("STOPPING=1");
	readiness_set(UNREADY_DRAINING, true);
	wish_close(&daemon->wish);
	proxy_drain(daemon->proxy);
	if (daemon->web)
		web_drain(daemon->web);
	if (daemon->fastcgi)
		app_fastcgi_drain(daemon->fastcgi);
	daemon->state = DAEMON_DRAINING;
	daemon->deadline_ms = clock_ms() + DRAIN_MS;
}

static void obey(struct daemon *daemon, int signal)
{
	bool serving = daemon->state == DAEMON_SERVING || daemon->state == DAEMON_RELOADING;

	if (signal == SIGHUP && serving)
		begin_reload(daemon);
	else if (signal == SIGTERM && serving)
		drain(daemon);
	else if (signal == SIGTERM || signal == SIGINT)
		daemon->state = DAEMON_STOPPING;
}

/* 0: none came in time. */
static int wait_for_signal(const struct daemon *daemon)
{
	static const struct timespec look = { 0, LOOK_MS * 1000000L };
	int signal;

	signal = sigtimedwait(&daemon->signals, NULL,
			      daemon->state == DAEMON_SERVING ? NULL : &look);
	return signal > 0 ? signal : 0;
}

static void look_at_drain(struct daemon *daemon)
{
	if (proxy_drained(daemon->proxy) && (!daemon->web || web_drained(daemon->web)) &&
	    (!daemon->fastcgi || app_fastcgi_drained(daemon->fastcgi))) {
		daemon->state = DAEMON_STOPPING;
	} else if (clock_ms() >= daemon->deadline_ms) {
		log_warning(NULL, "clients are still there after %d s; they are cut off",
			    DRAIN_MS / 1000);
		daemon->state = DAEMON_STOPPING;
	}
}

static void serve(struct daemon *daemon)
{
	while (daemon->state != DAEMON_STOPPING) {
		int signal = wait_for_signal(daemon);

		if (signal)
			obey(daemon, signal);
		if (daemon->state == DAEMON_DRAINING)
			look_at_drain(daemon);
		else if (daemon->state == DAEMON_RELOADING && proxy_reloaded(daemon->proxy))
			end_reload(daemon);
	}
}

static int run(const char *path, struct settings *settings)
{
	struct daemon daemon = { .path = path, .settings = settings, .state = DAEMON_SERVING };
	bool started;

	prepare_signals(&daemon);
	wish_init(&daemon.wish);
	started = start(&daemon);
	if (started) {
		serve(&daemon);
		log_info(NULL, "stopping");
		notify("STOPPING=1");
		wish_close(&daemon.wish);
		admin_stop(daemon.admin);
		app_fastcgi_stop(daemon.fastcgi);
		web_stop(daemon.web);
		app_room_stop(daemon.apps);
		proxy_stop(daemon.proxy);
	}
	wish_fini(&daemon.wish);
	settings_unref(daemon.settings);
	return started ? EXIT_FINE : EXIT_FAILED;
}

/* --- the command line --- */

static int print_usage(FILE *out, int status)
{
	fputs("usage: tandem -c FILE       serve with the settings in FILE\n"
	      "       tandem -t -c FILE    only check the settings\n"
	      "       tandem -t --online -c FILE    check the servers as well\n"
	      "       tandem --help-settings | --version | --help\n",
	      out);
	return status;
}

enum purpose {
	PURPOSE_SERVE,
	PURPOSE_CHECK,
	PURPOSE_CHECK_ONLINE, /* the servers too: nothing is changed there */
};

/* Ends the settings. */
static int check(const char *path, struct settings *settings, bool online)
{
	bool fine = !online || baseline_check(settings, stdout);

	if (!online)
		printf("%s: fine\n", path);
	settings_unref(settings);
	return fine ? EXIT_FINE : EXIT_FAILED;
}

static int load_and_run(const char *path, enum purpose purpose)
{
	char *said;
	struct settings *settings = load_settings(path, &said);

	if (!settings || purpose != PURPOSE_SERVE)
		fputs(said ? said : "out of memory\n", stderr);
	if (settings && purpose == PURPOSE_SERVE) {
		use_log_settings(settings);
		log_lines(said);
	}
	free(said);
	if (!settings)
		return EXIT_USAGE;
	if (purpose == PURPOSE_SERVE)
		return run(path, settings);
	return check(path, settings, purpose == PURPOSE_CHECK_ONLINE);
}

/*
 * Buffers of this size go back to the kernel when they are freed, and grow without being copied. Left alone, the allocator learns from the
 * first large one to keep them all, and a command of 1 MiB leaves holes of several.
 */
static void tell_allocator(void)
{
	mallopt(M_MMAP_THRESHOLD, 256 * 1024);
}

int main(int argc, char **argv)
{
	enum { OPTION_HELP_SETTINGS = 256, OPTION_ONLINE };
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "test", no_argument, NULL, 't' },
		{ "online", no_argument, NULL, OPTION_ONLINE },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "help-settings", no_argument, NULL, OPTION_HELP_SETTINGS },
		{ 0 },
	};
	const char *path = NULL;
	enum purpose purpose = PURPOSE_SERVE;
	int option;

	tell_allocator();
	while ((option = getopt_long(argc, argv, "c:thV", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			path = optarg;
			break;
		case 't':
			if (purpose == PURPOSE_SERVE)
				purpose = PURPOSE_CHECK;
			break;
		case OPTION_ONLINE:
			purpose = PURPOSE_CHECK_ONLINE;
			break;
		case 'h':
			return print_usage(stdout, EXIT_FINE);
		case 'V':
			puts("tandem " PACKAGE_VERSION);
			return EXIT_FINE;
		case OPTION_HELP_SETTINGS:
			config_print_help(stdout);
			return EXIT_FINE;
		default:
			return print_usage(stderr, EXIT_USAGE);
		}
	}
	if (!path || optind != argc) {
		if (!path)
			fputs("tandem: -c FILE is missing\n", stderr);
		else
			fprintf(stderr, "tandem: %s: one word too many\n", argv[optind]);
		return print_usage(stderr, EXIT_USAGE);
	}
	return load_and_run(path, purpose);
}
