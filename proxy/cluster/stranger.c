#include "proxy/cluster/stranger.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "proxy/cluster/journal.h"
#include "proxy/cluster/member.h"
#include "proxy/cluster/vote.h"

#define ADVICE                                                                                                                       \
	"Writes through it are not held at a promotion, and what its clients were told is not known at a failover. Add to both a "    \
	"[peer NAME] section with address = the other's [tandem] peer_listen, and the same [tandem] peer_secret"

/* Told, and shown in the status from now on. */
static void tell(struct cluster *c, const char *text)
{
	pthread_mutex_lock(&c->lock);
	snprintf(c->stranger, sizeof(c->stranger), "%s", text);
	pthread_mutex_unlock(&c->lock);
	history_note(c->history, "peer", "", "%s", text);
}

static void look_at_votes(struct cluster *c)
{
	char voter[72], host[64], text[sizeof(c->stranger)];

	if (!votes_stranger(c, voter, host))
		return;
	snprintf(text, sizeof(text),
		 "another Tandem (%s%.63s at %.71s) votes in this cluster and is no [peer] here. " ADVICE
		 "; if it serves another cluster, that one needs another [tandem] cluster",
		 host[0] ? "from " : "seen", host, voter);
	tell(c, text);
}

/* What this Tandem writes there is in state_dir before. */
static bool is_foreign(struct cluster *c, uint64_t epoch)
{
	struct journal_entry own;
	bool foreign = journal_init(&own);

	if (foreign && journal_load(c->settings->state_dir, &own))
		foreign = own.epoch < epoch;
	journal_fini(&own);
	return foreign;
}

/* A row that was there at the start may be one's own, of a state_dir that is gone. */
static void look_at_row(struct cluster *c, uint64_t epoch)
{
	bool is_first = !c->stranger_looked;
	uint64_t before = c->stranger_epoch;

	c->stranger_looked = true;
	c->stranger_epoch = epoch;
	if (epoch <= before || !is_foreign(c, epoch))
		return;
	if (is_first)
		log_warning(NULL, "tandem.cluster was written by another Tandem than this one, or with another state_dir. If that one still serves this "
				  "cluster: there is no [peer] section here. " ADVICE);
	else
		tell(c, "tandem.cluster was changed by another Tandem (written_by there says which), and there is no [peer] section here. " ADVICE);
}

void stranger_look(struct cluster *cluster)
{
	bool is_told, is_alone, has_row;
	uint64_t epoch;

	pthread_mutex_lock(&cluster->lock);
	is_told = cluster->stranger[0];
	is_alone = !cluster->settings->peer_count;
	has_row = cluster->primary >= 0; /* it is read there */
	epoch = cluster_epoch(cluster);
	pthread_mutex_unlock(&cluster->lock);
	if (is_told || !is_alone)
		return;
	if (has_row)
		look_at_row(cluster, epoch);
	look_at_votes(cluster);
}
