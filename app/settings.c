#include "app/settings.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/settings.h"

static void free_app(void *data)
{
	struct app_settings *app = data;

	for (size_t i = 0; i < app->fastcgi_count; i++)
		free(app->fastcgi[i]);
	free(app->fastcgi);
	free(app->fastcgi_app);
	free(app->user);
	if (app->password)
		secret_wipe(app->password, strlen(app->password));
	free(app->password);
	free(app->database);
	free(app->socket);
	for (size_t i = 0; i < app->entry_count; i++) {
		free(app->entries[i].name);
		free(app->entries[i].module);
	}
	free(app->entries);
	free(app);
}

struct app_settings *app_settings_of(const struct settings *settings)
{
	return settings->guests[SETTINGS_APP].data;
}

bool app_settings_init(struct settings *settings)
{
	struct settings_guest *guest = &settings->guests[SETTINGS_APP];

	guest->data = calloc(1, sizeof(struct app_settings));
	guest->free = free_app;
	return guest->data != NULL;
}
