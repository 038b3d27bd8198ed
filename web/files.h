/* Static files of a site: conditional and range requests, precompressed siblings, nothing outside the root. */
#ifndef TANDEM_WEB_FILES_H
#define TANDEM_WEB_FILES_H

#include "web/exchange.h"

extern const struct responder files_responder;

#endif
