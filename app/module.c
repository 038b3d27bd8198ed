#include "app/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

struct app_module *app_module_ref(struct app_module *module)
{
	atomic_fetch_add_explicit(&module->refs, 1, memory_order_relaxed);
	return module;
}

static void free_module(struct app_module *module)
{
	if (module->library)
		dlclose(module->library);
	if (module->file >= 0)
		close(module->file);
	free(module->name);
	free(module->path);
	free(module);
}

void app_module_unref(struct app_module *module)
{
	if (!module || atomic_fetch_sub_explicit(&module->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (module->app->drop)
		module->app->drop();
	free_module(module);
}

static struct app_module *new_module(const char *name, const char *path)
{
	struct app_module *module = calloc(1, sizeof(*module));

	if (!module)
		return NULL;
	atomic_init(&module->refs, 1);
	module->file = -1;
	module->name = strdup(name);
	module->path = path ? strdup(path) : NULL;
	if (module->name && (!path || module->path))
		return module;
	free_module(module);
	return NULL;
}

static bool begin(struct app_module *module, char *why, size_t why_size)
{
	char what[256] = "no reason given";

	if (!module->app->init || module->app->init(what, sizeof(what)))
		return true;
	snprintf(why, why_size, "it does not start: %s", what);
	return false;
}

struct app_module *app_module_builtin(const struct app *app, char *why, size_t why_size)
{
	struct app_module *module = new_module(app->name, NULL);

	snprintf(why, why_size, "out of memory");
	if (!module)
		return NULL;
	module->app = app;
	if (begin(module, why, why_size))
		return module;
	free_module(module);
	return NULL;
}

/* ---- From a file ---- */

static bool copy_file(int from, int to, off_t size)
{
	while (size > 0) {
		ssize_t n = sendfile(to, from, NULL, (size_t)size);

		if (n <= 0)
			return false;
		size -= n;
	}
	return true;
}

/* The copy's descriptor stays open: its number in the path below tells it from every other one. */
static bool open_copy(struct app_module *module, const char *path, char *why, size_t why_size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	bool fine = file >= 0 && fstat(file, &module->was) == 0 && S_ISREG(module->was.st_mode);

	if (!fine) {
		snprintf(why, why_size, "cannot be read: %s", file < 0 ? strerror(errno) : "not a file");
	} else {
		module->file = memfd_create(module->name, MFD_CLOEXEC);
		fine = module->file >= 0 && copy_file(file, module->file, module->was.st_size);
		if (!fine)
			snprintf(why, why_size, "cannot be copied to memory: %s", strerror(errno));
	}
	if (file >= 0)
		close(file);
	return fine;
}

static bool is_usable(const struct app_module *module, char *why, size_t why_size)
{
	if (!module->app)
		snprintf(why, why_size, "it defines no \"const struct app tandem_app\"; see docs/APP.md");
	else if (module->app->abi != APP_ABI)
		snprintf(why, why_size, "it was built for version %u of app/app.h, this is %u; build it anew", module->app->abi, APP_ABI);
	else if (!module->app->handle || !module->app->name)
		snprintf(why, why_size, "its tandem_app has no %s", module->app->name ? "handle()" : "name");
	else
		return true;
	return false;
}

static bool open_library(struct app_module *module, char *why, size_t why_size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", module->file);
	module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!module->library) {
		snprintf(why, why_size, "cannot be loaded: %s", dlerror());
		return false;
	}
	module->app = dlsym(module->library, "tandem_app");
	return is_usable(module, why, why_size);
}

struct app_module *app_module_load(const char *name, const char *path, char *why, size_t why_size)
{
	struct app_module *module = new_module(name, path);

	snprintf(why, why_size, "out of memory");
	if (!module)
		return NULL;
	if (open_copy(module, path, why, why_size) && open_library(module, why, why_size) && begin(module, why, why_size))
		return module;
	free_module(module);
	return NULL;
}

bool app_module_is_current(const struct app_module *module, const char *path)
{
	struct stat now;

	return module->path && !strcmp(module->path, path) && stat(path, &now) == 0 && now.st_dev == module->was.st_dev &&
	       now.st_ino == module->was.st_ino && now.st_size == module->was.st_size &&
	       now.st_mtim.tv_sec == module->was.st_mtim.tv_sec && now.st_mtim.tv_nsec == module->was.st_mtim.tv_nsec;
}
