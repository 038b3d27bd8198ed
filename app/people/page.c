#include "app/people/people.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char style[] =
	":root{--ink:#1d2733;--soft:#5c6b7a;--line:#dfe5ea;--page:#f4f6f8;--card:#fff;--lead:#0b6e4f;--lead-ink:#fff;--bad:#b3261e;--mark:#e8f3ee;"
	"color-scheme:light dark}"
	"@media(prefers-color-scheme:dark){:root{--ink:#e6ebf0;--soft:#9fb0bf;--line:#2c3945;--page:#12181e;--card:#1a222a;--lead:#4cc38a;"
	"--lead-ink:#08130d;--bad:#ff8a80;--mark:#16302500}}"
	"*{box-sizing:border-box}"
	"body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}"
	"a{color:var(--lead)}h1{font-size:1.4rem;margin:0 0 1rem}"
	"header{background:var(--card);border-bottom:1px solid var(--line)}"
	"header>div,main,footer{max-width:62rem;margin:0 auto;padding:.8rem 1rem}"
	"header>div{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center}"
	"header .name{font-weight:700;font-size:1.2rem;text-decoration:none;color:var(--ink);margin-right:auto}"
	"header .name b{color:var(--lead)}header form{margin:0}.me{display:flex;gap:.9rem;align-items:center;min-width:0}"
	".me span{overflow:hidden;text-overflow:ellipsis;white-space:nowrap;max-width:12rem}"
	"main{padding-top:1.4rem;padding-bottom:1.4rem}"
	".card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:1.2rem;box-shadow:0 1px 2px #0000000d}"
	".narrow{max-width:28rem;margin:0 auto}.medium{max-width:40rem;margin:0 auto}"
	"button,.button{display:inline-block;font:inherit;font-weight:600;padding:.55rem 1.1rem;border-radius:8px;border:1px solid var(--lead);"
	"background:var(--lead);color:var(--lead-ink);text-decoration:none;cursor:pointer;min-height:44px}"
	"button.plain,.button.plain{background:none;color:var(--lead);border-color:var(--line)}"
	"button.bad{background:var(--bad);border-color:var(--bad);color:#fff}"
	"button.link{border:0;background:none;color:var(--lead);padding:.55rem 0;font-weight:400;text-decoration:underline}"
	":focus-visible{outline:3px solid var(--lead);outline-offset:2px}"
	"label{display:block;font-weight:600;margin-bottom:.25rem}"
	"input,textarea{width:100%;font:inherit;color:inherit;background:var(--page);border:1px solid var(--line);border-radius:8px;padding:.55rem .7rem;"
	"min-height:44px}"
	".field{margin-bottom:1rem}.field small{color:var(--soft)}.field.wrong input,.field.wrong textarea{border-color:var(--bad)}"
	".problem{color:var(--bad);margin:.25rem 0 0;font-size:.95rem}"
	".buttons{display:flex;flex-wrap:wrap;gap:.8rem;align-items:center;margin:1.2rem 0 0}"
	".flash{background:var(--mark);border:1px solid var(--lead);border-radius:8px;padding:.6rem 1rem;margin:0 0 1rem}"
	".tools{display:flex;flex-wrap:wrap;gap:.6rem;margin-bottom:1rem}.tools form{display:flex;gap:.6rem;flex:1 1 16rem}"
	".list{list-style:none;margin:0;padding:0;overflow:hidden}"
	".list li{display:grid;grid-template-columns:44px 1fr auto;gap:.1rem .9rem;align-items:center;padding:.7rem 1rem;border-top:1px solid var(--line)}"
	".list li:first-child{border-top:0}"
	".face{grid-row:span 2;width:44px;height:44px;border-radius:50%;display:grid;place-items:center;font-weight:700;color:#fff;background:#666}"
	".who{font-weight:600;overflow-wrap:anywhere}.what{grid-column:2;color:var(--soft);font-size:.95rem;overflow-wrap:anywhere}"
	".what a{color:inherit}.what a,.what span{display:block}.act{grid-row:span 2;grid-column:3;grid-row-start:1}.act a{display:inline-block;padding:.6rem .2rem}"
	".pages{display:flex;gap:.6rem;align-items:center;justify-content:center;margin-top:1rem;color:var(--soft)}"
	".empty{padding:2.5rem 1rem;text-align:center;color:var(--soft)}"
	"footer{color:var(--soft);font-size:.85rem}footer table{border-collapse:collapse;width:100%}footer summary{cursor:pointer}"
	"footer td,footer th{text-align:left;padding:.25rem .8rem .25rem 0;vertical-align:top;border-top:1px solid var(--line)}"
	"footer code{overflow-wrap:anywhere;font-size:.8rem}.server{font-weight:700;color:var(--ink);white-space:nowrap}.num{white-space:nowrap}"
	"@media(max-width:30rem){header .name span{display:none}.tools>.button{flex:1 1 100%;text-align:center}footer td:nth-child(3){display:none}"
	"footer th:nth-child(3){display:none}}"
	"@media(min-width:46rem){.what a,.what span{display:inline}.what span::before{content:'\\00b7';margin:0 .4rem}.list li{grid-template-columns:44px 15rem 1fr auto}.face{grid-row:1}.what{grid-column:3}.act{grid-column:4;grid-row:1}}";

