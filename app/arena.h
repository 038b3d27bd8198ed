/* Memory that is given back at once, at the end of a request. */
#ifndef TANDEM_APP_ARENA_H
#define TANDEM_APP_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *blocks; /* newest first */
	char *at;		    /* free part of the newest */
	size_t left;
};

/* All zero is a valid empty arena. Aligned for anything; NULL when memory ran out. */
void *arena_alloc(struct arena *arena, size_t size);
void arena_fini(struct arena *arena);

#endif
