/*
 * An answer as text for people and as JSON.
 */
#ifndef TANDEM_ADMIN_RENDER_H
#define TANDEM_ADMIN_RENDER_H

#include <jansson.h>
#include <stdio.h>

#include "admin/answer.h"

/* Tables, each with its title, then the summary. What was refused or failed is said on `err`, with the advice. Tables of which `shown` has
 * the bit set (by their index) have been printed row by row already. */
void render_text(const struct answer *answer, unsigned shown, FILE *out, FILE *err);
/* The last row of a table, as it comes; the first one brings the header. */
void render_last_row(const struct table *table, FILE *out);
/* The whole answer as one object; NULL when memory ran out. */
json_t *render_json(const struct answer *answer);
/* The last row as an object. */
json_t *render_json_last_row(const struct table *table);

/* A cell as the SQL console and text show it; `for_people`: with units. Cut at size - 1. NULL cells are "". */
void render_cell(const struct column *column, const struct cell *cell, bool for_people, char *out, size_t size);

#endif
