/* What HTTP statuses are called, and the page a person sees when one of them is all there is to say. */
#ifndef TANDEM_WEB_STATUS_H
#define TANDEM_WEB_STATUS_H

#include <stddef.h>
#include <stdint.h>

/* "Not Found"; "Unknown" for a number without a name. */
const char *status_name(uint16_t status);

enum { STATUS_PAGE_BYTES = 1024 };
/* Writes a small HTML page; returns its length. Nothing of the request is in it. */
size_t status_page(uint16_t status, char out[STATUS_PAGE_BYTES]);

#endif
