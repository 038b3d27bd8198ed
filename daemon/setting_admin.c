/* The settings of the places where Tandem is watched and told what to do. */
#include "daemon/setting_row.h"

#include "admin/settings.h"

#define ADMIN(field) offsetof(struct admin_settings, field)

static const struct setting rows[] = {
	{ "socket", OTHER(text, ADMIN(socket), NULL), SETTING_RESTART,
	  "Path of the Unix socket for tandemctl. Default: /run/tandem/tandem.sock when that "
	  "directory can be written to, else "
	  "tandem.sock in state_dir." },
	{ "socket_group", OTHER(text, ADMIN(socket_group), NULL), SETTING_RESTART,
	  "Group whose members may use the socket. Default: only the daemon's own user." },
	{ "console", OTHER(listen, ADMIN(console), NULL), SETTING_RESTART,
	  "Address of the SQL console: the commands for any MySQL client. May be given several "
	  "times. Default: none." },
	{ "user", OTHER(text, ADMIN(user), "admin"), 0, "User of the console." },
	{ "password", OTHER(secret, ADMIN(password), ""), 0,
	  "Its password; without one the console lets nobody in." },
	{ "listen", OTHER(text, ADMIN(listen), NULL), SETTING_RESTART,
	  "Address of the dashboard and of REST. This version does not act on it." },
	{ 0 },
};

static void *admin_at(struct settings *settings, size_t index)
{
	(void)index;
	return admin_settings_of(settings);
}

static void check(struct config_load *load, const struct settings *settings)
{
	const struct admin_settings *admin = admin_settings_of(settings);

	if (admin->console_count && (!admin->password || !*admin->password))
		config_add_fault(
			load, "admin", NULL, "console",
			"[admin] console needs a password: without one it would let nobody in");
	if (admin->listen)
		config_add_warning(load, "admin", NULL, "listen",
				   "[admin] listen: this version does not act on it");
	if (admin->socket && admin->socket[0] != '/')
		config_add_fault(load, "admin", NULL, "socket",
				 "[admin] socket = %s: a Unix socket needs a full path, such as "
				 "/run/tandem/tandem.sock",
				 admin->socket);
}

static const struct section sections[] = {
	{ "admin", SECTION_ONE, rows, admin_at, NULL,
	  "Where Tandem is watched and told what to do." },
	{ 0 },
};

const struct setting_room setting_room_admin = { sections, admin_settings_init, check };
