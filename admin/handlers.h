/*
 * Who carries out which command. Each handler fills call->answer; none of them prints, and none knows which face has asked.
 */
#ifndef TANDEM_ADMIN_HANDLERS_H
#define TANDEM_ADMIN_HANDLERS_H

#include "admin/room.h"

/* handlers_cluster.c */
void handle_status(struct call *call);
void handle_servers(struct call *call);
void handle_drain(struct call *call);
void handle_resume(struct call *call);
void handle_events(struct call *call);

/* handlers_operation.c */
void handle_promote(struct call *call);
void handle_failover(struct call *call);
void handle_rejoin(struct call *call);

/* handlers_session.c */
void handle_sessions(struct call *call);
void handle_explain(struct call *call);
void handle_digests(struct call *call);

/* handlers_upstream.c */
void handle_upstreams(struct call *call);
void handle_upstream(struct call *call);

/* handlers_daemon.c */
void handle_reload(struct call *call);
void handle_help(struct call *call);

struct cluster;
struct shared;
struct shared *call_shared(const struct call *call);
struct cluster *call_cluster(const struct call *call);

#endif
