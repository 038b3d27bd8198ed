#include "app/thread.h"

#include "proxy/settings.h"

bool app_thread_init(struct app_thread *thread, struct app_room *room, struct settings *settings)
{
	thread->room = room;
	thread->settings = settings_ref(settings);
	return true;
}

void app_thread_fini(struct app_thread *thread)
{
	settings_unref(thread->settings);
}

void app_thread_interrupt(struct app_thread *thread)
{
	(void)thread;
}
