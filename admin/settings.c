#include "admin/settings.h"

#include <stdlib.h>
#include <string.h>

static void free_settings(void *data)
{
	struct admin_settings *admin = data;

	free(admin->socket);
	free(admin->socket_group);
	for (size_t i = 0; i < admin->console_count; i++)
		free(admin->console[i]);
	free(admin->console);
	free(admin->listen);
	free(admin->user);
	if (admin->password)
		secret_wipe(admin->password, strlen(admin->password));
	free(admin->password);
	free(admin);
}

bool admin_settings_init(struct settings *settings)
{
	struct settings_guest *guest = &settings->guests[SETTINGS_ADMIN];

	guest->data = calloc(1, sizeof(struct admin_settings));
	guest->free = free_settings;
	return guest->data != NULL;
}

struct admin_settings *admin_settings_of(const struct settings *settings)
{
	return settings->guests[SETTINGS_ADMIN].data;
}
