/*
 * A line to one server: a blocking Connector/C connection that another thread may cut. The owner connects, asks and closes; a
 * blocked call of its ends with an error as soon as line_cut() was called.
 */
#ifndef TANDEM_CLUSTER_LINE_H
#define TANDEM_CLUSTER_LINE_H

#include <mysql.h>
#include <pthread.h>
#include <stdbool.h>

#include "proxy/settings.h"

struct line {
	MYSQL *mysql; /* NULL while closed; only the owner touches it */
	pthread_mutex_t lock;
	int fd; /* under the lock: -1 while closed. A duplicate of the connection's: the library closes its own when a call
		   * fails, and the number may be somebody else's socket a moment later */
	bool cut;	/* under the lock: line_cut() came while it was open */
	unsigned patience_s; /* set between line_init() and line_open(): no call waits longer; 0: ten seconds more than [monitor] read_timeout */
	bool logged_in; /* the last line_open() got through the login, whatever came then */
	unsigned error; /* of the last failure; 0 when there was none */
	char error_text[256];
};

void line_init(struct line *line);
/* Closes it as well. */
void line_fini(struct line *line);

/* Connects and prepares the session. False with error and error_text. */
bool line_open(struct line *line, const struct server_settings *server,
	       const struct monitor_settings *monitor) __attribute__((warn_unused_result));
void line_close(struct line *line);
/* Any thread: a call in progress fails at once. Does nothing on a closed line. */
void line_cut(struct line *line);

/* Runs a statement and stores its whole result. NULL on failure and for statements without a result. */
MYSQL_RES *line_query(struct line *line, const char *statement) __attribute__((warn_unused_result));

/* Runs one whose result does not matter. False with error and error_text. The text of the statement is wiped from memory. */
bool line_say(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3), warn_unused_result));

/* True when the last failure says nothing about the server's health: it lives, but has no room for us or refuses our account. */
bool line_error_is_limit(const struct line *line);
/* The connection itself failed, as against an error the server answered with. */
bool line_error_is_loss(const struct line *line);

/* For what went wrong on our side of a call: no number of the server's. */
void line_set_error(struct line *line, const char *text);

/* Readers of a stored row: the text or "" for SQL NULL, and numbers from it. */
const char *row_text(MYSQL_ROW row, unsigned column);
unsigned long long row_number(MYSQL_ROW row, unsigned column);
/* A column by name, first of `name` and `alternative` (may be NULL) that exists; -1 when neither does. */
int result_column(MYSQL_RES *result, const char *name, const char *alternative);

#endif
