/*
 * The web front end as the daemon sees it: listeners, an accepting thread, workers. Start, reload, drain, stop.
 */
#ifndef TANDEM_WEB_WEB_H
#define TANDEM_WEB_WEB_H

#include <stdbool.h>
#include <stddef.h>

struct settings;
struct web;
struct web_config;
struct app_room;

/* True when the settings name a web listener. */
bool web_is_wanted(const struct settings *settings);
/* Binds, starts threads, returns. `apps` outlives it. NULL with a one-line reason that says what to do. */
struct web *web_start(struct settings *settings, struct app_room *apps, char *why, size_t why_size);
/* Sites, routes, certificates, limits and the access log change; listeners need a restart. False: nothing changed. */
bool web_reload(struct web *web, struct settings *settings, char *why, size_t why_size);
/* No new connections; idle ones are closed, the others once they are answered. */
void web_drain(struct web *web);
bool web_drained(const struct web *web);
/* The settings in force, referenced; NULL when `web` is. Any thread. */
struct web_config *web_config_now(struct web *web);
/* Stops and frees everything; NULL is allowed. */
void web_stop(struct web *web);

#endif
