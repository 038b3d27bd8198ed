#include "proxy/cluster/history.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

struct history {
	pthread_mutex_t lock;
	uint64_t newest; /* its number; 0: none yet */
	void (*noted)(void *owner);
	void *owner;
	struct history_event events[HISTORY_KEPT]; /* event n at n % HISTORY_KEPT */
};

struct history *history_new(void)
{
	struct history *history = calloc(1, sizeof(*history));

	if (history)
		pthread_mutex_init(&history->lock, NULL);
	return history;
}

void history_free(struct history *history)
{
	if (!history)
		return;
	pthread_mutex_destroy(&history->lock);
	free(history);
}

void history_listen(struct history *history, void (*noted)(void *owner), void *owner)
{
	pthread_mutex_lock(&history->lock);
	history->noted = noted;
	history->owner = owner;
	pthread_mutex_unlock(&history->lock);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Kinds that somebody should look at. */
static const char *const alarming[] = { "down", "no primary", "quarantine", "loss", "cut", NULL };

static void log_event(const struct history_event *event)
{
	enum log_level level = LOG_LEVEL_INFO;

	for (size_t i = 0; alarming[i]; i++)
		if (!strcmp(event->kind, alarming[i]))
			level = LOG_LEVEL_WARNING;
	if (event->server[0])
		log_write(level, NULL, "server %s: %s", event->server, event->text);
	else
		log_write(level, NULL, "%s", event->text);
}

void history_note(struct history *history, const char *kind, const char *server, const char *format, ...)
{
	struct history_event event = { .time_ms = now_ms() };
	va_list args;

	snprintf(event.kind, sizeof(event.kind), "%s", kind);
	snprintf(event.server, sizeof(event.server), "%s", server ? server : "");
	va_start(args, format);
	vsnprintf(event.text, sizeof(event.text), format, args);
	va_end(args);
	pthread_mutex_lock(&history->lock);
	event.number = ++history->newest;
	history->events[event.number % HISTORY_KEPT] = event;
	/* Under the lock, so that nobody is called after history_listen(NULL) has returned. */
	if (history->noted)
		history->noted(history->owner);
	pthread_mutex_unlock(&history->lock);
	log_event(&event);
}

size_t history_read(struct history *history, uint64_t after, struct history_event *out, size_t max)
{
	uint64_t oldest, from;
	size_t count = 0;

	pthread_mutex_lock(&history->lock);
	oldest = history->newest > HISTORY_KEPT ? history->newest - HISTORY_KEPT + 1 : 1;
	from = after + 1 > oldest ? after + 1 : oldest;
	if (history->newest >= from && history->newest - from + 1 > max)
		from = history->newest - max + 1;
	for (uint64_t n = from; n <= history->newest; n++)
		out[count++] = history->events[n % HISTORY_KEPT];
	pthread_mutex_unlock(&history->lock);
	return count;
}
