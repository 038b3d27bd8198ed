/*
 * Applications by name: those that are part of the program and those loaded from files. A set of them is what one reload of the settings
 * brought; a module of an older set lives until its last request has ended.
 */
#ifndef TANDEM_APP_MODULE_H
#define TANDEM_APP_MODULE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "app/app.h"

struct app_module {
	_Atomic unsigned refs;
	const struct app *app;
	char *name;
	char *path;	 /* NULL: part of the program */
	struct stat was; /* of the file when it was loaded */
	void *library;
	int file; /* the copy that was loaded; -1: none */
};

/* Ends it with the last reference: drop(), then the library is closed. */
void app_module_unref(struct app_module *module);
struct app_module *app_module_ref(struct app_module *module);

/* One that is part of the program; NULL with a reason when its init() fails. */
struct app_module *app_module_builtin(const struct app *app, char *why, size_t why_size);
/*
 * Loads `path`. A copy in memory is what is loaded, so that the file can be replaced or overwritten at any time. NULL with a reason that says
 * what to do and does not name the setting.
 */
struct app_module *app_module_load(const char *name, const char *path, char *why, size_t why_size);
/* True when the file is still the one that was loaded. */
bool app_module_is_current(const struct app_module *module, const char *path);

#endif
