/*
 * SET TRANSACTION without GLOBAL or SESSION: it holds for the next transaction, and no tracker or variable tells it. The connection where it
 * was said is kept for that transaction; when it is lost or left before, what was said is said again on the next one.
 */
#ifndef TANDEM_SESSION_ONESHOT_H
#define TANDEM_SESSION_ONESHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ONESHOT_TEXTS = 2 }; /* one for the level and one for the access mode */

struct oneshot {
	bool set;
	bool fixed;			/* said in other words, or too often: only its connection knows it */
	char *texts[ONESHOT_TEXTS];	/* statements in their order; owned */
};

/* A statement with these facts (SQL_F_ONESHOT among them) succeeded. */
void oneshot_note(struct oneshot *oneshot, uint64_t facts, const char *text, size_t len);
/* Its transaction is over. */
void oneshot_clear(struct oneshot *oneshot);
/* `to` is empty. */
void oneshot_copy(struct oneshot *to, const struct oneshot *from);

#endif
