/*
 * A turn: one command of a client, from its packet to the end of its reply. It owns a copy of the packet, so that it can wait, and be run
 * again elsewhere while nothing has been passed on. Turns come from a pool of the worker; an idle client has none.
 *
 * turn_advance() is the driver: it can be called again whenever something that the turn waits for has happened. Steps:
 *   route (which server, which connection) -> connection (attached, pooled, stolen, new) -> fit (bring it to the session's state)
 *   -> prepare (binary statements) -> send -> reply -> done
 */
#ifndef TANDEM_SESSION_TURN_H
#define TANDEM_SESSION_TURN_H

#include "proxy/session/client.h"

enum turn_wait {
	WAIT_NOTHING,
	WAIT_CONNECTION, /* in a pool's queue */
	WAIT_CONNECT,	 /* its backend is logging in */
	WAIT_FIT,	 /* its backend is being brought to the session's state, or prepares */
	WAIT_CAPTURE,	 /* a query about the session's own state is under way on one of its connections */
	WAIT_PRIMARY,	 /* there is none, or the gate is closed */
	WAIT_POSITION,	 /* parked: no replica is far enough */
	WAIT_KILL,	 /* another worker looks for the session to be killed */
	WAIT_REPLY,	 /* sent */
};

enum turn_task { /* what a turn is for */
	TASK_COMMAND, /* a client's command */
	TASK_REPLAY,  /* a recorded statement of a transaction is run again: its reply is only compared */
	TASK_VERIFY,  /* log in to a backend and select the schema, for a login */
};

enum capture_what { CAPTURE_FREEZE, CAPTURE_ASK, CAPTURE_COLLATION, CAPTURE_SETTLE, CAPTURE_END };
enum { TURN_REPORTED_MAX = 12, TURN_MAX_TRIES = 8 };

struct turn {
	TAILQ_ENTRY(turn) link; /* on the list of what it waits for */
	struct client *client;
	enum turn_task task;
	enum turn_wait wait;
	uint8_t command;
	uint8_t reply; /* enum reply_kind */
	uint8_t *packet; /* header and payload; owned, its memory stays with the pooled turn */
	size_t packet_len;
	size_t packet_size;
	const char *text; /* SQL inside the packet or the statement; NULL for commands without */
	size_t text_len;
	struct sql_meaning own;
	uint64_t reported[TURN_REPORTED_MAX]; /* variables that the tracker spoke of, see tracking_name_hash() */
	const struct sql_meaning *meaning;
	const struct rule_settings *rule; /* the one that fits, as found when it was routed last; NULL: none */
	struct named *named;	     /* EXECUTE of a text PREPARE that may run anywhere */
	struct statement *statement; /* EXECUTE, FETCH, RESET, SEND_LONG_DATA */
	struct backend *backend;     /* where it is going or gone */
	uint32_t slot;		     /* prepared there */
	bool is_read;	    /* may be run again elsewhere while nothing was passed on */
	bool on_primary;    /* must: it was refused elsewhere, or waited too long */
	bool passed;	    /* bytes of its reply have gone to the client */
	bool fitted;	    /* state changes have been answered with OK */
	bool stands_for_show; /* it answers a SHOW WARNINGS, see diagnose.c */
	bool careful;	    /* send nothing before everything in front of it is answered */
	bool no_reply;	    /* SEND_LONG_DATA, STMT_CLOSE */
	bool told_read_only; /* of a refusal that the server has listed under another number */
	bool wants_values; /* its statement may look at the session's variables or LAST_INSERT_ID() */
	bool list_saved; /* the list was frozen for it, and may have been made again: once is enough */
	bool more_parts;   /* there is more behind it in its packet, which is not sent with it: see parts.h */
	bool is_long;	   /* a command too long to be collected: its rest is an upload */
	uint8_t seq_before; /* the number of the last packet of the reply to what stood in front of it */
	uint8_t diagnosed; /* how often diagnose_begin() has looked at it */
	bool held;	    /* waits for the gate */
	bool recorded;	    /* its reply is hashed for the record of its transaction */
	bool failed;	    /* its reply was, or ended in, an ERR */
	bool failed_with_data; /* ... about a value: it had begun to run */
	bool waited_for_position; /* its time in the park is over */
	bool saw_rows;
	bool shows_timeout; /* it asks for wait_timeout, which connections to servers have at its highest */
	bool cursor_open;
	bool demoted;	    /* the primary said that it is read-only: wait for a word from the cluster */
	uint16_t warnings;
	int64_t row_count;
	uint64_t found_rows;
	struct state *aim; /* what fit.c is aiming at: the session's state, or that of a statement's prepare */
	bool retry;	    /* run it again elsewhere when the present reply has ended */
	uint8_t tries;
	uint8_t reported_count;
	uint32_t avoid;	    /* servers (by index, one bit each) that failed it */
	struct backend *captured_from;
	uint8_t capture;    /* enum capture_what: what the CAPTURE under way is for */
	void *ticket;	  /* its place in a server's queue, pool.c's */
	uint32_t pending; /* swallowed replies in front of its own */
	uint16_t fit_code; /* the error of a failed fit */
	char fit_state[6];
	char *fit_message;
	char *restore; /* a SIGNAL that makes the list of errors that it asks about; NULL: none */
	struct server_pool *pool; /* whose queue it waits in */
	uint64_t began_ms;
	uint64_t deadline_ms;
	uint64_t give_up_ms; /* waiting for a primary or a position ends here, however often it was begun */
	uint64_t again_ms;   /* to be tried again at this time; 0 not */
};

