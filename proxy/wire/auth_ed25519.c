/*
 * client_ed25519. Standard Ed25519 (RFC 8032) but for one thing: the SHA-512 is taken of the whole password, not of a 32-byte
 * seed, so OpenSSL can check these signatures but not make them. Signing therefore brings its own curve arithmetic. It runs
 * once per login, so it is written to be short: one complete addition formula serves for doubling too, and takes the same
 * steps whatever the secret is.
 */
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <string.h>

#include "proxy/wire/auth.h"

enum { LIMBS = 5, LIMB_BITS = 51, KEY_BYTES = 32, KEY_TEXT = 43, SIGNATURE_BYTES = 64 };

#define LIMB_MASK ((UINT64_C(1) << LIMB_BITS) - 1)

/* ---- Numbers modulo 2^255 - 19, five limbs of 51 bits, each kept below 2^54 between steps ------------------------- */

struct fe {
	uint64_t v[LIMBS];
};

static const struct fe fe_zero = { { 0 } };
static const struct fe fe_one = { { 1 } };

static struct fe fe_add(struct fe a, struct fe b)
{
	for (int i = 0; i < LIMBS; i++)
		a.v[i] += b.v[i];
	return a;
}

static struct fe fe_carry(struct fe a)
{
	for (int i = 0; i < LIMBS - 1; i++) {
		a.v[i + 1] += a.v[i] >> LIMB_BITS;
		a.v[i] &= LIMB_MASK;
	}
	a.v[0] += 19 * (a.v[LIMBS - 1] >> LIMB_BITS);
	a.v[LIMBS - 1] &= LIMB_MASK;
	return a;
}

/* a - b + 8p, so that no limb goes below zero */
static struct fe fe_sub(struct fe a, struct fe b)
{
	const uint64_t low = 8 * (LIMB_MASK - 18), high = 8 * LIMB_MASK;

	for (int i = 0; i < LIMBS; i++)
		a.v[i] += (i == 0 ? low : high) - b.v[i];
	return fe_carry(a);
}

static struct fe fe_mul(struct fe a, struct fe b)
{
	unsigned __int128 sum[LIMBS] = { 0 };
	struct fe r;

	for (int i = 0; i < LIMBS; i++) {
		for (int j = 0; j < LIMBS; j++) {
			/* 2^255 = 19: what runs over the top comes back at the bottom */
			uint64_t factor = i + j < LIMBS ? 1 : 19;

			sum[(i + j) % LIMBS] += (unsigned __int128)a.v[i] * (b.v[j] * factor);
		}
	}
	for (int i = 0; i < LIMBS - 1; i++) {
		sum[i + 1] += sum[i] >> LIMB_BITS;
		r.v[i] = (uint64_t)sum[i] & LIMB_MASK;
	}
	r.v[LIMBS - 1] = (uint64_t)sum[LIMBS - 1] & LIMB_MASK;
	r.v[0] += 19 * (uint64_t)(sum[LIMBS - 1] >> LIMB_BITS);
	return fe_carry(r);
}

/* 1/a = a^(p-2); the exponent 2^255 - 21 has all bits set but 1 << 2 and 1 << 4 */
static struct fe fe_invert(struct fe a)
{
	struct fe r = fe_one;

	for (int bit = 254; bit >= 0; bit--) {
		r = fe_mul(r, r);
		if (bit != 2 && bit != 4)
			r = fe_mul(r, a);
	}
	return r;
}

/* `yes` is 0 or 1 and secret: no branch. */
static void fe_choose(struct fe *a, const struct fe *b, uint64_t yes)
{
	const uint64_t mask = 0 - yes;

	for (int i = 0; i < LIMBS; i++)
		a->v[i] ^= mask & (a->v[i] ^ b->v[i]);
}

/* Little-endian, fully reduced. */
static void fe_to_bytes(struct fe a, uint8_t out[KEY_BYTES])
{
	struct fe less;

	a = fe_carry(fe_carry(a));
	/* a < 2^255 now: a - p = a + 19 - 2^255 is the answer when adding 19 reaches bit 255 */
	less = a;
	less.v[0] += 19;
	for (int i = 0; i < LIMBS - 1; i++) {
		less.v[i + 1] += less.v[i] >> LIMB_BITS;
		less.v[i] &= LIMB_MASK;
	}
	fe_choose(&a, &less, less.v[LIMBS - 1] >> LIMB_BITS);
	a.v[LIMBS - 1] &= LIMB_MASK;
	memset(out, 0, KEY_BYTES);
	for (int bit = 0; bit < LIMBS * LIMB_BITS; bit++)
		out[bit / 8] |= (uint8_t)((a.v[bit / LIMB_BITS] >> (bit % LIMB_BITS) & 1) << (bit % 8));
}

