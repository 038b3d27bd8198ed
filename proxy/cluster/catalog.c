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
	bool is_view;
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
		.utf8 = true,
		.ansi_quotes = strstr(mode, "ANSI_QUOTES") != NULL,
		.no_backslash_escapes = strstr(mode, "NO_BACKSLASH_ESCAPES") != NULL,
		.oracle = strstr(mode, "ORACLE") != NULL,
	};
}

static void judge_meaning(struct entry *e)
{
	e->routine.facts = e->meaning.facts;
	e->routine.writes = e->meaning.target == SQL_TO_PRIMARY;
	e->own_harmless =
		e->meaning.target == SQL_TO_REPLICA && !(e->meaning.facts & ~HARMLESS_FACTS);
}

/* A view that hides its text is read on the primary, but nobody has to stay there because of it. */
static void judge_view(struct entry *e, const struct sql_context *context)
{
	e->is_view = true;
	if (!e->body || !*e->body) {
		e->body = NULL;
		e->routine.writes = true;
		return;
	}
	sql_classify(context, e->body, strlen(e->body), &e->meaning);
	judge_meaning(e);
}

static void judge_body(struct entry *e, const struct routine_source *source,
		       enum sql_flavour flavour, uint32_t version)
{
	struct sql_context context = context_of(source, flavour, version);

