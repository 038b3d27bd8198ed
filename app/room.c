#include "app/room.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "app/builtin.h"
#include "app/call.h"
#include "app/module.h"
#include "app/request.h"
#include "app/settings.h"
#include "app/thread.h"
#include "base/log.h"
#include "proxy/settings.h"

/* The modules of one reading of the settings. */
struct app_set {
	size_t count;
	struct app_module *modules[];
};

struct app_room {
	pthread_mutex_t lock;
	pthread_cond_t work; /* a call is queued, or the room closes */
	const struct app_host *host;
	struct settings *settings;
	struct app_set *set;
	TAILQ_HEAD(, app_call) queue;
	size_t queued;
	size_t idle; /* threads that serve nothing, those that have yet to wake or to start too */
	TAILQ_HEAD(, app_thread) threads;
	size_t thread_count;
	bool stopping;
};

/* ---- Modules ---- */

void app_set_free(struct app_set *set)
{
	for (size_t i = 0; set && i < set->count; i++)
		app_module_unref(set->modules[i]);
	free(set);
}

static struct app_module *find(const struct app_set *set, const char *name)
{
	for (size_t i = 0; set && i < set->count; i++)
		if (!strcmp(set->modules[i]->name, name))
			return set->modules[i];
	return NULL;
}

static struct app_module *load_entry(const struct app_set *old, const struct app_entry *entry, char *why, size_t why_size)
{
	struct app_module *module = find(old, entry->name);
	char what[512];

	if (module && module->path && app_module_is_current(module, entry->module))
		return app_module_ref(module);
	module = app_module_load(entry->name, entry->module, what, sizeof(what));
	if (!module)
		snprintf(why, why_size, "[app %s] module %s: %s", entry->name, entry->module, what);
	else
		log_info(NULL, "app %s: loaded from %s", entry->name, entry->module);
	return module;
}

static struct app_module *load_builtin(const struct app_set *old, const struct app *app, char *why, size_t why_size)
{
	struct app_module *module = find(old, app->name);
	char what[512];

	if (module && !module->path)
		return app_module_ref(module);
	module = app_module_builtin(app, what, sizeof(what));
	if (!module)
		snprintf(why, why_size, "app %s: %s", app->name, what);
	return module;
}

static bool add(struct app_set *set, struct app_module *module)
{
	if (module)
		set->modules[set->count++] = module;
	return module != NULL;
}

/* Entries come first: one may take the name of an app of the program. */
static struct app_set *load_set(const struct app_settings *settings, const struct app_set *old, char *why, size_t why_size)
{
	const struct app *builtin;
	size_t room = settings->entry_count;
	struct app_set *set;

	while (app_builtin_at(room - settings->entry_count))
		room++;
	set = calloc(1, sizeof(*set) + room * sizeof(set->modules[0]));
	snprintf(why, why_size, "out of memory");
	if (!set)
		return NULL;
	for (size_t i = 0; i < settings->entry_count; i++)
		if (!add(set, load_entry(old, &settings->entries[i], why, why_size)))
			goto failed;
	for (size_t i = 0; (builtin = app_builtin_at(i)); i++)
		if (!find(set, builtin->name) && !add(set, load_builtin(old, builtin, why, why_size)))
			goto failed;
	return set;
failed:
	app_set_free(set);
	return NULL;
}

struct app_module *app_room_find(struct app_room *room, const char *name)
{
	struct app_module *module;

	pthread_mutex_lock(&room->lock);
	module = find(room->set, name);
	if (module)
		app_module_ref(module);
	pthread_mutex_unlock(&room->lock);
	return module;
}

bool app_room_has(const struct settings *settings, const char *name)
{
	const struct app_settings *app = app_settings_of(settings);
	const struct app *builtin;

	for (size_t i = 0; i < app->entry_count; i++)
		if (!strcmp(app->entries[i].name, name))
			return true;
	for (size_t i = 0; (builtin = app_builtin_at(i)); i++)
		if (!strcmp(builtin->name, name))
			return true;
	return false;
}

/* ---- Threads ---- */

/* Waits for one, and takes the settings of that moment; NULL when the room closes. The reference is the caller's. `served`: it has had one. */
static struct app_call *take_call(struct app_room *room, bool served, struct settings **settings)
{
	struct app_call *call;

	pthread_mutex_lock(&room->lock);
	room->idle += served;
	while (!room->stopping && TAILQ_EMPTY(&room->queue))
		pthread_cond_wait(&room->work, &room->lock);
	call = room->stopping ? NULL : TAILQ_FIRST(&room->queue);
	if (call) {
		TAILQ_REMOVE(&room->queue, call, link);
		room->queued--;
		room->idle--;
		*settings = settings_ref(room->settings);
	}
	pthread_mutex_unlock(&room->lock);
	return call;
}

