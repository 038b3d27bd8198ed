/*
 * What the places are where Tandem is watched and told what to do: the [admin] section. Lives in struct settings as a guest.
 */
#ifndef TANDEM_ADMIN_SETTINGS_H
#define TANDEM_ADMIN_SETTINGS_H

#include "proxy/settings.h"

struct admin_settings {
	char *socket;	    /* path; NULL: see below */
	char *socket_group; /* who may use it besides the daemon's own user; NULL: nobody */
	char **console;	    /* addresses of the SQL console */
	size_t console_count;
	char *listen; /* of the dashboard; nobody listens there yet */
	char *user;   /* of the console */
	char *password;
};

/* Makes the guest in fresh settings; false when memory ran out. */
bool admin_settings_init(struct settings *settings);
/* Never NULL once admin_settings_init() has succeeded. */
struct admin_settings *admin_settings_of(const struct settings *settings);

/* Where the Unix socket is when no setting tells: here when the directory can be written to, else in state_dir. */
#define ADMIN_RUN_DIR "/run/tandem"
#define ADMIN_SOCKET_NAME "tandem.sock"

#endif