/* ---- The frame ---- */

static void visitor(struct visit *v)
{
	if (!v->user) {
		app_html(v->r, "<div class=me><a class=\"button plain\" href=\"%s\">Log in</a></div>", app_link(v->r, "/login"));
		return;
	}
	app_html(v->r, "<div class=me><span>%s</span><form method=post action=\"%s\">", v->user, app_link(v->r, "/logout"));
	page_token(v);
	app_puts(v->r, "<button class=link>Log out</button></form></div>");
}

void page_begin(struct visit *v, const char *title)
{
	const char *flash = app_flash_take(v->r);

	/* Shown once; the session can be changed only before the head is on its way. */
	v->carried = app_session_get(v->r, "_trace");
	if (v->carried)
		app_session_set(v->r, "_trace", NULL);

	app_html(v->r,
		 "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">"
		 "<title>%s - People</title>"
		 "<link rel=icon href=\"data:image/svg+xml,%%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 10 10'%%3E"
		 "%%3Ccircle cx='5' cy='5' r='5' fill='%%230b6e4f'/%%3E%%3C/svg%%3E\"><style>",
		 title);
	app_puts(v->r, style);
	app_html(v->r, "</style></head><body><header><div><a class=name href=\"%s\"><b>People</b><span> of foobar.com</span></a>", app_link(v->r, "/"));
	visitor(v);
	app_puts(v->r, "</div></header><main>");
	if (flash)
		app_html(v->r, "<p class=flash role=status>%s</p>", flash);
}

void page_token(struct visit *v)
{
	app_html(v->r, "<input type=hidden name=csrf value=\"%s\">", app_csrf_token(v->r));
}

void page_field(struct visit *v, const struct field *f)
{
	app_html(v->r, "<div class=\"field%s\"><label for=\"%s\">%s</label>", f->problem ? " wrong" : "", f->name, f->label);
	if (!strcmp(f->type, "textarea"))
		app_html(v->r, "<textarea id=\"%s\" name=\"%s\" rows=4", f->name, f->name);
	else
		app_html(v->r, "<input id=\"%s\" name=\"%s\" type=\"%s\" value=\"%s\"", f->name, f->name, f->type, f->value);
	app_printf(v->r, " %s%s>", f->more ? f->more : "", f->problem ? " aria-invalid=true" : "");
	if (!strcmp(f->type, "textarea"))
		app_html(v->r, "%s</textarea>", f->value);
	if (f->problem)
		app_html(v->r, "<p class=problem>%s</p>", f->problem);
	else if (f->hint)
		app_html(v->r, "<small>%s</small>", f->hint);
	app_puts(v->r, "</div>");
}

