#include "proxy/cluster/evidence.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
	LOOK_AGAIN_MS = 20,  /* a dead primary's connections are noticed by its replicas within about 15 ms */
	CUT_AGAIN_MS = 500,  /* somebody hears it: nothing is urgent */
	MISSED_BEATS = 2,    /* heartbeats in a row that may be late before a replica counts as deaf */
};

__attribute__((format(printf, 4, 5))) static void say(struct evidence_verdict *out, enum evidence_kind kind, uint64_t again_ms,
						      const char *format, ...)
{
	va_list args;

	out->kind = kind;
	out->again_ms = again_ms;
	va_start(args, format);
	vsnprintf(out->why, sizeof(out->why), format, args);
	va_end(args);
}

/* From when on a replica that shows nothing new does not hear the primary. */
static uint64_t deaf_ms(const struct evidence_replica *r)
{
	return r->heard_ms + (uint64_t)MISSED_BEATS * r->heartbeat_ms;
}

static bool is_deaf(const struct evidence_replica *r)
{
	if (r->io != THREAD_RUNNING)
		return true;
	return r->heartbeat_ms && r->looked_ms > deaf_ms(r);
}

/* The first replica that answers and may still hear the primary, or was not asked since that was lost. */
static const struct evidence_replica *find_doubt(const struct evidence *e, bool *asked)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct evidence_replica *r = &e->replicas[i];

		*asked = r->looked_ms > e->lost_ms;
		if (r->up && (!*asked || !is_deaf(r)))
			return r;
	}
	return NULL;
}

static const struct evidence_replica *find_listener(const struct evidence *e)
{
	for (size_t i = 0; i < e->count; i++) {
		const struct evidence_replica *r = &e->replicas[i];

		if (r->up && r->io == THREAD_RUNNING && r->heard_ms > e->lost_ms && !is_deaf(r))
			return r;
	}
	return NULL;
}

static size_t count_up(const struct evidence *e)
{
	size_t n = 0;

	for (size_t i = 0; i < e->count; i++)
		n += e->replicas[i].up;
	return n;
}

static void wait_for_replica(const struct evidence *e, const struct evidence_replica *r, bool asked, struct evidence_verdict *out)
{
	if (!asked)
		say(out, EVIDENCE_WAIT, e->now_ms + LOOK_AGAIN_MS, "%s does not answer; %s has not been asked about it yet", e->primary,
		    r->name);
	else if (!r->heartbeat_ms)
		say(out, EVIDENCE_WAIT, e->now_ms + LOOK_AGAIN_MS,
		    "%s does not answer, and %s, whose link has no heartbeat, may still hear it", e->primary, r->name);
	else
		say(out, EVIDENCE_WAIT, e->now_ms + LOOK_AGAIN_MS,
		    "%s does not answer; whether %s still hears it is known in %llu ms", e->primary, r->name,
		    (unsigned long long)(deaf_ms(r) > e->now_ms ? deaf_ms(r) - e->now_ms : 0));
}

static void judge_silence(const struct evidence *e, struct evidence_verdict *out)
{
	uint64_t silent_ms = e->now_ms > e->heard_ms ? e->now_ms - e->heard_ms : 0;

	if (silent_ms >= e->patience_ms && !e->majority)
		say(out, EVIDENCE_UNPROVEN, e->now_ms + CUT_AGAIN_MS,
		    "%s has been silent for %llu ms and no replica hears it, but without a majority of the servers that is no proof: it may "
		    "be this side that is cut off. A third server decides, or `tandemctl failover --force`",
		    e->primary, (unsigned long long)silent_ms);
	else if (silent_ms >= e->patience_ms)
		say(out, EVIDENCE_DEAD, 0, "%s has been silent for %llu ms, and no replica hears it", e->primary,
		    (unsigned long long)silent_ms);
	else
		say(out, EVIDENCE_WAIT, e->heard_ms + e->patience_ms, "%s has been silent for %llu ms of the %u ms of failover_patience",
		    e->primary, (unsigned long long)silent_ms, e->patience_ms);
}

void evidence_judge(const struct evidence *evidence, struct evidence_verdict *out)
{
	const struct evidence_replica *r;
	bool asked = false;

	memset(out, 0, sizeof(*out));
	if (evidence->up) {
		say(out, EVIDENCE_ALIVE, 0, "%s", "");
		return;
	}
	if (!count_up(evidence)) {
		say(out, EVIDENCE_WAIT, evidence->now_ms + CUT_AGAIN_MS, "%s does not answer, and neither does any replica of it",
		    evidence->primary);
		return;
	}
	r = find_listener(evidence);
	if (r) {
		say(out, EVIDENCE_CUT, evidence->now_ms + CUT_AGAIN_MS,
		    "%s does not answer Tandem, but %s hears it: the network between is cut, no failover", evidence->primary, r->name);
		return;
	}
	r = find_doubt(evidence, &asked);
	if (r)
		wait_for_replica(evidence, r, asked, out);
	else if (evidence->refused)
		say(out, EVIDENCE_DEAD, 0, "%s refuses connections, and no replica hears it", evidence->primary);
	else
		judge_silence(evidence, out);
}
