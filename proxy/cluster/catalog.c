#include "proxy/cluster/catalog.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/cluster/flavour.h"

/* Facts that a function may have and still be harmless: it looks at its connection and changes nothing of it. */
#define HARMLESS_FACTS                                                                             \
	(SQL_F_READS_UVAR | SQL_F_FUNCTIONS | SQL_F_IDENTITY_READ | SQL_F_SESSION_STATE_READ |     \
	 SQL_F_MULTI | SQL_F_CALC_FOUND_ROWS)

enum judged { NOT_JUDGED, BEING_JUDGED, JUDGED };

struct entry {
	struct routine routine;
	enum judged state;
	bool own_harmless; /* by its own body alone */
	struct sql_meaning meaning;
	const char *body;
};

struct judge {
	struct entry *entries; /* sorted by name; overloads follow each other */
	size_t count;
};

static int compare_entries(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->routine.name,
		      ((const struct entry *)b)->routine.name);
}

static void mark_opaque(struct entry *e)
{
	e->routine.writes = true;
	e->routine.facts = SQL_F_OPAQUE;
	e->own_harmless = false;
}

static struct sql_context context_of(const struct routine_source *source, enum sql_flavour flavour,
				     uint32_t version)
{
	const char *mode = source->sql_mode ? source->sql_mode : "";

	return (struct sql_context){
		.flavour = flavour,
		.version = version,
		.charset = SQL_CHARSET_SAFE, /* the table holds it in utf8 */
		.ansi_quotes = strstr(mode, "ANSI_QUOTES") != NULL,
		.no_backslash_escapes = strstr(mode, "NO_BACKSLASH_ESCAPES") != NULL,
		.oracle = strstr(mode, "ORACLE") != NULL,
	};
}

static void judge_body(struct entry *e, const struct routine_source *source,
		       enum sql_flavour flavour, uint32_t version)
{
	struct sql_context context = context_of(source, flavour, version);

	e->body = source->body;
	if (!source->body ||
	    (strcasecmp(source->type, "FUNCTION") && strcasecmp(source->type, "PROCEDURE"))) {
		mark_opaque(e);
		return;
	}
	sql_classify_body(&context, source->body, strlen(source->body), &e->meaning);
	e->routine.facts = e->meaning.facts;
	e->routine.writes = e->meaning.target == SQL_TO_PRIMARY;
	e->own_harmless =
		e->meaning.target == SQL_TO_REPLICA && !(e->meaning.facts & ~HARMLESS_FACTS);
}

/* First entry of that name. */
static struct entry *find(const struct judge *j, const char *name, size_t len)
{
	size_t low = 0, high = j->count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		const char *there = j->entries[middle].routine.name;
		int order = strncasecmp(there, name, len);

		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < j->count && !strncasecmp(j->entries[low].routine.name, name, len); low++)
		if (!j->entries[low].routine.name[len])
			return &j->entries[low];
	return NULL;
}

static void judge_entry(struct judge *j, struct entry *e);

/* All overloads of one name: a call may mean any of them. */
static void judge_callee(struct judge *j, struct entry *caller, const char *name, size_t len)
{
	struct entry *e = find(j, name, len);

	for (size_t i = 0; i < len && !e; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_') {
			mark_opaque(
				caller); /* not found as written proves nothing: see snapshot_routine() */
			caller->routine.harmless = false;
			return;
		}
	for (; e && e < j->entries + j->count && !strncasecmp(e->routine.name, name, len) &&
	       !e->routine.name[len];
	     e++) {
		judge_entry(j, e);
		caller->routine.facts |= e->routine.facts;
		caller->routine.writes |= e->routine.writes;
		caller->routine.harmless &= e->routine.harmless;
	}
}

/* A circle of calls is cut where it closes: there `harmless` is still false, and so is the whole circle. */
static void judge_entry(struct judge *j, struct entry *e)
{
	if (e->state != NOT_JUDGED)
		return;
	e->state = BEING_JUDGED;
	e->routine.harmless = false;
	if (e->own_harmless || e->meaning.function_count) {
		struct entry sum = *e;

		sum.routine.harmless = e->own_harmless;
		for (unsigned i = 0; i < e->meaning.function_count; i++)
			judge_callee(j, &sum, e->body + e->meaning.functions[i].at,
				     e->meaning.functions[i].len);
		e->routine = sum.routine;
	}
	e->state = JUDGED;
}

