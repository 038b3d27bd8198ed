/*
 * What others want done when something happens to the cluster: a command with the facts as JSON on its standard input, or an HTTP POST
 * with them as its body. Each has a time-out, and its result is logged.
 *
 * A thread of its own hands the events of the history to the event hooks of the settings, in order, one at a time; a slow hook holds
 * up the hooks behind it and nothing else.
 */
#ifndef TANDEM_CLUSTER_HOOK_H
#define TANDEM_CLUSTER_HOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "proxy/cluster/history.h"
#include "proxy/settings.h"

enum hook_outcome {
	HOOK_DONE,
	HOOK_FAILED,	/* could not be started or reached, ended with another status than 0, answered other than 2xx */
	HOOK_TIMED_OUT, /* it was killed */
	HOOK_STOPPED,	/* `stop` became true; it was killed */
};

enum { HOOK_WHY = 200 };

/* One run. */
struct hook_run {
	const char *input;   /* the JSON text */
	uint32_t timeout_ms; /* 0: none */
	const _Atomic bool *stop; /* looked at often; NULL: never */
	/* A line that the command wrote; NULL: nobody listens. */
	void (*line)(void *owner, const char *text);
	void *owner;
	char why[HOOK_WHY]; /* out: what went wrong, "" when nothing did */
};

/* Runs it with /bin/sh -c in a process group of its own. Blocks. */
enum hook_outcome hook_command(const char *command, struct hook_run *run);
/* Posts run->input to http://host[:port]/path. Blocks. */
enum hook_outcome hook_post(const char *url, struct hook_run *run);

struct hooks;
/* NULL with errno when there is no thread or memory. */
struct hooks *hooks_start(struct history *history, struct settings *settings);
void hooks_reload(struct hooks *hooks, struct settings *settings);
/* Ends a hook that is running. NULL is allowed. */
void hooks_stop(struct hooks *hooks);

#endif
