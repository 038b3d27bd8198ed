/*
 * A memory of statements judged lately, by their shape: the text with each number and each string replaced by one sign. An application
 * sends the same few statements with other values again and again. For a short statement finding it here takes a third of the
 * instructions of judging it, and above all a tenth of the code: between two statements of a proxy the caches are full of other things.
 * With everything in the cache, as in a benchmark of its own, there is little between the two. Only short statements of the ordinary
 * kind are kept, whose meaning no value can change; everything else is judged by sql_classify() each time.
 *
 * One thread uses a memory. It has a fixed size and forgets by being overwritten.
 */
#ifndef TANDEM_SQL_RECALL_H
#define TANDEM_SQL_RECALL_H

#include "sql/sql.h"

struct sql_recall;

/* An empty memory; NULL when memory ran out. Given back with sql_recall_free(), which takes NULL too. */
struct sql_recall *sql_recall_new(void) __attribute__((warn_unused_result));
void sql_recall_free(struct sql_recall *recall);

/* The same as sql_classify(), from memory where that is possible. */
void sql_recall_classify(struct sql_recall *recall, const struct sql_context *context, const char *text, size_t len,
			 struct sql_meaning *out);

/* How many statements were found in the memory, for tests and figures. */
uint64_t sql_recall_found(const struct sql_recall *recall);

#endif
