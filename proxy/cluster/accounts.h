/*
 * The account table as the server itself reads it: which entry a user from an address gets. Pure; reading the tables is
 * accounts_read.c's job.
 */
#ifndef TANDEM_CLUSTER_ACCOUNTS_H
#define TANDEM_CLUSTER_ACCOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/cluster/snapshot.h"

/* True when the stored host (a name, pattern with % and _, address, or address/netmask) accepts a peer. `name` is its host name
 * ("localhost" for Unix sockets and, with name resolution, the loopback), `ip` its numeric address; either may be NULL. */
bool accounts_host_matches(const char *pattern, const char *name, const char *ip);

/* The server's order: by user, within a user the most specific host first. */
void accounts_sort(struct account *accounts, size_t count);

/* The entry the server would choose, NULL when none. The array is sorted. */
const struct account *accounts_find(const struct account *accounts, size_t count, const char *user, size_t user_len, const char *name,
				    const char *ip);

/* Sets fits_backends: for each of `hosts` (Tandem's address as one server sees it) the same entry would be chosen. */
void accounts_judge_fit(struct account *accounts, size_t count, char *const *hosts, size_t host_count, bool skip_name_resolve);

void accounts_free(struct account *accounts, size_t count);

#endif
