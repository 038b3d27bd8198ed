/*
 * Marks on servers that say whose operation works there: named locks (GET_LOCK) held by its connections. Whoever leads next ends the
 * connections that hold them before it looks at what was left open. A Tandem that only stood still, or was cut off, so finds its lines dead
 * when it goes on, and a lock that it held on commits is gone with them: the server itself would keep both for as long as a connection
 * seems to be there.
 */
#ifndef TANDEM_CLUSTER_CLAIM_H
#define TANDEM_CLUSTER_CLAIM_H

#include <stdbool.h>

#include "proxy/cluster/line.h"

enum claim_kind {
	CLAIM_OPERATION, /* of the line to a server that takes part */
	CLAIM_FENCE,	 /* of the second line to the old primary, which stops commits */
};

/* Makes it this line's; whoever had it loses his connection. `server` is for the log. False with the line's error. */
bool claim_take(struct line *line, const char *server, const char *cluster, enum claim_kind kind) __attribute__((warn_unused_result));

/* Ends whoever has it. False with the line's error: he cannot be ended. */
bool claim_clear(struct line *line, const char *server, const char *cluster, enum claim_kind kind) __attribute__((warn_unused_result));

#endif
