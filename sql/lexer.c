#include "sql/lexer.h"

#include <string.h>

enum byte_class {
	BYTE_END, /* never in the table: past the end */
	BYTE_SPACE,
	BYTE_WORD,
	BYTE_DIGIT,
	BYTE_QUOTE,
	BYTE_DOUBLE,
	BYTE_BACKQUOTE,
	BYTE_HASH,
	BYTE_MINUS,
	BYTE_PLUS,
	BYTE_SLASH,
	BYTE_STAR,
	BYTE_AT,
	BYTE_DOT,
	BYTE_SEMICOLON,
	BYTE_COLON,
	BYTE_OPEN,
	BYTE_CLOSE,
	BYTE_COMMA,
	BYTE_EQUAL,
	BYTE_PARAM,
	BYTE_BACKSLASH,
	BYTE_OTHER,
};

#define RANGE(from, to, what) [(from)...(to)] = (what)

static const uint8_t classes[256] = {
	RANGE(0x00, 0x08, BYTE_OTHER),
	RANGE(0x09, 0x0d, BYTE_SPACE),
	RANGE(0x0e, 0x1f, BYTE_OTHER),
	[' '] = BYTE_SPACE,
	['!'] = BYTE_OTHER,
	['"'] = BYTE_DOUBLE,
	['#'] = BYTE_HASH,
	['$'] = BYTE_WORD,
	['%'] = BYTE_OTHER,
	['&'] = BYTE_OTHER,
	['\''] = BYTE_QUOTE,
	['('] = BYTE_OPEN,
	[')'] = BYTE_CLOSE,
	['*'] = BYTE_STAR,
	['+'] = BYTE_PLUS,
	[','] = BYTE_COMMA,
	['-'] = BYTE_MINUS,
	['.'] = BYTE_DOT,
	['/'] = BYTE_SLASH,
	RANGE('0', '9', BYTE_DIGIT),
	[':'] = BYTE_COLON,
	[';'] = BYTE_SEMICOLON,
	['<'] = BYTE_OTHER,
	['='] = BYTE_EQUAL,
	['>'] = BYTE_OTHER,
	['?'] = BYTE_PARAM,
	['@'] = BYTE_AT,
	RANGE('A', 'Z', BYTE_WORD),
	['['] = BYTE_OTHER,
	['\\'] = BYTE_BACKSLASH,
	[']'] = BYTE_OTHER,
	['^'] = BYTE_OTHER,
	['_'] = BYTE_WORD,
	['`'] = BYTE_BACKQUOTE,
	RANGE('a', 'z', BYTE_WORD),
	RANGE('{', 0x7f, BYTE_OTHER),
	RANGE(0x80, 0xff, BYTE_WORD),
};

#define FOLD1(c) [c] = (c)
#define FOLD4(c) FOLD1(c), FOLD1((c) + 1), FOLD1((c) + 2), FOLD1((c) + 3)
#define FOLD16(c) FOLD4(c), FOLD4((c) + 4), FOLD4((c) + 8), FOLD4((c) + 12)
#define UPPER1(c) [c] = (c) | 0x20, [(c) | 0x20] = (c) | 0x20
#define UPPER4(c) UPPER1(c), UPPER1((c) + 1), UPPER1((c) + 2), UPPER1((c) + 3)

/* The bytes of words in lower case; 0 ends a word. */
static const uint8_t fold[256] = {
	FOLD1('$'), FOLD4('0'), FOLD4('4'), FOLD1('8'), FOLD1('9'), FOLD1('_'),
	UPPER4('A'), UPPER4('E'), UPPER4('I'), UPPER4('M'), UPPER4('Q'), UPPER4('U'), UPPER1('Y'), UPPER1('Z'),
	FOLD16(0x80), FOLD16(0x90), FOLD16(0xa0), FOLD16(0xb0), FOLD16(0xc0), FOLD16(0xd0), FOLD16(0xe0), FOLD16(0xf0),
};

/* The byte at `at`, 0 past the end: as the servers' lexers see it. */
static unsigned peek(const struct lexer *l, uint32_t at)
{
	return at < l->len ? l->text[at] : 0;
}

static bool between(unsigned c, unsigned low, unsigned high)
{
	return c >= low && c <= high;
}

