#include "app/thread.h"

#include <string.h>
#include <sys/socket.h>

#include "app/room.h"
#include "app/settings.h"
#include "proxy/settings.h"

bool app_thread_init(struct app_thread *thread, struct app_room *room, const struct app_host *host, struct settings *settings)
{
	thread->room = room;
	thread->host = host;
	thread->settings = settings_ref(settings);
	thread->socket = -1;
	return pthread_mutex_init(&thread->lock, NULL) == 0;
}

void app_thread_fini(struct app_thread *thread)
{
	app_db_free(thread->db);
	settings_unref(thread->settings);
	pthread_mutex_destroy(&thread->lock);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_account(const struct app_settings *a, const struct app_settings *b)
{
	return same_text(a->user, b->user) && same_text(a->password, b->password) && same_text(a->database, b->database);
}

void app_thread_use(struct app_thread *thread, struct settings *settings)
{
	struct settings *before = thread->settings;

	if (before == settings)
		return;
	if (thread->db && !same_account(app_settings_of(before), app_settings_of(settings))) {
		app_db_free(thread->db);
		thread->db = NULL;
	}
	thread->settings = settings_ref(settings);
	settings_unref(before);
}

void app_thread_interrupt(struct app_thread *thread)
{
	pthread_mutex_lock(&thread->lock);
	thread->interrupted = true;
	if (thread->socket >= 0)
		shutdown(thread->socket, SHUT_RDWR);
	pthread_mutex_unlock(&thread->lock);
}

void app_thread_set_socket(struct app_thread *thread, int socket)
{
	pthread_mutex_lock(&thread->lock);
	thread->socket = socket;
	if (thread->interrupted && socket >= 0)
		shutdown(socket, SHUT_RDWR);
	pthread_mutex_unlock(&thread->lock);
}

void app_thread_ask_server(const struct app_thread *thread, uint32_t session, char *out, size_t size)
{
	out[0] = '\0';
	if (thread->host->answered_by)
		thread->host->answered_by(thread->host->owner, session, out, size);
}
