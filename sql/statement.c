#include "sql/scan.h"

#include <string.h>

/* SET STATEMENT ... FOR EXPLAIN SET STATEMENT ...: no server takes even two. */
enum { NESTING_LIMIT = 4 };

/* One function per verb, found by the statement's first word. */
typedef void (*statement_fn)(struct scan *scan);

/* Queries */

static void query(struct scan *s)
{
	s->verb = SQL_SELECT;
	scan_rest(s);
}

/* WITH: the common tables, then what they are for. */
static void with(struct scan *s)
{
	int depth = 0;

	for (scan_advance(s); !scan_at_end(s); scan_advance(s)) {
		/* The columns of a common table are no arguments. */
		if (depth > 0 || s->now->kind != TOKEN_OPEN)
			scan_watch(s);
		switch (s->now->kind) {
		case TOKEN_OPEN:
			if (depth++ == 0 && s->before->kind == TOKEN_CLOSE)
				return;
			break;
		case TOKEN_CLOSE:
			depth--;
			break;
		case TOKEN_WORD:
			if (depth > 0)
				break;
			switch (scan_word(s)) {
			case W_SELECT:
			case W_VALUES:
			case W_TABLE:
			case W_INSERT:
			case W_REPLACE:
			case W_UPDATE:
			case W_DELETE:
				return;
			default:
				break;
			}
			break;
		default:
			break;
		}
	}
}

static void with_statement(struct scan *s)
{
	with(s);
	if (scan_at_end(s))
		scan_primary(s, SQL_SELECT, 0);
	else if (s->now->kind == TOKEN_OPEN)
		query(s);
	else
		scan_query_or_change(s);
}

static void parenthesised(struct scan *s)
{
	while (s->now->kind == TOKEN_OPEN)
		scan_advance(s);
	switch (scan_word(s)) {
	case W_SELECT:
	case W_VALUES:
	case W_TABLE:
	case W_WITH:
		query(s);
		break;
	default:
		scan_primary(s, SQL_OTHER, SQL_F_OPAQUE);
		scan_rest(s);
		break;
	}
}

/* Changes of rows */

static void skip_words(struct scan *s, const enum word_id *ids, size_t count)
{
	size_t i;

	for (i = 0; i < count;)
		if (scan_accept(s, ids[i]))
			i = 0;
		else
			i++;
}

/* INSERT [modifiers] [INTO] table [(columns)]: the table is not a function. */
static void insert_into(struct scan *s, enum sql_verb verb)
{
	static const enum word_id modifiers[] = {W_LOW_PRIORITY, W_DELAYED, W_HIGH_PRIORITY, W_IGNORE, W_INTO};
	struct sql_span qualifier, name;

	scan_primary(s, verb, 0);
	scan_advance(s);
	skip_words(s, modifiers, sizeof(modifiers) / sizeof(modifiers[0]));
	scan_name(s, &qualifier, &name);
	if (s->now->kind == TOKEN_OPEN)
		scan_advance(s);
	scan_rest(s);
}

static void insert(struct scan *s)
{
	insert_into(s, SQL_INSERT);
}

static void replace(struct scan *s)
{
	insert_into(s, SQL_REPLACE);
}

static void update(struct scan *s)
{
	scan_primary(s, SQL_UPDATE, 0);
	scan_advance(s);
	scan_rest(s);
}

static void delete(struct scan *s)
{
	scan_primary(s, SQL_DELETE, 0);
	scan_advance(s);
	scan_rest(s);
}

/* LOAD DATA and LOAD XML; LOAD INDEX INTO CACHE is another thing. */
static void load(struct scan *s)
{
	static const enum word_id modifiers[] = {W_LOW_PRIORITY, W_CONCURRENT};

	scan_advance(s);
	if (scan_word(s) == W_INDEX) {
		scan_primary(s, SQL_ADMIN, SQL_F_ENDS_TRX);
		scan_skip_rest(s);
		return;
	}
	scan_primary(s, SQL_LOAD, 0);
	scan_advance(s);
	skip_words(s, modifiers, 2);
	if (scan_word(s) == W_LOCAL)
		s->facts |= SQL_F_LOCAL_INFILE;
	while (!scan_at_end(s)) {
		/* (column, @variable): the variables get values from the file. */
		if (s->now->kind == TOKEN_UVAR)
			s->facts |= SQL_F_SETS_UVAR;
		if (scan_word(s) != W_INTO)
			scan_watch(s);
		scan_advance(s);
	}
}

