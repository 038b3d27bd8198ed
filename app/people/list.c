#include "app/people/people.h"

#include <stdlib.h>
#include <string.h>

/* ---- The list ---- */

static const char *words_of(struct visit *v)
{
	const char *words = app_query(v->r, "q");

	words = words ? text_trim(v->r, words) : "";
	return text_is_fine(words, 80, false) ? words : "";
}

static void tools(struct visit *v, const char *words)
{
	app_html(v->r,
		 "<div class=tools><form role=search action=\"%s\"><input type=search name=q value=\"%s\" aria-label=\"Search\" "
		 "placeholder=\"Name, e-mail or city\"><button class=plain>Search</button></form><a class=button href=\"%s\">Add a person</a></div>",
		 app_link(v->r, "/"), words, app_link(v->r, "/people/new"));
}

/* A colour and the first letter: whoever has no picture is told apart too. */
static void face(struct visit *v, const struct person *p)
{
	unsigned hue = 0;
	size_t first = 1;

	for (const char *c = p->name; *c; c++)
		hue = hue * 31 + (unsigned char)*c;
	while ((p->name[first] & 0xc0) == 0x80)
		first++;
	app_html(v->r, "<span class=face style=\"background:hsl(%u 45%% 40%%)\" aria-hidden=true>%.*s</span>", hue % 360, (int)first, p->name);
}

static void entry(struct visit *v, const struct person *p)
{
	app_puts(v->r, "<li>");
	face(v, p);
	app_html(v->r, "<span class=who>%s</span><span class=what><a href=\"mailto:%s\">%s</a>", p->name, p->email, p->email);
	if (*p->phone)
		app_html(v->r, "<span>%s</span>", p->phone);
	if (*p->city)
		app_html(v->r, "<span>%s</span>", p->city);
	app_html(v->r, "</span><span class=act><a href=\"%s/%lld\" aria-label=\"Edit %s\">Edit</a></span>", app_link(v->r, "/people"), p->id, p->name);
}

static void turn_pages(struct visit *v, const struct people_list *list, const char *words)
{
	const char *link = app_text(v->r, "%s?q=%s&page=", app_link(v->r, "/"), app_url(v->r, words));

	if (list->pages < 2)
		return;
	app_puts(v->r, "<nav class=pages>");
	if (list->page > 1)
		app_html(v->r, "<a class=\"button plain\" rel=prev href=\"%s%lld\">Back</a>", link, list->page - 1);
	app_html(v->r, "<span>Page %lld of %lld</span>", list->page, list->pages);
	if (list->page < list->pages)
		app_html(v->r, "<a class=\"button plain\" rel=next href=\"%s%lld\">Next</a>", link, list->page + 1);
	app_puts(v->r, "</nav>");
}

void list_show(struct visit *v)
{
	const char *words = words_of(v), *page = app_query(v->r, "page");
	struct people_list list;

	if (!store_list(v, words, page ? strtoll(page, NULL, 10) : 1, PAGE_SIZE, &list)) {
		page_store_failed(v);
		return;
	}
	page_begin(v, *words ? words : "List");
	tools(v, words);
	app_html(v->r, "<p id=total>%lld %s%s%s</p>", list.total, list.total == 1 ? "person" : "people", *words ? " found for " : "", words);
	if (!list.total)
		app_puts(v->r, "<div class=\"card empty\">Nobody here. Try fewer letters, or add a person.</div>");
	else
		app_puts(v->r, "<ul class=\"card list\" style=padding:0>");
	while (app_rows_next(list.rows)) {
		struct person p = person_of_row(list.rows);

		entry(v, &p);
	}
	if (list.total)
		app_puts(v->r, "</ul>");
	turn_pages(v, &list, words);
	page_end(v);
}

/* ---- One person ---- */

