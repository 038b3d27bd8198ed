/*
 * A worker's inbox: any thread posts, the worker's loop delivers between turns. Messages of one poster arrive in
 * the order in which it posted them. One eventfd write wakes the worker for any number of messages.
 */
#ifndef TANDEM_BASE_INBOX_H
#define TANDEM_BASE_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/watch.h"

/* Embed as the first member of a message. `deliver` runs on the owner's thread and owns the message from then on. */
struct inbox_message {
	struct inbox_message *next;
	void (*deliver)(struct inbox_message *message, void *owner);
};

struct inbox {
	_Atomic(struct inbox_message *) newest; /* singly linked, newest first */
	struct watch ready;
	void *owner;
	int fd; /* eventfd */
};

/* Listens in the poller's loop; `owner` is handed to each deliver function. False (errno set) when no eventfd can be had. */
bool inbox_init(struct inbox *inbox, struct poller *poller, void *owner) __attribute__((warn_unused_result));
/* Delivers what is left, then closes. Posters must be gone. Runs on the owner's thread. */
void inbox_fini(struct inbox *inbox);
/* Any thread. */
void inbox_post(struct inbox *inbox, struct inbox_message *message);

#endif
