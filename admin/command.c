#include "admin/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

const struct command commands[COMMAND_COUNT] = {
	[COMMAND_STATUS] = { "status", "SHOW STATUS|SHOW CLUSTER|STATUS", "How the cluster is, what is wrong, and what happened last." },
	[COMMAND_SERVERS] = { "servers", "SHOW SERVERS|SERVERS", "Each server: role, health, lag, position, traffic.",
		{ { "long", ARGUMENT_FLAG, "also positions, versions and counters" } } },
	[COMMAND_SESSIONS] = { "sessions", "SHOW SESSIONS|SHOW PROCESSLIST|SHOW FULL PROCESSLIST|SESSIONS",
		"Each client: who, from where, what it does or waits for, and what keeps it on its connection.",
		{ { "user", ARGUMENT_TEXT, "only sessions of this user" },
		  { "busy", ARGUMENT_FLAG, "only those with a statement or a transaction" } } },
	[COMMAND_PROMOTE] = { "promote", "PROMOTE", "Makes a replica the primary; the primary becomes its replica.",
		{ { "SERVER", ARGUMENT_REQUIRED, "the replica" },
		  { "dry-run", ARGUMENT_FLAG, "only check, and say what would be done" },
		  { "force", ARGUMENT_FLAG, "do not refuse for the sake of lag" },
		  { "timeout", ARGUMENT_DURATION, "how long open transactions may take to end (10s)" } } },
	[COMMAND_FAILOVER] = { "failover", "FAILOVER TO|FAILOVER", "The primary is gone: the best replica, or the one named, takes over.",
		{ { "SERVER", ARGUMENT_OPTIONAL, "the replica; left out: the most advanced" },
		  { "dry-run", ARGUMENT_FLAG, "only check, and say what would be done" },
		  { "force", ARGUMENT_FLAG, "accept a loss of acknowledged transactions beyond max_loss" },
		  { "timeout", ARGUMENT_DURATION, "how long the replica may take to apply what it has received" } } },
	[COMMAND_REJOIN] = { "rejoin", "REJOIN", "Brings a server back that is neither primary nor replica.",
		{ { "SERVER", ARGUMENT_REQUIRED, "the server" },
		  { "accept", ARGUMENT_FLAG, "drop its extra transactions, where they change no rows" },
		  { "dry-run", ARGUMENT_FLAG, "only check, and say what would be done" } } },
	[COMMAND_DRAIN] = { "drain", "DRAIN", "No more reads for a replica, until it is resumed or Tandem restarts.",
		{ { "SERVER", ARGUMENT_REQUIRED, "the replica" } } },
	[COMMAND_RESUME] = { "resume", "RESUME", "A drained server takes reads again.",
		{ { "SERVER", ARGUMENT_REQUIRED, "the server" } } },
	[COMMAND_EXPLAIN] = { "explain", "EXPLAIN ROUTE", "Where a statement would go, and why. It is not run.",
		{ { "user", ARGUMENT_TEXT, "for this user: its last write counts" },
		  { "schema", ARGUMENT_TEXT, "with this default schema" },
		  { "in-transaction", ARGUMENT_FLAG, "with a transaction open" },
		  { "SQL", ARGUMENT_REST, "the statement" } } },
	[COMMAND_RELOAD] = { "reload", "RELOAD", "Reads the settings file again, as SIGHUP does." },
	[COMMAND_EVENTS] = { "events", "SHOW EVENTS|EVENTS", "What happened to the cluster, oldest first.",
		{ { "last", ARGUMENT_NUMBER, "how many at most (20)" },
		  { "follow", ARGUMENT_FLAG, "go on until interrupted" } } },
	[COMMAND_DIGESTS] = { "digests", "SHOW DIGESTS|DIGESTS", "Statements by digest." },
	[COMMAND_UPSTREAMS] = { "upstreams", "SHOW UPSTREAMS|UPSTREAMS", "The web's upstream servers: state, weight, requests, who waits.",
		{ { "UPSTREAM", ARGUMENT_OPTIONAL, "only this one" } } },
	[COMMAND_UPSTREAM] = { "upstream", "SET UPSTREAM", "Changes an upstream server's weight or state, until Tandem restarts.",
		{ { "UPSTREAM", ARGUMENT_REQUIRED, "the upstream" },
		  { "server", ARGUMENT_TEXT, "its server, as the settings name it" },
		  { "weight", ARGUMENT_NUMBER, "its share of the requests, 1 to 256" },
		  { "drain", ARGUMENT_FLAG, "no new clients; those with its sticky cookie still come there" },
		  { "down", ARGUMENT_FLAG, "no requests at all; those under way end" },
		  { "up", ARGUMENT_FLAG, "in use again" } } },
	[COMMAND_HELP] = { "help", "HELP|SHOW COMMANDS", "All commands, or one.",
		{ { "COMMAND", ARGUMENT_OPTIONAL, "the command" } } },
};

