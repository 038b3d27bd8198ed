/*
 * /api/people and /api/people/ID. Reading is free; who changes something is logged in: by HTTP Basic, or by the session's cookie with
 * its token in X-CSRF-Token.
 */
#include "app/people/people.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "app/json.h"

/* ---- Who ---- */

/* The name and password of "Basic BASE64"; false: it is none. */
static bool basic(struct visit *v, const char **name, const char **password)
{
	const char *field = app_param(v->r, "HTTP_AUTHORIZATION");
	size_t len = field && !strncasecmp(field, "Basic ", 6) ? strlen(field + 6) : 0;
	char *text = len && len < 4096 ? app_alloc(v->r, len + 4) : NULL;
	int n = text ? EVP_DecodeBlock((unsigned char *)text, (const unsigned char *)field + 6, (int)len) : -1;
	char *colon;

	if (n <= 0)
		return false;
	text[n] = '\0';
	colon = strchr(text, ':');
	if (!colon)
		return false;
	*colon = '\0';
	*name = text;
	*password = colon + 1;
	return true;
}

/* False: refused, answered. */
static bool may_change(struct visit *v)
{
	const char *name, *password;

	if (basic(v, &name, &password)) {
		if (account_check(v, name, password)) {
			v->user = name;
			return true;
		}
	} else if (v->user && app_param(v->r, "HTTP_X_CSRF_TOKEN") && app_csrf_check(v->r)) {
		return true;
	}
	app_header(v->r, "WWW-Authenticate", "Basic realm=\"people\", charset=\"UTF-8\"");
	app_json_fail(v->r, 401, "log in: HTTP Basic, or the session's cookie with its token in X-CSRF-Token");
	return false;
}

/* ---- Texts ---- */

static json_t *to_json(const struct person *p)
{
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s, s:I}", "id", (json_int_t)p->id, "name", p->name, "email", p->email, "phone", p->phone, "city",
			 p->city, "note", p->note, "version", (json_int_t)p->version);
}

static const char *member(const json_t *object, const char *name, bool *fine)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(value);

	if (value && (!text || strlen(text) != json_string_length(value)))
		*fine = false;
	return text ? text : "";
}

static void add_problem(json_t *to, const char *name, const char *problem)
{
	if (problem)
		json_object_set_new(to, name, json_string(problem));
}

static void refuse(struct visit *v, const struct problems *wrong)
{
	json_t *all = json_object();

	add_problem(all, "name", wrong->name);
	add_problem(all, "email", wrong->email);
	add_problem(all, "phone", wrong->phone);
	add_problem(all, "city", wrong->city);
	add_problem(all, "note", wrong->note);
	app_json_send(v->r, 422, json_pack("{s:s, s:o}", "error", "not a person that can be stored", "problems", all));
}

/* The person that the body is, checked; false: answered. The texts are in the request's memory. */
static bool take_person(struct visit *v, struct person *p)
{
	json_t *body = app_json_read(v->r, 0);
	struct problems wrong;
	bool fine = json_is_object(body);

	if (!body)
		return false;
	*p = (struct person){
		.name = member(body, "name", &fine),
		.email = member(body, "email", &fine),
		.phone = member(body, "phone", &fine),
		.city = member(body, "city", &fine),
		.note = member(body, "note", &fine),
		.version = json_integer_value(json_object_get(body, "version")),
	};
	/* The check copies the texts. */
	if (!fine)
		app_json_fail(v->r, 400, "an object is wanted, with texts without NUL: name, email, phone, city, note");
	else if (!person_check(v->r, p, &wrong)) {
		fine = false;
		refuse(v, &wrong);
	}
	json_decref(body);
	return fine;
}

/* False: answered. */
static bool stored(struct visit *v, enum store_result result)
{
	switch (result) {
	case STORE_FINE: return true;
	case STORE_GONE: app_json_fail(v->r, 404, "there is no such person"); break;
	case STORE_TAKEN: app_json_fail(v->r, 409, "somebody has this e-mail address already"); break;
	case STORE_CHANGED: app_json_fail(v->r, 409, "somebody else has changed this person since that version"); break;
	case STORE_FAILED:
		app_log(v->r, "SQL error %u: %s", app_db_code(v->db), app_db_message(v->db));
		app_json_fail(v->r, 503, "the database could not do that now");
		break;
	}
	return false;
}

/* ---- Requests ---- */

static long long number(struct visit *v, const char *name, long long otherwise)
{
	const char *text = app_query(v->r, name);

	return text ? strtoll(text, NULL, 10) : otherwise;
}

static void get_all(struct visit *v)
{
	const char *words = app_query(v->r, "q");
	json_t *people = json_array();
	struct people_list list;

	if (!store_list(v, words ? words : "", number(v, "page", 1), number(v, "size", PAGE_SIZE), &list)) {
		json_decref(people);
		stored(v, STORE_FAILED);
		return;
	}
	while (app_rows_next(list.rows)) {
		struct person p = person_of_row(list.rows);

		json_array_append_new(people, to_json(&p));
	}
	app_json_send(v->r, 200, json_pack("{s:I, s:I, s:I, s:o}", "total", (json_int_t)list.total, "page", (json_int_t)list.page, "pages",
					   (json_int_t)list.pages, "people", people));
}

static void send_person(struct visit *v, unsigned status, long long id)
{
	struct person p;

	if (stored(v, store_get(v, id, &p)))
		app_json_send(v->r, status, to_json(&p));
}

static void post(struct visit *v)
{
	struct person p;

	if (!may_change(v) || !take_person(v, &p) || !stored(v, store_add(v, &p)))
		return;
	app_header(v->r, "Location", app_text(v->r, "%s/%lld", app_link(v->r, "/api/people"), p.id));
	send_person(v, 201, p.id);
}

static void put(struct visit *v, long long id)
{
	struct person p;

	if (!may_change(v) || !take_person(v, &p))
		return;
	p.id = id;
	if (stored(v, store_change(v, &p)))
		send_person(v, 200, id);
}

static void delete(struct visit *v, long long id)
{
	if (may_change(v) && stored(v, store_remove(v, id)))
		app_status(v->r, 204);
}

static void no_method(struct visit *v, const char *allowed)
{
	app_header(v->r, "Allow", allowed);
	app_json_fail(v->r, 405, app_text(v->r, "only %s", allowed));
}

void api_serve(struct visit *v, const char *rest)
{
	char *end = NULL;
	long long id = *rest == '/' && rest[1] >= '1' && rest[1] <= '9' ? strtoll(rest + 1, &end, 10) : 0;

	if (!*rest && app_method_is(v->r, "GET"))
		get_all(v);
	else if (!*rest && app_method_is(v->r, "POST"))
		post(v);
	else if (!*rest)
		no_method(v, "GET, HEAD, POST");
	else if (!id || *end)
		app_json_fail(v->r, 404, "there is no such person");
	else if (app_method_is(v->r, "GET"))
		send_person(v, 200, id);
	else if (app_method_is(v->r, "PUT"))
		put(v, id);
	else if (app_method_is(v->r, "DELETE"))
		delete(v, id);
	else
		no_method(v, "GET, HEAD, PUT, DELETE");
}