static bool is_digit(unsigned c)
{
	return c - '0' < 10;
}

static uint32_t wide_gb18030(const struct lexer *l, uint32_t at)
{
	unsigned c = peek(l, at + 1);

	if (between(c, 0x40, 0xfe) && c != 0x7f)
		return 2;
	if (is_digit(c) && between(peek(l, at + 2), 0x81, 0xfe) && is_digit(peek(l, at + 3)))
		return 4;
	return 1;
}

/* The length of the character at `at`, whose first byte is 0x80 or above; 1 when the bytes form none, as the servers have it. */
static uint32_t wide(const struct lexer *l, uint32_t at)
{
	unsigned lead = l->text[at], trail = peek(l, at + 1);

	switch (l->charset) {
	case SQL_CHARSET_GBK:
		return between(lead, 0x81, 0xfe) && between(trail, 0x40, 0xfe) && trail != 0x7f ? 2 : 1;
	case SQL_CHARSET_BIG5:
		return between(lead, 0xa1, 0xf9) && (between(trail, 0x40, 0x7e) || between(trail, 0xa1, 0xfe)) ? 2 : 1;
	case SQL_CHARSET_SJIS:
		return (between(lead, 0x81, 0x9f) || between(lead, 0xe0, 0xfc)) && between(trail, 0x40, 0xfc) && trail != 0x7f
			       ? 2
			       : 1;
	case SQL_CHARSET_GB18030:
		return between(lead, 0x81, 0xfe) ? wide_gb18030(l, at) : 1;
	case SQL_CHARSET_SAFE:
		break;
	}
	return 1;
}

static bool is_wide(const struct lexer *l, unsigned c)
{
	return c >= 0x80 && l->charset != SQL_CHARSET_SAFE;
}

static void finish(struct lexer *l, struct token *t, enum token_kind kind)
{
	t->kind = kind;
	t->len = l->at - t->at;
}

static void literal(struct lexer *l, struct token *t, enum token_kind kind)
{
	t->hash = '?';
	finish(l, t, kind);
}

static void single(struct lexer *l, struct token *t, enum token_kind kind)
{
	t->hash = l->text[l->at++];
	finish(l, t, kind);
}

/* Eight bytes at `at`, zeros past the end. */
static uint64_t load_at(const struct lexer *l, uint32_t at)
{
	uint64_t v = 0;

	if (l->len - at >= 8)
		return bytes_load(l->text + at);
	memcpy(&v, l->text + at, l->len - at);
	return bytes_load((const unsigned char *)&v);
}

/* The hash of a piece of text as if it had been a bare word. */
static uint64_t hash_span(const struct lexer *l, uint32_t from, uint32_t to)
{
	uint64_t hash = 0, letters;

	for (; from < to; from += 8) {
		unsigned n = to - from < 8 ? to - from : 8;
		uint64_t v = load_at(l, from);

		bytes_of_words(v, &letters);
		hash = word_mix(hash, __builtin_bswap64(v | letters >> 2) >> (64 - 8 * n));
	}
	return hash;
}

/* Comments */

static bool word_at(const struct lexer *l, uint32_t at, uint32_t end, const char *word)
{
	uint32_t len = (uint32_t)strlen(word);

	return end - at >= len && word_equals((const char *)l->text + at, len, word);
}

static uint32_t skip_spaces(const struct lexer *l, uint32_t at, uint32_t end)
{
	while (at < end && classes[l->text[at]] == BYTE_SPACE)
		at++;
	return at;
}

static bool is_name_byte(unsigned c)
{
	return fold[c] || c == '-' || c == '.';
}

static void hint_server(struct lexer *l, uint32_t at, uint32_t end)
{
	unsigned quote;
	uint32_t from;

	at = skip_spaces(l, at, end);
	if (at >= end || l->text[at] != '=')
		return;
	at = skip_spaces(l, at + 1, end);
	quote = at < end && (l->text[at] == '\'' || l->text[at] == '"' || l->text[at] == '`') ? l->text[at++] : 0;
	for (from = at; at < end && (quote ? l->text[at] != quote : is_name_byte(l->text[at])); at++)
		;
	if (at == from || (quote && at == end))
		return;
	l->hint = SQL_HINT_SERVER;
	l->hint_server = (struct sql_span){from, at - from};
}