/* What the primary says where a replica speaks of its --read-only option. */
#define TURN_READ_ONLY_MESSAGE "Cannot execute statement in a READ ONLY transaction"

/* Starts a turn for a packet of `client` (which becomes BUSY). `packet` is copied. */
void turn_start(struct client *client, const uint8_t *packet, size_t len);
/* A login asks a backend whether the user and schema are good. */
void turn_start_verify(struct client *client, const char *schema);
/* A recorded statement is run again: see replay.c. `statement`: of an EXECUTE, else NULL. */
void turn_start_replay(struct client *client, const uint8_t *packet, size_t len, struct statement *statement);
void turn_advance(struct turn *turn);
/* outcome.c: the reply has gone out (or there is none): pins, tokens, the connection's future; then the client is READY. */
void turn_done(struct turn *turn);
/* Ends the turn with an ERR to the client. The client stays. */
void turn_fail(struct turn *turn, uint16_t code, const char *sqlstate, const char *format, ...)
	__attribute__((format(printf, 4, 5), cold));
/* Answers it with an OK of Tandem's own. */
void turn_ok(struct turn *turn);
/* Its connection is gone or unusable: run it again elsewhere where that is safe, else end it honestly. `held`: the connection had
 * session state that cannot be restored, so the client is ended. */
void turn_lost_backend(struct turn *turn, const char *why, uint16_t code, const char *sqlstate, const char *message,
		       bool held) __attribute__((cold));
/* Forget the connection and route again. */
void turn_reroute(struct turn *turn) __attribute__((cold));
/* Takes it off the list of what it waits for. */
void turn_unpark(struct turn *turn);
void turn_free(struct turn *turn);
/* Room for a packet of this size, what is there being kept. */
bool turn_grow(struct turn *turn, size_t size) __attribute__((warn_unused_result));
/* Case-insensitive search in its text. */
bool turn_text_has(const struct turn *turn, const char *word);
/* The same for a whole word, in lower case. */
bool turn_has_word(const struct turn *turn, const char *word);
/* Whether its statement has a cursor open after the reply. */
void turn_note_cursor(struct turn *turn);

/* refusal.c: events of its connection. */
/* A swallowed reply in front of its own has ended. */
void turn_swallowed(struct turn *turn, struct backend *backend, const struct expect *expect);
/* ... and an ERR was in it. */
void turn_swallowed_error(struct turn *turn, struct backend *backend, const struct expect *expect, const struct wire_err *err);
/* Keeps the first error for the client's ears. */
void turn_keep_error(struct turn *turn, const struct wire_err *err);
/* The rows of a CAPTURE have come. */
void turn_captured(struct turn *turn, struct backend *backend, bool failed);
/* A reply that nobody wanted has ended and the connection owes nothing. */
void turn_dropped(struct backend *backend);
/* PREPARE_OK: gives the client's own statement; NULL: the turn was ended instead. */
struct statement *turn_prepared(struct turn *turn, struct backend *backend, const struct wire_prepared *prepared);
/* An ERR as answer: true when the client is not to see it, because the statement will be asked elsewhere. */
bool turn_refused(struct turn *turn, struct backend *backend, const struct wire_err *err);
/* The refusal of a replica's read_only inside its client's own READ ONLY transaction: the primary would have said 1792. */
bool turn_in_read_only_block(const struct turn *turn, const struct backend *backend, const struct wire_err *err);
/* A command without a reply has gone out whole. */
void turn_sent(struct turn *turn);
/* An OK or the end of rows passed by. */
void turn_saw_ok(struct turn *turn, const struct wire_ok *ok, bool ends_rows, uint64_t rows);

/* kill.c: KILL of one of Tandem's own session numbers, by a turn that gets the answer. */
void kill_session(struct turn *turn, uint32_t id, bool query_only);
/* Tells the server to stop what runs on this connection. */
void kill_statement(struct backend *victim);
/* A statement is closed while its cursor or long data is on a connection. */
void statement_abandon(struct client *client, struct statement *statement);

/* diagnose.c: before a statement that asks about the last one is routed. What is known of that by value is written into it. True: it waits
 * for values, or has ended. */
