/*
 * Bodies of unknown length for those who must be told a length first, as FastCGI programs must: what comes is kept, a little in memory and the
 * rest in a file without a name in state_dir, and given on when it is whole, as fast as it is taken.
 */
#ifndef TANDEM_WEB_SPOOL_H
#define TANDEM_WEB_SPOOL_H

#include "web/exchange.h"

struct spool;

/* Collects the body of `x`; then its framing is HTTP_LENGTH, and `then` begins. Answers 413 beyond max_spool, 503 when it cannot be kept. */
void spool_begin(struct exchange *x, const struct responder *then);

/* exchange.c's: the responder wants no more of the body for now, wants more, the exchange ends. */
void spool_hold(struct spool *s);
void spool_release(struct spool *s);
void spool_free(struct spool *s);

#endif