static void fields(struct visit *v, const struct person *p, const struct problems *wrong)
{
	const struct field all[] = {
		{ "name", "Name", "text", p->name, wrong->name, NULL, "required maxlength=80 autocomplete=off" },
		{ "email", "E-mail", "email", p->email, wrong->email, NULL, "required maxlength=120 autocomplete=off" },
		{ "phone", "Phone", "tel", p->phone, wrong->phone, NULL, "maxlength=30 autocomplete=off" },
		{ "city", "City", "text", p->city, wrong->city, NULL, "maxlength=60 autocomplete=off" },
		{ "note", "Note", "textarea", p->note, wrong->note, "At most 1000 characters.", "maxlength=1000" },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		page_field(v, &all[i]);
}

static void show_form(struct visit *v, const struct person *p, const struct problems *wrong)
{
	/* Browsers check too, but what they say of it is not what we say: novalidate leaves it to us. */
	page_begin(v, p->id ? p->name : "New person");
	app_html(v->r, "<form method=post novalidate class=\"card medium\"><h1>%s</h1>", p->id ? "Edit a person" : "New person");
	page_token(v);
	if (p->id)
		app_html(v->r, "<input type=hidden name=version value=\"%lld\">", p->version);
	fields(v, p, wrong);
	if (p->changed)
		app_html(v->r, "<small>Last changed %s</small>", p->changed);
	app_html(v->r, "<p class=buttons><button>Save</button><a href=\"%s\">Cancel</a>", app_link(v->r, "/"));
	if (p->id)
		app_html(v->r, "<a href=\"%s/%lld/remove\" style=\"margin-left:auto;color:var(--bad)\">Remove</a>", app_link(v->r, "/people"), p->id);
	app_puts(v->r, "</form>");
	page_end(v);
}

static void show_again(struct visit *v, const struct person *p, const struct problems *wrong)
{
	app_status(v->r, 422);
	show_form(v, p, wrong);
}

static void gone(struct visit *v)
{
	page_message(v, 404, "Not found", "There is no such person, or not any more.");
}

/* What a store_ function said; false: it is answered. */
static bool stored(struct visit *v, enum store_result result, const struct person *p)
{
	struct problems wrong = { 0 };

	switch (result) {
	case STORE_FINE: return true;
	case STORE_GONE: gone(v); break;
	case STORE_FAILED: page_store_failed(v); break;
	case STORE_TAKEN:
		wrong.email = "Somebody has this e-mail address already.";
		show_again(v, p, &wrong);
		break;
	case STORE_CHANGED:
		wrong.name = "Somebody else has changed this person meanwhile. Open it again to see what is there now.";
		show_again(v, p, &wrong);
		break;
	}
	return false;
}

void person_new(struct visit *v)
{
	struct person p = { .name = "", .email = "", .phone = "", .city = "", .note = "" };
	struct problems wrong = { 0 };

	if (!page_may_change(v))
		return;
	if (app_method_is(v->r, "GET")) {
		show_form(v, &p, &wrong);
		return;
	}
	p = person_of_form(v->r);
	if (!person_check(v->r, &p, &wrong))
		show_again(v, &p, &wrong);
	else if (stored(v, store_add(v, &p), &p))
		page_go(v, "/", app_text(v->r, "%s was added.", p.name));
}

void person_edit(struct visit *v, long long id)
{
	struct problems wrong = { 0 };
	struct person p = { 0 };

	if (!page_may_change(v))
		return;
	if (app_method_is(v->r, "GET")) {
		if (stored(v, store_get(v, id, &p), &p))
			show_form(v, &p, &wrong);
		return;
	}
	p = person_of_form(v->r);
	p.id = id;
	p.version = strtoll(app_field(v->r, "version"), NULL, 10);
	if (!person_check(v->r, &p, &wrong))
		show_again(v, &p, &wrong);
	else if (stored(v, store_change(v, &p), &p))
		page_go(v, "/", app_text(v->r, "%s was changed.", p.name));
}

void person_remove(struct visit *v, long long id)
{
	struct person p = { 0 };

	if (!page_may_change(v) || !stored(v, store_get(v, id, &p), &p))
		return;
	if (!app_method_is(v->r, "GET")) {
		if (stored(v, store_remove(v, id), &p))
			page_go(v, "/", app_text(v->r, "%s was removed.", p.name));
		return;
	}
	page_begin(v, "Remove");
	app_html(v->r, "<form method=post class=\"card narrow\"><h1>Remove %s?</h1><p>This cannot be undone.</p>", p.name);
	page_token(v);
	app_html(v->r, "<p class=buttons><button class=bad>Remove</button><a href=\"%s/%lld\">Keep</a></form>", app_link(v->r, "/people"), id);
	page_end(v);
}
