/*
 * What may be asked about the last statement belongs to a connection, and connections change hands and run statements of Tandem's own.
 * ROW_COUNT() and FOUND_ROWS() went by in the reply and are written into the question. The list of warnings and errors is asked where it
 * is; when that connection has been taken away, or the question needs another one, the list was or is frozen (freeze.c): then its counts
 * are written into the question, a list of one is made again by a SIGNAL, and SHOW WARNINGS of a longer one is answered here.
 */
#include <string.h>

#include "proxy/session/freeze.h"
#include "proxy/session/question.h"
#include "proxy/session/told.h"
#include "proxy/session/turn.h"
#include "proxy/session/worker.h"

/* ---- Before a question is routed ---- */

static bool is_live(const struct client *c)
{
	return c->diag_open && c->diag_at;
}

static bool asks_list(const struct turn *t, unsigned questions)
{
	enum sql_verb verb = t->meaning->verb;

	return verb == SQL_DIAGNOSTICS || verb == SQL_SHOW || questions & (1u << ASKS_WARNINGS | 1u << ASKS_ERRORS) ||
	       t->meaning->facts & SQL_F_MULTI;
}

bool diagnose_asks_list(const struct turn *turn)
{
	return asks_list(turn, questions_in(turn));
}

/* Can the question be asked on this connection, which knows the answer? */
static bool may_ask_at(const struct turn *t, const struct backend *home)
{
	const struct client *c = t->client;
	uint64_t facts = t->meaning->facts;

	if (c->trx)
		return c->trx == home;
	if (client_pins_all(c))
		return c->pinned == home;
	if (facts & SQL_F_READS_LAST_ID && c->last_id_at)
		return c->last_id_at == home;
	if (facts & SQL_F_READS_LAST_ID && c->last_id)
		return !home->is_replica; /* it is set again on the primary's */
	if (facts & (SQL_F_READS_UVAR | SQL_F_SETS_UVAR) && c->uvars_at && t->meaning->verb != SQL_DIAGNOSTICS)
		return c->uvars_at == home;
	return t->meaning->target != SQL_TO_PRIMARY || !home->is_replica;
}

/* The session's list is empty, but not where FOUND_ROWS() is known: a question that comes there has to empty that one first, by what would be
 * the newest SELECT. */
static bool hides_found_rows(const struct client *c)
{
	return !is_live(c) && !c->list && c->found_rows_there && c->found_at && (c->diag_at != c->found_at || c->found_at->has_diagnostics);
}

/* The connection whose answer has to be known by value first; NULL: none. */
static struct backend *to_freeze(const struct turn *t, unsigned questions)
{
	const struct client *c = t->client;
	bool list = asks_list(t, questions) && is_live(c), found = questions & 1u << ASKS_FOUND_ROWS && c->found_rows_there && c->found_at;

	if (t->meaning->verb == SQL_DIAGNOSTICS && list && !turn_text_has(t, "condition"))
		return c->diag_at; /* it may ask for ROW_COUNT, too */
	if (list && (!may_ask_at(t, c->diag_at) || (found && c->found_at != c->diag_at)))
		return c->diag_at;
	if ((found && !may_ask_at(t, c->found_at)) || (asks_list(t, questions) && hides_found_rows(c)))
		return c->found_at;
	return NULL;
}

/* Has nothing run on it since the session's last statement, and will nothing have to run in front of the next? */
static bool is_untouched(const struct client *c, const struct backend *b)
{
	return b && !c->last_gone && b->state == BACKEND_READY && b->value == c->value && !fit_is_anew(b) && b->session == c->id &&
	       b->multi_statements == c->multi_statements && !b->guard_lost && !b->shows_timeout && !c->probe &&
	       (b->is_replica || ((!c->last_id || c->last_id_at) && (!c->uvars || c->uvars_at)));
}

/* The connection that can answer for itself. */
static struct backend *knows_itself(const struct turn *t)
{
	const struct client *c = t->client;
	unsigned questions;

	if (t->meaning->facts & SQL_F_MULTI || !is_untouched(c, c->last) || !may_ask_at(t, c->last))
		return NULL;
	questions = questions_in(t);
	if (!(questions & (1u << ASKS_ROW_COUNT | 1u << ASKS_FOUND_ROWS)) || asks_list(t, questions))
		return NULL;
	return !(questions & 1u << ASKS_FOUND_ROWS) || c->found_at == c->last ? c->last : NULL;
}

/* Elsewhere the words may stand for something that is kept, such as a default value or a routine's body. */
static bool may_rewrite(const struct turn *t)
{
	switch (t->meaning->verb) {
	case SQL_SELECT:
	case SQL_DO:
	case SQL_SET:
	case SQL_INSERT:
	case SQL_REPLACE:
	case SQL_UPDATE:
	case SQL_DELETE:
	case SQL_CALL:
		return true;
	default:
		return false;
	}
}

static struct backend *being_frozen(const struct client *c)
{
	if (c->diag_at && c->diag_at->freezing)
		return c->diag_at;
	return c->found_rows_there && c->found_at && c->found_at->freezing ? c->found_at : NULL;
}

bool diagnose_begin(struct turn *turn)
{
	struct client *c = turn->client;
	enum { MOST = 2 };
	bool multi = turn->meaning->facts & SQL_F_MULTI;
	unsigned questions, replace = 1u << ASKS_ROW_COUNT;
	struct backend *b;

	if (turn->diagnosed > MOST || turn->command != COM_QUERY || !turn->text || turn->is_long)
		return false;
	questions = questions_in(turn);
	b = being_frozen(c);
	if (b)
		return freeze_wait(turn, b);
	if (knows_itself(turn))
		return false;
	b = turn->diagnosed < MOST ? to_freeze(turn, questions) : NULL;
	turn->diagnosed++;
	if (b)
		return freeze_wait(turn, b);
	turn->diagnosed = MOST + 1;
	if (!c->found_rows_there)
		replace |= 1u << ASKS_FOUND_ROWS;
	if (!is_live(c))
		replace |= 1u << ASKS_WARNINGS | 1u << ASKS_ERRORS;
	if (questions & replace && may_rewrite(turn) && question_rewrite(turn, replace) && !multi)
		turn_judge_again(turn);
	if (!(turn->meaning->facts & SQL_F_READS_LAST) || is_live(c))
		return false;
	if (multi) {
		if (c->list)
			told_in_packet(turn);
		return false;
	}
	return asks_list(turn, questions & ~replace) && told_answer(turn);
}

struct backend *diagnose_where(const struct turn *turn)
{
	const struct client *c = turn->client;
	struct backend *itself = knows_itself(turn);

	if (itself)
		return itself;
	if (c->found_rows_there && turn_text_has(turn, "found_rows"))
		return c->found_at;
	if (c->diag_at)
		return c->diag_at;
	for (struct backend *b = c->attached; b; b = b->next_attached)
		if (!b->has_diagnostics && b->state == BACKEND_READY)
			return b;
	return NULL;
}
