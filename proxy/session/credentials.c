#include "proxy/session/credentials.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/tls.h"

static pthread_mutex_t tokens_lock = PTHREAD_MUTEX_INITIALIZER;
static struct account_token *tokens;

static struct account_token *find_token(const char *user, size_t len)
{
	for (struct account_token *t = tokens; t; t = t->next)
		if (strlen(t->user) == len && !memcmp(t->user, user, len))
			return t;
	return NULL;
}

struct account_token *account_token(const char *user, size_t len)
{
	struct account_token *t;

	pthread_mutex_lock(&tokens_lock);
	t = find_token(user, len);
	if (!t && (t = calloc(1, sizeof(*t) + len + 1))) {
		memcpy(t->user, user, len);
		t->next = tokens;
		tokens = t;
	}
	pthread_mutex_unlock(&tokens_lock);
	return t;
}

struct account_token *account_token_global(void)
{
	return account_token("\n", 1); /* no account can be called so */
}

unsigned account_tokens_clamp(const struct gtid_set *fork)
{
	struct gtid_set set;
	unsigned count = 0;

	pthread_mutex_lock(&tokens_lock);
	for (struct account_token *t = tokens; t; t = t->next) {
		gtid_board_read(&t->board, &set);
		if (!gtid_clamp(&set, fork))
			continue;
		gtid_board_reset(&t->board, &set);
		count++;
	}
	pthread_mutex_unlock(&tokens_lock);
	return count;
}

void account_tokens_free(void)
{
	while (tokens) {
		struct account_token *t = tokens;

		tokens = t->next;
		free(t);
	}
}

struct credentials *credentials_new(const char *user, size_t len)
{
	struct credentials *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	atomic_init(&c->refs, 1);
	c->user = strndup(user, len);
	c->token = account_token(user, len);
	if (!c->user || !c->token) {
		credentials_unref(c);
		return NULL;
	}
	return c;
}

struct credentials *credentials_ref(struct credentials *credentials)
{
	atomic_fetch_add_explicit(&credentials->refs, 1, memory_order_relaxed);
	return credentials;
}

void credentials_unref(struct credentials *credentials)
{
	if (!credentials || atomic_fetch_sub_explicit(&credentials->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (credentials->password)
		secret_wipe(credentials->password, strlen(credentials->password));
	free(credentials->password);
	free(credentials->user);
	secret_wipe(credentials, sizeof(*credentials));
	free(credentials);
}

bool credentials_same(const struct credentials *a, const struct credentials *b)
{
	if (a == b)
		return true;
	if (strcmp(a->user, b->user) || a->account != b->account || a->has_password != b->has_password || a->has_stage1 != b->has_stage1)
		return false;
	if (a->has_stage1)
		return secret_equal(a->stage1, b->stage1, sizeof(a->stage1));
	return !a->has_password || (a->password && b->password && !strcmp(a->password, b->password));
}

void credentials_set_password(struct credentials *credentials, const char *password, size_t len)
{
	credentials->has_password = len > 0;
	credentials->password = strndup(password, len);
	auth_native_stage1(password, len, credentials->stage1);
	credentials->has_stage1 = len > 0;
}
