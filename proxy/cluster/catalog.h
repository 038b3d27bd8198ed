/*
 * The stored routines and views, judged: which functions are proven to only read. By what their bodies do, and the bodies of what they
 * call; never by what they declare.
 */
#ifndef TANDEM_CLUSTER_CATALOG_H
#define TANDEM_CLUSTER_CATALOG_H

#include "proxy/cluster/line.h"
#include "proxy/cluster/snapshot.h"

enum { CATALOG_STAMP_BYTES = 160 };

struct catalog {
	size_t count;
	struct routine *routines; /* sorted by name, one of each */
	size_t view_count;
	struct routine *views; /* only those that are not proven harmless, or read user variables */
	bool views_unknown;	  /* they could not be read */
	size_t hidden_views;	  /* whose text was not to be seen */
};

/* One routine as stored. */
struct routine_source {
	const char *name; /* lower case */
	const char *type; /* FUNCTION, PROCEDURE, PACKAGE, PACKAGE BODY; LOADABLE; VIEW */
	const char *body; /* NULL: not to be seen; of a view the query */
	const char *sql_mode;
};

/* Pure. NULL when memory ran out. */
struct catalog *catalog_judge(const struct routine_source *sources, size_t count,
			      enum sql_flavour flavour, uint32_t version);

/* NULL with the line's error. */
struct catalog *catalog_read(struct line *line, enum sql_flavour flavour, uint32_t version);
/* A short text that differs when a routine was created, changed or dropped. False with the line's error. */
bool catalog_stamp(struct line *line, enum sql_flavour flavour, char out[CATALOG_STAMP_BYTES])
	__attribute__((warn_unused_result));
bool catalog_equal(const struct catalog *a, const struct catalog *b);
/* Into a snapshot: a copy. */
void catalog_build(struct snapshot *snapshot, const struct catalog *catalog);
void catalog_free(struct catalog *catalog);

#endif
