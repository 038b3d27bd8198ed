/*
 * One client, from accept to close, on one worker.
 *
 *   GREETED --TLS request--> TLS --handshake--> GREETED' ; login packet --> LOGIN --account, proof, backend's word--> READY
 *   READY --a whole command--> BUSY --its reply has gone out--> READY
 *   any --client_close()--> CLOSED (freed at the end of the loop turn)
 */
#ifndef TANDEM_SESSION_CLIENT_H
#define TANDEM_SESSION_CLIENT_H

#include <sys/queue.h>

#include "base/io.h"
#include "base/log.h"
#include "proxy/session/backend.h"
#include "proxy/session/credentials.h"
#include "proxy/session/oneshot.h"
#include "proxy/session/state.h"
#include "proxy/session/statement.h"

struct frozen_list;
struct named;
struct parts;
struct turn;
struct worker;
struct login;

enum client_state {
	CLIENT_LOGIN,	/* greeting sent; `login` holds how far it is */
	CLIENT_READY,	/* logged in, nothing in flight */
	CLIENT_BUSY,	/* a command in flight: `turn` */
	CLIENT_CLOSING, /* a last packet is draining */
	CLIENT_CLOSED,	/* on the graveyard */
};

/* Reasons why its statements stay on one connection, counted. All on the primary. */
struct pins {
	uint16_t temp_tables; /* names in `temp` */
	uint16_t locks;	      /* GET_LOCK statements not released by RELEASE_ALL_LOCKS */
	uint16_t handlers;
	uint16_t named;	      /* text PREPARE statements */
	uint16_t cursors;     /* binary statements with an open cursor or long data; these may be on a replica */
	bool tables;	      /* LOCK TABLES, FLUSH TABLES WITH READ LOCK */
	bool backup;
	bool xa;
	bool sequence;	      /* LASTVAL */
	bool profiling;
	bool untracked;	      /* SET timestamp and its kind */
	bool opaque;	      /* a CALL or the like whose effects cannot be known */
	struct oneshot oneshot;
	uint64_t *temp;	      /* hashes of schema.table */
	uint16_t temp_size;
};

/* Bytes on their way that are not commands: the rest of a long command, or the file of a LOCAL INFILE. */
struct upload {
	uint8_t header[4];
	uint8_t have;	    /* header bytes */
	uint32_t left;	    /* payload bytes of the current packet */
	uint8_t seq_shift;  /* subtracted from each packet's number */
	uint8_t last_seq;   /* of the last packet passed */
	bool infile;	    /* ends with an empty packet; else with one shorter than 16 MiB - 1 */
	bool active;
	bool full;	    /* the current packet is one of 16 MiB - 1 */
	bool skip;	    /* nobody wants it any more: read and forget */
};

