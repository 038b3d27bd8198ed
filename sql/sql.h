/*
 * SQL text -> meaning. One pass over the bytes of a packet: what kind of statement it is, where it may run, what it does to the
 * connection that runs it, and its digest. No I/O, no allocation, no state between calls.
 *
 * The judgement is made for routing: when in doubt a statement is a write (SQL_TO_PRIMARY). It never says that a statement is
 * valid.
 */
#ifndef TANDEM_SQL_SQL_H
#define TANDEM_SQL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How multi-byte characters of character_set_client hide bytes such as 0x5c and 0x27. */
enum sql_charset {
	SQL_CHARSET_SAFE, /* ASCII bytes mean themselves: utf8, latin1, ... */
	SQL_CHARSET_GBK,  /* lead bytes 0x81..0xfe, trail 0x40..0xfe; gb2312 is safe */
	SQL_CHARSET_BIG5,
	SQL_CHARSET_SJIS, /* and cp932 */
	SQL_CHARSET_GB18030,
};
/* From a character set or collation name ("gbk", "big5_chinese_ci"). */
enum sql_charset sql_charset_of(const char *name, size_t len);

/* Does this schema describe the server one is talking to (mysql, performance_schema, sys, information_schema ...)? While one is the
 * default schema, unqualified names mean its tables, so reads belong to the primary. */
bool sql_is_server_schema(const char *name, size_t len);

enum sql_flavour { SQL_MARIADB, SQL_MYSQL };

struct sql_context {
	enum sql_flavour flavour;
	uint32_t version; /* of the server: 101108 for 10.11.8; decides which version comments are code */
	enum sql_charset charset;
	bool ansi_quotes;	   /* sql_mode */
	bool no_backslash_escapes; /* sql_mode */
	bool oracle;		   /* sql_mode */
	bool utf8;		   /* character_set_client is UTF-8, where the byte 0xa0 is a part of letters and no space */
	bool multi_statements;	   /* CLIENT_MULTI_STATEMENTS: a ';' may start another statement */
};

/* Where it may run: DESIGN.md section 3. */
enum sql_target {
	SQL_TO_REPLICA, /* a read: any server that satisfies the causal rule */
	SQL_TO_PRIMARY,
	SQL_TO_HELD, /* SET, USE, PREPARE ...: the connection the session holds, else the primary's, else a replica's */
	SQL_TO_LAST, /* asks about the last statement: the connection that ran it */
	SQL_TO_ROLE, /* CONNECTION_ID(): the session's primary connection. Same as primary, but not a write */
};

enum sql_verb {
	SQL_EMPTY, /* only comments or nothing */
	SQL_SELECT, /* also VALUES, TABLE, WITH ... SELECT, parenthesised */
	SQL_EXPLAIN,
	SQL_SHOW,
	SQL_INSERT,
	SQL_REPLACE,
	SQL_UPDATE,
	SQL_DELETE,
	SQL_LOAD,
	SQL_CALL,
	SQL_DO,
	SQL_SET,
	SQL_USE,
	SQL_BEGIN,
	SQL_COMMIT,
	SQL_ROLLBACK,
	SQL_SAVEPOINT, /* also ROLLBACK TO, RELEASE SAVEPOINT */
	SQL_XA,
	SQL_LOCK_TABLES,
	SQL_UNLOCK_TABLES,
	SQL_HANDLER,
	SQL_PREPARE,
	SQL_EXECUTE,
	SQL_EXECUTE_IMMEDIATE,
	SQL_DEALLOCATE,
	SQL_KILL,
	SQL_CREATE,
	SQL_ALTER,
	SQL_DROP,
	SQL_TRUNCATE,
	SQL_RENAME,
	SQL_GRANT, /* also REVOKE, CREATE/DROP/ALTER USER, SET PASSWORD, CREATE ROLE ... */
	SQL_ADMIN, /* ANALYZE, OPTIMIZE, REPAIR, CHECK, FLUSH, RESET, PURGE, INSTALL, SHUTDOWN, CHANGE MASTER, BACKUP ... */
	SQL_DIAGNOSTICS, /* GET DIAGNOSTICS */
	SQL_SIGNAL,
	SQL_COMPOUND, /* BEGIN NOT ATOMIC, IF ... in sql */
	SQL_HELP,
	SQL_OTHER, /* not known: the primary */
};

