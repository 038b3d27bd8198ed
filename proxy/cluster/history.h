/*
 * What happened to the cluster: the last topology events, in memory for `tandemctl events` and the dashboard, each also a log line and
 * handed to the event hooks. Any thread may note one; nobody waits.
 */
#ifndef TANDEM_CLUSTER_HISTORY_H
#define TANDEM_CLUSTER_HISTORY_H

#include <stddef.h>
#include <stdint.h>

enum { HISTORY_KEPT = 512 };

struct history_event {
	uint64_t number;  /* from 1, no gaps */
	int64_t time_ms;  /* since the epoch */
	char kind[32];	  /* "primary", "no primary", "role", "down", "up", "cut", "promotion", "failover", "loss", "quarantine",
			   * "rejoin", "drain", "settings" */
	char server[64];  /* or "" */
	char text[400];
};

struct history;
struct history *history_new(void);
void history_free(struct history *history);
/* `noted` is called for each event from then on, on the thread that notes it, and must neither wait nor call back. NULL: nobody
 * any more, and nobody is being called when this returns. */
void history_listen(struct history *history, void (*noted)(void *owner), void *owner);
/* text is printf-like; server may be NULL. */
void history_note(struct history *history, const char *kind, const char *server, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Copies the newest up to `max` events with a number above `after`, oldest first; returns how many. */
size_t history_read(struct history *history, uint64_t after, struct history_event *out, size_t max);

#endif
