/* Session tickets: a client comes back to another context of the same tickets, also when their key has changed once, and not when twice. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/tls.h"
#include "base/tls_tickets.h"

void suite_tls_tickets(void);

static char folder[] = "/tmp/tandem-tickets-XXXXXX";
static SSL_CTX *client;

static int begin(void)
{
	char why[256];

	if (!mkdtemp(folder))
		return 1;
	client = tls_client_context(TLS_PREFERRED, NULL, NULL, NULL, why, sizeof(why));
	return client ? 0 : 1;
}

static int end(void)
{
	static const char *const files[] = { "tandem-cert.pem", "tandem-key.pem" };
	char path[128];

	SSL_CTX_free(client);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, files[i]);
		unlink(path);
	}
	return rmdir(folder);
}

static SSL_CTX *new_server(struct tls_tickets *tickets)
{
	char why[256];
	SSL_CTX *ctx = tls_server_context(NULL, NULL, folder, why, sizeof(why));

	CU_ASSERT_PTR_NOT_NULL_FATAL(ctx);
	CU_ASSERT_TRUE(tls_tickets_use(tickets, ctx));
	return ctx;
}

/* Both sides in memory. `*session` is what the client comes with, if any, and what it leaves with. True: it was known. */
static bool shake(SSL_CTX *ctx, int version, SSL_SESSION **session)
{
	SSL *mine = SSL_new(client), *theirs = SSL_new(ctx);
	BIO *here, *there;
	char byte;
	bool known;

	CU_ASSERT_EQUAL_FATAL(BIO_new_bio_pair(&here, 0, &there, 0), 1);
	SSL_set_bio(mine, here, here);
	SSL_set_bio(theirs, there, there);
	SSL_set_max_proto_version(mine, version);
	SSL_set_connect_state(mine);
	SSL_set_accept_state(theirs);
	if (*session)
		SSL_set_session(mine, *session);
	SSL_SESSION_free(*session);
	for (int i = 0; i < 10; i++) {
		SSL_do_handshake(mine);
		SSL_do_handshake(theirs);
	}
	/* Tickets of TLS 1.3 follow the handshake. */
	SSL_write(theirs, "x", 1);
	CU_ASSERT_EQUAL(SSL_read(mine, &byte, 1), 1);
	known = SSL_session_reused(mine);
	*session = SSL_get1_session(mine);
	/* Without a good-bye a session counts as broken. */
	SSL_set_shutdown(mine, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(mine);
	SSL_free(theirs);
	return known;
}

static void come_back(int version)
{
	struct tls_tickets *tickets = tls_tickets_new(), *others = tls_tickets_new();
	SSL_CTX *first = new_server(tickets), *second = new_server(tickets), *foreign = new_server(others);
	SSL_SESSION *session = NULL;

	CU_ASSERT_FALSE(shake(first, version, &session));
	CU_ASSERT_TRUE(shake(first, version, &session));
	CU_ASSERT_TRUE(shake(second, version, &session));
	CU_ASSERT_TRUE(tls_tickets_renew(tickets));
	CU_ASSERT_TRUE(shake(first, version, &session)); /* the key before opens it; a new ticket comes with it */
	CU_ASSERT_TRUE(tls_tickets_renew(tickets));
	CU_ASSERT_TRUE(shake(second, version, &session));
	CU_ASSERT_TRUE(tls_tickets_renew(tickets) && tls_tickets_renew(tickets));
	CU_ASSERT_FALSE(shake(first, version, &session));
	CU_ASSERT_FALSE(shake(foreign, version, &session));
	SSL_SESSION_free(session);
	SSL_CTX_free(first);
	SSL_CTX_free(second);
	SSL_CTX_free(foreign);
	tls_tickets_free(tickets);
	tls_tickets_free(others);
}

static void test_tls12(void)
{
	come_back(TLS1_2_VERSION);
}

static void test_tls13(void)
{
	come_back(TLS1_3_VERSION);
}

void suite_tls_tickets(void)
{
	CU_pSuite suite = CU_add_suite("TLS tickets", begin, end);

	CU_add_test(suite, "TLS 1.2", test_tls12);
	CU_add_test(suite, "TLS 1.3", test_tls13);
}
