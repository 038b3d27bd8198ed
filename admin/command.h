/*
 * The one table of commands: what each is called, what it takes, what it does. All faces read it: tandemctl's words, the SQL console's
 * statements, later REST. Pure: no daemon is needed to know a command or to refuse a bad one; who carries them out is handlers.c.
 */
#ifndef TANDEM_ADMIN_COMMAND_H
#define TANDEM_ADMIN_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum command_id {
	COMMAND_STATUS,
	COMMAND_SERVERS,
	COMMAND_SESSIONS,
	COMMAND_PROMOTE,
	COMMAND_FAILOVER,
	COMMAND_REJOIN,
	COMMAND_DRAIN,
	COMMAND_RESUME,
	COMMAND_EXPLAIN,
	COMMAND_RELOAD,
	COMMAND_EVENTS,
	COMMAND_DIGESTS,
	COMMAND_UPSTREAMS,
	COMMAND_UPSTREAM,
	COMMAND_HELP,
	COMMAND_COUNT,
};

enum argument_kind {
	ARGUMENT_NONE,	   /* the end of a list of arguments */
	ARGUMENT_REQUIRED, /* a word */
	ARGUMENT_OPTIONAL, /* a word that may be left out */
	ARGUMENT_REST,	   /* all words that are left, as one text; required */
	ARGUMENT_FLAG,	   /* --name */
	ARGUMENT_TEXT,	   /* --name TEXT */
	ARGUMENT_DURATION, /* --name TIME: a whole number and ms, s or min; kept in milliseconds */
	ARGUMENT_NUMBER,   /* --name N */
};

struct argument {
	const char *name; /* "dry-run"; of a word: what it is called in the manual, "SERVER" */
	enum argument_kind kind;
	const char *help;
};

enum { COMMAND_ARGUMENTS = 6 };

struct command {
	const char *name;
	const char *sql; /* statements of the SQL console that mean it, separated by '|', the usual one first */
	const char *help;
	struct argument arguments[COMMAND_ARGUMENTS + 1];
};

extern const struct command commands[COMMAND_COUNT];

/* A command and its arguments: a plain value. */
struct request {
	enum command_id id;
	const struct command *command;
	char *texts[COMMAND_ARGUMENTS];	     /* in the order of the table; NULL: not given. Of numbers and durations as given */
	uint64_t numbers[COMMAND_ARGUMENTS]; /* of numbers and durations; of a flag 1 */
	char *like; /* SHOW ... LIKE 'pattern'; NULL */
};

/* Each fills `out`, which the caller empties with request_fini() whatever the result, or says why not, in one line. */
bool command_parse_words(char *const *words, size_t count, struct request *out, char *why, size_t why_size);
/* A statement of the console: "PROMOTE db2 DRY RUN", "SHOW SERVERS LIKE 'db%'". */
bool command_parse_sql(const char *text, size_t len, struct request *out, char *why, size_t why_size);
void request_fini(struct request *request);

/* By the name in the table. NULL and 0 when not given. */
const char *request_text(const struct request *request, const char *name);
uint64_t request_number(const struct request *request, const char *name);
bool request_has(const struct request *request, const char *name);

const struct command *command_find(const char *name);
const char *command_nearest(const char *name);

/* The manual: all commands, or one. */
void command_print_all(FILE *out);
void command_print_one(FILE *out, const struct command *command);
/* "promote SERVER [--dry-run] ...", cut at size - 1. */
void command_usage(const struct command *command, char *out, size_t size);

/* SQL's LIKE without regard to case: % is any text, _ any character, a backslash takes the next one as it is. */
bool like_matches(const char *pattern, const char *text);

#endif
