#include "proxy/cluster/accord.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/control.h"
#include "proxy/cluster/peer.h"
#include "proxy/cluster/vote.h"

enum { LOOK_MS = 10 };

static bool refuse(struct operation *op, const char *text)
{
	report_add(op->report, REMARK_REFUSAL, "accord", "", -1, "%s", text);
	snprintf(op->report->summary, sizeof(op->report->summary), "refused, nothing was touched: %.350s", text);
	return false;
}

static bool is_failover(const struct operation *op)
{
	return op->request->kind == OPERATION_FAILOVER;
}

static bool begin_votes(struct operation *op)
{
	char why[CONDUCT_NOTE], leader[64], text[CONDUCT_NOTE + 96];

	if (votes_take(op->cluster, is_failover(op) && !op->request->force, op->request->force, why, sizeof(why)))
		return true;
	if (peers_leader(op->cluster, leader))
		snprintf(text, sizeof(text), "%s leads: do it there. %s", leader, why);
	else
		snprintf(text, sizeof(text), "%s", why);
	return refuse(op, text);
}

/* A failover cannot wait for a peer that may have died with the primary; a promotion that nobody is in a hurry for does. */
static bool begin_peers(struct operation *op)
{
	char reaches[64], text[2 * CONDUCT_NOTE];
	struct peers_answer answer;

	peers_ask(op->cluster, &answer, reaches);
	/* One that only opens a restarted primary again is told nothing new by that. */
	if (is_failover(op) && op->to != op->from && reaches[0] && !op->request->force) {
		snprintf(text, sizeof(text), "%s is reached by the Tandem %s: only this one is cut off from it", op->from->subject.name, reaches);
		return refuse(op, text);
	}
	if (!answer.missing[0])
		return true;
	snprintf(text, sizeof(text),
		 "%s: start it, or take its section out of the settings; with --force it is waited for one lease (%u ms), in which it loses "
		 "the right to write",
		 answer.why, op->settings->monitor.lease_ms);
	if (!is_failover(op) && !op->request->force)
		return refuse(op, text);
	report_add(op->report, REMARK_WARNING, "accord", "", -1, "%s", answer.why);
	return true;
}

bool accord_begin(struct operation *op)
{
	if (!begin_votes(op))
		return false;
	op->has_accord = true;
	if (peers_count(op->cluster) && !begin_peers(op))
		return false;
	return conduct_claim(op) || refuse(op, op->note);
}

void accord_end(struct operation *op)
{
	if (!op->has_accord)
		return;
	op->has_accord = false;
	peers_finish(op->cluster);
	votes_give(op->cluster);
}

static bool wait_until(struct operation *op, uint64_t until_ms)
{
	while (clock_ms() < until_ms && !control_is_stopping(op->cluster))
		poll(NULL, 0, LOOK_MS);
	return !control_is_stopping(op->cluster);
}

bool accord_clear(struct operation *op, bool always)
{
	size_t count = peers_count(op->cluster);
	struct peers_answer answer;
	uint64_t gone_ms = 0;
	char ignored[64];

	if (!count)
		return conduct_note(op, NULL, "no peers");
	if (always) {
		gone_ms = votes_withdraw_word(op->cluster);
		peers_hold(op->cluster, operation_name(op->request->kind), GATE_SEALED, op->entry.epoch, &answer);
	} else {
		peers_ask(op->cluster, &answer, ignored);
		if (answer.answered < count)
			gone_ms = votes_withdraw_word(op->cluster);
	}
	if (answer.answered == count)
		return conduct_note(op, NULL, "%zu peer%s", count, always ? " hold writes" : " there");
	if (!wait_until(op, gone_ms))
		return conduct_fail(op, NULL, "the daemon stops");
	return conduct_note(op, NULL, "%.200s; its lease is over", answer.why);
}

bool accord_hold(struct operation *op, enum gate gate, bool *is_clear)
{
	struct peers_answer answer;
	char what[96];

	*is_clear = true;
	if (!peers_count(op->cluster))
		return true;
	snprintf(what, sizeof(what), "%s of %s", operation_name(op->request->kind), op->to ? op->to->subject.name : "a replica");
	peers_hold(op->cluster, what, gate, op->entry.epoch, &answer);
	*is_clear = !answer.open_writes;
	if (!answer.missing[0] || op->request->force)
		return true;
	return conduct_fail(op, NULL, "%s", answer.why);
}

bool accord_stands(struct operation *op)
{
	return votes_stand(op->cluster) ||
	       conduct_fail(op, NULL, "the votes were lost meanwhile: another Tandem may have ended this already");
}

void accord_release(struct operation *op, const char *fork)
{
	votes_give_word(op->cluster);
	if (peers_count(op->cluster))
		peers_release(op->cluster, op->to->member, fork);
}
