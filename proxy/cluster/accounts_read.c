#include "proxy/cluster/accounts.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/cluster/flavour.h"
#include "proxy/cluster/line.h"

/* Columns of the flavour's account statement: the head, then pairs of plugin and authentication string. */
enum { A_USER, A_HOST, A_ACCESS, A_LOCKED, A_SSL, A_ROLE, A_PAIRS };

/* Bits of MariaDB's access word: who may end other users' sessions. */
#define ACCESS_SUPER		(UINT64_C(1) << 15)
#define ACCESS_CONNECTION_ADMIN (UINT64_C(1) << 32)

/* Of several ways to log in (IDENTIFIED VIA a OR b) the one that can be checked with least: later is worse. */
static const char *const preferred[] = {
	"mysql_native_password", "caching_sha2_password", "ed25519",
	"client_ed25519",	 "sha256_password",	  "parsec",
};

static unsigned plugin_rank(const char *plugin, const char *auth)
{
	unsigned count = sizeof(preferred) / sizeof(preferred[0]);

	/* MariaDB writes "invalid" where no password has been set: this way in is closed. */
	if (!strcmp(auth, "invalid"))
		return count + 1;
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(preferred[i], plugin))
			return i;
	return count;
}

static void choose_plugin(MYSQL_ROW row, unsigned columns, const char **plugin, const char **auth)
{
	unsigned best = UINT32_MAX;

	*plugin = "mysql_native_password";
	*auth = "";
	for (unsigned i = A_PAIRS; i + 1 < columns; i += 2) {
		const char *name = row_text(row, i);
		const char *text = row_text(row, i + 1);

		/* An account from before plugins has none; in an auth_or list an empty place stands for the entry's own. */
		if (!*name && i > A_PAIRS)
			continue;
		name = *name ? name : "mysql_native_password";
		if (plugin_rank(name, text) >= best)
			continue;
		best = plugin_rank(name, text);
		*plugin = name;
		*auth = text;
	}
}

static bool is_true(const char *text)
{
	return *text && strcmp(text, "0") && strcmp(text, "false") && strcmp(text, "N");
}

static bool fill_account(struct account *account, MYSQL_ROW row, unsigned columns)
{
	const char *plugin, *auth;
	uint64_t access = row_number(row, A_ACCESS);

	choose_plugin(row, columns, &plugin, &auth);
	account->user = strdup(row_text(row, A_USER));
	account->host = strdup(row_text(row, A_HOST));
	account->plugin = strdup(plugin);
	account->auth = strdup(auth);
	account->locked = is_true(row_text(row, A_LOCKED));
	account->requires_tls = row_number(row, A_SSL) > 0;
	account->is_super = access & (ACCESS_SUPER | ACCESS_CONNECTION_ADMIN);
	account->is_role = is_true(row_text(row, A_ROLE));
	return account->user && account->host && account->plugin && account->auth;
}

static struct account *fill_accounts(MYSQL_RES *result, size_t *count)
{
	unsigned columns = mysql_num_fields(result);
	struct account *accounts = calloc(mysql_num_rows(result) + 1, sizeof(*accounts));
	MYSQL_ROW row;

	*count = 0;
	while (accounts && (row = mysql_fetch_row(result))) {
		if (!fill_account(&accounts[(*count)++], row, columns)) {
			accounts_free(accounts, *count);
			return NULL;
		}
	}
	return accounts;
}

struct account *accounts_read(struct line *line, enum sql_flavour flavour, size_t *count)
{
	const struct flavour *f = flavour_of(flavour);
	MYSQL_RES *result = line_query(line, f->accounts);
	struct account *accounts;

	if (!result && line->error && !line_error_is_loss(line) && f->accounts_before)
		result = line_query(line, f->accounts_before);
	if (!result)
		return NULL;
	accounts = fill_accounts(result, count);
	mysql_free_result(result);
	if (accounts)
		accounts_sort(accounts, *count);
	return accounts;
}
