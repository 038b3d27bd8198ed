/*
 * Health checks of upstream servers: a thread of the daemon's own asks each of them in turn, so that it is asked once however many workers
 * there are, and a busy worker does not make servers look slow.
 */
#ifndef TANDEM_WEB_HEALTH_H
#define TANDEM_WEB_HEALTH_H

#include <stdbool.h>

struct health;
struct web_config;

/* True when an upstream of the settings has checks. */
bool health_is_wanted(const struct web_config *config);
/* Starts the thread; the first check of each server follows at once. NULL: memory or threads. */
struct health *health_start(struct web_config *config);
/* Goes on with these settings. */
void health_reload(struct health *health, struct web_config *config);
void health_stop(struct health *health);

#endif