static bool ends_word(const struct lexer *l, uint32_t at, uint32_t end)
{
	return at >= end || !is_name_byte(l->text[at]);
}

/* A comment may carry "tandem: primary", "tandem: replica" or "tandem: server=NAME". The first one counts. */
static void read_hint(struct lexer *l, uint32_t at, uint32_t end)
{
	at = skip_spaces(l, at, end);
	if (l->hint != SQL_HINT_NONE || !word_at(l, at, end, "tandem:"))
		return;
	at = skip_spaces(l, at + 7, end);
	if (word_at(l, at, end, "primary") && ends_word(l, at + 7, end))
		l->hint = SQL_HINT_PRIMARY;
	else if (word_at(l, at, end, "replica") && ends_word(l, at + 7, end))
		l->hint = SQL_HINT_REPLICA;
	else if (word_at(l, at, end, "server"))
		hint_server(l, at + 6, end);
}

static void skip_line(struct lexer *l, uint32_t from)
{
	const unsigned char *end = memchr(l->text + from, '\n', l->len - from);

	l->at = end ? (uint32_t)(end - l->text) : l->len;
	read_hint(l, from, l->at);
}

/* Skips to behind the end of a comment whose text starts at `from`. A skipped version comment may have plain ones inside. */
static void skip_comment(struct lexer *l, uint32_t from, bool nesting)
{
	uint32_t at;
	bool inside = false;

	for (at = from; at + 1 < l->len; at++) {
		if (l->text[at] == '*' && l->text[at + 1] == '/') {
			at++;
			if (!inside) {
				l->at = at + 1;
				return;
			}
			inside = false;
		} else if (nesting && !inside && l->text[at] == '/' && l->text[at + 1] == '*') {
			at++;
			inside = true;
		}
	}
	l->at = l->len;
	l->unterminated = true;
}

static uint32_t version_digits(const struct lexer *l, uint32_t at)
{
	uint32_t n = 0;

	while (n < 6 && is_digit(peek(l, at + n)))
		n++;
	return n < 5 ? 0 : n;
}

static uint32_t number_at(const struct lexer *l, uint32_t at, uint32_t digits)
{
	uint32_t value = 0;

	while (digits--)
		value = value * 10 + (l->text[at++] - '0');
	return value;
}

/* MariaDB leaves out the comments meant for MySQL versions it never was: 5.7 up to 9.99. */
static bool is_code_for_us(const struct lexer *l, uint32_t version, bool m)
{
	if (l->version && version > l->version)
		return false;
	return m || !l->mariadb || version < 50700 || version > 99999;
}

static void version_comment(struct lexer *l, uint32_t at, bool m)
{
	uint32_t digits = version_digits(l, at);

	if (digits && !is_code_for_us(l, number_at(l, at, digits), m)) {
		skip_comment(l, at, true);
		return;
	}
	l->at = at + digits;
	l->in_code = true;
}

/* At a slash that opens a comment. What is inside is skipped, or goes on as code. */
static void open_comment(struct lexer *l)
{
	uint32_t from = l->at + 2;

	if (peek(l, from) == '!') {
		version_comment(l, from + 1, false);
	} else if (l->mariadb && peek(l, from) == 'M' && peek(l, from + 1) == '!') {
		version_comment(l, from + 2, true);
	} else {
		skip_comment(l, from, false);
		if (!l->unterminated)
			read_hint(l, from, l->at - 2);
		/* The servers forget that they were inside a version comment: what follows is theirs to refuse. */
	}
}

/* "--" opens a comment only in front of white space, a control character or the end. */
static bool is_dash_comment(struct lexer *l)
{
	unsigned c = peek(l, l->at + 2);

	if (peek(l, l->at + 1) != '-')
		return false;
	if (c == 0xa0)
		l->doubt = true;
	return c <= ' ' || c == 0x7f || c == 0xa0;
}

/* Quoted things */

/* Over bytes that can be neither a quote nor a backslash nor the first of a wide character. */
static uint32_t skip_harmless(const struct lexer *l, uint32_t at, unsigned quote)
{
	if (l->charset == SQL_CHARSET_SAFE)
		return (uint32_t)(bytes_find_quote(l->text + at, l->text + l->len, (unsigned char)quote) - l->text);
	while (l->len - at >= 8) {
		uint64_t v = bytes_load(l->text + at);
		uint64_t stop = bytes_equal(v, (unsigned char)quote) | bytes_equal(v, '\\') | (v & BYTES(0x80));

		if (stop)
			return at + (unsigned)__builtin_ctzll(stop) / 8;
		at += 8;
	}
	return at;
}

