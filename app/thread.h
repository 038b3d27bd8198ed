/* A thread of the application room and what it keeps from one request to the next. */
#ifndef TANDEM_APP_THREAD_H
#define TANDEM_APP_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

struct app_room;
struct settings;

struct app_thread {
	TAILQ_ENTRY(app_thread) link;
	pthread_t id;
	struct app_room *room;
	struct settings *settings; /* held */
};

bool app_thread_init(struct app_thread *thread, struct app_room *room, struct settings *settings) __attribute__((warn_unused_result));
/* By the thread itself, at its end. */
void app_thread_fini(struct app_thread *thread);
/* Any thread: what it waits for in SQL fails. */
void app_thread_interrupt(struct app_thread *thread);

#endif
