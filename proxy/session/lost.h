/*
 * Connections to servers that do not answer. A silent replica keeps its sockets open: what waits for it goes elsewhere, but for the rest of a
 * result. A silent primary has no elsewhere: if it comes back, so do its answers; if it is gone, its sockets end. Until it is deposed.
 */
#ifndef TANDEM_SESSION_LOST_H
#define TANDEM_SESSION_LOST_H

struct snapshot;
struct worker;

/* The worker has a new view of the cluster, and had this one before. */
void lost_adopt(struct worker *worker, const struct snapshot *before);

#endif
