/*
 * A reload that somebody waits for: a command's thread wishes, the main thread reads the settings as at SIGHUP, and what it has to say goes
 * to the log and to whoever waits.
 */
#ifndef TANDEM_DAEMON_WISH_H
#define TANDEM_DAEMON_WISH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/log.h"

enum wish_state {
	WISH_NONE,
	WISH_MADE,  /* the signal is on its way */
	WISH_BEGUN, /* the file is being read, or the workers adopt */
	WISH_OVER,  /* its maker has not looked yet */
};

struct wish {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	enum wish_state state;
	bool closed; /* the daemon stops */
	bool granted;
	FILE *said; /* its maker's */
};

void wish_init(struct wish *wish);
void wish_fini(struct wish *wish);

/* Any thread but the main one: sends SIGHUP to the process and waits. Lines of what was said go to `said`. `wish` is a struct wish. True
 * when the new settings are in force. */
bool wish_reload(void *wish, FILE *said);

/* The main thread: it begins to read the settings; a line to the log and to whoever waits; it is over. */
void wish_begin(struct wish *wish);
void wish_say(struct wish *wish, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void wish_end(struct wish *wish, bool granted);
/* No reload from here on: who waits is refused. */
void wish_close(struct wish *wish);

#endif
