/* [rule NAME]: where statements of a certain kind go. */
#include "daemon/setting_row.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pattern.h"

#define RULE(field) offsetof(struct rule_settings, field)

static bool parse_pattern(const struct setting *setting, const char *text, void *place, struct setting_fault *fault)
{
	struct pattern *pattern = pattern_new(text, fault->text, sizeof(fault->text));

	(void)setting;
	if (pattern)
		*(struct pattern **)place = pattern;
	return pattern != NULL;
}

static bool same_pattern(const void *a, const void *b)
{
	const struct pattern *x = *(struct pattern *const *)a, *y = *(struct pattern *const *)b;

	return x == y || (x && y && !strcmp(pattern_text(x), pattern_text(y)));
}

static bool parse_digest(const struct setting *setting, const char *text, void *place, struct setting_fault *fault)
{
	(void)setting;
	if (strlen(text) != 16 || strspn(text, "0123456789abcdefABCDEF") != 16) {
		snprintf(fault->text, sizeof(fault->text), "not 16 hexadecimal digits");
		return false;
	}
	*(uint64_t *)place = strtoull(text, NULL, 16);
	return true;
}

static bool same_digest(const void *a, const void *b)
{
	return *(const uint64_t *)a == *(const uint64_t *)b;
}

static bool parse_target(const struct setting *setting, const char *text, void *place, struct setting_fault *fault)
{
	struct rule_target *to = place;

	(void)setting;
	if (!strcmp(text, "primary") || !strcmp(text, "replica")) {
		to->kind = *text == 'p' ? RULE_PRIMARY : RULE_REPLICA;
		return true;
	}
	if (strncmp(text, "server=", 7) || !text[7]) {
		snprintf(fault->text, sizeof(fault->text), "not primary, replica or server=NAME");
		return false;
	}
	to->kind = RULE_SERVER;
	to->server = strdup(text + 7);
	return to->server != NULL;
}

static bool same_target(const void *a, const void *b)
{
	const struct rule_target *x = a, *y = b;

	return x->kind == y->kind && (x->kind != RULE_SERVER || !strcmp(x->server, y->server));
}

static const struct setting_type pattern_type = { "EXPRESSION", parse_pattern, same_pattern, false, false };
static const struct setting_type digest_type = { "DIGEST", parse_digest, same_digest, false, false };
static const struct setting_type target_type = { "primary | replica | server=NAME", parse_target, same_target, false, false };

#define OWN(type, place) &type##_type, place, NULL, NULL, NULL, NULL

static const struct setting rows[] = {
	{ "text", OWN(pattern, RULE(text)), 0,
	  "Regular expression (PCRE2) that the statement's text must match somewhere, in upper or lower case." },
	{ "digest", OWN(digest, RULE(digest)), 0, "The statement's digest." },
	{ "user", OTHER(text, RULE(user), NULL), 0, "The account's name." },
	{ "schema", OTHER(text, RULE(schema), NULL), 0, "The session's current schema." },
	{ "to", OWN(target, RULE(to)), SETTING_REQUIRED,
	  "Where statements go that fulfil all conditions given. Only reads go to a replica, and only to one that has what they must "
	  "see; else it is as if there were no rule." },
	{ 0 },
};

static void *rule_at(struct settings *settings, size_t index)
{
	return &settings->rules[index];
}

static bool add_rule(struct settings *settings, const char *name)
{
	struct rule_settings *rules = realloc(settings->rules, (settings->rule_count + 1) * sizeof(*rules));
	struct rule_settings *rule;

	if (!rules)
		return false;
	settings->rules = rules;
	rule = &rules[settings->rule_count++];
	*rule = (struct rule_settings){ .name = strdup(name) };
	if (asprintf(&rule->why, "the rule %s", name) < 0)
		rule->why = NULL;
	return rule->name && rule->why;
}

static bool has_server(const struct settings *settings, const char *name)
{
	for (size_t i = 0; i < settings->server_count; i++)
		if (!strcmp(settings->servers[i].name, name))
			return true;
	return false;
}

static void check(struct config_load *load, const struct settings *settings)
{
	for (size_t i = 0; i < settings->rule_count; i++) {
		const struct rule_settings *rule = &settings->rules[i];

		if (rule->to.kind == RULE_SERVER && !has_server(settings, rule->to.server))
			config_add_fault(load, "rule", rule->name, "to", "[rule %s] to = server=%s: there is no [server %s]",
					 rule->name, rule->to.server, rule->to.server);
	}
}

static const struct section sections[] = {
	{ "rule", SECTION_MANY, rows, rule_at, add_rule,
	  "Where statements of a kind go. The first rule that fits is the one; hints win over rules." },
	{ 0 },
};

const struct setting_room setting_room_rule = { sections, NULL, check };
