#include "app/people/people.h"

#include <stdlib.h>
#include <string.h>

/* A number and what follows it; 0: there is none. */
static long long take_id(const char *text, const char **rest)
{
	char *end;
	long long id = *text >= '1' && *text <= '9' ? strtoll(text, &end, 10) : 0;

	*rest = id > 0 ? end : text;
	return id > 0 && id < 1LL << 53 ? id : 0;
}

static void not_found(struct visit *v)
{
	page_message(v, 404, "Not found", "There is no such page.");
}

static void serve_person(struct visit *v, const char *path)
{
	const char *rest;
	long long id = take_id(path, &rest);

	if (!strcmp(path, "new"))
		person_new(v);
	else if (id && !*rest)
		person_edit(v, id);
	else if (id && !strcmp(rest, "/remove"))
		person_remove(v, id);
	else
		not_found(v);
}

static void serve_page(struct visit *v)
{
	static const struct {
		const char *path;
		void (*serve)(struct visit *v);
	} pages[] = {
		{ "/", list_show },
		{ "/login", account_login },
		{ "/logout", account_logout },
		{ "/register", account_register },
	};

	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		if (!strcmp(v->path, pages[i].path)) {
			pages[i].serve(v);
			return;
		}
	if (!strncmp(v->path, "/people/", 8))
		serve_person(v, v->path + 8);
	else
		not_found(v);
}

static bool is_api(const char *path)
{
	static const char prefix[] = "/api/people";
	size_t len = sizeof(prefix) - 1;

	return !strncmp(path, prefix, len) && (!path[len] || path[len] == '/');
}

static void handle(struct app_request *r)
{
	struct visit v = { .r = r, .db = app_db(r), .path = app_path(r), .user = app_session_get(r, "user") };

	if (!v.db) {
		app_header(r, "Retry-After", "2");
		app_fail(r, 503, "The database cannot be reached now. Please try again in a moment.");
		return;
	}
	/* Nothing of the page comes from elsewhere, and nobody else shows it. */
	app_header(r, "Content-Security-Policy",
		   "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
	app_db_trace(v.db);
	if (is_api(v.path))
		api_serve(&v, v.path + strlen("/api/people"));
	else
		serve_page(&v);
}

APP_MODULE(people) = { .abi = APP_ABI, .name = "people", .handle = handle };
