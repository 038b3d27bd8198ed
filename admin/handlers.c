#include "admin/handlers.h"

#include "base/log.h"
#include "proxy/session/proxy.h"
#include "proxy/session/worker.h"

static void (*const handlers[COMMAND_COUNT])(struct call *call) = {
	[COMMAND_STATUS] = handle_status,
	[COMMAND_SERVERS] = handle_servers,
	[COMMAND_SESSIONS] = handle_sessions,
	[COMMAND_PROMOTE] = handle_promote,
	[COMMAND_FAILOVER] = handle_failover,
	[COMMAND_REJOIN] = handle_rejoin,
	[COMMAND_DRAIN] = handle_drain,
	[COMMAND_RESUME] = handle_resume,
	[COMMAND_EXPLAIN] = handle_explain,
	[COMMAND_RELOAD] = handle_reload,
	[COMMAND_EVENTS] = handle_events,
	[COMMAND_DIGESTS] = handle_digests,
	[COMMAND_UPSTREAMS] = handle_upstreams,
	[COMMAND_UPSTREAM] = handle_upstream,
	[COMMAND_HELP] = handle_help,
};

struct shared *call_shared(const struct call *call)
{
	return proxy_shared(call->admin->host.proxy);
}

struct cluster *call_cluster(const struct call *call)
{
	return call_shared(call)->cluster;
}

void call_run(struct call *call)
{
	handlers[call->request->id](call);
	if (call->answer->no_memory && call->answer->result == ANSWER_DONE)
		answer_end(call->answer, ANSWER_FAILED, NULL, "out of memory: the answer is not whole");
}