struct client {
	struct log_subject subject;
	struct io io;
	struct worker *worker;
	struct turn *turn;
	enum client_state state;
	uint32_t id;
	uint64_t capabilities;
	struct credentials *credentials;
	struct state *value;
	struct sql_context sql;
	uint64_t active_ms;
	struct buf in; /* bytes received and not yet taken */
	uint16_t status; /* as last told to the client */
	uint8_t charset; /* collation number of its login */
	bool multi_statements;
	bool pumping;
	bool draining; /* closes at its next statement boundary */
	uint8_t leaving; /* goes to another worker at its next statement boundary; placement.c's */
	bool paused;   /* its socket is not read: its partner or its own queue is full */
	bool has_uvars;		/* it has set user variables */
	bool uvars_fixed;	/* its user variables cannot be written down: its connection is not stolen */
	bool last_id_lost;	/* ... and the connection that knew it is gone */
	bool has_last_id;	/* LAST_INSERT_ID() is not 0 or not known to be */
	bool collation_unknown; /* SET NAMES may have set a collation that no tracker reports */
	bool token_unknown;	/* it read on the primary: what it has seen may be newer than its token */
	bool last_gone;		/* the connection that ran its last statement was taken away, or has run one of Tandem's own since */
	bool found_rows_there;	/* FOUND_ROWS() is known to the connection `found_at` only */
	bool diag_open;		/* the last warnings or errors are still listed, at `diag_at` or in `list` */
	bool asks_binary;	/* it has prepared a question about its last statement, into which no values can be written */
	bool is_serializable;	/* by its isolation level */
	bool finds_last;	/* sql_auto_is_null: "WHERE id IS NULL" finds the row just inserted, once */
	bool reads_stay;	/* on the primary: its settings make reads ask about the statement before, or its schema is a server's */
	bool wrote;		/* its open transaction, or else its last statement on the primary, may have written; see gate.c */
	bool moving;		/* its transaction was lost, or it has a connection to an old primary: see move.c */
	uint8_t gate_share;	/* what it has in the way of a promotion; gate.c's */
	bool is_from_afar;	/* its address came in a PROXY header from another machine: a loopback one is that machine's */
	bool is_read_only;	/* its transactions are READ ONLY unless they say otherwise */
	struct backend *attached; /* linked by next_attached, at most one a server */
	struct backend *trx;	  /* a transaction is open there */
	struct backend *last;	  /* ran its last statement */
	struct backend *found_at; /* see found_rows_there */
	struct backend *diag_at;  /* whose list of warnings and errors is the session's; NULL: the list is frozen, or empty */
	struct backend *probe;	  /* an ERR left its flags and tracking unknown */
	struct backend *uvars_at; /* its user variables live there; NULL: in `uvars`, or none */
	struct backend *last_id_at;
	struct backend *cursor_at; /* where its cursors and long data are */
	char *uvars;		   /* frozen: "SET @`a`=1,@`b`=_utf8mb4 x'78' COLLATE ..."; kept while they are not changed */
	int64_t row_count;	   /* ROW_COUNT() and FOUND_ROWS() of its last statement */
	uint64_t found_rows;
	struct pins *pins;	   /* NULL: none ever */
	struct backend *pinned;	   /* the connection the pins are about; NULL: none held */
	const struct server *read_at; /* the replica it read on last, how far that was not being known; NULL: none since. Compared, never looked into */
	struct gtid_set *seen;	   /* this session's own token beyond its account's; NULL: none */
	struct parts *parts;	   /* the statements of a packet that run one by one; NULL: none, as nearly always */
	struct replay *replay;	   /* what its open transaction has said so far; NULL: none is open, or nothing is known of it */
	struct upload upload;
	/* From here on what most statements do not look at. */
	TAILQ_ENTRY(client) link;
	TAILQ_ENTRY(client) leave_link;
	char *host; /* numeric address, or "localhost" for a Unix socket */
	uint16_t port;
	struct login *login;	/* until READY, and during COM_CHANGE_USER */
	uint8_t scramble[20];	/* the last one sent: a proof in COM_CHANGE_USER is made for it */
	uint64_t awaits;	   /* of the state that it began with, see there: its present one may be shared with others */
	uint64_t last_id;	   /* frozen LAST_INSERT_ID() */
	struct statement_table statements;
	struct named *named; /* text PREPAREs */
	struct server *answered; /* ran its last statement on a connection that it no longer has; a reference. NULL: see `last`, or none yet */
	struct frozen_list *list;  /* the warnings and errors of its last statement; NULL: see diag_at */
	uint16_t error_code;	   /* the last error that it was told, */
	char error_state[6];	   /* and its SQLSTATE, which lists do not show */
	uint32_t wait_timeout_s;  /* as it has set it; 0: never */
	uint64_t wait_timeout_ms; /* after which it is closed; 0: none */
};