static bool is_option(const struct argument *a)
{
	return a->kind >= ARGUMENT_FLAG;
}

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (strcasecmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

const char *command_nearest(const char *name)
{
	struct nearest best = { NULL, 0 };

	for (size_t i = 0; i < COMMAND_COUNT; i++)
		nearest_consider(&best, commands[i].name, name);
	return best.name;
}

/* --- requests --- */

void request_fini(struct request *request)
{
	for (size_t i = 0; i < COMMAND_ARGUMENTS; i++)
		free(request->texts[i]);
	free(request->like);
	*request = (struct request){ 0 };
}

static int index_of(const struct command *command, const char *name)
{
	for (int i = 0; command->arguments[i].kind; i++)
		if (strcmp(command->arguments[i].name, name) == 0)
			return i;
	return -1;
}

const char *request_text(const struct request *request, const char *name)
{
	int i = index_of(request->command, name);

	return i < 0 ? NULL : request->texts[i];
}

uint64_t request_number(const struct request *request, const char *name)
{
	int i = index_of(request->command, name);

	return i < 0 ? 0 : request->numbers[i];
}

bool request_has(const struct request *request, const char *name)
{
	return request_text(request, name) != NULL;
}

/* Digits with a unit behind them; `units` is NULL for plain numbers. */
static bool read_number(const char *text, bool is_duration, uint64_t *out)
{
	static const struct {
		const char *name;
		unsigned ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "min", 60000 }, { "h", 3600000 } };
	char *end;

	if (!isdigit((unsigned char)*text) || strlen(text) > 12)
		return false;
	*out = strtoull(text, &end, 10);
	if (!is_duration)
		return !*end && *out <= UINT32_MAX;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(end, units[i].name) == 0 && *out <= UINT32_MAX / units[i].ms) {
			*out *= units[i].ms;
			return true;
		}
	return false;
}

static bool set_argument(struct request *r, int i, const char *text, char *why, size_t size)
{
	const struct argument *a = &r->command->arguments[i];

	if (r->texts[i]) {
		snprintf(why, size, "%s%s is given twice", is_option(a) ? "--" : "", a->name);
		return false;
	}
	if (!*text && !is_option(a)) {
		snprintf(why, size, "%s is empty", a->name);
		return false;
	}
	r->numbers[i] = 1;
	if (a->kind == ARGUMENT_DURATION && !read_number(text, true, &r->numbers[i])) {
		snprintf(why, size, "--%s %.40s: not a time; write a whole number and ms, s or min, such as 5s", a->name, text);
		return false;
	}
	if (a->kind == ARGUMENT_NUMBER && !read_number(text, false, &r->numbers[i])) {
		snprintf(why, size, "--%s %.40s: not a whole number", a->name, text);
		return false;
	}
	r->texts[i] = strdup(text);
	if (!r->texts[i])
		snprintf(why, size, "out of memory");
	return r->texts[i] != NULL;
}

/* The next word argument without a value; -1: there is none. */
static int free_word(const struct request *r)
{
	for (int i = 0; r->command->arguments[i].kind; i++)
		if (!is_option(&r->command->arguments[i]) && !r->texts[i])
			return i;
	return -1;
}

static bool refuse_option(const struct command *command, const char *word, char *why, size_t size)
{
	struct nearest best = { NULL, 0 };

	for (const struct argument *a = command->arguments; a->kind; a++)
		if (is_option(a))
			nearest_consider(&best, a->name, word);
	snprintf(why, size, "%s has no option --%.40s%s%s%s", command->name, word, best.name ? "; did you mean --" : "",
		 best.name ? best.name : "", best.name ? "?" : "");
	return false;
}

static bool check_complete(const struct request *r, char *why, size_t size)
{
	int i = free_word(r);

	if (i < 0 || r->command->arguments[i].kind == ARGUMENT_OPTIONAL)
		return true;
	snprintf(why, size, "%s needs %s: %s", r->command->name, r->command->arguments[i].name, r->command->arguments[i].help);
	return false;
}

