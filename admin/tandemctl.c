/*
 * tandemctl: asks a running daemon over its Unix socket. It knows the table of commands, so that a wrong word is refused without a daemon;
 * all else, also what an answer looks like, is the daemon's.
 */
#include <errno.h>
#include <ini.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "admin/command.h"
#include "admin/protocol.h"
#include "admin/settings.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

struct options {
	const char *socket;
	const char *settings;
	bool json;
	bool help;
	bool version;
	char **words;
	size_t word_count;
};

/* --- the command line --- */

static void print_usage(FILE *out)
{
	fputs("usage: tandemctl [-s SOCKET | -c FILE] [--json] COMMAND\n\n"
	      "  -s SOCKET   the daemon's socket\n"
	      "  -c FILE     the daemon's settings file, which tells the socket\n"
	      "  --json      one JSON document instead of text (events --follow: a line of JSON for each)\n\n"
	      "Without -s and -c: $TANDEM_SOCKET, else " ADMIN_RUN_DIR "/" ADMIN_SOCKET_NAME ", else /var/lib/tandem/" ADMIN_SOCKET_NAME ".\n\n"
	      "Commands:\n",
	      out);
	command_print_all(out);
	fputs("\nExit status: 0 done, 1 failed or refused, 2 wrong usage, 3 the daemon cannot be reached.\n", out);
}

static int refuse(const char *what, const char *detail)
{
	fprintf(stderr, "tandemctl: %s%s\n", what, detail);
	return EXIT_CODE_USAGE;
}

/* The value of -s or -c: behind it, or the next argument. */
static bool take_path(char **argv, int argc, int *i, const char **out)
{
	if (argv[*i][2])
		*out = argv[*i] + 2;
	else if (*i + 1 < argc)
		*out = argv[++*i];
	else
		return false;
	return **out != '\0';
}

/* Tandemctl's own options may stand anywhere in front of "--"; all else is the command's. */
static int read_arguments(int argc, char **argv, struct options *o)
{
	bool only_words = false;

	for (int i = 1; i < argc; i++) {
		char *a = argv[i];

		if (only_words || (a[0] != '-' || !a[1]))
			o->words[o->word_count++] = a;
		else if (!strncmp(a, "-s", 2) && !take_path(argv, argc, &i, &o->socket))
			return refuse("-s needs the path of a socket", "");
		else if (!strncmp(a, "-c", 2) && !take_path(argv, argc, &i, &o->settings))
			return refuse("-c needs the path of a settings file", "");
		else if (!strncmp(a, "-s", 2) || !strncmp(a, "-c", 2))
			continue;
		else if (!strcmp(a, "--json"))
			o->json = true;
		else if (!strcmp(a, "-h") || !strcmp(a, "--help"))
			o->help = true;
		else if (!strcmp(a, "-V") || !strcmp(a, "--version"))
			o->version = true;
		else if (!strncmp(a, "--", 2)) {
			only_words = !a[2];
			o->words[o->word_count++] = a;
		} else
			return refuse("unknown option ", a);
	}
	return EXIT_CODE_DONE;
}

/* --- where the daemon is --- */

struct found {
	char *socket;
	char *state_dir;
};

static void keep(char **place, const char *value)
{
	size_t len = strlen(value);

	free(*place);
	if (len >= 2 && strchr("'\"", value[0]) && value[len - 1] == value[0])
		*place = strndup(value + 1, len - 2);
	else
		*place = strdup(value);
}

