#include "app/people/people.h"

#include <string.h>

enum { NAME_MAX_CHARS = 40, PASSWORD_MIN = 8 };

static void form(struct visit *v, const char *title, const char *button, const char *problem, bool fresh)
{
	const struct field name = { "name", "Name", "text", app_field(v->r, "name"), problem, NULL,
				    "autocomplete=username required maxlength=40 autofocus" };
	const struct field password = { "password", "Password", "password", "", NULL, fresh ? "At least 8 characters." : NULL,
					fresh ? "autocomplete=new-password required minlength=8" : "autocomplete=current-password required" };

	page_begin(v, title);
	app_html(v->r, "<form method=post class=\"card narrow\"><h1>%s</h1>", title);
	page_token(v);
	page_field(v, &name);
	page_field(v, &password);
	app_html(v->r, "<p class=buttons><button>%s</button> <a href=\"%s\">%s</a></form>", button, app_link(v->r, fresh ? "/login" : "/register"),
		 fresh ? "I have an account" : "Create an account");
	page_end(v);
}

/* False: the form is not ours; answered. */
static bool form_is_ours(struct visit *v)
{
	if (!app_form(v->r))
		return false;
	if (app_csrf_check(v->r))
		return true;
	page_message(v, 403, "This form is too old", "It was not sent from a page of this site in your session. Please go back, load the page again and try once more.");
	return false;
}

static void begin_session(struct visit *v, const char *name, const char *greeting)
{
	app_session_clear(v->r);
	app_session_set(v->r, "user", name);
	page_go(v, "/", greeting);
}

bool account_check(struct visit *v, const char *name, const char *password)
{
	const char *hash;

	store_account(v, name, &hash);
	return app_password_check(v->r, password, hash);
}

void account_login(struct visit *v)
{
	const char *name;

	if (app_method_is(v->r, "GET")) {
		form(v, "Log in", "Log in", NULL, false);
		return;
	}
	if (!form_is_ours(v))
		return;
	name = text_trim(v->r, app_field(v->r, "name"));
	if (account_check(v, name, app_field(v->r, "password"))) {
		begin_session(v, name, app_text(v->r, "Welcome, %s.", name));
		return;
	}
	app_log(v->r, "a login failed from %s", app_param(v->r, "REMOTE_ADDR") ? app_param(v->r, "REMOTE_ADDR") : "nowhere");
	app_status(v->r, 403);
	form(v, "Log in", "Log in", "That name and password do not belong together.", false);
}

void account_logout(struct visit *v)
{
	if (app_method_is(v->r, "GET")) {
		app_redirect(v->r, app_link(v->r, "/"));
		return;
	}
	if (!form_is_ours(v))
		return;
	app_session_clear(v->r);
	page_go(v, "/", "You are logged out.");
}

static const char *account_problem(const char *name, const char *password)
{
	if (!*name || !text_is_fine(name, NAME_MAX_CHARS, false))
		return "Please give a name of at most 40 characters.";
	if (strlen(password) < PASSWORD_MIN)
		return "A password has at least 8 characters.";
	if (strlen(password) > APP_PASSWORD_MAX)
		return "A password has at most 512 bytes.";
	return NULL;
}

void account_register(struct visit *v)
{
	const char *name, *problem, *hash;
	enum store_result result;

	if (app_method_is(v->r, "GET")) {
		form(v, "Create an account", "Create it", NULL, true);
		return;
	}
	if (!form_is_ours(v))
		return;
	name = text_trim(v->r, app_field(v->r, "name"));
	problem = account_problem(name, app_field(v->r, "password"));
	hash = problem ? NULL : app_password_hash(v->r, app_field(v->r, "password"));
	result = hash ? store_add_account(v, name, hash) : STORE_FAILED;
	if (!problem && result == STORE_TAKEN)
		problem = "Somebody has that name already.";
	if (problem) {
		app_status(v->r, 422);
		form(v, "Create an account", "Create it", problem, true);
	} else if (result != STORE_FINE) {
		page_store_failed(v);
	} else {
		begin_session(v, name, app_text(v->r, "Welcome, %s. Your account is there.", name));
	}
}
