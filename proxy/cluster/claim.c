#include "proxy/cluster/claim.h"

#include <mysqld_error.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

enum {
	STATEMENT_BYTES = 512,
	FREED_S = 2, /* for the server to notice that a connection was ended */
};

static const char *const names[] = {
	[CLAIM_OPERATION] = "operation",
	[CLAIM_FENCE] = "fence",
};

/* The first column of the first row; 0 for SQL NULL and failures. */
__attribute__((format(printf, 2, 3))) static unsigned long long ask(struct line *line, const char *format, ...)
{
	char statement[STATEMENT_BYTES];
	unsigned long long value = 0;
	MYSQL_RES *result;
	MYSQL_ROW row;
	va_list args;

	va_start(args, format);
	vsnprintf(statement, sizeof(statement), format, args);
	va_end(args);
	result = line_query(line, statement);
	row = result ? mysql_fetch_row(result) : NULL;
	if (row)
		value = row_number(row, 0);
	mysql_free_result(result);
	return value;
}

static bool end_holder(struct line *line, const char *server, unsigned long long holder)
{
	ask(line, "KILL CONNECTION %llu", holder);
	/* It may have gone by itself. */
	if (line->error && line->error != ER_NO_SUCH_THREAD)
		return false;
	log_warning(NULL, "server %s: connection %llu of an operation that another Tandem had under way is ended", server, holder);
	return true;
}

bool claim_clear(struct line *line, const char *server, const char *cluster, enum claim_kind kind)
{
	unsigned long long holder = ask(line, "SELECT NULLIF(IS_USED_LOCK('tandem.%s.%s'), CONNECTION_ID())", cluster, names[kind]);

	if (line->error)
		return false;
	return !holder || end_holder(line, server, holder);
}

bool claim_take(struct line *line, const char *server, const char *cluster, enum claim_kind kind)
{
	if (!claim_clear(line, server, cluster, kind))
		return false;
	if (ask(line, "SELECT GET_LOCK('tandem.%s.%s', %d)", cluster, names[kind], FREED_S) == 1)
		return true;
	if (!line->error)
		line_set_error(line, "another Tandem's operation holds on to it");
	return false;
}
