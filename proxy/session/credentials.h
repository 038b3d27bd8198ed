/*
 * Who a client proved to be, and what is needed to log in to backends as the same user. Counted; shared by a client and the
 * connections made for it. Secrets are wiped when the last reference goes.
 */
#ifndef TANDEM_SESSION_CREDENTIALS_H
#define TANDEM_SESSION_CREDENTIALS_H

#include "proxy/cluster/gtid.h"
#include "proxy/wire/auth.h"

/* The position of the newest write acknowledged to anybody of one account. Lives as long as the process. */
struct account_token {
	struct account_token *next;
	struct gtid_board board;
	char user[];
};
/* Finds or makes the token of an account. Any thread; takes a lock, so only at login. */
struct account_token *account_token(const char *user, size_t len);
/* The token that every account's writes raise too (read_your_writes = global). */
struct account_token *account_token_global(void);
/* A promotion: tokens above its fork are of writes that are lost. Returns how many there were. Any thread. */
unsigned account_tokens_clamp(const struct gtid_set *fork);
/* Frees all tokens; at the very end. */
void account_tokens_free(void);

struct credentials {
	_Atomic unsigned refs;
	char *user;
	bool has_password; /* false: the account's password is empty */
	bool has_stage1;   /* stage1 is known: enough for mysql_native_password */
	uint8_t stage1[20];
	char *password; /* in clear when known, NULL otherwise */
	bool is_super;
	uint64_t account; /* hash of the account's row that was believed: another password makes other credentials. 0: of the settings */
	struct account_token *token;
	uint8_t stored[64]; /* the account's stored hash, for the TLS proof */
	size_t stored_len;
};

/* A copy of `user`; the rest is filled in by the caller. */
struct credentials *credentials_new(const char *user, size_t len);
struct credentials *credentials_ref(struct credentials *credentials);
void credentials_unref(struct credentials *credentials);
/* The same user with the same secret: their connections are interchangeable. */
bool credentials_same(const struct credentials *a, const struct credentials *b);
void credentials_set_password(struct credentials *credentials, const char *password, size_t len);

#endif
