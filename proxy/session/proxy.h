/*
 * The proxy as the daemon sees it: start, reload, drain, stop. Behind it: an accepting thread, workers, the cluster watch.
 */
#ifndef TANDEM_SESSION_PROXY_H
#define TANDEM_SESSION_PROXY_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/settings.h"

struct proxy;
struct shared;

/* Binds the listeners, starts all threads and returns at once. NULL with a one-line reason that says what to do ("[proxy] listen
 * 127.0.0.1:3307: address in use: stop the other server or change the setting"). Takes its own reference to settings. */
struct proxy *proxy_start(struct settings *settings, char *why, size_t why_size);
/* SIGHUP in two steps, so that nothing has changed when another room refuses the settings. The first only looks: listeners and the
 * number of threads need a restart; false with the reason. */
bool proxy_can_reload(const struct proxy *proxy, const struct settings *settings, char *why, size_t why_size);
/* The second, for settings that may be: servers, users and limits change, clients stay. */
void proxy_reload(struct proxy *proxy, struct settings *settings);
/* True when all workers live by the settings of the last reload. */
bool proxy_reloaded(struct proxy *proxy);
/* SIGTERM: no new clients; idle ones are closed, others at their next statement boundary outside a transaction. */
void proxy_drain(struct proxy *proxy);
/* What its workers share, among it the cluster: for commands that look into them. Lives as long as the proxy. */
struct shared *proxy_shared(struct proxy *proxy);
/* True when no client is left. */
bool proxy_drained(struct proxy *proxy);
/* Stops and joins everything, frees all memory. */
void proxy_stop(struct proxy *proxy);

#endif
