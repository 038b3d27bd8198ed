#include "app/arena.h"

#include <stdalign.h>
#include <stdlib.h>

enum { BLOCK_BYTES = 4096 };

struct arena_block {
	struct arena_block *next;
	alignas(max_align_t) char bytes[];
};

static struct arena_block *add_block(struct arena *arena, size_t size)
{
	struct arena_block *block = malloc(sizeof(*block) + size);

	if (!block)
		return NULL;
	block->next = arena->blocks;
	arena->blocks = block;
	return block;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_block *block;
	void *place;

	if (size > (size_t)1 << 40)
		return NULL;
	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (size > BLOCK_BYTES / 4) {
		block = add_block(arena, size);
		return block ? block->bytes : NULL;
	}
	if (size > arena->left) {
		block = add_block(arena, BLOCK_BYTES);
		if (!block)
			return NULL;
		arena->at = block->bytes;
		arena->left = BLOCK_BYTES;
	}
	place = arena->at;
	arena->at += size;
	arena->left -= size;
	return place;
}

void arena_fini(struct arena *arena)
{
	while (arena->blocks) {
		struct arena_block *block = arena->blocks;

		arena->blocks = block->next;
		free(block);
	}
	*arena = (struct arena){ 0 };
}