/* From behind an opening quote to behind the closing one. */
static void skip_quoted(struct lexer *l, unsigned quote, bool backslash)
{
	const unsigned char *text = l->text;
	uint32_t at = skip_harmless(l, l->at, quote);

	while (at < l->len) {
		if (text[at] == quote) {
			if (peek(l, at + 1) != quote) {
				l->at = at + 1;
				return;
			}
			at += 2;
		} else if (text[at] == '\\' && backslash) {
			at += 2; /* one byte, even when it begins a wide character: as the servers do */
		} else {
			at += is_wide(l, text[at]) ? wide(l, at) : 1;
		}
		if (at < l->len)
			at = skip_harmless(l, at, quote);
	}
	l->at = l->len;
	l->unterminated = true;
}

/* The quoted piece at l->at: its inside. */
static struct sql_span quoted_span(struct lexer *l, bool backslash)
{
	uint32_t from = l->at + 1;
	bool open = l->unterminated;

	l->at = from;
	skip_quoted(l, l->text[from - 1], backslash);
	return (struct sql_span){from, l->at - from - (l->unterminated && !open ? 0 : 1)};
}

static void string(struct lexer *l, struct token *t)
{
	t->inner = quoted_span(l, !l->no_backslash);
	literal(l, t, TOKEN_STRING);
}

static void quoted_identifier(struct lexer *l, struct token *t)
{
	t->inner = quoted_span(l, false);
	t->hash = hash_span(l, t->inner.at, t->inner.at + t->inner.len);
	finish(l, t, TOKEN_QUOTED);
}

/* Words and numbers */

/* White space in latin1 and its kin, part of a character in UTF-8. On its own it cannot be UTF-8, so it ends a word; else the
 * word goes on, but nobody should rely on it. */
static bool ends_at_nbsp(struct lexer *l, uint32_t from, uint32_t at)
{
	if (l->utf8 && at > from && l->text[at - 1] >= 0x80)
		return false;
	l->doubt = true;
	return at == from || l->text[at - 1] < 0x80;
}

/* The slow road: wide characters, non-breaking spaces. */
static void long_word_end(struct lexer *l, uint32_t from)
{
	uint32_t at = from;

	while (at < l->len && fold[l->text[at]]) {
		if (l->text[at] == 0xa0 && l->charset == SQL_CHARSET_SAFE && ends_at_nbsp(l, from, at))
			break;
		at += is_wide(l, l->text[at]) ? wide(l, at) : 1;
	}
	l->at = at > l->len ? l->len : at;
}

/* The end of the word's plain bytes, and their hash so far. */
static uint32_t hash_word(const struct lexer *l, uint32_t at, uint64_t *hash)
{
	uint64_t letters, words, folded;
	unsigned n;

	for (*hash = 0;; at += 8) {
		uint64_t v = load_at(l, at);

		words = bytes_of_words(v, &letters);
		folded = v | letters >> 2;
		if (words != BYTES(0x80))
			break;
		*hash = word_mix(*hash, __builtin_bswap64(folded));
		if (l->len - at == 8)
			return at + 8;
	}
	n = (unsigned)__builtin_ctzll(~words & BYTES(0x80)) / 8;
	if (n)
		*hash = word_mix(*hash, __builtin_bswap64(folded) >> (64 - 8 * n));
	return at + n;
}

static void word(struct lexer *l, struct token *t)
{
	const unsigned char *p = l->text + t->at;

	if (l->len - t->at >= 16 && fold[*p] < 0x80 && *p != '$' && bytes_short_word(&p, &t->hash))
		l->at = (uint32_t)(p - l->text);
	else
		l->at = hash_word(l, t->at, &t->hash);
	if (peek(l, l->at) >= 0x80 || peek(l, l->at) == '$') {
		long_word_end(l, t->at);
		t->hash = hash_span(l, t->at, l->at);
	}
	finish(l, t, TOKEN_WORD);
	t->inner = (struct sql_span){t->at, t->len};
	t->word = word_find(t->hash, l->text + t->at, t->len);
}

