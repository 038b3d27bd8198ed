#include "proxy/cluster/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum {
	LOOK_BOUND_MS = 2000, /* a server that does not answer by then is judged by what was seen before */
	LOOK_PAUSE_MS = 2,
};

bool control_begin(struct cluster *cluster, const char *what, char busy[CONTROL_NAME])
{
	bool mine;

	pthread_mutex_lock(&cluster->lock);
	snprintf(busy, CONTROL_NAME, "%s", cluster->stop ? "the stop of the daemon" : cluster->operating);
	mine = !cluster->stop && !cluster->operating[0];
	if (mine)
		snprintf(cluster->operating, sizeof(cluster->operating), "%s", what);
	pthread_mutex_unlock(&cluster->lock);
	return mine;
}

bool control_is_stopping(struct cluster *cluster)
{
	bool stopping;

	pthread_mutex_lock(&cluster->lock);
	stopping = cluster->stop;
	pthread_mutex_unlock(&cluster->lock);
	return stopping;
}

/* Locked. */
static bool all_heard_since(const struct cluster *c, uint64_t since)
{
	for (size_t i = 0; i < c->member_count; i++)
		if (c->members[i]->health == HEALTH_UP && c->members[i]->look_started_ms < since)
			return false;
	return true;
}

/* A look that was under way when the operation ended may have seen the middle of it: only one begun later counts. */
static void look_anew(struct cluster *c)
{
	uint64_t since = clock_ms() + 1;
	uint64_t end = since + LOOK_BOUND_MS;
	bool done = false;

	while (!done && clock_ms() < end) {
		pthread_mutex_lock(&c->lock);
		done = c->stop || all_heard_since(c, since);
		for (size_t i = 0; !done && i < c->member_count; i++)
			if (!atomic_exchange(&c->members[i]->suspect, true))
				member_wake(c->members[i]);
		pthread_mutex_unlock(&c->lock);
		if (!done)
			poll(NULL, 0, LOOK_PAUSE_MS);
	}
}

void control_end(struct cluster *cluster)
{
	look_anew(cluster);
	pthread_mutex_lock(&cluster->lock);
	cluster->operating[0] = '\0';
	if (cluster->gate != GATE_OPEN) {
		cluster->gate = GATE_OPEN;
		cluster->gate_number = 0;
		cluster->changed = true;
	}
	pthread_cond_broadcast(&cluster->idle);
	pthread_mutex_unlock(&cluster->lock);
	cluster_wake(cluster);
}

void control_set_gate(struct cluster *cluster, enum gate gate)
{
	pthread_mutex_lock(&cluster->lock);
	cluster->gate = gate;
	cluster->gate_number = 0;
	cluster->changed = true;
	pthread_mutex_unlock(&cluster->lock);
	cluster_wake(cluster);
}

bool control_count(struct cluster *cluster, struct gate_count *out)
{
	uint64_t number;

	memset(out, 0, sizeof(*out));
	pthread_mutex_lock(&cluster->lock);
	number = cluster->gate_number;
	pthread_mutex_unlock(&cluster->lock);
	if (!number)
		return false;
	if (!cluster->listener.count) {
		out->adopted = true;
		return true;
	}
	cluster->listener.count(cluster->owner, number, out);
	return out->adopted;
}

void control_wait_moved(struct cluster *cluster, int timeout_ms)
{
	struct pollfd fd = { .fd = cluster->gate_fd, .events = POLLIN };
	uint64_t count;

	if (poll(&fd, 1, timeout_ms) > 0)
		while (read(cluster->gate_fd, &count, sizeof(count)) < 0 && errno == EINTR)
			;
}

void cluster_gate_moved(struct cluster *cluster)
{
	uint64_t one = 1;

	while (write(cluster->gate_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void control_adopt(struct cluster *cluster, struct member *primary, const struct gtid_set *fork)
{
	pthread_mutex_lock(&cluster->lock);
	cluster_enthrone(cluster, primary);
	if (fork) {
		cluster->fork = *fork;
		cluster->fork_number++;
	} else {
		cluster->gate = GATE_OPEN;
	}
	cluster->gate_number = 0;
	cluster->changed = true;
	pthread_mutex_unlock(&cluster->lock);
	cluster_wake(cluster);
}
