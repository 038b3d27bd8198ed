/*
 * One replica's watcher: a thread with its own connection that waits, on the server, for the smallest position anybody is parked on,
 * publishes the position reached and says so. Nobody waiting, nothing asked.
 */
#ifndef TANDEM_CLUSTER_WATCHER_H
#define TANDEM_CLUSTER_WATCHER_H

#include <pthread.h>

#include "proxy/cluster/line.h"
#include "proxy/cluster/snapshot.h"

enum { WATCHER_WANTS = 32 };

struct watcher {
	struct server *server; /* borrowed from the member */
	void (*moved)(void *owner, struct server *server);
	void *owner;
	struct line line;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	bool stop;
	bool armed; /* the server is a replica and up: never ask a primary to wait */
	struct settings *settings;
	size_t settings_index;
	enum sql_flavour flavour;
	size_t want_count;
	struct watcher_want {
		struct gtid_set position;
		uint64_t until_ms; /* nobody waits longer */
	} wants[WATCHER_WANTS];
};

/* Starts the thread; false (errno) when it cannot be had. */
bool watcher_start(struct watcher *watcher, struct server *server,
		   void (*moved)(void *owner, struct server *server), void *owner)
	__attribute__((warn_unused_result));
/* Ends and joins it. */
void watcher_stop(struct watcher *watcher);
/* Whether the server may be asked, and how it is reached. Takes its own reference to settings. */
void watcher_arm(struct watcher *watcher, bool armed, enum sql_flavour flavour,
		 struct settings *settings, size_t settings_index);
/* Any thread. */
void watcher_want(struct watcher *watcher, const struct gtid_set *position);

/* Pure parts, for tests. Adds a want; with no room left the two furthest become one. */
void watcher_add(struct watcher_want *wants, size_t *count, const struct gtid_set *position,
		 uint64_t until_ms);
/* The one to wait for: none of the others is reached before it. */
size_t watcher_smallest(const struct watcher_want *wants, size_t count);
/* Drops what `reached` covers or is out of date. True when something was covered. */
bool watcher_drop(struct watcher_want *wants, size_t *count, const struct gtid_set *reached,
		  uint64_t now_ms);

#endif
