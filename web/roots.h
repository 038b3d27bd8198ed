/*
 * The open root directories of the sites, one set for each worker. Each is opened anew after a second, because a deployment swaps the link
 * that leads to it; opening it for each request would be a quarter of the system calls of a small file.
 */
#ifndef TANDEM_WEB_ROOTS_H
#define TANDEM_WEB_ROOTS_H

#include "web/settings.h"

struct root {
	int directory; /* -1: not open */
	uint64_t opened_ms;
};

struct roots {
	const struct web_settings *web; /* whose sites `of` is for; may be gone, is only compared */
	size_t count;
	struct root *of; /* by site; NULL: none asked for yet */
};

/*
 * The root of a site of `web`, open for openat2() and good until the next call. -1 with errno when it cannot be opened. `now_ms` as of
 * clock_ms().
 */
int roots_get(struct roots *roots, const struct web_settings *web, const struct web_site *site, uint64_t now_ms);
/* Closes all. The set can be used again; it must be, when other settings take the place of `web`. */
void roots_close(struct roots *roots);

#endif
