#include "daemon/wish.h"

#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

void wish_init(struct wish *wish)
{
	*wish = (struct wish){ .state = WISH_NONE };
	pthread_mutex_init(&wish->lock, NULL);
	pthread_cond_init(&wish->changed, NULL);
}

void wish_fini(struct wish *wish)
{
	pthread_cond_destroy(&wish->changed);
	pthread_mutex_destroy(&wish->lock);
}

bool wish_reload(void *wish, FILE *said)
{
	struct wish *w = wish;
	bool granted;

	pthread_mutex_lock(&w->lock);
	while (w->state != WISH_NONE && !w->closed)
		pthread_cond_wait(&w->changed, &w->lock);
	if (w->closed) {
		fprintf(said, "the daemon is stopping\n");
		pthread_mutex_unlock(&w->lock);
		return false;
	}
	w->state = WISH_MADE;
	w->granted = false;
	w->said = said;
	kill(getpid(), SIGHUP);
	while (w->state != WISH_OVER)
		pthread_cond_wait(&w->changed, &w->lock);
	granted = w->granted;
	w->state = WISH_NONE;
	w->said = NULL;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return granted;
}

/* A wish made while an earlier reload is still being adopted is not this one's: its own signal comes later. */
void wish_begin(struct wish *wish)
{
	pthread_mutex_lock(&wish->lock);
	if (wish->state == WISH_MADE)
		wish->state = WISH_BEGUN;
	pthread_mutex_unlock(&wish->lock);
}

void wish_say(struct wish *wish, enum log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_write(level, NULL, "%s", line);
	pthread_mutex_lock(&wish->lock);
	if (wish->state == WISH_BEGUN)
		fprintf(wish->said, "%s\n", line);
	pthread_mutex_unlock(&wish->lock);
}

static void end_locked(struct wish *wish, bool granted)
{
	wish->granted = granted;
	wish->state = WISH_OVER;
	pthread_cond_broadcast(&wish->changed);
}

void wish_end(struct wish *wish, bool granted)
{
	pthread_mutex_lock(&wish->lock);
	if (wish->state == WISH_BEGUN)
		end_locked(wish, granted);
	pthread_mutex_unlock(&wish->lock);
}

void wish_close(struct wish *wish)
{
	pthread_mutex_lock(&wish->lock);
	wish->closed = true;
	if (wish->state == WISH_MADE || wish->state == WISH_BEGUN) {
		fprintf(wish->said, "the daemon is stopping\n");
		end_locked(wish, false);
	}
	pthread_cond_broadcast(&wish->changed);
	pthread_mutex_unlock(&wish->lock);
}
