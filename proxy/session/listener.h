/*
 * Listening sockets and the thread that accepts on them. One socket an address; each client goes to the worker with the fewest
 * (SO_REUSEPORT spreads badly, and fails on Unix sockets).
 */
#ifndef TANDEM_SESSION_LISTENER_H
#define TANDEM_SESSION_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

struct listener;
struct settings;
struct shared;

/* Binds all addresses of proxy.listen. NULL with a reason that says what to do. Nothing is accepted before listener_start(). */
struct listener *listener_open(const struct settings *settings, struct shared *shared, char *why, size_t why_size);
bool listener_start(struct listener *listener);
/* Clients at a time, 0 no limit; those that are there stay. Any thread. */
void listener_set_limit(struct listener *listener, unsigned max_clients);
/* Stops accepting and closes the sockets; any thread, once. */
void listener_stop(struct listener *listener);
void listener_free(struct listener *listener);

#endif
