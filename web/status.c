#include "web/status.h"

#include <stdio.h>

static const struct {
	uint16_t status;
	const char *name;
	const char *advice; /* a sentence for the person in front of the browser; NULL: none */
} statuses[] = {
	{ 100, "Continue", NULL },
	{ 200, "OK", NULL },
	{ 201, "Created", NULL },
	{ 204, "No Content", NULL },
	{ 206, "Partial Content", NULL },
	{ 301, "Moved Permanently", "This page has another address now." },
	{ 302, "Found", "This page is to be found at another address." },
	{ 303, "See Other", "The answer is at another address." },
	{ 304, "Not Modified", NULL },
	{ 307, "Temporary Redirect", "This page has another address for the moment." },
	{ 308, "Permanent Redirect", "This page has another address now." },
	{ 400, "Bad Request", "The server did not understand what the browser sent." },
	{ 403, "Forbidden", "You may not see this page." },
	{ 404, "Not Found", "There is no such page here. The address may be mistyped or the page has gone." },
	{ 405, "Method Not Allowed", "That cannot be done with this page." },
	{ 408, "Request Timeout", "The request did not come in time." },
	{ 411, "Length Required", "What was sent must say how long it is." },
	{ 412, "Precondition Failed", "The page has changed meanwhile." },
	{ 413, "Content Too Large", "What was sent is larger than this site takes." },
	{ 414, "URI Too Long", "The address is longer than this site takes." },
	{ 416, "Range Not Satisfiable", NULL },
	{ 417, "Expectation Failed", NULL },
	{ 421, "Misdirected Request", "This server does not serve that site." },
	{ 429, "Too Many Requests", "Please wait a moment and try again." },
	{ 431, "Request Header Fields Too Large", "The browser sent too much about itself. Deleting this site's cookies may help." },
	{ 500, "Internal Server Error", "Something went wrong on our side." },
	{ 501, "Not Implemented", "The server does not know how to do that." },
	{ 502, "Bad Gateway", "The application did not answer properly. Please try again in a moment." },
	{ 503, "Service Unavailable", "The site cannot answer just now. Please try again in a moment." },
	{ 504, "Gateway Timeout", "The application took too long to answer. Please try again in a moment." },
	{ 505, "HTTP Version Not Supported", NULL },
};

enum { COUNT = sizeof(statuses) / sizeof(statuses[0]) };

static size_t find(uint16_t status)
{
	size_t i = 0;

	while (i < COUNT && statuses[i].status != status)
		i++;
	return i;
}

const char *status_name(uint16_t status)
{
	size_t i = find(status);

	return i < COUNT ? statuses[i].name : "Unknown";
}

size_t status_page(uint16_t status, char out[STATUS_PAGE_BYTES])
{
	size_t i = find(status);
	const char *advice = i < COUNT && statuses[i].advice ? statuses[i].advice : "";

	return (size_t)snprintf(out, STATUS_PAGE_BYTES,
				"<!DOCTYPE html>\n"
				"<html lang=\"en\"><head><meta charset=\"utf-8\">"
				"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
				"<title>%u %s</title>"
				"<style>body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;color:#222}"
				"h1{font-size:1.4rem}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}}</style>"
				"</head><body><h1>%u %s</h1><p>%s</p></body></html>\n",
				status, status_name(status), status, status_name(status), advice);
}
