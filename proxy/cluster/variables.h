/*
 * The variables that are session state: which exist on each server, what they start as, and the list to hand to
 * session_track_system_variables. Always by explicit name.
 */
#ifndef TANDEM_CLUSTER_VARIABLES_H
#define TANDEM_CLUSTER_VARIABLES_H

#include "proxy/cluster/line.h"
#include "proxy/cluster/snapshot.h"

/* What one server says, sorted by name. */
struct variable_list {
	size_t count;
	struct variable_entry {
		char *name;
		char *value; /* what a new session starts with, "" for SQL NULL */
		bool is_number;
		bool is_text; /* VARCHAR: free text, where '' stands for NULL */
	} * entries;
};

/* NULL with the line's error, or when memory ran out. */
struct variable_list *variables_read(struct line *line, enum sql_flavour flavour);
void variables_free(struct variable_list *list);
bool variables_equal(const struct variable_list *a, const struct variable_list *b);

/* True for a name that trackers may report and a SET may restore. */
bool variables_is_tracked(const char *name);

/* Fills the snapshot's variables, track lists and default character set. lists[i] belongs to server i and may be NULL; `base` is the
 * server whose values are the defaults (the primary's index). */
void variables_build(struct snapshot *snapshot, struct variable_list *const *lists, size_t base,
		     enum sql_flavour flavour);

#endif
