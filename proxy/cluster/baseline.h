/*
 * `tandem -t --online`: what preflight would say of each configured server, without a daemon and without touching anything.
 */
#ifndef TANDEM_CLUSTER_BASELINE_H
#define TANDEM_CLUSTER_BASELINE_H

#include <stdbool.h>
#include <stdio.h>

#include "proxy/settings.h"

/* Asks every server in turn (blocking, with [monitor]'s time-outs) and writes a line per finding to `out`. False when something was found
 * that would refuse a promotion, or a server was not reached. */
bool baseline_check(struct settings *settings, FILE *out);

#endif