/* inih's handler: two settings are enough. */
static int take_setting(void *user, const char *section, const char *name, const char *value)
{
	struct found *found = user;

	if (!strcmp(section, "admin") && !strcmp(name, "socket"))
		keep(&found->socket, value);
	else if (!strcmp(section, "tandem") && !strcmp(name, "state_dir"))
		keep(&found->state_dir, value);
	return 1;
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* As the daemon decides it, but that what is there counts: the daemon may have other rights than who asks. */
static bool socket_of_settings(const char *path, char *out, size_t size)
{
	struct found found = { 0 };

	if (ini_parse(path, take_setting, &found) < 0) {
		fprintf(stderr, "tandemctl: %s: %s\n", path, strerror(errno));
		return false;
	}
	if (found.socket)
		snprintf(out, size, "%s", found.socket);
	else
		snprintf(out, size, "%s/" ADMIN_SOCKET_NAME, found.state_dir ? found.state_dir : "/var/lib/tandem");
	if (!found.socket && !is_there(out) && is_there(ADMIN_RUN_DIR "/" ADMIN_SOCKET_NAME))
		snprintf(out, size, ADMIN_RUN_DIR "/" ADMIN_SOCKET_NAME);
	free(found.socket);
	free(found.state_dir);
	return true;
}

static bool find_socket(const struct options *o, char *out, size_t size)
{
	const char *given = o->socket ? o->socket : o->settings ? NULL : getenv("TANDEM_SOCKET");

	if (given && *given) {
		snprintf(out, size, "%s", given);
		return true;
	}
	if (o->settings)
		return socket_of_settings(o->settings, out, size);
	snprintf(out, size, ADMIN_RUN_DIR "/" ADMIN_SOCKET_NAME);
	if (!is_there(out) && is_there("/var/lib/tandem/" ADMIN_SOCKET_NAME))
		snprintf(out, size, "/var/lib/tandem/" ADMIN_SOCKET_NAME);
	return true;
}

static const char *advice_for(int error)
{
	switch (error) {
	case ENOENT:
		return "is the daemon running? -s or -c tells where its socket is";
	case ECONNREFUSED:
		return "the socket is there, but no daemon: it has ended without removing it";
	case EACCES:
		return "the socket belongs to the daemon's user; [admin] socket_group gives it to a group";
	default:
		return "is it the socket of a daemon?";
	}
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	errno = ENAMETOOLONG;
	if (fd >= 0 && strlen(path) < sizeof(address.sun_path)) {
		memcpy(address.sun_path, path, strlen(path) + 1);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;
	}
	fprintf(stderr, "tandemctl: cannot reach the daemon at %s: %s; %s\n", path, strerror(errno), advice_for(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* --- the talk --- */

static void send_all(int fd, const char *text)
{
	for (size_t len = strlen(text); len;) {
		ssize_t sent = send(fd, text, len, MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		text += sent;
		len -= (size_t)sent;
	}
}

/* The daemon may have said no and gone before it has all been sent: whether it went through is seen by the answer. */
static bool send_request(int fd, const struct options *o)
{
	json_t *words = json_array(), *request;
	char *text;

	for (size_t i = 0; i < o->word_count; i++) {
		json_t *word = json_string(o->words[i]);

		if (!word) {
			json_decref(words);
			refuse("not UTF-8: ", o->words[i]);
			return false;
		}
		json_array_append_new(words, word);
	}
	request = json_pack("{s:o, s:s}", "words", words, "format", o->json ? "json" : "text");
	text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!text)
		return false;
	send_all(fd, text);
	send_all(fd, "\n");
	free(text);
	return true;
}

/* True when that was the last message. */
static bool take_message(const char *line, int *status)
{
	json_t *message = json_loads(line, 0, NULL), *value;
	const char *text;
	bool last;

	if ((text = json_string_value(json_object_get(message, "out")))) {
		fputs(text, stdout);
		fflush(stdout);
	}
	if ((text = json_string_value(json_object_get(message, "err"))))
		fputs(text, stderr);
	value = json_object_get(message, "exit");
	if (json_is_integer(value))
		*status = (int)json_integer_value(value);
	last = json_is_integer(value);
	json_decref(message);
	return last;
}

static int talk(FILE *daemon, const char *command)
{
	int status = EXIT_CODE_UNREACHABLE;
	char *line = NULL;
	size_t size = 0;
	bool over = false;

	while (!over && getline(&line, &size, daemon) > 0)
		over = take_message(line, &status);
	free(line);
	if (!over)
		fprintf(stderr, "tandemctl: the daemon has gone in the middle of %s; its log says why\n", command);
	return status;
}

static void on_interrupt(int signal)
{
	static const char text[] = "\ntandemctl: no longer looking on; the operation goes on in the daemon: tandemctl events tells its end\n";
	ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)signal;
	(void)ignored;
	_exit(EXIT_CODE_FAILED);
}

static bool changes_roles(const struct request *request)
{
	return request->id == COMMAND_PROMOTE || request->id == COMMAND_FAILOVER || request->id == COMMAND_REJOIN;
}

static int ask(const struct options *o, const struct request *request)
{
	char path[PATH_MAX];
	FILE *daemon;
	int fd, status;

	if (!find_socket(o, path, sizeof(path)))
		return EXIT_CODE_USAGE;
	fd = connect_to(path);
	daemon = fd >= 0 ? fdopen(fd, "r") : NULL;
	if (!daemon)
		return EXIT_CODE_UNREACHABLE;
	if (changes_roles(request))
		signal(SIGINT, on_interrupt);
	status = send_request(fd, o) ? talk(daemon, request->command->name) : EXIT_CODE_USAGE;
	fclose(daemon);
	return status;
}

static int print_help(const struct options *o)
{
	const char *name = o->word_count ? strcmp(o->words[0], "help") || o->word_count < 2 ? o->words[0] : o->words[1] : NULL;
	const struct command *command = name ? command_find(name) : NULL;

	if (command && command != &commands[COMMAND_HELP])
		command_print_one(stdout, command);
	else
		print_usage(stdout);
	return EXIT_CODE_DONE;
}

static int run(const struct options *o)
{
	struct request request;
	char why[512];
	int status = EXIT_CODE_USAGE;

	if (o->version)
		return puts("tandemctl " PACKAGE_VERSION), EXIT_CODE_DONE;
	if (o->help)
		return print_help(o);
	if (!o->word_count) {
		print_usage(stderr);
		return EXIT_CODE_USAGE;
	}
	if (!command_parse_words(o->words, o->word_count, &request, why, sizeof(why)))
		refuse(why, "; tandemctl --help lists all");
	else if (request.id == COMMAND_HELP && !o->json)
		status = print_help(o);
	else
		status = ask(o, &request);
	request_fini(&request);
	return status;
}

int main(int argc, char **argv)
{
	struct options options = { .words = calloc((size_t)argc + 1, sizeof(char *)) };
	int status;

	signal(SIGPIPE, SIG_IGN);
	if (!options.words)
		return refuse("out of memory", "");
	status = read_arguments(argc, argv, &options);
	if (status == EXIT_CODE_DONE)
		status = run(&options);
	free(options.words);
	return status;
}
