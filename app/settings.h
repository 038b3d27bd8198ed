/*
 * The settings of the application room: [app] and [app NAME]. Filled by daemon/setting_app.c, immutable once published. Times in
 * milliseconds.
 */
#ifndef TANDEM_APP_SETTINGS_H
#define TANDEM_APP_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settings;

/* [app NAME] */
struct app_entry {
	char *name;
	char *module; /* path of a shared object */
};

/* [app] */
struct app_settings {
	unsigned threads; /* 16 */
	unsigned queue;	  /* 1024: requests that wait for a thread; more get 503 */
	char **fastcgi;	  /* listeners for other web servers */
	size_t fastcgi_count;
	char *fastcgi_app; /* of requests that name none; NULL: they are refused */
	char *user; /* for app_db(); NULL: there is no database */
	char *password;
	char *database; /* NULL: none is chosen */
	char *socket;	/* where the proxy listens for apps; made from state_dir. NULL without user */
	uint32_t session_ms; /* 43200000: how long somebody stays logged in */
	struct app_entry *entries;
	size_t entry_count;
};

/* The room's part of the settings; NULL when none were made for it. */
struct app_settings *app_settings_of(const struct settings *settings);
/* Makes zeroed ones within `settings`, freed with them. False when memory ran out. */
bool app_settings_init(struct settings *settings);

#endif