static bool refuse_command(const char *name, char *why, size_t size)
{
	const char *nearest = command_nearest(name);

	if (nearest)
		snprintf(why, size, "unknown command %.40s; did you mean %s?", name, nearest);
	else
		snprintf(why, size, "unknown command %.40s; help lists all", name);
	return false;
}

/* --- words of a command line --- */

/* "--name", "--name=value" or "--name value". Gives the words used, 0 when it is refused. */
static size_t take_option(struct request *r, char *const *words, size_t count, char *why, size_t size)
{
	const char *word = words[0] + 2, *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);

	for (int i = 0; r->command->arguments[i].kind; i++) {
		const struct argument *a = &r->command->arguments[i];

		if (!is_option(a) || strlen(a->name) != len || strncmp(a->name, word, len))
			continue;
		if (a->kind == ARGUMENT_FLAG && !equals)
			return set_argument(r, i, "", why, size) ? 1 : 0;
		if (a->kind == ARGUMENT_FLAG) {
			snprintf(why, size, "--%s takes no value", a->name);
			return 0;
		}
		if (!equals && count < 2) {
			snprintf(why, size, "--%s needs a value", a->name);
			return 0;
		}
		return set_argument(r, i, equals ? equals + 1 : words[1], why, size) ? equals ? 1 : 2 : 0;
	}
	refuse_option(r->command, word, why, size);
	return 0;
}

static char *join(char *const *words, size_t count)
{
	size_t len = 1;
	char *text, *at;

	for (size_t i = 0; i < count; i++)
		len += strlen(words[i]) + 1;
	at = text = malloc(len);
	if (!text)
		return NULL;
	*at = '\0';
	for (size_t i = 0; i < count; i++)
		at += sprintf(at, "%s%s", i ? " " : "", words[i]);
	return text;
}

/* As set_argument, of a text that was made for it and is freed here; NULL when there was no memory for it. */
static bool give_argument(struct request *r, int i, char *text, char *why, size_t size)
{
	bool ok = text && set_argument(r, i, text, why, size);

	if (!text)
		snprintf(why, size, "out of memory");
	free(text);
	return ok;
}

static bool take_words(struct request *r, char *const *words, size_t count, char *why, size_t size)
{
	bool only_words = false;

	for (size_t at = 0, used; at < count; at += used) {
		int i = free_word(r);

		used = 1;
		if (!only_words && strcmp(words[at], "--") == 0) {
			only_words = true;
		} else if (!only_words && strncmp(words[at], "--", 2) == 0) {
			used = take_option(r, words + at, count - at, why, size);
			if (!used)
				return false;
		} else if (i < 0) {
			snprintf(why, size, "%s: nothing known of %.80s", r->command->name, words[at]);
			return false;
		} else if (r->command->arguments[i].kind == ARGUMENT_REST) {
			return give_argument(r, i, join(words + at, count - at), why, size);
		} else if (!set_argument(r, i, words[at], why, size)) {
			return false;
		}
	}
	return true;
}

static void set_command(struct request *r, const struct command *command)
{
	r->command = command;
	r->id = (enum command_id)(command - commands);
}

bool command_parse_words(char *const *words, size_t count, struct request *out, char *why, size_t why_size)
{
	const struct command *command = count ? command_find(words[0]) : NULL;

	*out = (struct request){ 0 };
	if (!count) {
		snprintf(why, why_size, "no command");
		return false;
	}
	if (!command)
		return refuse_command(words[0], why, why_size);
	set_command(out, command);
	return take_words(out, words + 1, count - 1, why, why_size) && check_complete(out, why, why_size);
}

/* --- statements of the console --- */

/* A piece of the statement. */
struct piece {
	const char *at;
	size_t len;
	bool quoted;
	bool open; /* begins with a quote that nothing closes */
};

static const char *skip_space(const char *at, const char *end)
{
	for (;;) {
		while (at < end && isspace((unsigned char)*at))
			at++;
		if (end - at < 2 || strncmp(at, "/*", 2))
			return at;
		at = memmem(at + 2, (size_t)(end - at) - 2, "*/", 2);
		if (!at)
			return end;
		at += 2;
	}
}