/* Side facts. */
#define SQL_F_OPENS_TRX (UINT64_C(1) << 0)	   /* BEGIN, START TRANSACTION, XA START; COMMIT AND CHAIN */
#define SQL_F_ENDS_TRX (UINT64_C(1) << 1)	   /* COMMIT, ROLLBACK, statements with an implicit commit */
#define SQL_F_TRX_READ_ONLY (UINT64_C(1) << 2)	   /* START TRANSACTION READ ONLY */
#define SQL_F_TRX_READ_WRITE (UINT64_C(1) << 3)	   /* START TRANSACTION READ WRITE */
#define SQL_F_ONESHOT (UINT64_C(1) << 4)	   /* SET TRANSACTION without GLOBAL or SESSION: for the next transaction */
#define SQL_F_ONESHOT_READ_ONLY (UINT64_C(1) << 5) /* ... READ ONLY */
#define SQL_F_READS_UVAR (UINT64_C(1) << 6)	   /* @name is mentioned */
#define SQL_F_SETS_UVAR (UINT64_C(1) << 7)	   /* SET @name, @name :=, INTO @name, and anything that may */
#define SQL_F_READS_LAST_ID (UINT64_C(1) << 8)	   /* LAST_INSERT_ID(), @@identity, @@last_insert_id */
#define SQL_F_READS_LAST (UINT64_C(1) << 9)	   /* ROW_COUNT(), FOUND_ROWS(), SHOW WARNINGS/ERRORS, @@warning_count,
						    * @@error_count, GET DIAGNOSTICS */
