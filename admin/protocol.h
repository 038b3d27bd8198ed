/*
 * Between tandemctl and the daemon, over the Unix socket: one request, one answer, then the daemon closes. Lines of JSON.
 *
 *   -> {"words": ["promote", "db2", "--dry-run"], "format": "text"}        format: "text" (the default) or "json"
 *   <- {"out": "text for standard output"}                                  any number, as it comes
 *   <- {"err": "text for standard error"}
 *   <- {"exit": 0}                                                          the last one
 *
 * Words are those of a command line; both sides judge them by the table in command.c, so either may be the newer.
 */
#ifndef TANDEM_ADMIN_PROTOCOL_H
#define TANDEM_ADMIN_PROTOCOL_H

enum {
	PROTOCOL_REQUEST_BYTES = 1024 * 1024,
	PROTOCOL_WORDS = 1000,
};

enum { EXIT_CODE_DONE = 0, EXIT_CODE_FAILED = 1, EXIT_CODE_USAGE = 2, EXIT_CODE_UNREACHABLE = 3 };

#endif
