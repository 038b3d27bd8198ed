/* Media types by file name. */
#ifndef TANDEM_WEB_MIME_H
#define TANDEM_WEB_MIME_H

#include <stdbool.h>

struct mime {
	const char *ending; /* without the dot */
	const char *type;   /* with charset where it is text */
	bool compresses;    /* worth a .gz or .br sibling */
};

/* By the name's last ending, any case; application/octet-stream when it is not known. Never NULL. */
const struct mime *mime_of(const char *name);

#endif
