#include "base/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

enum { SELF_MADE_DAYS = 3650 };

/* Where a function that fails puts its one line. */
struct reason {
	char *text;
	size_t size;
};

static void give_reason(const struct reason *why, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void give_reason(const struct reason *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, why->size, format, args);
	va_end(args);
}

/* What OpenSSL, or the system below it, had to say; empties its queue. */
static const char *openssl_reason(void)
{
	unsigned long first = ERR_get_error();
	const char *text = NULL;

	ERR_clear_error();
	if (ERR_SYSTEM_ERROR(first))
		text = strerrordesc_np(ERR_GET_REASON(first));
	else if (first)
		text = ERR_reason_error_string(first);
	return text ? text : "unknown reason";
}

/* --- the certificate made at first start --- */

static bool write_file(const char *path, int (*put)(FILE *file, void *what), void *what,
		       const struct reason *why)
{
	char temporary[PATH_MAX];
	FILE *file = NULL;
	int fd;

	/* Written beside and renamed, so that nobody ever reads half a file. */
	if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary)) {
		give_reason(why, "%s: path too long", path);
		return false;
	}
	unlink(temporary);
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		file = fdopen(fd, "w");
	if (!file) {
		give_reason(why, "%s: cannot be written: %s", temporary, strerror(errno));
		if (fd >= 0)
			close(fd);
		return false;
	}
	if (!put(file, what) || fflush(file) != 0 || fsync(fd) != 0) {
		give_reason(why, "%s: cannot be written: %s", temporary, strerror(errno));
		fclose(file);
		unlink(temporary);
		return false;
	}
	fclose(file);
	if (rename(temporary, path) != 0) {
		give_reason(why, "%s: cannot be written: %s", path, strerror(errno));
		unlink(temporary);
		return false;
	}
	return true;
}

static int put_key(FILE *file, void *key)
{
	return PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
}

static int put_certificate(FILE *file, void *certificate)
{
	return PEM_write_X509(file, certificate);
}

static bool add_extension(X509 *certificate, int nid, const char *value)
{
	X509V3_CTX context;
	X509_EXTENSION *extension;
	bool ok;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	ok = extension && X509_add_ext(certificate, extension, -1);
	X509_EXTENSION_free(extension);
	return ok;
}

static bool set_serial(X509 *certificate)
{
	uint64_t serial;

	/* Random and positive: a browser that has seen another certificate of the same name would refuse an equal one. */
	return RAND_bytes((unsigned char *)&serial, sizeof(serial)) == 1 &&
	       ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1 | 1);
}

static bool fill_certificate(X509 *certificate, EVP_PKEY *key)
{
	X509_NAME *name = X509_get_subject_name(certificate);

	return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
	       X509_gmtime_adj(X509_getm_notBefore(certificate), -86400) &&
	       X509_time_adj_ex(X509_getm_notAfter(certificate), SELF_MADE_DAYS, 0, NULL) &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"Tandem",
					  -1, -1, 0) &&
	       X509_set_issuer_name(certificate, name) && X509_set_pubkey(certificate, key) &&
	       add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(certificate, NID_subject_alt_name,
			     "DNS:localhost,IP:127.0.0.1,IP:::1") &&
	       X509_sign(certificate, key, EVP_sha256()) > 0;
}

static bool make_certificate(const char *certificate_path, const char *key_path,
			     const struct reason *why)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	bool ok = false;

	if (!key || !certificate || !fill_certificate(certificate, key))
		give_reason(why, "no certificate could be made: %s", openssl_reason());
	else /* the certificate last: where it is, the pair is whole */
		ok = write_file(key_path, put_key, key, why) &&
		     write_file(certificate_path, put_certificate, certificate, why);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return ok;
}

/* --- contexts --- */

/* A key file with a pass phrase must fail, not ask at the terminal. */
static int no_pass_phrase(char *buffer, int size, int writing, void *user)
{
	(void)buffer, (void)size, (void)writing, (void)user;
	return 0;
}

static SSL_CTX *new_context(const SSL_METHOD *method, const struct reason *why)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION)) {
		give_reason(why, "TLS cannot be set up: %s", openssl_reason());
		SSL_CTX_free(ctx);
		return NULL;
	}
	/* Release: an idle connection holds no record buffers, which is 9 of its 27 KiB. */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_default_passwd_cb(ctx, no_pass_phrase);
	return ctx;
}

static bool load_pair(SSL_CTX *ctx, const char *certificate, const char *key,
		      const struct reason *why)
{
	if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
		give_reason(why, "certificate %s: %s", certificate, openssl_reason());
	else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		give_reason(why, "key %s: %s", key, openssl_reason());
	else
		return true;
	return false;
}

static bool load_self_made(SSL_CTX *ctx, const char *state_dir, const struct reason *why)
{
	char certificate[PATH_MAX], key[PATH_MAX];

	/* cppcheck-suppress ctunullpointer ; who gives none has a certificate of his own */
	if (snprintf(certificate, sizeof(certificate), "%s/tandem-cert.pem", state_dir) >=
		    PATH_MAX ||
	    snprintf(key, sizeof(key), "%s/tandem-key.pem", state_dir) >= PATH_MAX) {
		give_reason(why, "%s: path too long", state_dir);
		return false;
	}
	if (access(certificate, F_OK) != 0 && errno == ENOENT &&
	    !make_certificate(certificate, key, why))
		return false;
	return load_pair(ctx, certificate, key, why);
}

SSL_CTX *tls_server_context(const char *certificate, const char *key, const char *state_dir,
			    char *why_text, size_t why_size)
{
	struct reason why = { why_text, why_size };
	SSL_CTX *ctx = new_context(TLS_server_method(), &why);
	bool ok;

	if (!ctx)
		return NULL;
	/* Database clients open one connection at a time; a second ticket is never used. */
	SSL_CTX_set_num_tickets(ctx, 1);
	if (certificate)
		ok = load_pair(ctx, certificate, key ? key : certificate, &why);
	else
		ok = load_self_made(ctx, state_dir, &why);
	if (ok)
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

static bool load_trust(SSL_CTX *ctx, enum tls_mode mode, const char *ca, const struct reason *why)
{
	if (mode != TLS_VERIFY_CA && mode != TLS_VERIFY_FULL)
		return true;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (ca ? SSL_CTX_load_verify_file(ctx, ca) == 1
	       : SSL_CTX_set_default_verify_paths(ctx) == 1)
		return true;
	give_reason(why, "CA certificates %s: %s", ca ? ca : "of the system", openssl_reason());
	return false;
}

SSL_CTX *tls_client_context(enum tls_mode mode, const char *ca, const char *certificate,
			    const char *key, char *why_text, size_t why_size)
{
	struct reason why = { why_text, why_size };
	SSL_CTX *ctx = new_context(TLS_client_method(), &why);

	if (ctx && load_trust(ctx, mode, ca, &why) &&
	    (!certificate || load_pair(ctx, certificate, key ? key : certificate, &why)))
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

bool tls_fingerprint(SSL_CTX *ctx, uint8_t out[32])
{
	X509 *certificate = SSL_CTX_get0_certificate(ctx);
	unsigned len = 0;

	return certificate && X509_digest(certificate, EVP_sha256(), out, &len) && len == 32;
}

bool tls_is_self_signed(SSL_CTX *ctx)
{
	X509 *certificate = SSL_CTX_get0_certificate(ctx);

	return certificate && (X509_get_extension_flags(certificate) & EXFLAG_SS);
}

/* --- secrets --- */

void secret_wipe(void *bytes, size_t len)
{
	if (bytes)
		OPENSSL_cleanse(bytes, len);
}

bool secret_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}