/* The next word, or what is between quotes. False at the end. */
static bool next_piece(const char **at, const char *end, struct piece *out)
{
	const char *p = skip_space(*at, end), *close;

	if (p == end)
		return false;
	close = strchr("'\"`", *p) ? memchr(p + 1, *p, (size_t)(end - p) - 1) : NULL;
	if (close) {
		*out = (struct piece){ p + 1, (size_t)(close - p) - 1, true, false };
		*at = close + 1;
		return true;
	}
	*out = (struct piece){ p, 0, false, strchr("'\"`", *p) != NULL };
	if (*p == '=')
		p++;
	else
		while (p < end && !isspace((unsigned char)*p) && *p != '=')
			p++;
	out->len = (size_t)(p - out->at);
	*at = p;
	return true;
}

static bool is_word(const struct piece *piece, const char *word, size_t len)
{
	return !piece->quoted && piece->len == len && strncasecmp(piece->at, word, len) == 0;
}

/* Takes the words of `phrase` (up to `phrase_len`, parted by one `gap` each) from the statement; NULL when they are not there. */
static const char *take_phrase(const char *at, const char *end, const char *phrase, size_t phrase_len, char gap)
{
	while (phrase_len) {
		const char *space = memchr(phrase, gap, phrase_len);
		size_t len = space ? (size_t)(space - phrase) : phrase_len;
		struct piece piece;

		if (!next_piece(&at, end, &piece) || !is_word(&piece, phrase, len))
			return NULL;
		phrase += len + (space != NULL);
		phrase_len -= len + (space != NULL);
	}
	return at;
}

/* The longest phrase of a command that the statement begins with. */
static const char *match_command(const struct command *command, const char *at, const char *end, size_t *longest)
{
	const char *found = NULL;

	for (const char *phrase = command->sql; *phrase; phrase += phrase[0] == '|') {
		size_t len = strcspn(phrase, "|");
		const char *behind = take_phrase(at, end, phrase, len, ' ');

		if (behind && len > *longest) {
			found = behind;
			*longest = len;
		}
		phrase += len;
	}
	return found;
}

static const char *find_command(struct request *r, const char *at, const char *end)
{
	const char *behind = NULL;
	size_t longest = 0;

	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		const char *here = match_command(&commands[i], at, end, &longest);

		if (!here)
			continue;
		behind = here;
		set_command(r, &commands[i]);
	}
	return behind;
}

static bool set_piece(struct request *r, int i, const struct piece *piece, char *why, size_t size)
{
	if (piece->open) {
		snprintf(why, size, "a quote is not closed");
		return false;
	}
	return give_argument(r, i, strndup(piece->at, piece->len), why, size);
}

enum taken { TAKEN, TAKEN_NOT, TAKEN_BAD };

/* DRY RUN, TIMEOUT 5s, TIMEOUT = 5s; also as on a command line, --dry-run. */
static enum taken take_sql_option(struct request *r, const char **at, const char *end, char *why, size_t size)
{
	for (int i = 0; r->command->arguments[i].kind; i++) {
		const struct argument *a = &r->command->arguments[i];
		const char *behind = is_option(a) ? take_phrase(*at, end, a->name, strlen(a->name), '-') : NULL;
		char dashed[64];
		struct piece piece;

		snprintf(dashed, sizeof(dashed), "--%s", a->name);
		if (!behind && is_option(a))
			behind = take_phrase(*at, end, dashed, strlen(dashed), ' ');
		if (!behind)
			continue;
		*at = behind;
		if (a->kind == ARGUMENT_FLAG)
			return set_argument(r, i, "", why, size) ? TAKEN : TAKEN_BAD;
		if (next_piece(at, end, &piece) && (!is_word(&piece, "=", 1) || next_piece(at, end, &piece)))
			return set_piece(r, i, &piece, why, size) ? TAKEN : TAKEN_BAD;
		snprintf(why, size, "%s needs a value", a->name);
		return TAKEN_BAD;
	}
	return TAKEN_NOT;
}

static enum taken take_like(struct request *r, const char **at, const char *end, char *why, size_t size)
{
	const char *behind = take_phrase(*at, end, "LIKE", 4, ' ');
	struct piece piece;

	if (!behind || r->command->arguments[0].kind == ARGUMENT_REQUIRED)
		return TAKEN_NOT;
	*at = behind;
	if (!next_piece(at, end, &piece) || !piece.quoted) {
		snprintf(why, size, "LIKE needs a quoted pattern");
		return TAKEN_BAD;
	}
	free(r->like);
	r->like = strndup(piece.at, piece.len);
	return TAKEN;
}

