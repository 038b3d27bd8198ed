/* The name that was meant by one that is not known: for "did you mean ...?". */
#ifndef TANDEM_BASE_NEAREST_H
#define TANDEM_BASE_NEAREST_H

/* The best candidate so far; starts as { NULL, 0 }. */
struct nearest {
	const char *name;
	unsigned distance;
};

/* Takes `candidate` when it looks more like `name` than what was best: about a quarter of the letters may differ, or the one is how the other
 * begins. Capital letters count as small ones. */
void nearest_consider(struct nearest *best, const char *candidate, const char *name);

#endif