/* A word in front of a quote: x'1f', b'01', n'text' are literals. */
static void word_or_prefixed(struct lexer *l, struct token *t)
{
	unsigned c = l->text[l->at] | 0x20;

	if (peek(l, l->at + 1) == '\'' && (c == 'x' || c == 'b' || c == 'n')) {
		l->at++;
		string(l, t);
	} else {
		word(l, t);
	}
}

static uint32_t skip_digits(const struct lexer *l, uint32_t at)
{
	while (at < l->len) {
		uint64_t v = load_at(l, at);
		uint64_t others = ~(bytes_between(v & BYTES(0x7f), '0', '9') & ~v) & BYTES(0x80);

		if (others)
			return at + (unsigned)__builtin_ctzll(others) / 8;
		at += 8;
	}
	return l->len;
}

/* The end of an exponent that starts at `at`; `at` itself when there is none. */
static uint32_t skip_exponent(const struct lexer *l, uint32_t at)
{
	uint32_t digits = at + 1;

	if ((peek(l, at) | 0x20) != 'e')
		return at;
	if (peek(l, digits) == '+' || peek(l, digits) == '-')
		digits++;
	return is_digit(peek(l, digits)) ? skip_digits(l, digits) : at;
}

static void real(struct lexer *l, struct token *t)
{
	l->at = skip_digits(l, l->at + 1);
	l->at = skip_exponent(l, l->at);
	literal(l, t, TOKEN_NUMBER);
}

/* Starts with a digit: a number, 0x1f, 0b01, or an identifier such as 2nd. */
static void number(struct lexer *l, struct token *t)
{
	uint32_t at = skip_digits(l, l->at), exponent;

	if (!fold[peek(l, at)] || peek(l, at) == 0xa0) {
		l->at = at;
		if (peek(l, at) == '.')
			real(l, t);
		literal(l, t, TOKEN_NUMBER);
		return;
	}
	exponent = skip_exponent(l, at);
	if (exponent != at) {
		l->at = exponent;
		literal(l, t, TOKEN_NUMBER);
		return;
	}
	word(l, t);
	t->word = word_none;
	if (l->text[t->at] == '0' && (l->text[t->at + 1] == 'x' || l->text[t->at + 1] == 'b'))
		literal(l, t, TOKEN_NUMBER);
}

/* The rest */

static void variable_name(struct lexer *l, struct token *t)
{
	uint32_t from = l->at;

	while (fold[peek(l, l->at)] || peek(l, l->at) == '.')
		l->at += is_wide(l, l->text[l->at]) ? wide(l, l->at) : 1;
	if (l->at > l->len)
		l->at = l->len;
	t->inner = (struct sql_span){from, l->at - from};
}

static void variable(struct lexer *l, struct token *t)
{
	unsigned c = peek(l, ++l->at);

	if (c == '@') {
		single(l, t, TOKEN_SYSVAR);
		t->hash = UINT64_C(0x40407a5b);
		return;
	}
	if (c == '`' || c == '\'' || c == '"')
		t->inner = quoted_span(l, c != '`' && !l->no_backslash && !(c == '"' && l->ansi_quotes));
	else
		variable_name(l, t);
	t->hash = hash_span(l, t->inner.at, t->inner.at + t->inner.len) + 0x40;
	finish(l, t, TOKEN_UVAR);
}

/* What may follow in an operator of two bytes. */
static bool pairs_with(unsigned first, unsigned second)
{
	switch (first) {
	case '<':
		return second == '>' || second == '=' || second == '<';
	case '>':
		return second == '=' || second == '>';
	case '!':
		return second == '=';
	case '-':
		return second == '>';
	case '|':
	case '&':
		return first == second;
	default:
		return false;
	}
}

static void operator_token(struct lexer *l, struct token *t)
{
	unsigned first = l->text[l->at], second = peek(l, l->at + 1);
	uint32_t n = pairs_with(first, second) ? 2 : 1;

	/* <=> and ->> */
	if (n == 2 && ((first == '<' && second == '=') || first == '-') && peek(l, l->at + 2) == '>')
		n = 3;
	t->hash = n == 1 ? first : hash_span(l, l->at, l->at + n);
	l->at += n;
	finish(l, t, TOKEN_OPERATOR);
}

