#include "base/tls_staple.h"

#include <errno.h>
#include <openssl/ocsp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct staple {
	ASN1_GENERALIZEDTIME *until; /* NULL: newer ones can be had any time, this one does not age */
	int len;
	unsigned char bytes[];
};

enum { STAPLE_MAX = 65535 }; /* more has no room in a handshake message */

static int slot = -1; /* of a context */

static void free_staple(void *parent, void *data, CRYPTO_EX_DATA *ad, int index, long number, void *pointer)
{
	struct staple *staple = data;

	(void)parent, (void)ad, (void)index, (void)number, (void)pointer;
	if (staple)
		ASN1_GENERALIZEDTIME_free(staple->until);
	free(staple);
}

static void make_slot(void)
{
	slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_staple);
}

/* ---- In the handshake ---- */

static bool is_stale_now(const struct staple *staple)
{
	return staple->until && X509_cmp_current_time(staple->until) < 0;
}

static int give(SSL *ssl, void *arg)
{
	const struct staple *staple = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), slot);
	unsigned char *copy;

	(void)arg;
	if (!staple || is_stale_now(staple))
		return SSL_TLSEXT_ERR_NOACK;
	copy = OPENSSL_memdup(staple->bytes, (size_t)staple->len);
	if (!copy)
		return SSL_TLSEXT_ERR_NOACK;
	SSL_set_tlsext_status_ocsp_resp(ssl, copy, staple->len); /* owns it now */
	return SSL_TLSEXT_ERR_OK;
}

/* ---- From the file ---- */

static struct staple *read_file(const char *path, const char **why)
{
	struct staple *staple = calloc(1, sizeof(*staple) + STAPLE_MAX + 1);
	FILE *file = fopen(path, "rbe");
	size_t len = 0;

	*why = !staple ? "out of memory" : !file ? strerror(errno) : NULL;
	if (!*why) {
		len = fread(staple->bytes, 1, STAPLE_MAX + 1, file);
		if (ferror(file))
			*why = "cannot be read";
		else if (!len || len > STAPLE_MAX)
			*why = "is empty or too long for an OCSP response";
	}
	if (file)
		fclose(file);
	if (!*why) {
		staple->len = (int)len;
		return staple;
	}
	free(staple);
	return NULL;
}

/* The one about this certificate among those that a response may hold; by its number, since who made it may not be in the chain. */
static OCSP_SINGLERESP *find_single(OCSP_BASICRESP *basic, X509 *certificate)
{
	for (int i = 0; i < OCSP_resp_count(basic); i++) {
		OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
		ASN1_INTEGER *serial = NULL;

		OCSP_id_get0_info(NULL, NULL, NULL, &serial, (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(single));
		if (serial && !ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(certificate)))
			return single;
	}
	return NULL;
}

static const char *look_at_single(OCSP_SINGLERESP *single, struct staple *staple)
{
	ASN1_GENERALIZEDTIME *until = NULL;

	if (!single)
		return "is about another certificate";
	if (OCSP_single_get0_status(single, NULL, NULL, NULL, &until) != V_OCSP_CERTSTATUS_GOOD)
		return "says that the certificate is not good: get a new certificate";
	if (!until)
		return NULL;
	staple->until = ASN1_STRING_dup(until);
	return staple->until ? NULL : "out of memory";
}

static const char *look_at(struct staple *staple, X509 *certificate)
{
	const unsigned char *at = staple->bytes;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, staple->len);
	OCSP_BASICRESP *basic = NULL;
	const char *why = NULL;

	if (!response || at != staple->bytes + staple->len)
		why = "is no OCSP response in DER form";
	else if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
		why = "is an OCSP responder's refusal";
	else if (!(basic = OCSP_response_get1_basic(response)))
		why = "is no OCSP response of the usual kind";
	else
		why = look_at_single(find_single(basic, certificate), staple);
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	return why;
}

bool tls_staple(SSL_CTX *ctx, const char *file, bool *is_stale, char *why, size_t why_size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	const char *what;
	struct staple *staple = read_file(file, &what);

	pthread_once(&once, make_slot);
	if (staple)
		what = look_at(staple, SSL_CTX_get0_certificate(ctx));
	if (!what && (slot < 0 || !SSL_CTX_set_ex_data(ctx, slot, staple)))
		what = "out of memory";
	if (what) {
		snprintf(why, why_size, "ocsp %s: %s", file, what);
		free_staple(NULL, staple, NULL, 0, 0, NULL);
		return false;
	}
	*is_stale = is_stale_now(staple);
	SSL_CTX_set_tlsext_status_cb(ctx, give);
	return true;
}
