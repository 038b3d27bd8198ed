/* The settings of applications: their threads, their database account, the modules that are loaded. */
#include "daemon/setting_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/room.h"
#include "app/settings.h"

#define APP(field)   offsetof(struct app_settings, field)
#define ENTRY(field) offsetof(struct app_entry, field)

static const struct setting app_rows[] = {
	{ "threads", COUNT(APP(threads), "16", "1", "1024"), 0,
	  "Requests that applications work on at a time; each has a thread meanwhile, which is begun when it is first needed." },
	{ "queue", COUNT(APP(queue), "1024", "0", "1000000"), 0,
	  "Requests that may wait for a thread; more are refused with 503." },
	{ "fastcgi", OTHER(listen, APP(fastcgi), NULL), SETTING_RESTART,
	  "Where other web servers reach the same applications by FastCGI: host:port or unix:/path; the variable TANDEM_APP names one. Who can "
	  "connect is believed what he says of his clients: keep it to loopback or a private network. May be given several times." },
	{ "fastcgi_app", OTHER(text, APP(fastcgi_app), NULL), SETTING_RESTART,
	  "The application of requests there that name none. Default: they are refused." },
	{ "user", OTHER(text, APP(user), NULL), SETTING_RESTART,
	  "Account with which applications reach the database, through the proxy of this process. Default: none, they have no database." },
	{ "password", OTHER(secret, APP(password), ""), 0, "Its password." },
	{ "database", OTHER(text, APP(database), NULL), 0, "The schema that applications find chosen." },
	{ "session_time", DURATION(APP(session_ms), "12h", "1min", "365d"), 0,
	  "How long a visitor's session lives without a request; the key that signs sessions is replaced as often." },
	{ 0 },
};

static const struct setting entry_rows[] = {
	{ "module", OTHER(text, ENTRY(module), NULL), SETTING_REQUIRED,
	  "Shared object with the application. A reload loads it anew if the file is another; requests under way end with the old one." },
	{ 0 },
};

_Static_assert(APP(fastcgi_count) == APP(fastcgi) + sizeof(char **), "a list's count follows it");

static void *app_at(struct settings *settings, size_t index)
{
	(void)index;
	return app_settings_of(settings);
}

static void *entry_at(struct settings *settings, size_t index)
{
	return &app_settings_of(settings)->entries[index];
}

static bool add_entry(struct settings *settings, const char *name)
{
	struct app_settings *app = app_settings_of(settings);
	struct app_entry *entries = realloc(app->entries, (app->entry_count + 1) * sizeof(*entries));

	if (!entries)
		return false;
	app->entries = entries;
	entries[app->entry_count] = (struct app_entry){ .name = strdup(name) };
	return entries[app->entry_count++].name != NULL;
}

static bool is_user(const struct settings *settings, const char *name)
{
	for (size_t i = 0; i < settings->user_count; i++)
		if (!strcmp(settings->users[i].name, name))
			return true;
	return false;
}

/* The proxy lets the account in by this very password, whatever plugin the servers use for it. */
static bool add_account(struct settings *settings, const struct app_settings *app)
{
	struct user_settings *users;

	if (is_user(settings, app->user))
		return true;
	users = realloc(settings->users, (settings->user_count + 1) * sizeof(*users));
	if (!users)
		return false;
	settings->users = users;
	users[settings->user_count] = (struct user_settings){ strdup(app->user), strdup(app->password ? app->password : "") };
	return users[settings->user_count].name && users[settings->user_count++].password;
}

/* A socket of their own, in a directory that nobody else can look into. */
static bool add_listener(struct settings *settings, struct app_settings *app)
{
	struct proxy_settings *proxy = &settings->proxy;
	char **listen = realloc(proxy->listen, (proxy->listen_count + 1) * sizeof(*listen));

	if (!listen)
		return false;
	proxy->listen = listen;
	if (asprintf(&app->socket, "%s/app.sock", settings->state_dir) < 0) {
		app->socket = NULL;
		return false;
	}
	return asprintf(&listen[proxy->listen_count], "unix:%s", app->socket) >= 0 && ++proxy->listen_count;
}

/* Settings are being made: what is const to a check may still grow. */
static void prepare_database(struct config_load *load, struct settings *settings, struct app_settings *app)
{
	if (app->user && settings->state_dir && (!add_account(settings, app) || !add_listener(settings, app)))
		config_add_fault(load, "app", NULL, "user", "out of memory");
}

static void check(struct config_load *load, const struct settings *settings)
{
	struct app_settings *app = app_settings_of(settings);

	prepare_database(load, (struct settings *)settings, app);
	if (app->fastcgi_app && !app_room_has(settings, app->fastcgi_app))
		config_add_fault(load, "app", NULL, "fastcgi_app", "[app] fastcgi_app = %s: there is no such app", app->fastcgi_app);
	for (size_t i = 0; i < app->entry_count; i++)
		if (app->entries[i].module && app->entries[i].module[0] != '/')
			config_add_fault(load, "app", app->entries[i].name, "module", "[app %s] module = %s: needs a full path",
					 app->entries[i].name, app->entries[i].module);
}

static const struct section sections[] = {
	{ "app", SECTION_ONE, app_rows, app_at, NULL, "Applications: programs within Tandem that answer requests." },
	{ "app", SECTION_MANY, entry_rows, entry_at, add_entry, "An application that is loaded, for [route ...] to = app:NAME." },
	{ 0 },
};

const struct setting_room setting_room_app = { sections, app_settings_init, check };
