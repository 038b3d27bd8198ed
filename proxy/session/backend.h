/*
 * One connection to a server: connect, TLS, login, set-up, and from then on a queue of what the server owes on it. A backend belongs to
 * one worker at a time; it is attached to a session, or free in its pool.
 *
 *   CONNECTING --io ready--> LOGIN --OK--> SETUP --OK of the set-up--> READY <--> BUSY
 *   READY --its place is wanted--> LEAVING --closed by the server--> DEAD
 *        any --failure, retirement--> DEAD (on pool->gone until its place at the limit is given back, then freed)
 */
#ifndef TANDEM_SESSION_BACKEND_H
#define TANDEM_SESSION_BACKEND_H

#include <sys/queue.h>

#include "base/io.h"
#include "base/log.h"
#include "proxy/session/credentials.h"
#include "proxy/session/state.h"
#include "proxy/session/statement.h"
#include "proxy/wire/handshake.h"
#include "proxy/wire/reply.h"

TAILQ_HEAD(backend_list, backend);

struct client;
struct server_pool;
struct worker;

enum backend_state {
	BACKEND_CONNECTING, /* TCP (or Unix) connect under way */
	BACKEND_LOGIN,	    /* greeting, TLS, authentication */
	BACKEND_SETUP,	    /* logged in; tracking and the replica guard being set */
	BACKEND_READY,	    /* owes nothing: free in the pool, or resting with its session */
	BACKEND_BUSY,	    /* owes at least one reply */
	BACKEND_LEAVING,    /* said good-bye; its place at the limit is free when the server has closed it */
	BACKEND_DEAD,	    /* on the graveyard */
};

/* What to do with the next reply. */
enum expect_what {
	EXPECT_FORWARD, /* pass it to the session's client */
	EXPECT_DROP,	/* its turn gave up on it: read and forget */
	EXPECT_SETUP,	/* after login */
	EXPECT_FIT,	/* a state change for the turn; ERR: the fit failed */
	EXPECT_PREPARE, /* a prepare for the turn: note the id */
	EXPECT_PROBE,	/* after an ERR: only its flags and tracking matter */
	EXPECT_CAPTURE, /* rows are kept in `captured`, then handed to the turn */
	EXPECT_FREEZE,	/* the same for freeze.c; `slot` says which part */
	EXPECT_RESTORE, /* for the turn: a SIGNAL that makes a list of errors. It answers ERR */
	EXPECT_CLEAN,	/* a leaving session's connection is being reset; then it is free */
};

struct expect {
	uint8_t what;  /* enum expect_what */
	uint8_t reply; /* enum reply_kind */
	bool failed;   /* an ERR came */
	uint32_t slot; /* EXPECT_PREPARE: the entry of the statement cache; EXPECT_FREEZE: the part */
};

struct backend {
	struct log_subject subject;
	struct io io;
	struct worker *worker;
	struct server_pool *pool;
	struct server *server; /* holds a reference */
	const char *server_name;
	enum backend_state state;
	TAILQ_ENTRY(backend) link; /* on the pool's list that its state says */
	struct backend_list *list;
	uint32_t session;	       /* id of the session that used it last; 0 none */
	uint8_t scramble[20];	       /* of its greeting: COM_CHANGE_USER wants it again */
	struct client *client;	       /* attached to; NULL: free or being cleaned */
	struct backend *next_attached; /* of the same client */
	struct credentials *credentials;
	uint64_t kind;		/* the client capabilities that change what the server does; see backend_kind() */
	uint64_t capabilities;	/* agreed with the server */
	uint32_t connection_id; /* the server's */
	uint64_t epoch;		/* of the server when this was made: older than the view's, it is stale */
	uint32_t grants;	/* shared->grants when it logged in */
	uint32_t schema_seen;	/* shared_schema() when it chose its schema */
	_Atomic uint32_t *schema_slot; /* NULL: none chosen by Tandem */
	struct state *value;	/* the state the connection is in; known exactly while !broken */
	uint8_t charset;	/* collation number of its login: MariaDB's COM_RESET_CONNECTION goes back to it */
	bool is_replica;	/* the guard is set */
	bool multi_statements;
	bool has_uvars;	   /* user variables of its session may be set on it */
	bool has_last_id;  /* LAST_INSERT_ID() may be other than 0 */
	bool used;	   /* ran a statement since the last reset: diagnostics are its session's */
	bool tainted;	   /* its last session left something behind: reset before another uses it */
	bool shows_timeout; /* its wait_timeout is what its session believes it to be, not the longest there is */
	bool has_diagnostics; /* warnings or errors of a statement may still be listed on it */
	uint64_t awaits; /* that of its state when it was made or reset last: it may share one with a session since */
	bool freezing;	   /* its session's values are being asked for, see freeze.c */
	bool in_use;	   /* counted in its pool's `in_use` */
	bool retire;	   /* close it as soon as it is free */
	bool guard_lost;   /* a replica's: somebody made it writable */
	bool broken;	   /* a state change failed: not to be used for anything else */
	uint64_t gone_ms;  /* DEAD: when it was closed */
	char *errand;	   /* a statement that it was made for; it is closed behind it */
	uint16_t status;   /* flags of its last OK or EOF */
	struct expect *queue;
	uint16_t queue_head, queue_count, queue_size;
	struct wire_walker walker;
	bool walking;
	size_t unwanted; /* LEAVING: bytes read and forgotten */
	struct buf in; /* pieces of login packets, and captured rows */
	struct buf captured;
	struct freeze *freeze;
	struct statement_cache statements;
	uint64_t since_ms; /* connecting: began; free: free since */
	struct login_exchange *login; /* only until SETUP */
};

