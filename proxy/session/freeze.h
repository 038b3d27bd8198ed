/*
 * What a session has on one connection alone, turned into values so that somebody else can have the connection, or so that the session
 * can go on with them on another one: its user variables, LAST_INSERT_ID(), FOUND_ROWS(), and the list of warnings and errors of its last
 * statement.
 */
#ifndef TANDEM_SESSION_FREEZE_H
#define TANDEM_SESSION_FREEZE_H

#include "proxy/session/client.h"

struct turn;

/* The list of a session whose connection has been taken away. */
struct frozen_list {
	uint32_t rows;	   /* of SHOW WARNINGS, which max_error_count limits */
	uint64_t warnings; /* @@warning_count */
	uint64_t errors;   /* @@error_count */
	struct buf shown;  /* the answer to SHOW WARNINGS: definitions and rows, as packets with headers; empty when not known */
	bool is_error;	   /* of the first row */
	uint16_t code;
	char state[6];
	char *message;
	char charset[32];  /* of the messages: they came in that of the results, which the session may have changed since */
	char results[112]; /* that and its collation, to be compared: definitions show it */
};

/* Does the session lose something that is not known by value when this connection is taken away? */
bool freeze_needed(const struct client *client, const struct backend *backend);
/* Sends the questions, unless they are under way; backend->freezing until all answers are in. False when they could not be sent. */
bool freeze_begin(struct backend *backend);
/* The answer to one of them has come. After the last one whoever wants the connection gets it, or the turn that has waited goes on. When
 * something could not be turned into a value, the session keeps its connection (client->uvars_fixed). */
void freeze_reply(struct backend *backend, const struct expect *expect);
/* Frees what an unfinished one has collected. */
void freeze_end(struct backend *backend);

/* One error that is known without asking, as the client was told. */
void freeze_error(struct client *client, uint16_t code, const char *sqlstate, const char *message);
void freeze_forget_list(struct client *client);
/* The statement that makes the session's frozen list the list of a connection: a SIGNAL, in memory of the caller's to free. NULL when there
 * is none: servers offer a way to set one error or one warning, and none for a note or for several. */
char *freeze_signal(const struct client *client);
/* What a result looks like for a session in this state: frozen_list.results. */
void freeze_results(const struct state *value, const struct snapshot *snapshot, char *out, size_t size);

/* The turn goes on when the values of this connection of its session's have been asked for. Returns true. */
bool freeze_wait(struct turn *turn, struct backend *backend);
/* Values that the turn's statement may need on its connection are fetched from another of the session's. True: the turn waits, or has ended. */
bool freeze_bring(struct turn *turn);

#endif
