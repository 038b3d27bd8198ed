#include "base/inbox.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The stack of messages has the newest first; they are delivered oldest first. */
static struct inbox_message *reverse(struct inbox_message *message)
{
	struct inbox_message *turned = NULL;

	while (message) {
		struct inbox_message *next = message->next;

		message->next = turned;
		turned = message;
		message = next;
	}
	return turned;
}

/* True when there was something. */
static bool deliver_all(struct inbox *inbox)
{
	struct inbox_message *message =
		reverse(atomic_exchange_explicit(&inbox->newest, NULL, memory_order_acquire));
	bool any = message != NULL;

	while (message) {
		struct inbox_message *next = message->next; /* deliver() may free it */

		message->deliver(message, inbox->owner);
		message = next;
	}
	return any;
}

static void on_ready(void *arg, unsigned what)
{
	struct inbox *inbox = arg;
	uint64_t count;

	(void)what;
	/* The counter is emptied before the stack is taken: a message posted in between wakes the loop once more for
	 * nothing; in the other order it would be left lying. */
	while (read(inbox->fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	deliver_all(inbox);
}

bool inbox_init(struct inbox *inbox, struct poller *poller, void *owner)
{
	atomic_init(&inbox->newest, NULL);
	inbox->owner = owner;
	inbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (inbox->fd < 0)
		return false;
	if (!watch_init(&inbox->ready, poller, inbox->fd, on_ready, inbox) || !watch_want(&inbox->ready, WATCH_READ)) {
		watch_stop(&inbox->ready);
		close(inbox->fd);
		inbox->fd = -1;
		errno = ENOMEM;
		return false;
	}
	return true;
}

void inbox_fini(struct inbox *inbox)
{
	/* What is delivered may post again. */
	while (deliver_all(inbox))
		;
	watch_stop(&inbox->ready);
	close(inbox->fd);
	inbox->fd = -1;
}

void inbox_post(struct inbox *inbox, struct inbox_message *message)
{
	struct inbox_message *newest = atomic_load_explicit(&inbox->newest, memory_order_relaxed);
	uint64_t one = 1;

	do {
		message->next = newest;
	} while (!atomic_compare_exchange_weak_explicit(
		&inbox->newest, &newest, message, memory_order_release, memory_order_relaxed));
	/* Whoever found the stack empty wakes the owner; the others ride along. The message may be gone by now. */
	if (newest)
		return;
	while (write(inbox->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
