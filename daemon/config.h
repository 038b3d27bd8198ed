/*
 * Reads the settings file into fresh settings: all of it or nothing. What each setting is stands in daemon/setting_NAME.c.
 */
#ifndef TANDEM_DAEMON_CONFIG_H
#define TANDEM_DAEMON_CONFIG_H

#include <stddef.h>
#include <stdio.h>

#include "proxy/settings.h"

/*
 * NULL when the file has faults or cannot be read. All faults, and warnings, go to `faults`, a line each: "FILE:LINE: what".
 * The caller owns the one reference.
 */
struct settings *config_load(const char *path, FILE *faults);
/* Writes the first setting that differs and cannot be changed by a reload, such as "[tandem] threads". False: there is none. */
bool config_needs_restart(struct settings *now, struct settings *wanted, char *what,
			  size_t what_size);
/* The manual of all settings. */
void config_print_help(FILE *out);

#endif
