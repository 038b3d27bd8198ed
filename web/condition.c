#include "web/condition.h"

#include <stdio.h>
#include <string.h>

/* ---- Dates ---- */

/* Not strftime(): names of days and months must not follow a locale. */
static const char day_names[] = "SunMonTueWedThuFriSat";
static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

void http_date_put(time_t time, char out[HTTP_DATE_BYTES])
{
	struct tm tm;

	gmtime_r(&time, &tm);
	snprintf(out, HTTP_DATE_BYTES, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", day_names + 3 * tm.tm_wday,
		 (unsigned)tm.tm_mday % 100, month_names + 3 * tm.tm_mon, (unsigned)(tm.tm_year + 1900) % 10000,
		 (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

static int month_number(const char *name)
{
	for (int i = 0; i < 12; i++)
		if (!memcmp(month_names + 3 * i, name, 3))
			return i;
	return -1;
}

/* IMF-fixdate, then the forms of RFC 850 and asctime(). */
static bool scan_date(const char *text, struct tm *tm, char month[4])
{
	int end = 0, year;

	memset(tm, 0, sizeof(*tm));
	if (sscanf(text, "%*3[A-Za-z], %2d %3[A-Za-z] %4d %2d:%2d:%2d GMT%n", &tm->tm_mday, month, &year, &tm->tm_hour, &tm->tm_min,
		   &tm->tm_sec, &end) == 6 && end && !text[end]) {
		tm->tm_year = year - 1900;
		return true;
	}
	if (sscanf(text, "%*9[A-Za-z], %2d-%3[A-Za-z]-%2d %2d:%2d:%2d GMT%n", &tm->tm_mday, month, &year, &tm->tm_hour, &tm->tm_min,
		   &tm->tm_sec, &end) == 6 && end && !text[end]) {
		tm->tm_year = year < 70 ? year + 100 : year;
		return true;
	}
	if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &tm->tm_mday, &tm->tm_hour, &tm->tm_min, &tm->tm_sec,
		   &year, &end) == 6 && end && !text[end]) {
		tm->tm_year = year - 1900;
		return true;
	}
	return false;
}

time_t http_date_parse(struct http_text text)
{
	char copy[64], month[4] = "";
	struct tm tm;

	if (text.len >= sizeof(copy))
		return -1;
	memcpy(copy, text.at, text.len);
	copy[text.len] = '\0';
	if (strlen(copy) != text.len || !scan_date(copy, &tm, month))
		return -1;
	tm.tm_mon = month_number(month);
	if (tm.tm_mon < 0 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return -1;
	return timegm(&tm);
}

/* ---- Entity tags ---- */

/* Takes the next tag of a list, quotes included and W/ left out; a comma within the quotes belongs to the tag. */
static bool next_tag(struct http_text *list, struct http_text *tag, bool *weak)
{
	const char *open = memchr(list->at, '"', list->len);
	size_t left = open ? list->len - (size_t)(open - list->at) : 0;
	const char *close = left > 1 ? memchr(open + 1, '"', left - 1) : NULL;

	if (!close)
		return false;
	*weak = open - list->at >= 2 && open[-1] == '/' && open[-2] == 'W';
	*tag = (struct http_text){ open, (size_t)(close - open) + 1 };
	*list = (struct http_text){ close + 1, left - tag->len };
	return true;
}

static bool tag_matches(struct http_text list, const char *etag, bool weakly)
{
	struct http_text tag;
	bool weak;

	if (http_text_is(list, "*"))
		return true;
	while (next_tag(&list, &tag, &weak))
		if ((weakly || !weak) && tag.len == strlen(etag) && !memcmp(tag.at, etag, tag.len))
			return true;
	return false;
}

/* ---- Preconditions, in the order of RFC 9110 section 13.2.2 ---- */

static bool is_unchanged_since(const struct http_text *field, time_t modified, bool *understood)
{
	time_t since = http_date_parse(*field);

	*understood = since >= 0;
	return modified <= since;
}

static bool fails(const struct http_head *head, const struct representation *what)
{
	const struct http_text *match = http_head_field(head, "If-Match");
	const struct http_text *since = http_head_field(head, "If-Unmodified-Since");
	bool understood;

	if (match)
		return !tag_matches(*match, what->etag, false);
	return since && !is_unchanged_since(since, what->modified, &understood) && understood;
}

static bool is_known(const struct http_head *head, const struct representation *what)
{
	const struct http_text *match = http_head_field(head, "If-None-Match");
	const struct http_text *since = http_head_field(head, "If-Modified-Since");
	bool understood;

	if (match)
		return tag_matches(*match, what->etag, true);
	return since && is_unchanged_since(since, what->modified, &understood) && understood;
}

/* If-Range: the range is meant for exactly this representation. */
static bool range_applies(const struct http_head *head, const struct representation *what)
{
	const struct http_text *field = http_head_field(head, "If-Range");

	if (!field)
		return true;
	if (memchr(field->at, '"', field->len))
		return !http_text_is(*field, "*") && tag_matches(*field, what->etag, false);
	return http_date_parse(*field) == what->modified;
}

/* ---- Ranges ---- */

static bool take_number(struct http_text *text, uint64_t *out)
{
	size_t n = 0;

	*out = 0;
	while (n < text->len && text->at[n] >= '0' && text->at[n] <= '9') {
		if (*out > UINT64_MAX / 10 - 1)
			return false;
		*out = *out * 10 + (uint64_t)(text->at[n++] - '0');
	}
	*text = (struct http_text){ text->at + n, text->len - n };
	return n > 0;
}

enum range { RANGE_IGNORED, RANGE_FINE, RANGE_OUTSIDE };

/* The last `count` bytes. */
static enum range suffix_range(uint64_t count, uint64_t size, struct condition *out)
{
	if (!count || !size)
		return RANGE_OUTSIDE;
	out->count = count < size ? count : size;
	out->first = size - out->count;
	return RANGE_FINE;
}

static enum range parse_range(struct http_text text, uint64_t size, struct condition *out)
{
	uint64_t first = 0, last = UINT64_MAX;
	bool has_first;

	if (text.len < 6 || strncmp(text.at, "bytes=", 6))
		return RANGE_IGNORED;
	text = (struct http_text){ text.at + 6, text.len - 6 };
	has_first = take_number(&text, &first);
	if (!text.len || text.at[0] != '-')
		return RANGE_IGNORED;
	text = (struct http_text){ text.at + 1, text.len - 1 };
	if (text.len && !take_number(&text, &last))
		return RANGE_IGNORED;
	if (text.len || (!has_first && last == UINT64_MAX) || last < first)
		return RANGE_IGNORED;
	if (!has_first)
		return suffix_range(last, size, out);
	if (first >= size)
		return RANGE_OUTSIDE;
	out->first = first;
	out->count = (last < size ? last : size - 1) - first + 1;
	return RANGE_FINE;
}

struct condition condition_judge(const struct http_head *head, const struct representation *what)
{
	struct condition out = { .status = 200, .count = what->size };
	const struct http_text *range = http_head_field(head, "Range");

	if (fails(head, what)) {
		out.status = 412;
	} else if (is_known(head, what)) {
		out.status = 304;
	} else if (range && head->method == HTTP_GET && range_applies(head, what)) {
		switch (parse_range(*range, what->size, &out)) {
		case RANGE_FINE: out.status = 206; break;
		case RANGE_OUTSIDE: out.status = 416; break;
		case RANGE_IGNORED: break;
		}
	}
	return out;
}