#define SQL_F_CALC_FOUND_ROWS (UINT64_C(1) << 10)
#define SQL_F_SETS_LAST_ID (UINT64_C(1) << 11) /* LAST_INSERT_ID(expr), SET last_insert_id/insert_id */
#define SQL_F_CREATES_TEMP (UINT64_C(1) << 12)
#define SQL_F_DROPS_TABLE (UINT64_C(1) << 13) /* DROP [TEMPORARY] TABLE: a temporary one may go */
#define SQL_F_GET_LOCK (UINT64_C(1) << 14)
#define SQL_F_RELEASE_LOCK (UINT64_C(1) << 15)
#define SQL_F_RELEASE_ALL_LOCKS (UINT64_C(1) << 16)
#define SQL_F_FLUSH_LOCK (UINT64_C(1) << 17)   /* FLUSH TABLES ... WITH READ LOCK / FOR EXPORT */
#define SQL_F_BACKUP_STAGE (UINT64_C(1) << 18) /* BACKUP STAGE / BACKUP LOCK */
#define SQL_F_BACKUP_END (UINT64_C(1) << 19)   /* BACKUP STAGE END / BACKUP UNLOCK */
#define SQL_F_HANDLER_OPEN (UINT64_C(1) << 20)
#define SQL_F_HANDLER_CLOSE (UINT64_C(1) << 21)
#define SQL_F_XA_OPEN (UINT64_C(1) << 22)      /* XA START .. PREPARE */
#define SQL_F_XA_CLOSE (UINT64_C(1) << 23)     /* XA COMMIT, XA ROLLBACK */
#define SQL_F_SEQUENCE (UINT64_C(1) << 24)     /* NEXTVAL, LASTVAL, SETVAL, NEXT VALUE FOR, s.nextval */
#define SQL_F_PROFILING (UINT64_C(1) << 25)    /* SET profiling, SHOW PROFILE */
#define SQL_F_UNTRACKED (UINT64_C(1) << 26)    /* SET timestamp, insert_id, rand_seed1, pseudo_*: state no tracker reports */
#define SQL_F_UNTRACKED_RESET (UINT64_C(1) << 27) /* SET timestamp = DEFAULT (and nothing else untracked) */
#define SQL_F_SETS_ROLE (UINT64_C(1) << 28)
#define SQL_F_SETS_GLOBAL (UINT64_C(1) << 29)
#define SQL_F_SETS_SESSION (UINT64_C(1) << 30) /* a session variable, NAMES, CHARACTER SET */
#define SQL_F_SETS_AUTOCOMMIT (UINT64_C(1) << 31)
#define SQL_F_CATALOG (UINT64_C(1) << 32)      /* creates, alters or drops a routine, view or trigger */
#define SQL_F_ACCOUNTS (UINT64_C(1) << 33)     /* changes accounts or grants */
#define SQL_F_FUNCTIONS (UINT64_C(1) << 34)    /* calls functions by name: see `functions` */
#define SQL_F_MANY_FUNCTIONS (UINT64_C(1) << 35) /* more than fit: treat as not proven harmless */
#define SQL_F_LOCKING_READ (UINT64_C(1) << 36) /* FOR UPDATE / FOR SHARE / LOCK IN SHARE MODE */
#define SQL_F_INTO (UINT64_C(1) << 37)	       /* INTO OUTFILE, DUMPFILE */
#define SQL_F_MULTI (UINT64_C(1) << 38)	       /* several statements in the packet */
#define SQL_F_CONNECTION_ID (UINT64_C(1) << 39)
#define SQL_F_SET_SUBQUERY (UINT64_C(1) << 40) /* SET with a subquery: target says what the subquery is */
#define SQL_F_NO_BINLOG (UINT64_C(1) << 41)    /* SET sql_log_bin */
#define SQL_F_OPAQUE (UINT64_C(1) << 42)       /* may do anything to its connection: CALL, compound statements, EXECUTE IMMEDIATE */
#define SQL_F_LOCAL_INFILE (UINT64_C(1) << 43) /* LOAD DATA LOCAL */
#define SQL_F_IDENTITY_READ (UINT64_C(1) << 44) /* @@server_id, @@hostname, @@port unqualified: shows the split; still a read */
#define SQL_F_TOO_LONG (UINT64_C(1) << 45)     /* not lexed to its end */
#define SQL_F_SESSION_STATE_READ (UINT64_C(1) << 46) /* reads @@session variables that are session state */
#define SQL_F_ENDS_WITH_COMMENT (UINT64_C(1) << 47) /* unterminated comment or string: the server will say so */
#define SQL_F_SET_STATEMENT (UINT64_C(1) << 48) /* SET STATEMENT ... FOR: verb and target are those of the inner statement */
#define SQL_F_SET_TRANSACTION_SESSION (UINT64_C(1) << 49) /* SET SESSION TRANSACTION, SET SESSION tx_read_only / tx_isolation */
#define SQL_F_PLAIN_VIEW (UINT64_C(1) << 51)   /* with SQL_F_CATALOG: it is about a view that only reads tables */
#define SQL_F_TEMP_NAMED (UINT64_C(1) << 50)   /* `name` is the temporary table created or the (first) table dropped */

enum sql_hint { SQL_HINT_NONE, SQL_HINT_PRIMARY, SQL_HINT_REPLICA, SQL_HINT_SERVER };

/* A piece of the text, by offset. Identifiers are without their quotes (a doubled quote inside stays doubled). */
struct sql_span {
	uint32_t at;
	uint32_t len;
};

enum { SQL_MAX_FUNCTIONS = 12 };

/* What FOUND_ROWS() says after a SELECT that went well and has sent rows. */
enum sql_found {
	SQL_FOUND_UNTOLD, /* not worked out yet */
	SQL_FOUND_SENT,	  /* as many as it has sent */
	SQL_FOUND_OTHER,  /* its server knows */
	SQL_FOUND_KEPT,	  /* what it said before */
};