/* The client capabilities that the server must know about, so that connections are interchangeable only within one kind. */
uint64_t backend_kind(uint64_t client_capabilities);

/* Starts a connection; the pool has already counted it. NULL (with *why) when no socket can be had. */
struct backend *backend_open(struct server_pool *pool, struct credentials *credentials, uint64_t kind, uint8_t charset, bool multi,
			     const char **why);
/* Ends it for the reason given: takes it off its lists and its session. The place at the server's limit is given back a moment later (see
 * pool_bury()), then it is freed. What its session makes of the loss is not decided here. */
void backend_close(struct backend *backend, const char *why) __attribute__((cold));

/* Ends it in good order, with what it still runs: the place at the limit is given back only when the server, too, counts it no more. */
void backend_leave(struct backend *backend, const char *why);
/* The connection failed: as backend_close(), and its session is told. `code` 0: no packet said why. */
void backend_lost(struct backend *backend, const char *why, uint16_t code, const char *sqlstate, const char *message)
	__attribute__((cold));
void backend_free(struct backend *backend);
/* Puts it on the list that its state and its session say. */
void backend_relist(struct backend *backend);

/* Adds an expectation. The bytes are sent by the caller, in the same order. */
void backend_expect(struct backend *backend, enum expect_what what, enum reply_kind reply, uint32_t slot);
/* Sends one packet with sequence 0 made of a command byte and text, and expects a reply to it. */
bool backend_command(struct backend *backend, enum expect_what what, uint8_t command, const void *text, size_t len);
/* Writes to the debug log what goes to the server or comes from it; in checked builds only, since statements may hold passwords. */
#ifdef TANDEM_CHECKED
#define backend_trace(backend, ...) log_debug(&(backend)->subject, __VA_ARGS__)
#else
#define backend_trace(backend, ...) ((void)0)
#endif
/* COM_RESET_CONNECTION and the set-up, pipelined; all replies swallowed as `what`. Afterwards the connection is as after login, but for
 * its schema and role. */
bool backend_reset(struct backend *backend, enum expect_what what);
/* The last expectation of the queue; NULL when empty. */
struct expect *backend_last_expect(struct backend *backend);
/* Sends the set-up query. */
bool backend_set_up(struct backend *backend, enum expect_what what);
/* The value of the state right after login or reset. */
struct state *backend_fresh_value(const struct backend *backend, const char *schema);
void backend_set_state(struct backend *backend, enum backend_state state);
/* Adopts a new state value. */
void backend_set_value(struct backend *backend, struct state *value);

/* Moves between workers: the old worker detaches it (READY, free), the new one adopts it. */
void backend_detach(struct backend *backend);
bool backend_adopt(struct backend *backend, struct server_pool *pool);

/* The set-up query text for a server: tracking, idle time, guard. */
size_t backend_setup_text(const struct backend *backend, char *out, size_t size);

/* login.c of the backend side: bytes that arrive before READY. */
bool backend_login_start(struct backend *backend);
/* COM_CHANGE_USER to the same user: the only way back to no schema and to the default role. Goes through LOGIN and SETUP again. */
bool backend_login_again(struct backend *backend);
void backend_login_bytes(struct backend *backend, uint8_t *bytes, size_t len);
void backend_login_tls_ready(struct backend *backend);
void backend_login_free(struct backend *backend);

/* reply.c: bytes that arrive from READY on. */
void backend_reply_bytes(struct backend *backend, uint8_t *bytes, size_t len);

#endif
