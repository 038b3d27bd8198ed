/* The settings of applications: their threads, their database account, the modules that are loaded. */
#include "daemon/setting_row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/settings.h"

#define APP(field)   offsetof(struct app_settings, field)
#define ENTRY(field) offsetof(struct app_entry, field)

static const struct setting app_rows[] = {
	{ "threads", COUNT(APP(threads), "16", "1", "1024"), 0,
	  "Requests that applications work on at a time; each has a thread meanwhile, which is begun when it is first needed." },
	{ "queue", COUNT(APP(queue), "1024", "0", "1000000"), 0,
	  "Requests that may wait for a thread; more are refused with 503." },
	{ 0 },
};

static const struct setting entry_rows[] = {
	{ "module", OTHER(text, ENTRY(module), NULL), SETTING_REQUIRED,
	  "Shared object with the application. A reload loads it anew if the file is another; requests under way end with the old one." },
	{ 0 },
};

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

static void check(struct config_load *load, const struct settings *settings)
{
	const struct app_settings *app = app_settings_of(settings);

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
