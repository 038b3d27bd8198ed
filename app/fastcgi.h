/*
 * The application room's own FastCGI listener: other web servers ask the same applications. One request at a time and connection, which may be
 * kept; the variable TANDEM_APP names the app, TANDEM_PREFIX the path under which it is served.
 */
#ifndef TANDEM_APP_FASTCGI_H
#define TANDEM_APP_FASTCGI_H

#include <stdbool.h>
#include <stddef.h>

struct app_room;
struct app_fastcgi;
struct settings;

/* Binds what [app] fastcgi says and starts a thread. NULL with a one-line reason that says what to do. */
struct app_fastcgi *app_fastcgi_start(struct app_room *room, const struct settings *settings, char *why, size_t why_size);
/* No new connections; those without a request are closed. */
void app_fastcgi_drain(struct app_fastcgi *server);
bool app_fastcgi_drained(const struct app_fastcgi *server);
/* NULL is allowed. */
void app_fastcgi_stop(struct app_fastcgi *server);

#endif