static bool take_sql_word(struct request *r, const char **at, const char *end, char *why, size_t size)
{
	int i = free_word(r);
	struct piece piece;

	if (i >= 0 && r->command->arguments[i].kind == ARGUMENT_REST) {
		piece = (struct piece){ *at, (size_t)(end - *at), false, false };
		*at = end;
		return set_piece(r, i, &piece, why, size);
	}
	next_piece(at, end, &piece);
	if (i >= 0)
		return set_piece(r, i, &piece, why, size);
	snprintf(why, size, "%s: nothing known of %.*s", r->command->name, (int)(piece.len < 80 ? piece.len : 80), piece.at);
	return false;
}

static bool take_sql_arguments(struct request *r, const char *at, const char *end, char *why, size_t size)
{
	while ((at = skip_space(at, end)) < end) {
		enum taken taken = take_sql_option(r, &at, end, why, size);

		if (taken == TAKEN_NOT)
			taken = take_like(r, &at, end, why, size);
		if (taken == TAKEN_BAD || (taken == TAKEN_NOT && !take_sql_word(r, &at, end, why, size)))
			return false;
	}
	return check_complete(r, why, size);
}

bool command_parse_sql(const char *text, size_t len, struct request *out, char *why, size_t why_size)
{
	const char *end = text + len, *behind;
	struct piece first = { text, 0, false, false };
	char name[64];

	*out = (struct request){ 0 };
	while (end > text && (isspace((unsigned char)end[-1]) || end[-1] == ';'))
		end--;
	if (memchr(text, '\0', (size_t)(end - text))) {
		snprintf(why, why_size, "a zero byte is in the statement");
		return false;
	}
	behind = find_command(out, text, end);
	if (behind)
		return take_sql_arguments(out, behind, end, why, why_size);
	if (next_piece(&text, end, &first) && is_word(&first, "SHOW", 4))
		next_piece(&text, end, &first);
	snprintf(name, sizeof(name), "%.*s", (int)(first.len < 60 ? first.len : 60), first.at);
	return refuse_command(name, why, why_size);
}

/* One step back is enough: what an earlier % could take, the last one can take too. */
bool like_matches(const char *pattern, const char *text)
{
	const char *again = NULL, *again_text = NULL;

	while (*text) {
		const char *literal = *pattern == '\\' && pattern[1] ? pattern + 1 : pattern;

		if (*pattern == '%') {
			again = ++pattern;
			again_text = text;
		} else if (*pattern && (*pattern == '_' || tolower((unsigned char)*literal) == tolower((unsigned char)*text))) {
			pattern = literal + 1;
			text++;
		} else if (again) {
			pattern = again;
			text = ++again_text;
		} else {
			return false;
		}
	}
	while (*pattern == '%')
		pattern++;
	return !*pattern;
}

/* --- the manual --- */

static const char *value_name(enum argument_kind kind)
{
	switch (kind) {
	case ARGUMENT_TEXT:
		return " TEXT";
	case ARGUMENT_DURATION:
		return " TIME";
	case ARGUMENT_NUMBER:
		return " N";
	default:
		return "";
	}
}

static void argument_usage(const struct argument *a, char *out, size_t size)
{
	if (is_option(a))
		snprintf(out, size, "[--%s%s]", a->name, value_name(a->kind));
	else if (a->kind == ARGUMENT_OPTIONAL)
		snprintf(out, size, "[%s]", a->name);
	else
		snprintf(out, size, "%s", a->name);
}

void command_usage(const struct command *command, char *out, size_t size)
{
	size_t len = (size_t)snprintf(out, size, "%s", command->name);
	char one[64];

	for (int words = 1; words >= 0; words--)
		for (const struct argument *a = command->arguments; a->kind; a++) {
			if (is_option(a) == words || len >= size)
				continue;
			argument_usage(a, one, sizeof(one));
			len += (size_t)snprintf(out + len, size - len, " %s", one);
		}
}

void command_print_one(FILE *out, const struct command *command)
{
	char usage[256];

	command_usage(command, usage, sizeof(usage));
	fprintf(out, "  %s\n      %s\n", usage, command->help);
	for (const struct argument *a = command->arguments; a->kind; a++) {
		argument_usage(a, usage, sizeof(usage));
		usage[strcspn(usage, "]")] = '\0';
		fprintf(out, "      %-18s %s\n", usage + (usage[0] == '['), a->help);
	}
	fprintf(out, "      SQL: %.*s\n", (int)strcspn(command->sql, "|"), command->sql);
}

void command_print_all(FILE *out)
{
	char usage[256];

	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		command_usage(&commands[i], usage, sizeof(usage));
		fprintf(out, "  %s\n      %s\n", usage, commands[i].help);
	}
}