/* ---- What the statements cost, and who answered ---- */

enum { CARRIED_MAX = 1200, CARRIED_SQL = 160 };

/* Behind a redirect the page before is gone; what it cost goes along in the session: "server\tus\tsql\n". */
static void carry_trace(struct visit *v)
{
	struct app_trace t;
	const char *text = "";

	for (size_t i = 0; app_db_trace_at(v->db, i, &t); i++) {
		const char *more = app_text(v->r, "%s%s\t%llu\t%.*s\n", text, t.server, (unsigned long long)t.us, CARRIED_SQL, t.sql);

		if (strlen(more) > CARRIED_MAX)
			break;
		text = more;
	}
	app_session_set(v->r, "_trace", *text ? text : NULL);
}

static void trace_row(struct visit *v, const char *why, const char *server, unsigned long long us, const char *sql)
{
	app_html(v->r, "<tr data-step=\"%s\"><td class=server>%s<td class=num>%llu.%02llu ms<td>%s<td><code>%s</code>", why, *server ? server : "?",
		 us / 1000, us % 1000 / 10, why, sql);
}

static void carried_rows(struct visit *v, char *text)
{
	char *line, *server, *us;

	while ((line = strsep(&text, "\n")) && *line) {
		server = strsep(&line, "\t");
		us = strsep(&line, "\t");
		if (us && line)
			trace_row(v, "saved", server, strtoull(us, NULL, 10), line);
	}
}

void page_end(struct visit *v)
{
	struct app_trace t;
	unsigned long long us = 0;
	size_t count = 0;

	for (; v->db && app_db_trace_at(v->db, count, &t); count++)
		us += t.us;
	app_html(v->r, "</main><footer><details open><summary>Served by Tandem: %zu SQL statement%s for this page in %llu.%02llu ms</summary>", count,
		 count == 1 ? "" : "s", us / 1000, us % 1000 / 10);
	app_puts(v->r, "<table id=trace><thead><tr><th>Server<th>Time<th>For<th>Statement</thead><tbody>");
	if (v->carried)
		carried_rows(v, app_copy(v->r, v->carried, strlen(v->carried)));
	for (size_t i = 0; v->db && app_db_trace_at(v->db, i, &t); i++)
		trace_row(v, "this page", t.server, t.us, t.sql);
	app_puts(v->r, "</tbody></table></details></footer></body></html>\n");
}

/* ---- Short answers ---- */

void page_message(struct visit *v, unsigned status, const char *title, const char *text)
{
	app_status(v->r, status);
	page_begin(v, title);
	app_html(v->r, "<div class=\"card medium\"><h1>%s</h1><p>%s</p><p><a href=\"%s\">To the list</a></div>", title, text, app_link(v->r, "/"));
	page_end(v);
}

void page_store_failed(struct visit *v)
{
	enum { CODE_NO_TABLE = 1146 };

	app_log(v->r, "SQL error %u: %s", app_db_code(v->db), app_db_message(v->db));
	if (app_db_code(v->db) == CODE_NO_TABLE)
		page_message(v, 503, "Not set up yet", "The tables of this site are not there: run sql/people.sql in its database.");
	else
		page_message(v, 503, "Not now", "The database could not do that now. Nothing was changed; please try again in a moment.");
}

void page_go(struct visit *v, const char *path, const char *text)
{
	if (text)
		app_flash(v->r, text);
	carry_trace(v);
	app_redirect(v->r, app_link(v->r, path));
}

bool page_may_change(struct visit *v)
{
	if (!v->user) {
		app_flash(v->r, "Please log in first.");
		app_redirect(v->r, app_link(v->r, "/login"));
		return false;
	}
	if (app_method_is(v->r, "GET"))
		return true;
	if (!app_form(v->r))
		return false;
	if (app_csrf_check(v->r))
		return true;
	page_message(v, 403, "This form is too old",
		     "It was not sent from a page of this site in your session. Please go back, load the page again and try once more.");
	return false;
}