static void *run(void *arg)
{
	struct app_thread *thread = arg;
	struct settings *settings;
	struct app_call *call;

	for (bool served = false; (call = take_call(thread->room, served, &settings)); served = true) {
		app_thread_use(thread, settings);
		settings_unref(settings);
		if (!app_call_is_gone(call))
			app_request_serve(call, thread);
		app_call_unref(call);
	}
	app_thread_fini(thread);
	return NULL;
}

static void add_thread(struct app_room *room)
{
	struct app_thread *thread = calloc(1, sizeof(*thread));

	if (!thread || !app_thread_init(thread, room, room->host, room->settings) || pthread_create(&thread->id, NULL, run, thread) != 0) {
		if (!room->thread_count)
			log_error(NULL, "no thread can be made for apps: out of memory or threads");
		free(thread);
		return;
	}
	TAILQ_INSERT_TAIL(&room->threads, thread, link);
	room->thread_count++;
	room->idle++;
}

/* Only what finds no free thread is one of those that wait: a burst comes before the threads wake. */
static bool has_place(const struct app_room *room, const struct app_settings *settings)
{
	size_t more = settings->threads > room->thread_count ? settings->threads - room->thread_count : 0;

	return room->queued < settings->queue + room->idle + more;
}

bool app_call_start(struct app_call *call)
{
	struct app_room *room = call->room;
	const struct app_settings *settings;
	bool taken;

	pthread_mutex_lock(&room->lock);
	settings = app_settings_of(room->settings);
	taken = !room->stopping && has_place(room, settings);
	if (taken) {
		app_call_ref(call);
		TAILQ_INSERT_TAIL(&room->queue, call, link);
		room->queued++;
		if (room->idle < room->queued && room->thread_count < settings->threads)
			add_thread(room);
		pthread_cond_signal(&room->work);
	}
	pthread_mutex_unlock(&room->lock);
	return taken;
}

/* ---- Life ---- */

struct app_room *app_room_start(struct settings *settings, const struct app_host *host, char *why, size_t why_size)
{
	struct app_room *room = calloc(1, sizeof(*room));

	snprintf(why, why_size, "out of memory");
	if (!room)
		return NULL;
	room->set = load_set(app_settings_of(settings), NULL, why, why_size);
	if (!room->set) {
		free(room);
		return NULL;
	}
	pthread_mutex_init(&room->lock, NULL);
	pthread_cond_init(&room->work, NULL);
	room->host = host;
	TAILQ_INIT(&room->queue);
	TAILQ_INIT(&room->threads);
	room->settings = settings_ref(settings);
	return room;
}

struct app_set *app_room_prepare(struct app_room *room, struct settings *settings, char *why, size_t why_size)
{
	/* Only the thread that reloads changes the set: it can be read without the lock. */
	return load_set(app_settings_of(settings), room->set, why, why_size);
}

void app_room_adopt(struct app_room *room, struct settings *settings, struct app_set *set)
{
	struct app_set *old;
	struct settings *before;

	pthread_mutex_lock(&room->lock);
	old = room->set;
	room->set = set;
	before = room->settings;
	room->settings = settings_ref(settings);
	pthread_mutex_unlock(&room->lock);
	app_set_free(old);
	settings_unref(before);
}

static void end_threads(struct app_room *room)
{
	struct app_thread *thread, *next;

	pthread_mutex_lock(&room->lock);
	room->stopping = true;
	pthread_cond_broadcast(&room->work);
	TAILQ_FOREACH(thread, &room->threads, link)
		app_thread_interrupt(thread);
	pthread_mutex_unlock(&room->lock);
	for (thread = TAILQ_FIRST(&room->threads); thread; thread = next) {
		next = TAILQ_NEXT(thread, link);
		pthread_join(thread->id, NULL);
		free(thread);
	}
	TAILQ_INIT(&room->threads);
}

void app_room_stop(struct app_room *room)
{
	struct app_call *call;

	if (!room)
		return;
	end_threads(room);
	while ((call = TAILQ_FIRST(&room->queue))) {
		TAILQ_REMOVE(&room->queue, call, link);
		app_call_unref(call);
	}
	app_set_free(room->set);
	settings_unref(room->settings);
	pthread_cond_destroy(&room->work);
	pthread_mutex_destroy(&room->lock);
	free(room);
}