/* Calls and the like */

static void call_statement(struct scan *s)
{
	/* In a body the procedure is one more function to be looked up. */
	s->verb = SQL_CALL;
	if (!s->in_body)
		scan_raise(s, SQL_F_OPAQUE, SQL_TO_PRIMARY);
	scan_advance(s);
	if (scan_name(s, &s->out->qualifier, &s->out->name) && s->in_body)
		scan_add_function(s, s->out->name);
	if (s->now->kind == TOKEN_OPEN)
		scan_advance(s);
	while (!scan_at_end(s)) {
		/* It may be an OUT parameter. */
		if (s->now->kind == TOKEN_UVAR)
			s->facts |= SQL_F_SETS_UVAR;
		scan_watch(s);
		scan_advance(s);
	}
}

static void do_statement(struct scan *s)
{
	scan_primary(s, SQL_DO, 0);
	scan_advance(s);
	scan_rest(s);
}

static void use(struct scan *s)
{
	s->verb = SQL_USE;
	scan_raise(s, 0, SQL_TO_HELD);
	scan_advance(s);
	scan_name(s, &s->out->qualifier, &s->out->name);
	scan_skip_rest(s);
}

static void prepare(struct scan *s)
{
	s->verb = SQL_PREPARE;
	scan_raise(s, 0, SQL_TO_HELD);
	scan_advance(s);
	scan_name(s, &s->out->qualifier, &s->out->name);
	if (scan_accept(s, W_FROM) && s->now->kind == TOKEN_STRING && scan_peek(s).kind <= TOKEN_SEMICOLON)
		s->out->text = (struct sql_span){s->now->at, s->now->len};
	scan_rest(s);
}

static void using(struct scan *s)
{
	while (!scan_at_end(s)) {
		if (scan_word(s) == W_USING)
			s->out->has_using = true;
		else if (s->now->kind == TOKEN_UVAR)
			s->facts |= SQL_F_SETS_UVAR;
		scan_watch(s);
		scan_advance(s);
	}
}

static void execute_immediate(struct scan *s)
{
	scan_primary(s, SQL_EXECUTE_IMMEDIATE, SQL_F_OPAQUE);
	scan_advance(s);
	if (s->now->kind == TOKEN_STRING) {
		struct token next = scan_peek(s);

		if (next.kind <= TOKEN_SEMICOLON || next.word->id == W_USING)
			s->out->text = (struct sql_span){s->now->at, s->now->len};
	}
	using(s);
}

static void execute(struct scan *s)
{
	scan_advance(s);
	if (scan_word(s) == W_IMMEDIATE && scan_peek(s).kind > TOKEN_SEMICOLON && scan_peek(s).word->id != W_USING) {
		execute_immediate(s);
		return;
	}
	s->verb = SQL_EXECUTE;
	scan_raise(s, 0, SQL_TO_HELD);
	scan_name(s, &s->out->qualifier, &s->out->name);
	using(s);
}

/* DEALLOCATE PREPARE x, DROP PREPARE x: at PREPARE. */
static void deallocate(struct scan *s)
{
	s->verb = SQL_DEALLOCATE;
	scan_raise(s, 0, SQL_TO_HELD);
	scan_advance(s);
	scan_accept(s, W_PREPARE);
	scan_name(s, &s->out->qualifier, &s->out->name);
	scan_skip_rest(s);
}

static void drop(struct scan *s)
{
	if (scan_peek(s).word->id == W_PREPARE) {
		scan_advance(s);
		deallocate(s);
	} else {
		scan_drop(s);
	}
}

static void handler(struct scan *s)
{
	struct sql_span qualifier, name;

	scan_primary(s, SQL_HANDLER, 0);
	scan_advance(s);
	scan_name(s, &qualifier, &name);
	if (scan_word(s) == W_OPEN)
		s->facts |= SQL_F_HANDLER_OPEN;
	else if (scan_word(s) == W_CLOSE)
		s->facts |= SQL_F_HANDLER_CLOSE;
	scan_rest(s);
}

/* Transactions */

