/*
 * Who the visitor is from one request to the next: a session in a signed cookie, tokens against forged forms, messages that outlive a
 * redirect, passwords. Nothing of it is kept on the server, so any thread and any Tandem with the same key file knows a visitor; what
 * is in a session can be read by him, not changed. The key is state_dir/app-session.key, made at first use and replaced in time, the one
 * before it is honoured as long.
 */
#ifndef TANDEM_APP_SESSION_H
#define TANDEM_APP_SESSION_H

#include "app/app.h"

/* ---- Values: names of letters and digits, values of any text; all together some 3000 bytes ---- */

/* NULL: there is none. */
const char *app_session_get(struct app_request *r, const char *name);
/* Before the head is on its way. NULL removes. False: too long, or too late; then nothing has changed. */
bool app_session_set(struct app_request *r, const char *name, const char *value);
/* Forgets all and begins a new one with other tokens: at each login, and to log out. */
void app_session_clear(struct app_request *r);

/* ---- Forms that only this site can send ---- */

/* For <input type=hidden name=csrf value="...">. */
const char *app_csrf_token(struct app_request *r);
/* True when the field csrf of the form, or the field X-CSRF-Token of the head, is this session's. Ask before each change that a form makes. */
bool app_csrf_check(struct app_request *r);

/* ---- A message for the next page ---- */

void app_flash(struct app_request *r, const char *text);
/* NULL: there is none. It is gone afterwards. */
const char *app_flash_take(struct app_request *r);

/* ---- Passwords ---- */

/*
 * The hash of a password to be stored, by yescrypt: about a tenth of a second of a core. NULL when it is longer than APP_PASSWORD_MAX, or
 * memory ran out. At most APP_PASSWORD_AT_ONCE hashes are worked out at a time; others wait.
 */
enum { APP_PASSWORD_MAX = 512, APP_PASSWORD_AT_ONCE = 2 };
const char *app_password_hash(struct app_request *r, const char *password);
/* With NULL for a hash it takes as long as with one and says false, so that nobody learns which names exist. */
bool app_password_check(struct app_request *r, const char *password, const char *hash);

#endif
