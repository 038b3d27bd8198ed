#include "base/watch.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TURN_EVENTS = 64 };

bool poller_init(struct poller *poller, struct event_base *base)
{
	*poller = (struct poller){ .base = base, .fd = -1 };
	TAILQ_INIT(&poller->woken);
	if (!base)
		poller->fd = epoll_create1(EPOLL_CLOEXEC);
	return base || poller->fd >= 0;
}

void poller_fini(struct poller *poller)
{
	if (!poller->base && poller->fd >= 0)
		close(poller->fd);
	poller->fd = -1;
}

/* ---- Of our own: epoll ---- */

/* An error is told by whatever call the owner makes next; who wants neither is not in the set. */
static unsigned possible(uint32_t reported, unsigned wanted)
{
	unsigned what = 0;

	if (reported & (EPOLLIN | EPOLLHUP | EPOLLERR))
		what |= WATCH_READ;
	if (reported & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		what |= WATCH_WRITE;
	return what & wanted;
}

static bool want_of_epoll(struct watch *watch, unsigned what)
{
	struct epoll_event event = {
		.events = (what & WATCH_READ ? EPOLLIN : 0u) | (what & WATCH_WRITE ? EPOLLOUT : 0u),
		.data.ptr = watch,
	};
	int how = !what ? EPOLL_CTL_DEL : watch->wanted ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	return epoll_ctl(watch->poller->fd, how, watch->fd, &event) == 0 || !what;
}

/* What was reported in this turn and is not told yet is not told any more. */
static void forget_reported(const struct watch *watch)
{
	const struct poller *p = watch->poller;

	for (int i = 0; i < p->left; i++)
		if (p->turn[i].data.ptr == watch)
			p->turn[i].data.ptr = NULL;
}

static void tell_reported(struct poller *p, struct epoll_event *events, int count)
{
	p->turn = events;
	p->left = count;
	while (p->left > 0) {
		const struct epoll_event *event = p->turn++;
		struct watch *watch = event->data.ptr;
		unsigned what;

		p->left--;
		if (!watch)
			continue;
		what = possible(event->events, watch->wanted);
		if (what)
			watch->ready(watch->arg, what);
	}
}

/* Those that are there now; who wakes meanwhile has his turn after the next look at the descriptors. */
static void tell_woken(struct poller *p)
{
	struct watch *watch;
	size_t count = 0;

	TAILQ_FOREACH(watch, &p->woken, link)
		count++;
	while (count-- && (watch = TAILQ_FIRST(&p->woken))) {
		unsigned what = watch->woken;

		watch->woken = 0;
		TAILQ_REMOVE(&p->woken, watch, link);
		watch->ready(watch->arg, what);
	}
}

/* glibc's own is a cancellation point, which in a process with threads costs more than the call; see io.c. */
static int wait_for_events(int fd, struct epoll_event *events, int wait_ms)
{
	return (int)syscall(SYS_epoll_pwait, fd, events, TURN_EVENTS, wait_ms, NULL, 0);
}

static inline void turn(struct poller *p, int wait_ms)
{
	struct epoll_event events[TURN_EVENTS];
	int count = wait_for_events(p->fd, events, wait_ms);

	p->looks++;
	if (count > 0)
		tell_reported(p, events, count);
	if (!TAILQ_EMPTY(&p->woken))
		tell_woken(p);
}

void poller_run(struct poller *poller)
{
	assert(!poller->base);
	while (!poller->stopped)
		turn(poller, TAILQ_EMPTY(&poller->woken) ? -1 : 0);
}

void poller_turn(struct poller *poller)
{
	if (poller->base)
		event_base_loop(poller->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	else
		turn(poller, 0);
}

void poller_stop(struct poller *poller)
{
	poller->stopped = true;
}

/* ---- Inside a loop of libevent's ---- */

static short flags_of(unsigned what)
{
	return (short)((what & WATCH_READ ? EV_READ : 0) | (what & WATCH_WRITE ? EV_WRITE : 0));
}

static void on_event(evutil_socket_t fd, short flags, void *arg)
{
	struct watch *watch = arg;
	unsigned what = (flags & EV_READ ? WATCH_READ : 0u) | (flags & EV_WRITE ? WATCH_WRITE : 0u);

	(void)fd;
	what = (what & watch->wanted) | watch->woken;
	watch->woken = 0;
	if (what)
		watch->ready(watch->arg, what);
}

/* event_del() also takes back what event_active() gave. */
static bool want_of_libevent(struct watch *watch, unsigned what)
{
	struct event *event = watch->event;
	bool ok;

	event_del(event);
	ok = event_assign(event, watch->poller->base, watch->fd, (short)(flags_of(what) | EV_PERSIST), on_event, watch) == 0 &&
	     (!what || event_add(event, NULL) == 0);
	if (watch->woken)
		event_active(event, flags_of(watch->woken), 0);
	return ok;
}

/* ---- Either ---- */

bool watch_init(struct watch *watch, struct poller *poller, int fd, void (*ready)(void *arg, unsigned what), void *arg)
{
	*watch = (struct watch){ .poller = poller, .ready = ready, .arg = arg, .fd = fd };
	if (!poller->base)
		return true;
	watch->event = event_new(poller->base, fd, EV_PERSIST, on_event, watch);
	if (!watch->event)
		watch->poller = NULL;
	return watch->event != NULL;
}

static bool change(struct watch *watch, unsigned wanted)
{
	bool ok;

	if (watch->wanted == wanted)
		return true;
	ok = watch->event ? want_of_libevent(watch, wanted) : want_of_epoll(watch, wanted);
	if (ok)
		watch->wanted = (unsigned char)wanted;
	return ok;
}

bool watch_want(struct watch *watch, unsigned what)
{
	return change(watch, watch->wanted | what);
}

void watch_leave(struct watch *watch, unsigned what)
{
	change(watch, watch->wanted & ~what);
}

void watch_wake(struct watch *watch, unsigned what)
{
	if (watch->event)
		event_active(watch->event, flags_of(what), 0);
	else if (!watch->woken)
		TAILQ_INSERT_TAIL(&watch->poller->woken, watch, link);
	watch->woken |= (unsigned char)what;
}

void watch_stop(struct watch *watch)
{
	if (!watch->poller)
		return;
	if (watch->event) {
		event_free(watch->event); /* takes it out of the loop first */
	} else {
		if (watch->wanted)
			(void)want_of_epoll(watch, 0);
		forget_reported(watch);
		if (watch->woken)
			TAILQ_REMOVE(&watch->poller->woken, watch, link);
	}
	*watch = (struct watch){ .fd = -1 };
}