struct sql_meaning {
	enum sql_verb verb; /* of the first part of a multi-statement packet that has an effect, else of the first */
	enum sql_target target;
	uint64_t facts;	 /* SQL_F_*, all parts together */
	uint64_t digest; /* of the text with literals replaced, lists folded, comments and white space dropped, keywords and
			  * identifiers case-folded; stable between releases; never 0 */
	uint32_t parts;	 /* statements in the packet; more than 1 sets SQL_F_MULTI */
	enum sql_hint hint;
	struct sql_span hint_server; /* of server=NAME */
	/* Function names called and not proven harmless by themselves (built-ins on the deny list are judged already and
	 * not listed; very common built-ins are not listed either). Names only, schema qualifier dropped. */
	uint8_t function_count;
	uint8_t found; /* enum sql_found; sql_classify() leaves it untold, sql_recall_classify() does not where it remembers */
	struct sql_span functions[SQL_MAX_FUNCTIONS];
	/* Of a packet with several statements, the fields from here on are empty. */
	struct sql_span name;	   /* USE: schema; PREPARE, EXECUTE, DEALLOCATE: statement name; CALL: procedure; CREATE TEMPORARY /
				    * DROP TABLE: table */
	struct sql_span qualifier; /* schema in front of `name`, len 0 when none */
	struct sql_span text;	   /* PREPARE x FROM 'text': the literal with its quotes; len 0 when it is not a literal */
	bool has_using;		   /* EXECUTE ... USING */
	uint64_t kill_id;	   /* KILL: the number, 0 when it is an expression or USER form */
	bool kill_query;	   /* KILL QUERY */
	bool kill_query_id;	   /* KILL QUERY ID: kill_id is a query id, not a connection */
};

/* Of a SELECT (or VALUES) that was judged so. When in doubt its server knows. */
enum sql_found sql_found_after(const struct sql_meaning *meaning, const char *text, size_t len);

/* Judges `len` bytes. Never fails; what it does not understand is SQL_OTHER to the primary. */
void sql_classify(const struct sql_context *context, const char *text, size_t len, struct sql_meaning *out);

/* The length of the first statement of the text, without the semicolon behind it. `len`: there is no other behind that, or the text might be cut
 * in another way by its server. */
size_t sql_first_part(const struct sql_context *context, const char *text, size_t len);

/* What a routine's body (the text after the header, as information_schema.routines.routine_definition gives it) may do to its
 * connection and the server: the union of the facts of its statements, SQL_F_OPAQUE when it cannot be proven (dynamic SQL), and whether
 * it writes. Calls to other routines are listed in out->functions. out->target is SQL_TO_REPLICA only when it provably only reads. */
void sql_classify_body(const struct sql_context *context, const char *text, size_t len, struct sql_meaning *out);

/* The session variables that the SETs in the text assign by name, in the order of the text; not those of SET NAMES and the like, of SET
 * STATEMENT, or of the next transaction only. Returns how many there are; the first `size` of them are in `out`. */
unsigned sql_set_names(const struct sql_context *context, const char *text, size_t len, struct sql_span *out, unsigned size);

/* Calls `seen` with each identifier of the text, in the order of the text and without quotes, until it returns true: then true. */
bool sql_mentions(const struct sql_context *context, const char *text, size_t len,
		  bool (*seen)(void *arg, const char *name, size_t len), void *arg);

/* Writes the normalised statement (what the digest is made of) into out, NUL-terminated, cut at size - 1. Returns its full length. */
size_t sql_normalise(const struct sql_context *context, const char *text, size_t len, char *out, size_t size);

/* Names, for logs, tests and EXPLAIN ROUTE. */
const char *sql_verb_name(enum sql_verb verb);
const char *sql_target_name(enum sql_target target);
/* The name of fact bit `bit` (0..63) in lower case without the SQL_F_, NULL when there is none. */
const char *sql_fact_name(unsigned bit);

#endif
