/*
 * The application room as the daemon and the carriers see it: which applications there are, and the threads that run them. Threads are begun
 * as they are needed, up to the setting, and stay.
 */
#ifndef TANDEM_APP_ROOM_H
#define TANDEM_APP_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app_call;
struct app_module;
struct app_room;
struct app_set;
struct settings;

/* What the room asks of the process that it is in; the daemon fills it. */
struct app_host {
	/* Which server answered the last statement of the proxy's session with this id; `out` stays "" when that cannot be told. Any thread. */
	void (*answered_by)(void *owner, uint32_t session, char *out, size_t size);
	void *owner;
};

/* Loads the modules. `host` outlives the room. NULL with a one-line reason that says what to do. Takes its own reference to the settings. */
struct app_room *app_room_start(struct settings *settings, const struct app_host *host, char *why, size_t why_size);
/*
 * A reload in two steps, so that nothing has changed when another room refuses the settings. The first loads modules whose file is another;
 * NULL with a reason. The second makes them those that requests get from then on; requests under way end with the old ones.
 */
struct app_set *app_room_prepare(struct app_room *room, struct settings *settings, char *why, size_t why_size);
void app_room_adopt(struct app_room *room, struct settings *settings, struct app_set *set);
/* NULL is allowed. */
void app_set_free(struct app_set *set);
/* The carriers are gone. Ends the threads: statements under way are cut off. NULL is allowed. */
void app_room_stop(struct app_room *room);

/* The app of that name with a reference; NULL: there is none. Any thread. */
struct app_module *app_room_find(struct app_room *room, const char *name);
/* Whether settings name an app that there is: part of the program, or an [app NAME]. */
bool app_room_has(const struct settings *settings, const char *name);
/* The call waits for a thread from here on. False: too many do. */
bool app_call_start(struct app_call *call) __attribute__((warn_unused_result));

#endif
