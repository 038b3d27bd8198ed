#include "web/forwarded.h"

#include <string.h>

/* The last hops of a chain, in a ring: `count` have been seen. */
struct hops {
	struct hop {
		struct http_text from;
		bool tls;
	} ring[FORWARDED_HOPS_MAX];
	size_t count;
};

static struct http_text trim(struct http_text text)
{
	while (text.len && (text.at[0] == ' ' || text.at[0] == '\t')) {
		text.at++;
		text.len--;
	}
	while (text.len && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t'))
		text.len--;
	return text;
}

/* Takes the text up to the first `separator` outside of quotes off `rest`. */
static struct http_text take_part(struct http_text *rest, char separator)
{
	struct http_text part = { rest->at, 0 };
	bool quoted = false;

	for (; part.len < rest->len; part.len++) {
		char c = part.at[part.len];

		if (c == '\\' && quoted && part.len + 1 < rest->len)
			part.len++;
		else if (c == '"')
			quoted = !quoted;
		else if (c == separator && !quoted)
			break;
	}
	*rest = part.len < rest->len ? (struct http_text){ rest->at + part.len + 1, rest->len - part.len - 1 } : (struct http_text){ NULL, 0 };
	return trim(part);
}

static struct http_text unquote(struct http_text text)
{
	if (text.len >= 2 && text.at[0] == '"' && text.at[text.len - 1] == '"')
		return (struct http_text){ text.at + 1, text.len - 2 };
	return text;
}

/* for=192.0.2.1;proto=https */
static struct hop read_element(struct http_text element)
{
	struct hop hop = { 0 };

	while (element.at) {
		struct http_text value = take_part(&element, ';'), name = take_part(&value, '=');

		if (!value.at)
			continue;
		value = unquote(trim(value));
		if (http_text_is(name, "for"))
			hop.from = value;
		else if (http_text_is(name, "proto"))
			hop.tls = http_text_is(value, "https");
	}
	return hop;
}

static void add_field(struct hops *hops, enum forwarded_by by, struct http_text value)
{
	while (value.at) {
		struct http_text element = take_part(&value, ',');
		struct hop *hop = &hops->ring[hops->count % FORWARDED_HOPS_MAX];

		if (!element.len && by == FORWARDED_BY_RFC)
			continue; /* lists may have empty elements; X-Forwarded-For has none that a proxy wrote */
		*hop = by == FORWARDED_BY_RFC ? read_element(element) : (struct hop){ .from = element };
		hops->count++;
	}
}

static void collect(struct hops *hops, const struct http_head *head, enum forwarded_by by)
{
	const char *name = by == FORWARDED_BY_RFC ? "Forwarded" : "X-Forwarded-For";

	for (size_t i = 0; i < head->field_count; i++)
		if (http_text_is(head->fields[i].name, name))
			add_field(hops, by, head->fields[i].value);
}

/* The last word of the last such field: the nearest proxy's. */
static bool last_proto_is_https(const struct http_head *head)
{
	struct http_text last = { 0 };

	for (size_t i = 0; i < head->field_count; i++)
		if (http_text_is(head->fields[i].name, "X-Forwarded-Proto"))
			last = head->fields[i].value;
	for (struct http_text rest = last; rest.at;)
		last = take_part(&rest, ',');
	return http_text_is(last, "https");
}

void forwarded_read(const struct http_head *head, enum forwarded_by by, const struct address_list *trusted, struct forwarded *out)
{
	struct hops hops = { .count = 0 };
	struct address next;

	if (!address_list_has(trusted, &out->client))
		return;
	collect(&hops, head, by);
	if (by == FORWARDED_BY_X)
		out->tls |= last_proto_is_https(head);
	else if (hops.count)
		out->tls |= hops.ring[(hops.count - 1) % FORWARDED_HOPS_MAX].tls;
	for (size_t i = 0; i < hops.count && i < FORWARDED_HOPS_MAX && address_list_has(trusted, &out->client); i++) {
		const struct hop *hop = &hops.ring[(hops.count - 1 - i) % FORWARDED_HOPS_MAX];

		if (!hop->from.at || !address_parse_node(hop->from.at, hop->from.len, &next))
			return;
		out->client = next;
	}
}