/* Folds overloads into the worst of all and hands the names over. */
static void fold(struct judge *j, struct catalog *out)
{
	for (size_t i = 0; i < j->count; i++) {
		struct routine *from = &j->entries[i].routine;
		struct routine *last = out->count ? &out->routines[out->count - 1] : NULL;

		if (!last || strcmp(last->name, from->name)) {
			out->routines[out->count++] = *from;
			continue;
		}
		last->harmless &= from->harmless;
		last->writes |= from->writes;
		last->facts |= from->facts;
		free(from->name);
	}
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

/* Packages hold functions that are called by their own names. They are not judged one by one: each word behind FUNCTION or PROCEDURE
 * in a package's text is a name that nothing is proven of. With `out` NULL they are only counted. */
static size_t package_names(const struct routine_source *source, struct entry *out)
{
	const char *at = source->body;
	size_t n = 0;

	if (!at || strncasecmp(source->type, "PACKAGE", 7))
		return 0;
	while (*at) {
		size_t len = 0;
		bool routine;

		while (is_word(at[len]))
			len++;
		routine = (len == 8 && !strncasecmp(at, "FUNCTION", 8)) ||
			  (len == 9 && !strncasecmp(at, "PROCEDURE", 9));
		at += len ? len : 1;
		if (!routine)
			continue;
		while (*at && !is_word(*at))
			at++;
		for (len = 0; is_word(at[len]);)
			len++;
		if (!len)
			break;
		if (out) {
			out[n].routine.name = strndup(at, len);
			for (char *c = out[n].routine.name; c && *c; c++)
				*c = (char)tolower((unsigned char)*c);
			mark_opaque(&out[n]);
		}
		n++;
	}
	return n;
}

static bool fill(struct judge *j, const struct routine_source *sources, size_t count,
		 enum sql_flavour flavour, uint32_t version)
{
	size_t total = count;

	for (size_t i = 0; i < count; i++)
		total += package_names(&sources[i], NULL);
	j->entries = calloc(total + 1, sizeof(*j->entries));
	for (size_t i = 0; j->entries && i < count; i++) {
		struct entry *e = &j->entries[j->count++];

		e->routine.name = strdup(sources[i].name);
		judge_body(e, &sources[i], flavour, version);
		j->count += package_names(&sources[i], &j->entries[j->count]);
	}
	for (size_t i = 0; i < j->count; i++)
		if (!j->entries[i].routine.name)
			return false;
	return j->entries != NULL;
}

struct catalog *catalog_judge(const struct routine_source *sources, size_t count,
			      enum sql_flavour flavour, uint32_t version)
{
	struct judge j = { 0 };
	struct catalog *out = calloc(1, sizeof(*out));
	bool ok = out && fill(&j, sources, count, flavour, version);

	if (ok)
		out->routines = calloc(j.count + 1, sizeof(*out->routines));
	if (!ok || !out->routines) {
		for (size_t i = 0; i < j.count; i++)
			free(j.entries[i].routine.name);
		free(j.entries);
		catalog_free(out);
		return NULL;
	}
	qsort(j.entries, j.count, sizeof(*j.entries), compare_entries);
	for (size_t i = 0; i < j.count; i++)
		judge_entry(&j, &j.entries[i]);
	fold(&j, out);
	free(j.entries);
	return out;
}

struct catalog *catalog_read(struct line *line, enum sql_flavour flavour, uint32_t version)
{
	const struct flavour *f = flavour_of(flavour);
	MYSQL_RES *routines = line_query(line, f->routines);
	MYSQL_RES *loadable = routines ? line_query(line, f->loadable) : NULL;
	struct routine_source *sources = NULL;
	struct catalog *out = NULL;
	MYSQL_ROW row;
	size_t n = 0;

	if (routines && loadable)
		sources = calloc(mysql_num_rows(routines) + mysql_num_rows(loadable) + 1,
				 sizeof(*sources));
	while (sources && (row = mysql_fetch_row(routines)))
		sources[n++] = (struct routine_source){ row_text(row, 0), row_text(row, 1), row[2],
							row_text(row, 3) };
	while (sources && (row = mysql_fetch_row(loadable)))
		sources[n++] = (struct routine_source){ row_text(row, 0), "LOADABLE", NULL, "" };
	if (sources)
		out = catalog_judge(sources, n, flavour, version);
	free(sources);
	mysql_free_result(routines);
	mysql_free_result(loadable);
	return out;
}

bool catalog_stamp(struct line *line, enum sql_flavour flavour, char out[CATALOG_STAMP_BYTES])
{
	MYSQL_RES *result = line_query(line, flavour_of(flavour)->catalog_stamp);
	MYSQL_ROW row = result ? mysql_fetch_row(result) : NULL;

	if (row)
		snprintf(out, CATALOG_STAMP_BYTES, "%s/%s/%s/%s", row_text(row, 0),
			 row_text(row, 1), row_text(row, 2), row_text(row, 3));
	mysql_free_result(result);
	return row != NULL;
}

bool catalog_equal(const struct catalog *a, const struct catalog *b)
{
	if (!a || !b || a->count != b->count)
		return a == b;
	for (size_t i = 0; i < a->count; i++) {
		const struct routine *x = &a->routines[i];
		const struct routine *y = &b->routines[i];

		if (strcmp(x->name, y->name) || x->harmless != y->harmless ||
		    x->writes != y->writes || x->facts != y->facts)
			return false;
	}
	return true;
}

void catalog_build(struct snapshot *snapshot, const struct catalog *catalog)
{
	snapshot->catalog_known = catalog != NULL;
	snapshot->routines = catalog && catalog->count
				     ? calloc(catalog->count, sizeof(*snapshot->routines))
				     : NULL;
	for (size_t i = 0; snapshot->routines && i < catalog->count; i++) {
		snapshot->routines[i] = catalog->routines[i];
		snapshot->routines[i].name = strdup(catalog->routines[i].name);
		snapshot->routine_count++;
	}
}

void catalog_free(struct catalog *catalog)
{
	if (!catalog)
		return;
	for (size_t i = 0; i < catalog->count; i++)
		free(catalog->routines[i].name);
	free(catalog->routines);
	free(catalog);
}