static struct fe fe_from_bytes(const uint8_t in[KEY_BYTES])
{
	struct fe a = fe_zero;

	for (int bit = 0; bit < LIMBS * LIMB_BITS; bit++)
		a.v[bit / LIMB_BITS] |= (uint64_t)(in[bit / 8] >> (bit % 8) & 1) << (bit % LIMB_BITS);
	return a;
}

/* ---- The curve -x^2 + y^2 = 1 + d x^2 y^2, extended coordinates: x = X/Z, y = Y/Z, xy = T/Z ------------------------ */

struct point {
	struct fe x, y, z, t;
};

static struct fe fe_small(uint64_t v)
{
	return (struct fe){ { v } };
}

/* 2d, d = -121665/121666 */
static struct fe twice_d(void)
{
	struct fe d = fe_mul(fe_sub(fe_zero, fe_small(121665)), fe_invert(fe_small(121666)));

	return fe_carry(fe_add(d, d));
}

/* The base point: y = 4/5, x the even one of the two. */
static struct point base_point(void)
{
	static const uint8_t x[KEY_BYTES] = {
		0x1a, 0xd5, 0x25, 0x8f, 0x60, 0x2d, 0x56, 0xc9, 0xb2, 0xa7, 0x25, 0x95, 0x60, 0xc7, 0x2c, 0x69,
		0x5c, 0xdc, 0xd6, 0xfd, 0x31, 0xe2, 0xa4, 0xc0, 0xfe, 0x53, 0x6e, 0xcd, 0xd3, 0x36, 0x69, 0x21,
	};
	struct point b = { .x = fe_from_bytes(x), .z = fe_one };

	b.y = fe_mul(fe_small(4), fe_invert(fe_small(5)));
	b.t = fe_mul(b.x, b.y);
	return b;
}

/* Unified addition (Hisil, Wong, Carter, Dawson 2008), complete on this curve. */
static struct point add(const struct point *p, const struct point *q, struct fe d2)
{
	struct fe a = fe_mul(fe_sub(p->y, p->x), fe_sub(q->y, q->x));
	struct fe b = fe_mul(fe_add(p->y, p->x), fe_add(q->y, q->x));
	struct fe c = fe_mul(fe_mul(p->t, q->t), d2);
	struct fe d = fe_mul(fe_add(p->z, p->z), q->z);
	struct fe e = fe_sub(b, a), f = fe_sub(d, c), g = fe_add(d, c), h = fe_add(b, a);

	return (struct point){
		.x = fe_mul(e, f), .y = fe_mul(g, h), .z = fe_mul(f, g), .t = fe_mul(e, h),
	};
}

/* scalar times the base point, encoded */
static void multiply_base(const uint8_t scalar[KEY_BYTES], uint8_t out[KEY_BYTES])
{
	const struct point base = base_point();
	const struct fe d2 = twice_d();
	struct point sum = { .x = fe_zero, .y = fe_one, .z = fe_one, .t = fe_zero };
	struct fe inverse;
	uint8_t x[KEY_BYTES];

	for (int bit = 255; bit >= 0; bit--) {
		uint64_t set = scalar[bit / 8] >> (bit % 8) & 1;
		struct point more;

		sum = add(&sum, &sum, d2);
		more = add(&sum, &base, d2);
		fe_choose(&sum.x, &more.x, set);
		fe_choose(&sum.y, &more.y, set);
		fe_choose(&sum.z, &more.z, set);
		fe_choose(&sum.t, &more.t, set);
	}
	inverse = fe_invert(sum.z);
	fe_to_bytes(fe_mul(sum.x, inverse), x);
	fe_to_bytes(fe_mul(sum.y, inverse), out);
	out[KEY_BYTES - 1] |= (uint8_t)((x[0] & 1) << 7);
	OPENSSL_cleanse(&sum, sizeof(sum));
}

/* ---- Scalars modulo the group's order, by OpenSSL ----------------------------------------------------------------- */

