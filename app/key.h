/* The keys that sign sessions: in a file of state_dir that only the daemon can read, replaced when they are old. */
#ifndef TANDEM_APP_KEY_H
#define TANDEM_APP_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { APP_KEY_BYTES = 32, APP_MAC_BYTES = 32 };

/*
 * The signature of `bytes` with the key of now (`age` 0) or the one before it (1): HMAC-SHA256. `lifetime_ms`: after which a key is replaced. False
 * when there is no such key, or no file can be made (the reason is in the log). Any thread.
 */
bool app_key_sign(const char *state_dir, uint32_t lifetime_ms, unsigned age, const void *bytes, size_t len, uint8_t out[APP_MAC_BYTES]);

#endif
