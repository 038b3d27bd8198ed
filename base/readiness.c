#include "base/readiness.h"

#include <stdatomic.h>
#include <stddef.h>

static const char *const words[UNREADY_REASONS] = {
	[UNREADY_STARTING] = "starting",
	[UNREADY_DRAINING] = "draining",
	[UNREADY_NO_PRIMARY] = "no primary is known",
};

static _Atomic unsigned reasons = 1U << UNREADY_STARTING | 1U << UNREADY_NO_PRIMARY;

void readiness_set(enum unready reason, bool holds)
{
	if (holds)
		atomic_fetch_or_explicit(&reasons, 1U << reason, memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&reasons, ~(1U << reason), memory_order_relaxed);
}

const char *readiness_why_not(void)
{
	unsigned held = atomic_load_explicit(&reasons, memory_order_relaxed);

	for (int reason = 0; reason < UNREADY_REASONS; reason++)
		if (held & 1U << reason)
			return words[reason];
	return NULL;
}
