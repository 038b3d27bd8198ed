/*
 * The sample site: people with their addresses, which can be listed, searched, added, changed and removed, by a browser or as JSON. A real
 * application, written against app/ as any other; sql/people.sql makes its tables.
 *
 *   people.c  which page a request wants        store.c    the SQL
 *   list.c    the list, and a person's page     account.c  log in, log out, register
 *   page.c    what all pages share              api.c      /api/people
 *   person.c  what a person is, and what is wrong with one
 */
#ifndef TANDEM_APP_PEOPLE_H
#define TANDEM_APP_PEOPLE_H

#include "app/app.h"
#include "app/db.h"
#include "app/form.h"
#include "app/session.h"

/* One request. */
struct visit {
	struct app_request *r;
	struct app_db *db;
	const char *path;
	const char *user; /* who is logged in; NULL: nobody */
	const char *carried; /* what the page before this one cost, for the footer; NULL: nothing */
};

/* ---- person.c ---- */

struct person {
	long long id; /* 0: not stored yet */
	long long version; /* grows with each change: who saves an older one is told */
	const char *name, *email, *phone, *city, *note; /* never NULL */
	const char *changed; /* when, by whom; NULL: not known */
};

/* What is wrong with each field, as a sentence; NULL: nothing. */
struct problems {
	const char *name, *email, *phone, *city, *note;
};

/* Blanks at the ends are taken off first. True when all is well. */
bool person_check(struct app_request *r, struct person *p, struct problems *out);
struct person person_of_form(struct app_request *r);
/* UTF-8 without control characters, line ends apart when `lines`; at most `most` characters. */
bool text_is_fine(const char *text, size_t most, bool lines);
/* Without the blanks at its ends. */
const char *text_trim(struct app_request *r, const char *text);

/* ---- store.c ---- */

enum store_result {
	STORE_FINE,
	STORE_TAKEN,   /* somebody has this e-mail address, or account name, already */
	STORE_CHANGED, /* somebody else has changed it since it was read */
	STORE_GONE,    /* there is none */
	STORE_FAILED,  /* the database's fault */
};

enum { PAGE_SIZE = 12, PAGE_SIZE_MAX = 100 };

struct people_list {
	struct app_rows *rows; /* person_of_row() */
	long long total, page, pages, size;
};

/* `words`: what the name, e-mail address or city holds; "" all. `page` counts from 1 and may be too large. False: the database's fault. */
bool store_list(struct visit *v, const char *words, long long page, long long size, struct people_list *out);
struct person person_of_row(const struct app_rows *rows);
enum store_result store_get(struct visit *v, long long id, struct person *out);
/* Sets p->id. */
enum store_result store_add(struct visit *v, struct person *p);
/* p->version 0: whatever it was. */
enum store_result store_change(struct visit *v, const struct person *p);
enum store_result store_remove(struct visit *v, long long id);
enum store_result store_account(struct visit *v, const char *name, const char **hash);
enum store_result store_add_account(struct visit *v, const char *name, const char *hash);

/* ---- page.c ---- */

void page_begin(struct visit *v, const char *title);
/* The footer: what each statement was answered by. */
void page_end(struct visit *v);
/* A field of a form with what is wrong with it. */
struct field {
	const char *name, *label, *type, *value, *problem, *hint, *more; /* `more`: attributes, as they are */
};
void page_field(struct visit *v, const struct field *field);
void page_token(struct visit *v);
/* A whole page that says it. */
void page_message(struct visit *v, unsigned status, const char *title, const char *text);
/* The database did not do it. */
void page_store_failed(struct visit *v);
/* Redirects, and shows `text`, and what the statements so far cost, there. */
void page_go(struct visit *v, const char *path, const char *text);
/* False: nobody is logged in, or the form is not ours; answered. */
bool page_may_change(struct visit *v);

/* ---- The pages ---- */

void list_show(struct visit *v);
void person_new(struct visit *v);
void person_edit(struct visit *v, long long id);
void person_remove(struct visit *v, long long id);
void account_login(struct visit *v);
void account_logout(struct visit *v);
void account_register(struct visit *v);
/* Whether that is the account's password; takes its time. */
bool account_check(struct visit *v, const char *name, const char *password);
/* `rest` follows /api/people. */
void api_serve(struct visit *v, const char *rest);

#endif