static void chain_or_release(struct scan *s)
{
	bool no = false;

	for (; !scan_at_end(s); scan_advance(s)) {
		if (scan_word(s) == W_CHAIN && !no)
			s->facts |= SQL_F_OPENS_TRX;
		no = scan_word(s) == W_NO;
	}
}

static void commit(struct scan *s)
{
	s->verb = SQL_COMMIT;
	scan_raise(s, SQL_F_ENDS_TRX, SQL_TO_HELD);
	chain_or_release(s);
}

static void rollback(struct scan *s)
{
	scan_raise(s, 0, SQL_TO_HELD);
	scan_advance(s);
	scan_accept(s, W_WORK);
	if (scan_word(s) == W_TO) {
		s->verb = SQL_SAVEPOINT;
		scan_skip_rest(s);
		return;
	}
	s->verb = SQL_ROLLBACK;
	s->facts |= SQL_F_ENDS_TRX;
	chain_or_release(s);
}

static void savepoint(struct scan *s)
{
	s->verb = SQL_SAVEPOINT;
	scan_raise(s, 0, SQL_TO_HELD);
	scan_skip_rest(s);
}

static void compound(struct scan *s)
{
	scan_primary(s, SQL_COMPOUND, SQL_F_OPAQUE);
	scan_skip_body(s);
}

