#include "proxy/cluster/gtid.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
	SOURCE_MAX = 256,  /* MySQL sources ever seen by this process */
	SOURCE_BYTES = 80, /* a UUID (36), a colon, a tag (up to 32) */
};

/*
 * MySQL names a source by UUID (and, from 8.4 on, a tag); a gtid_point has room for a number. The table gives each source its number,
 * the FNV hash of its text, and the way back. A second source with the same hash is refused: then the set is `lost`.
 */
static struct {
	pthread_mutex_t lock;
	size_t count;
	struct {
		uint32_t domain;
		char text[SOURCE_BYTES];
	} entries[SOURCE_MAX];
} sources = { .lock = PTHREAD_MUTEX_INITIALIZER };

static uint32_t hash_text(const char *text)
{
	uint32_t hash = 2166136261u;

	for (; *text; text++)
		hash = (hash ^ (uint8_t)*text) * 16777619u;
	return hash;
}

static bool source_domain(const char *text, uint32_t *domain)
{
	bool ok = true;
	size_t i;

	*domain = hash_text(text);
	pthread_mutex_lock(&sources.lock);
	for (i = 0; i < sources.count; i++)
		if (sources.entries[i].domain == *domain)
			break;
	if (i < sources.count) {
		ok = strcmp(sources.entries[i].text, text) == 0;
	} else if (i < SOURCE_MAX) {
		sources.entries[i].domain = *domain;
		snprintf(sources.entries[i].text, SOURCE_BYTES, "%s", text);
		sources.count++;
	} else {
		ok = false;
	}
	pthread_mutex_unlock(&sources.lock);
	return ok;
}

static bool source_text(uint32_t domain, char out[SOURCE_BYTES])
{
	bool found = false;

	pthread_mutex_lock(&sources.lock);
	for (size_t i = 0; i < sources.count && !found; i++) {
		found = sources.entries[i].domain == domain;
		if (found)
			memcpy(out, sources.entries[i].text, SOURCE_BYTES);
	}
	pthread_mutex_unlock(&sources.lock);
	return found;
}

static void raise_point(struct gtid_set *set, uint32_t domain, uint64_t sequence)
{
	for (unsigned i = 0; i < set->count; i++) {
		if (set->points[i].domain != domain)
			continue;
		if (set->points[i].sequence < sequence)
			set->points[i].sequence = sequence;
		return;
	}
	if (set->count == GTID_MAX_DOMAINS) {
		set->lost = true;
		return;
	}
	set->points[set->count].domain = domain;
	set->points[set->count].sequence = sequence;
	set->count++;
}

static uint64_t point_of(const struct gtid_set *set, uint32_t domain)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->points[i].domain == domain)
			return set->points[i].sequence;
	return 0;
}

/* Text being read: between `at` and `end`. */
struct reader {
	const char *at;
	const char *end;
};

static void skip_space(struct reader *in)
{
	while (in->at < in->end && strchr(" \t\r\n", *in->at) && *in->at)
		in->at++;
}

static bool take(struct reader *in, char c)
{
	if (in->at == in->end || *in->at != c)
		return false;
	in->at++;
	return true;
}

static bool is_digit(const struct reader *in)
{
	return in->at < in->end && *in->at >= '0' && *in->at <= '9';
}

