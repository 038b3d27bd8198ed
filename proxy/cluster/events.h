/*
 * Scheduled events (CREATE EVENT) at a change of the primary. A replica shows each event as SLAVESIDE_DISABLED, also one that its owner
 * had disabled, so which ones are to run can only be learned from the primary while it lives. ALTER EVENT makes the caller the definer
 * and takes the character sets of the session: both are put back as they were. Nothing of it enters the binary log.
 */
#ifndef TANDEM_CLUSTER_EVENTS_H
#define TANDEM_CLUSTER_EVENTS_H

#include "proxy/cluster/replication.h"

/* The enabled ones of a primary: quoted names, a line each, to be freed; "" when there are none. NULL with the line's error. */
char *events_list(struct subject *s) CHECKED;
/* Enables those of `names` that exist here (as disabled on a replica). `*changed` counts. */
bool events_enable(struct subject *s, const char *names, unsigned *changed) CHECKED;
/* Makes them what they are on a replica. */
bool events_disable(struct subject *s, const char *names, unsigned *changed) CHECKED;
/* What has to be known of a primary's events when it is gone: event_scheduler, and the enabled ones, as the journal has them. To be freed;
 * NULL with the line's error. */
char *events_remember(struct subject *s) CHECKED;
/* The first line of that. Names begin with a backtick, so it is none. */
#define EVENTS_SCHEDULER "event_scheduler="
/* event_scheduler out of it; "" when it is not there. */
void events_recall_scheduler(const char *remembered, char out[16]);
/* event_scheduler: "ON", "OFF" or "DISABLED". */
bool events_scheduler(struct subject *s, char out[16]) CHECKED;
bool events_set_scheduler(struct subject *s, const char *value) CHECKED;

#endif