	e->body = source->body;
	if (!strcasecmp(source->type, "VIEW")) {
		judge_view(e, &context);
		return;
	}
	if (!source->body ||
	    (strcasecmp(source->type, "FUNCTION") && strcasecmp(source->type, "PROCEDURE"))) {
		mark_opaque(e);
		return;
	}
	sql_classify_body(&context, source->body, strlen(source->body), &e->meaning);
	judge_meaning(e);
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
		if (e->is_view)
			continue;
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

static bool is_suspect(const struct entry *e)
{
	return e->is_view && (!e->routine.harmless || e->routine.facts & SQL_F_READS_UVAR);
}

struct mention {
	const struct judge *judge;
	struct entry *view; /* in which others are mentioned */
};

static bool adopt_mentioned(void *arg, const char *name, size_t len)
{
	struct mention *m = arg;
	const struct judge *j = m->judge;

	for (const struct entry *e = find(j, name, len); e && e < j->entries + j->count; e++) {
		if (strncasecmp(e->routine.name, name, len) || e->routine.name[len])
			break;
		if (e == m->view || !is_suspect(e))
			continue;
		m->view->routine.facts |= e->routine.facts;
		m->view->routine.writes |= e->routine.writes;
		m->view->routine.harmless &= e->routine.harmless;
	}
	return false;
}

/* A view of suspect views is suspect. True when that was news. */
static bool spread_once(struct judge *j, const struct sql_context *context)
{
	bool news = false;

	for (size_t i = 0; i < j->count; i++) {
		struct entry *e = &j->entries[i];
		struct mention m = { j, e };
		uint64_t facts = e->routine.facts;
		bool harmless = e->routine.harmless;

		if (!e->is_view || !e->body)
			continue;
		sql_mentions(context, e->body, strlen(e->body), adopt_mentioned, &m);
		news |= facts != e->routine.facts || harmless != e->routine.harmless;
	}
	return news;
}

static void spread(struct judge *j, enum sql_flavour flavour, uint32_t version)
{
	const struct routine_source plain = { .sql_mode = "" };
	struct sql_context context = context_of(&plain, flavour, version);
	bool any = false;

	for (size_t i = 0; i < j->count; i++)
		any |= is_suspect(&j->entries[i]);
	while (any && spread_once(j, &context))
		;
}

/* Overloads are folded into the worst of all; the name is handed over. */
static void add_folded(struct routine *list, size_t *count, const struct routine *from)
{
	struct routine *last = *count ? &list[*count - 1] : NULL;

	if (!last || strcmp(last->name, from->name)) {
		list[(*count)++] = *from;
		return;
	}
	last->harmless &= from->harmless;
	last->writes |= from->writes;
	last->facts |= from->facts;
	free(from->name);
}

static void fold(struct judge *j, struct catalog *out)
{
	for (size_t i = 0; i < j->count; i++) {
		const struct entry *e = &j->entries[i];

		out->hidden_views += e->is_view && !e->body;
		if (!e->is_view)
			add_folded(out->routines, &out->count, &e->routine);
		else if (is_suspect(e))
			add_folded(out->views, &out->view_count, &e->routine);
		else
			free(e->routine.name);
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

	if (ok) {
		out->routines = calloc(j.count + 1, sizeof(*out->routines));
		out->views = calloc(j.count + 1, sizeof(*out->views));
	}
	if (!ok || !out->routines || !out->views) {
		for (size_t i = 0; i < j.count; i++)
			free(j.entries[i].routine.name);
		free(j.entries);
		catalog_free(out);
		return NULL;
	}
	qsort(j.entries, j.count, sizeof(*j.entries), compare_entries);
	for (size_t i = 0; i < j.count; i++)
		judge_entry(&j, &j.entries[i]);
	spread(&j, flavour, version);
	fold(&j, out);
	free(j.entries);
	return out;
}

static void add_rows(struct routine_source *sources, size_t *count, MYSQL_RES *result, const char *type)
{
	MYSQL_ROW row;

	while (result && (row = mysql_fetch_row(result))) {
		if (!type)
			sources[(*count)++] = (struct routine_source){ row_text(row, 0), row_text(row, 1), row[2],
								       row_text(row, 3) };
		else
			sources[(*count)++] = (struct routine_source){
				row_text(row, 0), type, mysql_num_fields(result) > 1 ? row[1] : NULL, ""
			};
	}
}

struct catalog *catalog_read(struct line *line, enum sql_flavour flavour, uint32_t version)
{
	const struct flavour *f = flavour_of(flavour);
	MYSQL_RES *routines = line_query(line, f->routines);
	MYSQL_RES *loadable = routines ? line_query(line, f->loadable) : NULL;
	MYSQL_RES *views = loadable ? line_query(line, f->views) : NULL;
	bool refused = loadable && !views && line->error && !line_error_is_loss(line);
	struct routine_source *sources = NULL;
	struct catalog *out = NULL;
	size_t n = 0;

	if (loadable && (views || refused))
		sources = calloc(mysql_num_rows(routines) + mysql_num_rows(loadable) +
					 (views ? mysql_num_rows(views) : 0) + 1,
				 sizeof(*sources));
	if (sources) {
		add_rows(sources, &n, routines, NULL);
		add_rows(sources, &n, loadable, "LOADABLE");
		add_rows(sources, &n, views, "VIEW");
		out = catalog_judge(sources, n, flavour, version);
	}
	if (out)
		out->views_unknown = refused;
	free(sources);
	mysql_free_result(routines);
	mysql_free_result(loadable);
	mysql_free_result(views);
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

static bool routines_equal(const struct routine *a, size_t a_count, const struct routine *b, size_t b_count)
{
	if (a_count != b_count)
		return false;
	for (size_t i = 0; i < a_count; i++)
		if (strcmp(a[i].name, b[i].name) || a[i].harmless != b[i].harmless || a[i].writes != b[i].writes ||
		    a[i].facts != b[i].facts)
			return false;
	return true;
}

bool catalog_equal(const struct catalog *a, const struct catalog *b)
{
	if (!a || !b)
		return a == b;
	return routines_equal(a->routines, a->count, b->routines, b->count) &&
	       routines_equal(a->views, a->view_count, b->views, b->view_count);
}

static struct routine *copy_routines(const struct routine *from, size_t count, size_t *copied)
{
	struct routine *out = count ? calloc(count, sizeof(*out)) : NULL;

	*copied = out ? count : 0;
	for (size_t i = 0; i < *copied; i++) {
		out[i] = from[i];
		out[i].name = strdup(from[i].name);
	}
	return out;
}

void catalog_build(struct snapshot *snapshot, const struct catalog *catalog)
{
	snapshot->catalog_known = catalog != NULL;
	if (!catalog)
		return;
	snapshot->routines = copy_routines(catalog->routines, catalog->count, &snapshot->routine_count);
	snapshot->views = copy_routines(catalog->views, catalog->view_count, &snapshot->view_count);
}

static void free_routines(struct routine *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i].name);
	free(list);
}

void catalog_free(struct catalog *catalog)
{
	if (!catalog)
		return;
	free_routines(catalog->routines, catalog->count);
	free_routines(catalog->views, catalog->view_count);
	free(catalog);
}
