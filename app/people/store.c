#include "app/people/people.h"

#include <string.h>

enum { CODE_DUPLICATE = 1062 };

#define COLUMNS "id, version, name, email, phone, city, note, DATE_FORMAT(changed_at, '%Y-%m-%d %H:%i'), changed_by"

/* A pattern for LIKE in which the words stand for themselves. */
static const char *pattern(struct app_request *r, const char *words)
{
	char *out = app_alloc(r, 2 * strlen(words) + 3), *at = out;

	if (!out)
		return "%";
	*at++ = '%';
	for (; *words; words++) {
		if (strchr("%_|", *words))
			*at++ = '|';
		*at++ = *words;
	}
	*at++ = '%';
	*at = '\0';
	return out;
}

static long long limit(long long value, long long least, long long most)
{
	return value < least ? least : value > most ? most : value;
}

bool store_list(struct visit *v, const char *words, long long page, long long size, struct people_list *out)
{
	struct app_value like = app_string(pattern(v->r, words));
	struct app_rows *count;

	if (*words)
		count = app_sql(v->db, "SELECT COUNT(*) FROM people_person WHERE name LIKE ? ESCAPE '|' OR email LIKE ? ESCAPE '|' OR city LIKE ? ESCAPE '|'",
				like, like, like);
	else
		count = app_sql(v->db, "SELECT COUNT(*) FROM people_person");
	if (!app_rows_next(count))
		return false;
	out->size = limit(size, 1, PAGE_SIZE_MAX);
	out->total = app_rows_int(count, 0);
	out->pages = out->total ? (out->total + out->size - 1) / out->size : 1;
	out->page = limit(page, 1, out->pages);
	if (*words)
		out->rows = app_sql(v->db,
				    "SELECT " COLUMNS " FROM people_person WHERE name LIKE ? ESCAPE '|' OR email LIKE ? ESCAPE '|' OR city LIKE ? ESCAPE '|'"
				    " ORDER BY name, id LIMIT ? OFFSET ?",
				    like, like, like, app_int(out->size), app_int((out->page - 1) * out->size));
	else
		out->rows = app_sql(v->db, "SELECT " COLUMNS " FROM people_person ORDER BY name, id LIMIT ? OFFSET ?", app_int(out->size),
				    app_int((out->page - 1) * out->size));
	return out->rows != NULL;
}

static const char *text_at(const struct app_rows *rows, size_t column)
{
	const char *text = app_rows_text(rows, column);

	return text ? text : "";
}

struct person person_of_row(const struct app_rows *rows)
{
	return (struct person){
		.id = app_rows_int(rows, 0),
		.version = app_rows_int(rows, 1),
		.name = text_at(rows, 2),
		.email = text_at(rows, 3),
		.phone = text_at(rows, 4),
		.city = text_at(rows, 5),
		.note = text_at(rows, 6),
		.changed = app_rows_text(rows, 7),
	};
}

enum store_result store_get(struct visit *v, long long id, struct person *out)
{
	struct app_rows *rows = app_sql(v->db, "SELECT " COLUMNS " FROM people_person WHERE id = ?", app_int(id));

	if (!rows)
		return STORE_FAILED;
	if (!app_rows_next(rows))
		return STORE_GONE;
	*out = person_of_row(rows);
	out->changed = app_text(v->r, "%s by %s", text_at(rows, 7), text_at(rows, 8));
	return STORE_FINE;
}

static enum store_result failure(const struct visit *v)
{
	return app_db_code(v->db) == CODE_DUPLICATE ? STORE_TAKEN : STORE_FAILED;
}

enum store_result store_add(struct visit *v, struct person *p)
{
	struct app_rows *done = app_sql(v->db, "INSERT INTO people_person (name, email, phone, city, note, changed_by) VALUES (?, ?, ?, ?, ?, ?)",
					app_string(p->name), app_string(p->email), app_string(p->phone), app_string(p->city),
					app_string(p->note), app_string(v->user));

	if (!done)
		return failure(v);
	p->id = (long long)app_rows_insert_id(done);
	return STORE_FINE;
}

enum store_result store_change(struct visit *v, const struct person *p)
{
	struct app_rows *done = app_sql(v->db,
					"UPDATE people_person SET name = ?, email = ?, phone = ?, city = ?, note = ?, changed_by = ?, version = version + 1"
					" WHERE id = ? AND (version = ? OR ? = 0)",
					app_string(p->name), app_string(p->email), app_string(p->phone), app_string(p->city),
					app_string(p->note), app_string(v->user), app_int(p->id), app_int(p->version), app_int(p->version));
	struct person now;
	enum store_result there;

	if (!done)
		return failure(v);
	if (app_rows_affected(done))
		return STORE_FINE;
	there = store_get(v, p->id, &now);
	return there == STORE_FINE ? STORE_CHANGED : there;
}

enum store_result store_remove(struct visit *v, long long id)
{
	struct app_rows *done = app_sql(v->db, "DELETE FROM people_person WHERE id = ?", app_int(id));

	if (!done)
		return STORE_FAILED;
	return app_rows_affected(done) ? STORE_FINE : STORE_GONE;
}

enum store_result store_account(struct visit *v, const char *name, const char **hash)
{
	struct app_rows *rows = app_sql(v->db, "SELECT password FROM people_account WHERE name = ?", app_string(name));

	*hash = NULL;
	if (!rows)
		return STORE_FAILED;
	if (!app_rows_next(rows))
		return STORE_GONE;
	*hash = app_rows_text(rows, 0);
	return STORE_FINE;
}

enum store_result store_add_account(struct visit *v, const char *name, const char *hash)
{
	return app_sql(v->db, "INSERT INTO people_account (name, password) VALUES (?, ?)", app_string(name), app_string(hash)) ? STORE_FINE
															      : failure(v);
}
