/*
 * The path of a request made safe and plain: escapes decoded once, "." and ".." resolved, doubled slashes folded (RFC 3986 sections
 * 5.2.4 and 6.2.2). What comes out begins with '/', holds no NUL, no "." or ".." segment, and so never leaves a root it is put behind.
 */
#ifndef TANDEM_WEB_PATH_H
#define TANDEM_WEB_PATH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Writes the normal form of `path` (`len` bytes, as http1_parse() gave it) to `out`, terminated; `out` has room for len + 1 bytes and may not
 * overlap. Returns its length, or 0 when the path is refused: a broken escape, an encoded NUL or slash, or a ".." above the root.
 */
size_t path_normalise(const char *path, size_t len, char *out);

/* True when `path` is `prefix` or lies below it: "/api" holds "/api" and "/api/x", not "/apix"; "/" holds everything. */
bool path_is_below(const char *path, const char *prefix);

#endif