static void minus(struct lexer *l, struct token *t)
{
	if (peek(l, l->at + 1) == '>') {
		operator_token(l, t);
		return;
	}
	t->hash = l->text[l->at];
	single(l, t, TOKEN_MINUS);
}

static void colon(struct lexer *l, struct token *t)
{
	if (peek(l, l->at + 1) != '=') {
		operator_token(l, t);
		return;
	}
	l->at += 2;
	t->hash = UINT64_C(0x3a3d);
	finish(l, t, TOKEN_ASSIGN);
}

/* \N is NULL; any other backslash outside quotes is refused by the servers. */
static void backslash(struct lexer *l, struct token *t)
{
	if (peek(l, l->at + 1) != 'N') {
		operator_token(l, t);
		return;
	}
	l->at += 2;
	literal(l, t, TOKEN_NUMBER);
}

/* Skips what is in front of a token; answers the class of the byte there, BYTE_END at the end. */
static enum byte_class skip_gap(struct lexer *l)
{
	enum byte_class class;

	while (l->at < l->len) {
		class = classes[l->text[l->at]];
		if (class == BYTE_SPACE)
			l->at++;
		else if (class == BYTE_HASH)
			skip_line(l, l->at + 1);
		else if (class == BYTE_MINUS && is_dash_comment(l))
			skip_line(l, l->at + 2);
		else if (class == BYTE_SLASH && peek(l, l->at + 1) == '*')
			open_comment(l);
		else if (class == BYTE_STAR && l->in_code && peek(l, l->at + 1) == '/')
			l->in_code = false, l->at += 2;
		else if (l->text[l->at] == 0xa0 && l->charset == SQL_CHARSET_SAFE)
			l->doubt = true, l->at++;
		else
			return class;
	}
	if (l->in_code)
		l->unterminated = true;
	return BYTE_END;
}

void lexer_next(struct lexer *l, struct token *t)
{
	enum byte_class class = skip_gap(l);

	t->at = l->at;
	t->word = word_none;
	switch (class) {
	case BYTE_END:
		finish(l, t, TOKEN_END);
		break;
	case BYTE_WORD:
		word_or_prefixed(l, t);
		break;
	case BYTE_DIGIT:
		number(l, t);
		break;
	case BYTE_QUOTE:
		string(l, t);
		break;
	case BYTE_DOUBLE:
		if (l->ansi_quotes)
			quoted_identifier(l, t);
		else
			string(l, t);
		break;
	case BYTE_BACKQUOTE:
		quoted_identifier(l, t);
		break;
	case BYTE_AT:
		variable(l, t);
		break;
	case BYTE_DOT:
		if (is_digit(peek(l, l->at + 1)) && !(l->at && fold[l->text[l->at - 1]]))
			real(l, t);
		else
			single(l, t, TOKEN_DOT);
		break;
	case BYTE_COLON:
		colon(l, t);
		break;
	case BYTE_MINUS:
	case BYTE_PLUS:
		minus(l, t);
		break;
	case BYTE_SEMICOLON:
		single(l, t, TOKEN_SEMICOLON);
		break;
	case BYTE_OPEN:
		single(l, t, TOKEN_OPEN);
		break;
	case BYTE_CLOSE:
		single(l, t, TOKEN_CLOSE);
		break;
	case BYTE_COMMA:
		single(l, t, TOKEN_COMMA);
		break;
	case BYTE_EQUAL:
		single(l, t, TOKEN_EQUAL);
		break;
	case BYTE_PARAM:
		single(l, t, TOKEN_PARAM);
		break;
	case BYTE_BACKSLASH:
		backslash(l, t);
		break;
	default:
		operator_token(l, t);
		break;
	}
}

void lexer_init(struct lexer *l, const struct sql_context *context, const char *text, size_t len)
{
	memset(l, 0, sizeof(*l));
	l->text = (const unsigned char *)text;
	l->len = len > UINT32_MAX ? UINT32_MAX : (uint32_t)len;
	l->version = context->version;
	l->charset = context->charset;
	l->utf8 = context->utf8;
	l->mariadb = context->flavour == SQL_MARIADB;
	l->ansi_quotes = context->ansi_quotes;
	l->no_backslash = context->no_backslash_escapes;
}