static void begin(struct scan *s)
{
	struct token next = scan_peek(s);

	if (s->context->oracle || (next.kind > TOKEN_SEMICOLON && next.word->id != W_WORK)) {
		compound(s);
		return;
	}
	scan_primary(s, SQL_BEGIN, SQL_F_OPENS_TRX | SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

static void read_mode(struct scan *s)
{
	if (s->before->word->id != W_READ)
		return;
	if (scan_word(s) == W_ONLY)
		s->facts |= SQL_F_TRX_READ_ONLY;
	else if (scan_word(s) == W_WRITE)
		s->facts |= SQL_F_TRX_READ_WRITE;
}

/* START TRANSACTION; START SLAVE and START GROUP_REPLICATION are administration. */
static void start(struct scan *s)
{
	scan_advance(s);
	if (scan_word(s) != W_TRANSACTION) {
		scan_primary(s, SQL_ADMIN, SQL_F_ENDS_TRX);
		scan_skip_rest(s);
		return;
	}
	s->verb = SQL_BEGIN;
	s->facts |= SQL_F_OPENS_TRX | SQL_F_ENDS_TRX;
	for (; !scan_at_end(s); scan_advance(s))
		read_mode(s);
	if ((s->facts & (SQL_F_TRX_READ_ONLY | SQL_F_TRX_READ_WRITE)) != SQL_F_TRX_READ_ONLY)
		scan_raise(s, 0, SQL_TO_PRIMARY);
}

static void xa(struct scan *s)
{
	scan_primary(s, SQL_XA, 0);
	scan_advance(s);
	switch (scan_word(s)) {
	case W_START:
	case W_BEGIN:
		s->facts |= SQL_F_XA_OPEN | SQL_F_OPENS_TRX;
		break;
	case W_END:
	case W_PREPARE:
		s->facts |= SQL_F_XA_OPEN;
		break;
	case W_COMMIT:
	case W_ROLLBACK:
		s->facts |= SQL_F_XA_CLOSE | SQL_F_ENDS_TRX;
		break;
	default:
		break;
	}
	scan_skip_rest(s);
}

/* Locks and administration */

static void lock(struct scan *s)
{
	scan_advance(s);
	if (scan_word(s) == W_INSTANCE)
		scan_primary(s, SQL_ADMIN, SQL_F_BACKUP_STAGE);
	else
		scan_primary(s, SQL_LOCK_TABLES, SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

static void unlock(struct scan *s)
{
	scan_advance(s);
	if (scan_word(s) == W_INSTANCE)
		scan_primary(s, SQL_ADMIN, SQL_F_BACKUP_END);
	else
		scan_primary(s, SQL_UNLOCK_TABLES, SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

static void backup(struct scan *s)
{
	scan_primary(s, SQL_ADMIN, SQL_F_ENDS_TRX);
	scan_advance(s);
	if (scan_word(s) == W_UNLOCK || (scan_word(s) == W_STAGE && scan_peek(s).word->id == W_END))
		s->facts |= SQL_F_BACKUP_END;
	else
		s->facts |= SQL_F_BACKUP_STAGE;
	scan_skip_rest(s);
}

static void flush(struct scan *s)
{
	scan_primary(s, SQL_ADMIN, SQL_F_ENDS_TRX);
	for (scan_advance(s); !scan_at_end(s); scan_advance(s)) {
		enum word_id id = scan_word(s);

		if (id == W_PRIVILEGES)
			s->facts |= SQL_F_ACCOUNTS;
		else if ((id == W_LOCK && s->before->word->id == W_READ) ||
			 (id == W_EXPORT && s->before->word->id == W_FOR))
			s->facts |= SQL_F_FLUSH_LOCK;
	}
}

static void administration(struct scan *s)
{
	scan_primary(s, SQL_ADMIN, SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

/* CHECK, CHECKSUM, PURGE, BINLOG, SHUTDOWN: nothing ends by them. */
static void quiet_administration(struct scan *s)
{
	scan_primary(s, SQL_ADMIN, 0);
	scan_skip_rest(s);
}

static uint64_t number_value(const struct scan *s)
{
	const unsigned char *p = s->lexer.text + s->now->at, *end = p + s->now->len;
	uint64_t value = 0;

	for (; p < end; p++) {
		if (*p < '0' || *p > '9' || value > (UINT64_MAX - 9) / 10)
			return 0;
		value = value * 10 + (*p - '0');
	}
	return value;
}

/* A number, or one below zero: clients that hold connection ids as signed 32 bit numbers write those with the top bit so. */
static uint64_t connection_number(struct scan *s)
{
	bool minus = s->now->kind == TOKEN_MINUS && s->lexer.text[s->now->at] == '-' && scan_peek(s).kind == TOKEN_NUMBER;
	uint64_t value;

	if (minus)
		scan_advance(s);
	if (s->now->kind != TOKEN_NUMBER || scan_peek(s).kind > TOKEN_SEMICOLON)
		return 0;
	value = number_value(s);
	if (!minus)
		return value;
	return value && value <= UINT64_C(0x80000000) ? UINT64_C(0x100000000) - value : 0;
}

static void kill_statement(struct scan *s)
{
	static const enum word_id modifiers[] = {W_HARD, W_SOFT, W_CONNECTION};

	scan_primary(s, SQL_KILL, 0);
	scan_advance(s);
	skip_words(s, modifiers, 3);
	s->out->kill_query = scan_accept(s, W_QUERY);
	s->out->kill_query_id = s->out->kill_query && scan_accept(s, W_ID);
	s->out->kill_id = connection_number(s);
	scan_rest(s);
}

static void accounts(struct scan *s)
{
	scan_primary(s, SQL_GRANT, SQL_F_ACCOUNTS | SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

/* RENAME USER, or RENAME TABLE, which may rename views as well. */
static void rename_statement(struct scan *s)
{
	if (scan_peek(s).word->id == W_USER) {
		accounts(s);
		return;
	}
	scan_primary(s, SQL_RENAME, SQL_F_ENDS_TRX | SQL_F_CATALOG);
	scan_skip_rest(s);
}

static void truncate(struct scan *s)
{
	scan_primary(s, SQL_TRUNCATE, SQL_F_ENDS_TRX);
	scan_skip_rest(s);
}

static void diagnostics(struct scan *s)
{
	for (; !scan_at_end(s); scan_advance(s)) {
		if (scan_word(s) == W_DIAGNOSTICS && !s->verb)
			s->verb = SQL_DIAGNOSTICS;
		if (s->now->kind == TOKEN_UVAR)
			s->facts |= SQL_F_SETS_UVAR;
		scan_watch(s);
	}
	if (s->verb == SQL_DIAGNOSTICS)
		scan_raise(s, SQL_F_READS_LAST, SQL_TO_LAST);
	else
		scan_primary(s, SQL_OTHER, SQL_F_OPAQUE);
}

static void signal_statement(struct scan *s)
{
	scan_primary(s, SQL_SIGNAL, 0);
	scan_advance(s);
	scan_rest(s);
}

static void help(struct scan *s)
{
	scan_primary(s, SQL_HELP, 0);
	scan_skip_rest(s);
}

/* A label in front of a block, or something nobody here knows. */
static void other(struct scan *s)
{
	struct token next = scan_peek(s);

	if (scan_is_name(s) && next.kind == TOKEN_OPERATOR && s->lexer.text[next.at] == ':') {
		scan_advance(s);
		scan_advance(s);
		compound(s);
		return;
	}
	scan_primary(s, SQL_OTHER, SQL_F_OPAQUE);
	scan_rest(s);
}

static const statement_fn statements[] = {
	[W_ALTER] = scan_alter,
	[W_ANALYZE] = scan_analyze,
	[W_BACKUP] = backup,
	[W_BEGIN] = begin,
	[W_BINLOG] = quiet_administration,
	[W_CACHE] = administration,
	[W_CALL] = call_statement,
	[W_CASE] = compound,
	[W_CHANGE] = administration,
	[W_CHECK] = administration,
	[W_CHECKSUM] = quiet_administration,
	[W_CLONE] = administration,
	[W_COMMIT] = commit,
	[W_CREATE] = scan_create,
	[W_DEALLOCATE] = deallocate,
	[W_DECLARE] = compound,
	[W_DELETE] = delete,
	[W_DESC] = scan_explain,
	[W_DESCRIBE] = scan_explain,
	[W_DO] = do_statement,
	[W_DROP] = drop,
	[W_EXECUTE] = execute,
	[W_EXPLAIN] = scan_explain,
	[W_FLUSH] = flush,
	[W_FOR] = compound,
	[W_GET] = diagnostics,
	[W_GRANT] = accounts,
	[W_HANDLER] = handler,
	[W_HELP] = help,
	[W_IF] = compound,
	[W_IMPORT] = administration,
	[W_INSERT] = insert,
	[W_INSTALL] = administration,
	[W_KILL] = kill_statement,
	[W_LOAD] = load,
	[W_LOCK] = lock,
	[W_LOOP] = compound,
	[W_OPTIMIZE] = administration,
	[W_PREPARE] = prepare,
	[W_PURGE] = quiet_administration,
	[W_RELEASE] = savepoint,
	[W_RENAME] = rename_statement,
	[W_REPAIR] = administration,
	[W_REPEAT] = compound,
	[W_REPLACE] = replace,
	[W_RESET] = administration,
	[W_RESIGNAL] = signal_statement,
	[W_RESTART] = quiet_administration,
	[W_REVOKE] = accounts,
	[W_ROLLBACK] = rollback,
	[W_SAVEPOINT] = savepoint,
	[W_SELECT] = query,
	[W_SET] = scan_set,
	[W_SHOW] = scan_show,
	[W_SHUTDOWN] = quiet_administration,
	[W_SIGNAL] = signal_statement,
	[W_START] = start,
	[W_STOP] = administration,
	[W_TABLE] = query,
	[W_TRUNCATE] = truncate,
	[W_UNINSTALL] = administration,
	[W_UNLOCK] = unlock,
	[W_UPDATE] = update,
	[W_USE] = use,
	[W_VALUES] = query,
	[W_WHILE] = compound,
	[W_WITH] = with_statement,
	[W_XA] = xa,
};

static bool is_query_or_change(enum word_id word)
{
	switch (word) {
	case W_SELECT:
	case W_VALUES:
	case W_TABLE:
	case W_WITH:
	case W_INSERT:
	case W_REPLACE:
	case W_UPDATE:
	case W_DELETE:
		return true;
	default:
		return false;
	}
}

bool scan_starts_query_or_change(const struct scan *s)
{
	return is_query_or_change(scan_word(s)) || s->now->kind == TOKEN_OPEN;
}

void scan_query_or_change(struct scan *s)
{
	if (is_query_or_change(scan_word(s)))
		statements[scan_word(s)](s);
	else if (s->now->kind == TOKEN_OPEN)
		parenthesised(s);
	else
		other(s);
}

void scan_statement(struct scan *s)
{
	enum word_id id = (enum word_id)s->now->word->id;

	s->verb = SQL_EMPTY;
	s->target = SQL_TO_REPLICA;
	s->facts = 0;
	s->no_functions = false;
	if (scan_at_end(s))
		return;
	if (s->nested > NESTING_LIMIT)
		other(s);
	else if (s->now->kind == TOKEN_OPEN)
		parenthesised(s);
	else if (id < sizeof(statements) / sizeof(statements[0]) && statements[id])
		statements[id](s);
	else
		other(s);
}
