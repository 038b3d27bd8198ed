/*
 * Whether this daemon should be sent work: what a balancer in front of it asks. One for the process; any thread, no locks.
 */
#ifndef TANDEM_BASE_READINESS_H
#define TANDEM_BASE_READINESS_H

#include <stdbool.h>

/* What stands in the way. The first that holds is the one that is told. */
enum unready {
	UNREADY_STARTING,   /* holds from the beginning */
	UNREADY_DRAINING,
	UNREADY_NO_PRIMARY, /* holds from the beginning */
	UNREADY_REASONS,
};

void readiness_set(enum unready reason, bool holds);
/* NULL: ready. Otherwise why not, in a few words. */
const char *readiness_why_not(void);

#endif