bool diagnose_begin(struct turn *turn);
/* Is the question about the list of warnings and errors? */
bool diagnose_asks_list(const struct turn *turn);
/* The reply has ended: what the next such question will be about, and which connection knows it. */
void diagnose_note(struct turn *turn);
/* The connection that knows what is asked; NULL: any. */
struct backend *diagnose_where(const struct turn *turn);

/* Another text in place of the statement's own. */
bool turn_set_text(struct turn *turn, const char *text, size_t len) __attribute__((warn_unused_result));
/* Judges the changed text. */
void turn_judge_again(struct turn *turn);
/* How far the server of this connection is becomes the session's token; then the turn goes on. */
void turn_ask_position(struct turn *turn, struct backend *backend);
/* After a SET: the collation that SET NAMES and its kind have chosen is known, or asked for. True when the turn ends with the answer. */
bool turn_learn_collation(struct turn *turn);
/* The whole reply has gone out, and all is noted: its client is READY again, or at the end of its draining. */
void turn_answered(struct turn *turn);
/* The end of a login's question; code 0: all is well. */
void turn_end_verify(struct turn *turn, uint16_t code, const char *sqlstate, const char *message);

/* settle.c: variables that the statement has set and no tracker spoke of are asked for. True when the turn ends with the answer. */
bool settle_turn(struct turn *turn);
/* The answer. */
void settle_came(struct turn *turn, struct backend *backend);
/* It can no longer be known: the session stays where it is. */
void settle_give_up(struct turn *turn, struct backend *backend);
/* ask.c: a query about the session's own state; turn_captured() is called with the answer. False: it could not be sent. */
bool turn_ask(struct turn *turn, struct backend *backend, enum capture_what what, const char *query);

/* command.c: what a command is and what it needs. Returns false when it was dealt with at once. */
bool turn_understand(struct turn *turn);

/* route.c */
enum route {
	ROUTE_CONNECTION,      /* this connection of the session's */
	ROUTE_SERVER,	       /* any connection to this server */
	ROUTE_PRIMARY_MISSING, /* the primary, but there is none now */
	ROUTE_PARK,	       /* a replica, but none is far enough yet */
	ROUTE_ASK,	       /* first ask the primary how far it is: the session has read there */
	ROUTE_REFUSE,	       /* it cannot be answered truly anywhere */
};
struct route_answer {
	enum route route;
	struct backend *backend; /* ROUTE_CONNECTION, ROUTE_ASK */
	int server;		 /* ROUTE_SERVER: index in the snapshot */
	uint16_t code;		 /* ROUTE_REFUSE: the error */
	const char *why;	 /* the rule that decided, in words; static */
};
struct route_answer route_turn(struct turn *turn);
/* The facts that stored functions called by it, or by views that it reads, leave on their connection: SQL_F_OPAQUE for what only the connection knows. */
uint64_t route_function_traces(const struct turn *turn);
/* Is a statement that reads proven not to write by way of a stored function, nor caught writing before? */
bool route_only_reads(const struct turn *turn);
/* A read that the guard refused: its digest is a write from now on. */
void route_learn_write(uint64_t digest);

/* fit.c */
enum fit {
	FIT_READY,   /* nothing to do, or everything has been answered, or is pipelined in front of a read */
	FIT_WAITING, /* answers must come first */
	FIT_FAILED,  /* could not be sent */
};
/* Sends what brings turn->backend to its session's state, and prepares the statement there if there is one. */
enum fit fit_backend(struct turn *turn);
/* Has the schema of this connection been made anew, or changed, since it chose it? Then it chooses it again before it is used. */
bool fit_is_anew(const struct backend *backend);
/* A slot for a statement that is to be prepared on the connection; what has to give way for it is closed on the server. PREPARED_NONE: no
 * memory. */
uint32_t fit_prepare_slot(struct backend *backend, const uint64_t key[2]);
/* The server has reached max_prepared_stmt_count: keep fewer, and close some now. */
void fit_too_many_prepared(struct backend *backend);
/* Makes the connection's wait_timeout the longest again. */
void fit_hide_timeout(struct backend *backend);
/* COM_STMT_CLOSE of a server's number. */
void fit_close_prepared(struct backend *backend, uint32_t id);
/* Reads row `index` of a captured result (text protocol, after `columns` definitions): the values of its columns. False at the end. */
struct captured_row {
	struct wire_bytes columns[4]; /* data NULL: SQL NULL */
	unsigned count;
};
/* The next packet of a captured result. */
bool captured_packet(struct wire_reader *at, struct wire_bytes *payload);
bool captured_first(struct buf *captured, struct wire_reader *at, unsigned *columns);
enum captured_answer { CAPTURED_UNCLEAR, CAPTURED_ONE, CAPTURED_OTHER };
enum captured_answer captured_one(struct buf *captured, bool binary);
bool captured_next(struct wire_reader *at, unsigned columns, struct captured_row *row);

#endif
