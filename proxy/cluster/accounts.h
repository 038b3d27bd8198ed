/*
 * The account table as the server itself reads it: which entry a user from an address gets. Pure; only
 * accounts_read() (accounts_read.c) talks to a server.
 */
#ifndef TANDEM_CLUSTER_ACCOUNTS_H
#define TANDEM_CLUSTER_ACCOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/cluster/snapshot.h"

struct line;

/* True when the stored host (a name, pattern with % and _, address, or address/netmask) accepts a peer. `name` is its host name
 * ("localhost" for Unix sockets and, with name resolution, the loopback), `ip` its numeric address; either may be NULL. */
bool accounts_host_matches(const char *pattern, const char *name, const char *ip);

/* The server's order: by user, within a user the most specific host first. */
void accounts_sort(struct account *accounts, size_t count);

/* The entry the server would choose, NULL when none. The array is sorted. */
const struct account *accounts_find(const struct account *accounts, size_t count, const char *user,
				    size_t user_len, const char *name, const char *ip);

/* Tandem's own address as one server sees it. Empty: none (no name resolved, Unix socket). */
struct account_origin {
	char name[256];
	char ip[64];
};

/* Sets fits_backends: from each of `origins` the same entry would be chosen. None fits while no origin is known. */
void accounts_judge_fit(struct account *accounts, size_t count,
			const struct account_origin *origins, size_t origin_count);

/* Reads the server's account table, sorted. NULL with the line's error (no privilege, line lost) or when memory ran out. */
struct account *accounts_read(struct line *line, enum sql_flavour flavour, size_t *count);

bool accounts_equal(const struct account *a, size_t a_count, const struct account *b,
		    size_t b_count);
/* A deep copy; NULL when memory ran out or the count is 0. */
struct account *accounts_copy(const struct account *accounts, size_t count);
void accounts_free(struct account *accounts, size_t count);

#endif
