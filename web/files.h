/* Static files of a site: conditional and range requests, precompressed siblings, nothing outside the root. */
#ifndef TANDEM_WEB_FILES_H
#define TANDEM_WEB_FILES_H

#include "web/exchange.h"

extern const struct responder files_responder;

/* True when the path names a regular file of the root that is no script: a route to an application may leave it to us. */
bool files_has(const struct exchange *x);
/* True when `path`, absolute within the site and in normal form, names a regular file of the root. */
bool files_has_script(const struct exchange *x, const char *path);

#endif