/* out = (r + h * a) mod order; r and h are 64-byte hashes, a the 32-byte secret. With a NULL: r mod order. */
static bool scalar_muladd(const uint8_t r[64], const uint8_t *h, const uint8_t *a, uint8_t out[KEY_BYTES])
{
	static const char order_hex[] = "1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed";
	BN_CTX *ctx = BN_CTX_secure_new();
	BIGNUM *order = NULL, *sum = BN_secure_new(), *factor = BN_secure_new(), *secret = BN_secure_new();
	bool fine = ctx && sum && factor && secret && BN_hex2bn(&order, order_hex) && BN_lebin2bn(r, 64, sum);

	if (fine)
		BN_set_flags(sum, BN_FLG_CONSTTIME);
	fine = fine && BN_nnmod(sum, sum, order, ctx);
	if (fine && a) {
		fine = BN_lebin2bn(h, 64, factor) && BN_lebin2bn(a, KEY_BYTES, secret);
		BN_set_flags(secret, BN_FLG_CONSTTIME);
		fine = fine && BN_mod_mul(factor, factor, secret, order, ctx) && BN_mod_add(sum, sum, factor, order, ctx);
	}
	fine = fine && BN_bn2lebinpad(sum, out, KEY_BYTES) == KEY_BYTES;
	BN_clear_free(secret);
	BN_clear_free(factor);
	BN_clear_free(sum);
	BN_free(order);
	BN_CTX_free(ctx);
	return fine;
}

/* ---- The plugin --------------------------------------------------------------------------------------------------- */

/* First half: the secret scalar; second half: what makes the nonce of a signature. */
static void expand(const char *password, size_t len, uint8_t key[64])
{
	SHA512((const unsigned char *)password, len, key);
	key[0] &= 248;
	key[31] &= 127;
	key[31] |= 64;
}

bool auth_ed25519_public(const char *password, size_t len, uint8_t public_key[32])
{
	uint8_t key[64];

	expand(password, len, key);
	multiply_base(key, public_key);
	OPENSSL_cleanse(key, sizeof(key));
	return true;
}

bool auth_ed25519_sign(const char *password, size_t len, const uint8_t nonce[32], uint8_t signature[64])
{
	uint8_t key[64], hash_r[64], hash_h[64], r[KEY_BYTES];
	uint8_t text[3 * KEY_BYTES];
	bool fine;

	expand(password, len, key);
	memcpy(text, key + KEY_BYTES, KEY_BYTES);
	memcpy(text + KEY_BYTES, nonce, KEY_BYTES);
	SHA512(text, 2 * KEY_BYTES, hash_r);
	fine = scalar_muladd(hash_r, NULL, NULL, r);
	if (fine) {
		multiply_base(r, signature);
		memcpy(text, signature, KEY_BYTES);
		multiply_base(key, text + KEY_BYTES);
		memcpy(text + 2 * KEY_BYTES, nonce, KEY_BYTES);
		SHA512(text, sizeof(text), hash_h);
		fine = scalar_muladd(hash_r, hash_h, key, signature + KEY_BYTES);
	}
	OPENSSL_cleanse(key, sizeof(key));
	OPENSSL_cleanse(hash_r, sizeof(hash_r));
	OPENSSL_cleanse(r, sizeof(r));
	OPENSSL_cleanse(text, sizeof(text));
	return fine;
}

bool auth_ed25519_check(const uint8_t public_key[32], const uint8_t nonce[32], const uint8_t *signature, size_t signature_len)
{
	EVP_PKEY *key;
	EVP_MD_CTX *ctx;
	bool right;

	if (signature_len != SIGNATURE_BYTES)
		return false;
	key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, KEY_BYTES);
	ctx = EVP_MD_CTX_new();
	right = key && ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		EVP_DigestVerify(ctx, signature, signature_len, nonce, KEY_BYTES) == 1;
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	return right;
}

bool auth_ed25519_parse(const char *text, size_t len, uint8_t public_key[32])
{
	uint8_t padded[KEY_TEXT + 1], bytes[KEY_BYTES + 1];

	if (len != KEY_TEXT || memchr(text, '=', len)) /* the decoder would take padding anywhere */
		return false;
	memcpy(padded, text, KEY_TEXT);
	padded[KEY_TEXT] = '=';
	if (EVP_DecodeBlock(bytes, padded, sizeof(padded)) != sizeof(bytes))
		return false;
	memcpy(public_key, bytes, KEY_BYTES);
	return true;
}
