/*
 * A frozen list of warnings and errors told by value: GET DIAGNOSTICS, SHOW WARNINGS and SHOW ERRORS, alone or in a packet of several statements.
 */
#ifndef TANDEM_SESSION_TOLD_H
#define TANDEM_SESSION_TOLD_H

#include <stdbool.h>

struct turn;

/* The turn asks about a list that is known by value, or empty: its text becomes one that any connection answers, or a connection is to be given
 * the list first (turn->restore), or Tandem answers. True when the turn has ended. */
bool told_answer(struct turn *turn);
/* The same for the questions in a packet of several statements that are about the list of before. */
void told_in_packet(struct turn *turn);

#endif
