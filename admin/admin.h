/*
 * Where Tandem is watched and told what to do. The daemon starts it after the proxy and stops it before; behind it: an accepting thread,
 * and a thread for each client of the Unix socket and of the SQL console.
 */
#ifndef TANDEM_ADMIN_ADMIN_H
#define TANDEM_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct admin;
struct proxy;
struct settings;
struct web;

/* What the daemon offers. */
struct admin_host {
	struct proxy *proxy;
	const char *version;
	const char *settings_path;
	uint64_t started_ms; /* clock_ms() */
	/* Reads the settings file again; writes to `said` what it had to say, a line each, also when all is well. True when the new settings
	 * are in force in all workers. Blocks; any thread but the main one. */
	bool (*reload)(void *owner, FILE *said);
	struct web *_Atomic *web; /* where the web front end is told; NULL there: it does not run, or not yet */
	void *owner;
};

/* Binds the socket and the console's addresses. NULL with a reason that says what to do. Takes its own reference to the settings. */
struct admin *admin_start(struct settings *settings, const struct admin_host *host, char *why, size_t why_size);
/* User and password of the console are those of these settings from now on; addresses need a restart. */
void admin_reload(struct admin *admin, struct settings *settings);
/* Ends all clients; waits for an operation under way, which ends or undoes what it has begun. */
void admin_stop(struct admin *admin);

#endif
