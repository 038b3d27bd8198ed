/*
 * Waiting for file descriptors. A poller is one thread's place to wait: either a loop of its own over epoll, which is what a worker of the
 * proxy runs, or a loop of libevent's that has other things to do as well, such as timers. Whoever watches does not see the difference.
 *
 * Of its own it has only what a statement pays for: no timers (a timerfd is watched like any other descriptor), no priorities, no locks,
 * one look at what epoll reported and one call. All of it belongs to one thread.
 */
#ifndef TANDEM_BASE_WATCH_H
#define TANDEM_BASE_WATCH_H

#include <stdbool.h>
#include <sys/queue.h>

struct event;
struct event_base;
struct epoll_event;

enum { WATCH_READ = 1, WATCH_WRITE = 2 };

TAILQ_HEAD(watch_list, watch);

struct poller {
	struct event_base *base;   /* libevent waits; NULL: poller_run() does */
	struct watch_list woken;   /* by watch_wake() */
	struct epoll_event *turn;  /* what epoll reported and is not told yet */
	int left;		   /* that many */
	int fd;			   /* epoll's; -1 with libevent */
	bool stopped;
	unsigned long looks;	   /* how often poller_run() has looked at the descriptors */
};

/* One descriptor, or none (-1): then it only wakes. Embedded in what it belongs to. */
struct watch {
	struct poller *poller; /* NULL: not in use */
	/* What of WATCH_READ and WATCH_WRITE is wanted and possible now, or was given to watch_wake(); an error or the end of the other side makes
	 * everything that is wanted possible. May stop and free its own watch and others. */
	void (*ready)(void *arg, unsigned what);
	void *arg;
	struct event *event; /* with libevent */
	int fd;
	unsigned char wanted;
	unsigned char woken;
	TAILQ_ENTRY(watch) link; /* among the woken */
};

/* With `base` (borrowed) everything happens inside its loop. False (errno set) when epoll cannot be had. */
bool poller_init(struct poller *poller, struct event_base *base) __attribute__((warn_unused_result));
/* All its watches have been stopped. */
void poller_fini(struct poller *poller);
/* Waits and tells, until poller_stop() is called from inside. Only without libevent. */
void poller_run(struct poller *poller);
void poller_stop(struct poller *poller);
/* What is possible now is told, once; with libevent as well. */
void poller_turn(struct poller *poller);

/* Wants nothing yet. False: memory. The descriptor stays the caller's, who stops the watch before he closes it. */
bool watch_init(struct watch *watch, struct poller *poller, int fd, void (*ready)(void *arg, unsigned what), void *arg)
	__attribute__((warn_unused_result));
/* Also wants `what`. False (errno set): the kernel has no place for it. */
bool watch_want(struct watch *watch, unsigned what) __attribute__((warn_unused_result));
/* No longer wants `what`. Of whoever wants nothing not even errors are told. */
void watch_leave(struct watch *watch, unsigned what);
/* `ready` will be called with `what`, wanted or not, from the loop and not from inside the call; several times may be told as one. */
void watch_wake(struct watch *watch, unsigned what);
/* Takes back all that was wanted and woken; afterwards `ready` is not called. A watch of zeros, or a stopped one, stays as it is. */
void watch_stop(struct watch *watch);

static inline bool watch_wants(const struct watch *watch, unsigned what)
{
	return (watch->wanted & what) != 0;
}

#endif
