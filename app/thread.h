/* A thread of the application room and what it keeps from one request to the next. */
#ifndef TANDEM_APP_THREAD_H
#define TANDEM_APP_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct app_db;
struct app_host;
struct app_room;
struct settings;

struct app_thread {
	TAILQ_ENTRY(app_thread) link;
	pthread_t id;
	struct app_room *room;
	struct settings *settings; /* held; those of its last request's begin */
	const struct app_host *host;
	struct app_db *db; /* NULL until one is asked for */
	pthread_mutex_t lock;
	int socket;	 /* of the database connection, under the lock; -1: none */
	bool interrupted; /* under the lock */
};

bool app_thread_init(struct app_thread *thread, struct app_room *room, const struct app_host *host, struct settings *settings)
	__attribute__((warn_unused_result));
/* By the thread itself, at its end. */
void app_thread_fini(struct app_thread *thread);
/* Before each request. What belonged to other settings is dropped. */
void app_thread_use(struct app_thread *thread, struct settings *settings);
/* Any thread: what it waits for in SQL fails, now and later. */
void app_thread_interrupt(struct app_thread *thread);

/* For db.c. */
void app_thread_set_socket(struct app_thread *thread, int socket);
/* Which server answered the last statement of the proxy's session with this id; "" when nobody can tell. */
void app_thread_ask_server(const struct app_thread *thread, uint32_t session, char *out, size_t size);
struct app_db *app_db_new(struct app_thread *thread);
void app_db_free(struct app_db *db);
/* The request is over: what it left open is closed. NULL is allowed. */
void app_db_end_request(struct app_db *db);

#endif