/* Takes over an accepted, non-blocking socket. NULL when memory ran out (the socket is then closed). */
struct client *client_new(struct worker *worker, int fd, const char *host, uint16_t port);
/* Ends it: connections go back to their pools, the object is freed at the end of the loop turn. One reason for the log. */
void client_close(struct client *client, const char *why) __attribute__((cold));
/* Sends ERR and closes when it has drained. */
void client_fatal(struct client *client, uint16_t code, const char *sqlstate, const char *message) __attribute__((cold));
/* The same with a sequence number of the caller's choice, and the ERR alone. */
void client_fatal_seq(struct client *client, uint16_t code, const char *sqlstate, const char *message, uint8_t seq);
void client_send_error(struct client *client, uint16_t code, const char *sqlstate, const char *message, uint8_t seq);
void client_free(struct client *client);
/* It goes to another worker: off this one's lists and loop. It has no connection, and nothing is on its way to or from it. */
void client_depart(struct client *client);
/* The other worker has it; its values are still told as in the snapshot that it comes from. */
void client_arrive(struct client *client, struct worker *worker);
/* ... and now as in the worker's: it goes on there. */
void client_settle_in(struct client *client);

/* Takes commands from what has been received, as long as none is in flight. */
void client_pump(struct client *client);
void client_set_state(struct client *client, enum client_state state);
void client_set_value(struct client *client, struct state *value);
/* What follows from its value and the snapshot is worked out again. */
void client_digest_value(struct client *client);
/* Stops and restarts receiving. */
void client_pause(struct client *client);
void client_resume(struct client *client);

/* An ERR left the flags and tracking of client->probe unknown: a statement that changes nothing makes the server tell. */
bool client_send_probe(struct client *client);

/* Connections. */
struct backend *client_backend_at(const struct client *client, const struct server_pool *pool);
void client_attach(struct client *client, struct backend *backend);
/* The session forgets it; the connection itself is the pool's matter. */
void client_detach(struct client *client, struct backend *backend);
/* A statement of Tandem's own runs on this connection: ROW_COUNT() and FOUND_ROWS() are known by value only from here on. */
void client_forget_diagnostics(struct client *client, const struct backend *backend);
/* Gives all of them back, cleaned where they must be. */
void client_release_all(struct client *client);
/* A connection that it had rested on was lost: what it cannot do without ends it, the rest is forgotten. True when it was ended. */
bool client_lost_backend(struct client *client, struct backend *backend, const char *why);

/* The connection holds something of the session that its statements want there: transaction, pins, values not frozen. */
bool client_needs_backend(const struct client *client, const struct backend *backend);
/* ... and that cannot be restored elsewhere. */
bool client_dies_with(const struct client *client, const struct backend *backend);

/* pins.c */
bool client_is_pinned(const struct client *client);
/* ... by what only that connection knows: when it is gone, so is the session. */
bool client_is_stuck(const struct client *client);
/* SET TRANSACTION has to be said again, on the connection of the next statement. */
static inline bool client_awaits_oneshot(const struct client *client)
{
	return client->pins && client->pins->oneshot.set && !client->pinned;
}
bool client_pins_all(const struct client *client);    /* even reads stay on the pinned connection */
/* What a statement that succeeded on `backend` did to the pins. */
void client_note_statement(struct client *client, struct backend *backend, const struct sql_meaning *meaning, const char *text,
			   size_t len);
/* So many user locks more (or fewer) are held. Comes before client_note_statement(). */
void client_note_lock(struct client *client, struct backend *backend, int change);
void client_pins_clear(struct client *client);
/* As it was before a transaction that is run again. */
void client_set_oneshot(struct client *client, const struct oneshot *oneshot);

/* login.c: the client's side of a login. */
bool login_start(struct client *client);
void login_bytes(struct client *client);
void login_tls_ready(struct client *client);
void login_change_user(struct client *client, const uint8_t *payload, size_t len);
/* The turn that asked a backend about the schema has its answer (code 0: fine). */
void login_verified(struct client *client, uint16_t code, const char *sqlstate, const char *message);
/* A new snapshot: the account may be there now. */
void login_recheck(struct client *client);
/* Deadlines of a login under way. */
void login_tick(struct client *client, uint64_t now_ms);
void login_free(struct client *client);
/* Everything that the session was is over: COM_CHANGE_USER, COM_RESET_CONNECTION. */
void client_forget_session(struct client *client);

#endif
