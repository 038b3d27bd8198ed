#include "proxy/cluster/quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool read_number(const char **at, uint64_t max, char end, uint64_t *out)
{
	char *stop;

	if (**at < '0' || **at > '9')
		return false;
	*out = strtoull(*at, &stop, 10);
	if (*out > max || (end && *stop != end))
		return false;
	*at = stop + (end ? 1 : 0);
	return true;
}

static bool read_mark(const char **at, struct binlog_mark *out)
{
	uint64_t domain, server_id;

	if (!read_number(at, UINT32_MAX, '-', &domain) || !read_number(at, UINT32_MAX, '-', &server_id) ||
	    !read_number(at, UINT64_MAX, '\0', &out->sequence))
		return false;
	out->domain = (uint32_t)domain;
	out->server_id = (uint32_t)server_id;
	return true;
}

static const char *skip(const char *at)
{
	return at + strspn(at, " \t\r\n,");
}

bool binlog_state_parse(const char *text, struct binlog_state *out)
{
	struct binlog_mark mark;
	const char *at = skip(text);

	memset(out, 0, sizeof(*out));
	for (; *at; at = skip(at)) {
		if (!read_mark(&at, &mark) || !strchr(" \t\r\n,", *at))
			return false;
		if (out->count < BINLOG_STATE_MAX)
			out->marks[out->count++] = mark;
		else
			out->lost = true;
	}
	return true;
}

static uint64_t mark_of(const struct binlog_state *state, uint32_t domain, uint32_t server_id)
{
	for (size_t i = 0; i < state->count; i++)
		if (state->marks[i].domain == domain && state->marks[i].server_id == server_id)
			return state->marks[i].sequence;
	return 0;
}

static uint64_t point_of(const struct gtid_set *set, uint32_t domain)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->points[i].domain == domain)
			return set->points[i].sequence;
	return 0;
}

size_t quarantine_compare(const struct binlog_state *mine, const struct binlog_state *theirs, const struct gtid_set *fork,
			  uint32_t own_id, struct extra_range *out, size_t max)
{
	size_t count = 0;

	for (size_t i = 0; i < mine->count && count < max; i++) {
		const struct binlog_mark *m = &mine->marks[i];
		uint64_t shared = mark_of(theirs, m->domain, m->server_id);

		if (fork->count && m->server_id == own_id && point_of(fork, m->domain) < shared)
			shared = point_of(fork, m->domain);
		if (m->sequence > shared)
			out[count++] = (struct extra_range){ m->domain, m->server_id, shared, m->sequence };
	}
	return count;
}

bool quarantine_common(const struct binlog_state *mine, const struct binlog_state *theirs, uint32_t domain, struct binlog_mark *out)
{
	*out = (struct binlog_mark){ .domain = domain };
	for (size_t i = 0; i < mine->count; i++) {
		const struct binlog_mark *m = &mine->marks[i];
		uint64_t theirs_at = m->domain == domain ? mark_of(theirs, domain, m->server_id) : 0;
		uint64_t both = m->sequence < theirs_at ? m->sequence : theirs_at;

		if (both > out->sequence)
			*out = (struct binlog_mark){ domain, m->server_id, both };
	}
	return out->sequence != 0;
}

/* ---- Listing ---- */

struct listing {
	const struct extra_range *ranges;
	size_t range_count;
	struct extra *out;
	size_t max;
	size_t count;
	bool inside; /* the events that come now belong to out[count - 1] */
};

static bool in_ranges(const struct listing *l, const struct binlog_mark *mark)
{
	for (size_t i = 0; i < l->range_count; i++) {
		const struct extra_range *r = &l->ranges[i];

		if (r->domain == mark->domain && r->server_id == mark->server_id && mark->sequence > r->from &&
		    mark->sequence <= r->to)
			return true;
	}
	return false;
}

/* "BEGIN GTID 0-1-11", "GTID 0-1-12", "GTID 0-1-13 cid=7 trans" */
static void begin_transaction(struct listing *l, const char *info)
{
	const char *gtid = strstr(info, "GTID ");
	struct binlog_mark mark;
	const char *at = gtid ? gtid + 5 : "";

	l->inside = read_mark(&at, &mark) && in_ranges(l, &mark) && l->count < l->max;
	if (!l->inside)
		return;
	memset(&l->out[l->count], 0, sizeof(l->out[0]));
	snprintf(l->out[l->count++].gtid, sizeof(l->out[0].gtid), "%u-%u-%" PRIu64, mark.domain, mark.server_id, mark.sequence);
}

/* The text of a Query event begins with "use `schema`; ". */
static const char *without_use(const char *text)
{
	const char *semicolon = !strncasecmp(text, "use `", 5) ? strstr(text, "`; ") : NULL;

	return semicolon ? semicolon + 3 : text;
}

static bool is_harmless(const char *statement)
{
	static const char *const words[] = { "FLUSH ", "ANALYZE ", "OPTIMIZE ", "CHECK ", NULL };

	for (size_t i = 0; words[i]; i++)
		if (!strncasecmp(statement, words[i], strlen(words[i])))
			return true;
	return false;
}

static void add_event(struct listing *l, const char *type, const char *info)
{
	struct extra *e = &l->out[l->count - 1];
	const char *text = without_use(info);

	if (strstr(type, "_rows_v1") || strstr(type, "_rows_compressed") || !strcasecmp(type, "Write_rows") ||
	    !strcasecmp(type, "Update_rows") || !strcasecmp(type, "Delete_rows"))
		e->has_rows = true;
	if (e->statement[0] || (strcasecmp(type, "Query") && strcasecmp(type, "Annotate_rows")) || !strcasecmp(text, "COMMIT"))
		return;
	snprintf(e->statement, sizeof(e->statement), "%s", text);
	e->is_harmless = is_harmless(text);
}

static void take_event(struct listing *l, MYSQL_ROW row)
{
	const char *type = row_text(row, 2);

	if (!strcasecmp(type, "Gtid"))
		begin_transaction(l, row_text(row, 5));
	else if (l->inside)
		add_event(l, type, row_text(row, 5));
}

/* Row by row: a binlog may be larger than the memory there is. */
static bool read_file(struct subject *server, const char *name, struct listing *l)
{
	MYSQL *mysql = server->line->mysql;
	char statement[700];
	MYSQL_RES *result;
	MYSQL_ROW row;

	snprintf(statement, sizeof(statement), "SHOW BINLOG EVENTS IN '%s'", name);
	if (mysql_real_query(mysql, statement, strlen(statement)) || !(result = mysql_use_result(mysql)))
		return false;
	while ((row = mysql_fetch_row(result)))
		take_event(l, row);
	mysql_free_result(result);
	return !mysql_errno(mysql);
}

static uint64_t wanted_count(const struct extra_range *ranges, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += ranges[i].to - ranges[i].from;
	return sum;
}

/* From the newest file backwards: what nobody else has is at the end. */
size_t quarantine_list(struct subject *server, const struct extra_range *ranges, size_t range_count, struct extra *out, size_t max)
{
	struct listing l = { .ranges = ranges, .range_count = range_count, .out = out, .max = max };
	MYSQL_RES *files = line_query(server->line, "SHOW BINARY LOGS");
	uint64_t wanted = wanted_count(ranges, range_count);
	uint64_t n = files ? mysql_num_rows(files) : 0;

	while (n && l.count < max && l.count < wanted) {
		MYSQL_ROW row;

		mysql_data_seek(files, --n);
		row = mysql_fetch_row(files);
		l.inside = false;
		if (!row || !read_file(server, row_text(row, 0), &l))
			break;
	}
	mysql_free_result(files);
	return l.count;
}