static bool read_number(struct reader *in, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (!is_digit(in))
		return false;
	for (; is_digit(in); in->at++) {
		unsigned digit = (unsigned)(*in->at - '0');

		if (n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

/* domain-server-sequence */
static bool read_mariadb(struct reader *in, struct gtid_set *out)
{
	uint64_t domain, server, sequence;

	if (!read_number(in, UINT32_MAX, &domain) || !take(in, '-') ||
	    !read_number(in, UINT32_MAX, &server) || !take(in, '-') ||
	    !read_number(in, UINT64_MAX, &sequence))
		return false;
	raise_point(out, (uint32_t)domain, sequence);
	return true;
}

/* Lower-cases the word up to ':' or ',' behind what `text` already holds. */
static bool read_word(struct reader *in, char text[SOURCE_BYTES])
{
	size_t len = strlen(text);
	size_t start = len;

	for (; in->at < in->end && !strchr(":, \t\r\n", *in->at); in->at++) {
		char c = *in->at;

		if (len + 1 == SOURCE_BYTES)
			return false;
		text[len++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
	}
	text[len] = '\0';
	return len > start;
}

static bool read_interval(struct reader *in, uint64_t *highest)
{
	uint64_t n;

	if (!read_number(in, UINT64_MAX, &n))
		return false;
	if (take(in, '-') && !read_number(in, UINT64_MAX, &n))
		return false;
	if (n > *highest)
		*highest = n;
	return true;
}

static void raise_source(struct gtid_set *out, const char *text, uint64_t highest)
{
	uint32_t domain;

	if (!highest)
		return;
	if (source_domain(text, &domain))
		raise_point(out, domain, highest);
	else
		out->lost = true;
}

/* uuid:1-5:7:tag:1-3 */
static bool read_mysql(struct reader *in, struct gtid_set *out)
{
	char uuid[SOURCE_BYTES] = "";
	char source[SOURCE_BYTES];
	uint64_t highest = 0;

	if (!read_word(in, uuid) || strlen(uuid) != 36)
		return false;
	memcpy(source, uuid, sizeof(source));
	while (take(in, ':')) {
		if (is_digit(in)) {
			if (!read_interval(in, &highest))
				return false;
			continue;
		}
		raise_source(out, source, highest);
		highest = 0;
		snprintf(source, sizeof(source), "%.36s:", uuid);
		if (!read_word(in, source))
			return false;
	}
	raise_source(out, source, highest);
	return true;
}

bool gtid_parse(const char *text, size_t len, struct gtid_set *out)
{
	struct reader in = { text, text + len };
	bool mysql = len && memchr(text, ':', len);

	memset(out, 0, sizeof(*out));
	skip_space(&in);
	while (in.at < in.end) {
		if (!(mysql ? read_mysql(&in, out) : read_mariadb(&in, out)))
			return false;
		skip_space(&in);
		if (in.at < in.end && !take(&in, ','))
			return false;
		skip_space(&in);
	}
	return true;
}

void gtid_merge(struct gtid_set *to, const struct gtid_set *with)
{
	for (unsigned i = 0; i < with->count; i++)
		raise_point(to, with->points[i].domain, with->points[i].sequence);
	to->lost |= with->lost;
}

bool gtid_covers(const struct gtid_set *have, const struct gtid_set *want)
{
	if (want->lost)
		return false;
	for (unsigned i = 0; i < want->count; i++)
		if (point_of(have, want->points[i].domain) < want->points[i].sequence)
			return false;
	return true;
}

static const struct gtid_point *find_point(const struct gtid_set *set, uint32_t domain)
{
	for (unsigned i = 0; i < set->count; i++)
		if (set->points[i].domain == domain)
			return &set->points[i];
	return NULL;
}

bool gtid_clamp(struct gtid_set *set, const struct gtid_set *bound)
{
	struct gtid_set out = { .lost = set->lost };
	bool changed = false;

	for (unsigned i = 0; i < set->count; i++) {
		struct gtid_point point = set->points[i];
		const struct gtid_point *most = find_point(bound, point.domain);

		changed |= !most || most->sequence < point.sequence;
		if (!most)
			continue;
		if (most->sequence < point.sequence)
			point.sequence = most->sequence;
		out.points[out.count++] = point;
	}
	if (changed)
		*set = out;
	return changed;
}

static size_t append(char *out, size_t size, size_t at, const char *text)
{
	size_t len = strlen(text);

	if (size && at < size) {
		size_t room = size - 1 - at;
		size_t n = len < room ? len : room;

		memcpy(out + at, text, n);
		out[at + n] = '\0';
	}
	return at + len;
}

size_t gtid_format(const struct gtid_set *set, char *out, size_t size)
{
	size_t len = append(out, size, 0, "");

	for (unsigned i = 0; i < set->count; i++) {
		char one[64];

		snprintf(one, sizeof(one), "%s%u-0-%llu", i ? "," : "", set->points[i].domain,
			 (unsigned long long)set->points[i].sequence);
		len = append(out, size, len, one);
	}
	return len;
}

size_t gtid_format_mysql(const struct gtid_set *set, char *out, size_t size)
{
	size_t len = append(out, size, 0, "");

	for (unsigned i = 0; i < set->count; i++) {
		char source[SOURCE_BYTES];
		char one[SOURCE_BYTES + 32];

		if (!source_text(set->points[i].domain, source))
			continue;
		snprintf(one, sizeof(one), "%s%s:1-%llu", len ? "," : "", source,
			 (unsigned long long)set->points[i].sequence);
		len = append(out, size, len, one);
	}
	return len;
}

/* The domain's slot, taking a free one; -1 when all are taken by others. Slots are never given back, so that two raisers can
 * never disagree on whose a slot is. */
static int board_slot(struct gtid_board *board, uint32_t domain)
{
	uint64_t key = (uint64_t)domain + 1;

	for (int i = 0; i < GTID_MAX_DOMAINS; i++) {
		uint64_t seen = atomic_load_explicit(&board->slots[i].key, memory_order_acquire);

		if (!seen && atomic_compare_exchange_strong(&board->slots[i].key, &seen, key)) {
			atomic_fetch_add(&board->count, 1);
			return i;
		}
		if (seen == key)
			return i;
	}
	return -1;
}

static bool raise_slot(struct gtid_board *board, int slot, uint64_t sequence)
{
	uint64_t seen = atomic_load_explicit(&board->slots[slot].sequence, memory_order_relaxed);

	while (seen < sequence)
		if (atomic_compare_exchange_weak(&board->slots[slot].sequence, &seen, sequence))
			return true;
	return false;
}

void gtid_board_raise(struct gtid_board *board, const struct gtid_set *set)
{
	bool raised = false;

	for (unsigned i = 0; i < set->count; i++) {
		int slot = board_slot(board, set->points[i].domain);

		if (slot < 0)
			atomic_store(&board->lost, true);
		else
			raised |= raise_slot(board, slot, set->points[i].sequence);
	}
	if (raised)
		atomic_fetch_add(&board->generation, 1);
}

void gtid_board_read(const struct gtid_board *board, struct gtid_set *out)
{
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < GTID_MAX_DOMAINS; i++) {
		uint64_t key = atomic_load_explicit(&board->slots[i].key, memory_order_acquire);
		uint64_t sequence =
			atomic_load_explicit(&board->slots[i].sequence, memory_order_acquire);

		if (key && sequence)
			raise_point(out, (uint32_t)(key - 1), sequence);
	}
	out->lost = atomic_load(&board->lost);
}

static uint64_t board_point(const struct gtid_board *board, uint32_t domain)
{
	for (int i = 0; i < GTID_MAX_DOMAINS; i++)
		if (atomic_load_explicit(&board->slots[i].key, memory_order_acquire) ==
		    (uint64_t)domain + 1)
			return atomic_load_explicit(&board->slots[i].sequence,
						    memory_order_acquire);
	return 0;
}

bool gtid_board_covers(const struct gtid_board *board, const struct gtid_set *want)
{
	if (want->lost)
		return false;
	for (unsigned i = 0; i < want->count; i++)
		if (board_point(board, want->points[i].domain) < want->points[i].sequence)
			return false;
	return true;
}

void gtid_board_reset(struct gtid_board *board, const struct gtid_set *set)
{
	for (int i = 0; i < GTID_MAX_DOMAINS; i++) {
		uint64_t key = atomic_load(&board->slots[i].key);

		if (key)
			atomic_store(&board->slots[i].sequence, point_of(set, (uint32_t)(key - 1)));
	}
	atomic_store(&board->lost, set->lost);
	gtid_board_raise(board, set);
	atomic_fetch_add(&board->generation, 1);
}
