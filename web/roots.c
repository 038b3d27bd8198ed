#include "web/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { GOOD_FOR_MS = 1000 };

static bool prepare(struct roots *roots, const struct web_settings *web)
{
	if (roots->web == web)
		return true;
	roots_close(roots);
	roots->of = calloc(web->site_count, sizeof(*roots->of));
	if (!roots->of)
		return false;
	for (size_t i = 0; i < web->site_count; i++)
		roots->of[i] = (struct root){ .directory = -1 };
	roots->web = web;
	roots->count = web->site_count;
	return true;
}

static void close_root(struct root *root)
{
	if (root->directory >= 0)
		close(root->directory);
	root->directory = -1;
}

int roots_get(struct roots *roots, const struct web_settings *web, const struct web_site *site, uint64_t now_ms)
{
	struct root *root;

	if (!prepare(roots, web)) {
		errno = ENOMEM;
		return -1;
	}
	root = &roots->of[site - web->sites];
	if (root->directory >= 0 && now_ms - root->opened_ms < GOOD_FOR_MS)
		return root->directory;
	close_root(root);
	root->directory = open(site->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	root->opened_ms = now_ms;
	return root->directory;
}

void roots_close(struct roots *roots)
{
	for (size_t i = 0; i < roots->count; i++)
		close_root(&roots->of[i]);
	free(roots->of);
	*roots = (struct roots){ 0 };
}
