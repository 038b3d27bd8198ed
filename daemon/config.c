#include "daemon/config.h"

#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/tls.h"
#include "daemon/setting.h"

/* One section of the file. A [name] that comes twice is one instance, a [name NAME] is one each. */
struct instance {
	const struct section *section;
	char *title;			  /* what stands between the brackets: "server db1" */
	const char *name;		  /* SECTION_MANY: in the title */
	size_t index;			  /* SECTION_MANY: of its element */
	unsigned line;			  /* of its first header; 0: not in the file */
	unsigned lines[SETTING_ROWS_MAX]; /* where each row was given; 0: not given */
};

struct config_load {
	const char *path;
	FILE *faults;
	unsigned fault_count;
	FILE *file;
	char buffer[4096]; /* of the stream */
	unsigned line;
	char *text; /* the line being read; getline()'s */
	size_t text_size;
	struct settings *settings;
	struct instance *instances;
	size_t instance_count;
	struct instance *
		current; /* NULL: lines are skipped, the reason has been told or there is no section yet */
	bool in_section;
	bool has_secret;
};

/* --- faults --- */

static void say(struct config_load *load, unsigned line, const char *kind, const char *format,
		va_list args)
{
	fprintf(load->faults, "%s:", load->path);
	if (line)
		fprintf(load->faults, "%u:", line);
	fprintf(load->faults, " %s", kind);
	vfprintf(load->faults, format, args);
	fputc('\n', load->faults);
}

/* `line` 0 is the file as a whole. */
static void add_fault(struct config_load *load, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void add_fault(struct config_load *load, unsigned line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(load, line, "", format, args);
	va_end(args);
	load->fault_count++;
}

static void add_warning(struct config_load *load, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void add_warning(struct config_load *load, unsigned line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(load, line, "warning: ", format, args);
	va_end(args);
}

/* --- sections --- */

static struct instance *find_instance(const struct config_load *load, const struct section *section,
				      const char *name)
{
	for (size_t i = 0; i < load->instance_count; i++) {
		struct instance *instance = &load->instances[i];

		if (instance->section == section && (!name || strcmp(instance->name, name) == 0))
			return instance;
	}
	return NULL;
}

static struct instance *add_instance(struct config_load *load, const struct section *section,
				     const char *name, size_t index)
{
	struct instance *instances =
		realloc(load->instances, (load->instance_count + 1) * sizeof(*instances));
	struct instance *instance;

	if (!instances)
		return NULL;
	load->instances = instances;
	instance = &instances[load->instance_count];
	*instance = (struct instance){ .section = section, .index = index, .line = load->line };
	if (asprintf(&instance->title, name ? "%s %s" : "%s", section->name, name) < 0)
		return NULL;
	if (name)
		instance->name = instance->title + strlen(section->name) + 1;
	load->instance_count++;
	return instance;
}

bool config_has_section(const struct config_load *load, const char *section)
{
	const struct instance *instance = find_instance(load, section_find(section), NULL);

	return instance && instance->line;
}

static unsigned line_of(const struct config_load *load, const char *section, const char *name,
			const char *setting)
{
	const struct section *known = section_find_kind(section, name != NULL);
	const struct instance *instance = find_instance(load, known, name);
	const struct setting *row = setting ? setting_find(known, setting) : NULL;

	if (!instance)
		return 0;
	if (row && instance->lines[row - known->rows])
		return instance->lines[row - known->rows];
	return instance->line;
}

void config_add_fault(struct config_load *load, const char *section, const char *name,
		      const char *setting, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(load, line_of(load, section, name, setting), "", format, args);
	va_end(args);
	load->fault_count++;
}

void config_add_warning(struct config_load *load, const char *section, const char *name,
			const char *setting, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(load, line_of(load, section, name, setting), "warning: ", format, args);
	va_end(args);
}

static size_t count_instances(const struct config_load *load, const struct section *section)
{
	size_t count = 0;

	for (size_t i = 0; i < load->instance_count; i++)
		count += load->instances[i].section == section;
	return count;
}

/* Names stand in log lines, hints and metrics. */
static bool check_name(struct config_load *load, const struct section *section, const char *name)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";

	if (!*name)
		add_fault(load, load->line, "[%s] needs a name: [%s NAME]", section->name,
			  section->name);
	else if (strlen(name) > 64)
		add_fault(load, load->line, "[%s]: the name has more than 64 characters",
			  section->name);
	else if (strcmp(section->name, "server") == 0 && name[strspn(name, allowed)])
		add_fault(load, load->line,
			  "[%s %s]: a name has only letters, digits and the signs _ . -",
			  section->name, name);
	else
		return true;
	return false;
}

static void begin_many(struct config_load *load, const struct section *section, const char *name)
{
	struct instance *other;

	if (!check_name(load, section, name))
		return;
	other = find_instance(load, section, name);
	if (other) {
		add_fault(load, load->line, "[%s %s] is given twice, first in line %u",
			  section->name, name, other->line);
		return;
	}
	if (section->add(load->settings, name))
		load->current = add_instance(load, section, name, count_instances(load, section));
	if (!load->current)
		add_fault(load, load->line, "out of memory");
}

static void begin_one(struct config_load *load, const struct section *section, const char *name)
{
	if (*name) {
		add_fault(load, load->line, "[%s %s]: this section takes no name", section->name,
			  name);
		return;
	}
	load->current = find_instance(load, section, NULL);
	if (!load->current->line)
		load->current->line = load->line;
}

static void report_unknown_section(struct config_load *load, const char *name)
{
	const char *nearest = section_nearest(name);

	if (nearest)
		add_fault(load, load->line, "[%s]: unknown section; did you mean [%s]?", name,
			  nearest);
	else
		add_fault(load, load->line, "[%s]: unknown section", name);
}

/* One warning for each kind of section, however many there are. */
static void warn_later(struct config_load *load, const struct section *section)
{
	if (find_instance(load, section, NULL))
		return;
	add_warning(load, load->line, "[%s]: this version does not act on such sections",
		    section->name);
	if (!add_instance(load, section, NULL, 0))
		add_fault(load, load->line, "out of memory");
}

/* `text` is what stands between the brackets; it is cut in place. */
static void begin_section(struct config_load *load, char *text)
{
	const struct section *section;
	char *name;

	text += strspn(text, " \t");
	for (size_t len = strlen(text); len && strchr(" \t", text[len - 1]); len--)
		text[len - 1] = '\0';
	name = text + strcspn(text, " \t");
	if (*name)
		*name++ = '\0';
	name += strspn(name, " \t");

	load->in_section = true;
	load->current = NULL;
	section = section_find_kind(text, *name != '\0');
	if (!section)
		report_unknown_section(load, text);
	else if (section->kind == SECTION_LATER)
		warn_later(load, section);
	else if (section->kind == SECTION_MANY)
		begin_many(load, section, name);
	else
		begin_one(load, section, name);
}

/* --- lines --- */

static const char *skip_blanks(const char *text)
{
	return text + strspn(text, " \t");
}

/* True when inih may see the line: it is a name and a value. Everything else is dealt with here, because inih stops telling
 * apart after the first bad line, cuts long names and takes an indented line for the rest of the one before. */
static bool take_line(struct config_load *load, char *text, size_t len)
{
	char *close;

	if (strlen(text) != len)
		add_fault(load, load->line, "a zero byte is in the line");
	else if (*text == '\0' || *text == ';' || *text == '#')
		return false;
	else if (*text == '[') {
		close = strchr(text, ']');
		if (!close || !strchr(";#", *skip_blanks(close + 1))) {
			add_fault(load, load->line,
				  "a section is written [name] or [name NAME], alone on its line");
			load->in_section = true;
			load->current = NULL;
			return false;
		}
		*close = '\0';
		begin_section(load, text + 1);
	} else if (!strpbrk(text, "=:")) /* not shown: it may be a password */
		add_fault(load, load->line, "neither a [section] nor name = value");
	else
		return true;
	return false;
}

static size_t trim_end(char *text, size_t len)
{
	while (len && strchr(" \t\r\n", text[len - 1]))
		text[--len] = '\0';
	return len;
}

/* inih's reader: like fgets(), but counts lines and skips leading blanks. */
static char *read_line(char *out, int size, void *stream)
{
	struct config_load *load = stream;
	ssize_t got = getline(&load->text, &load->text_size, load->file);
	char *text = load->text;
	size_t len;

	if (got < 0)
		return NULL;
	load->line++;
	if (load->line == 1 && got >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		got -= 3;
	}
	len = trim_end(text, (size_t)got);
	len -= (size_t)(skip_blanks(text) - text);
	text += skip_blanks(text) - text;
	out[0] = '\n';
	out[1] = '\0';
	if (!take_line(load, text, len))
		return out;
	if (len + 2 > (size_t)size) {
		add_fault(load, load->line, "longer than %d characters", size - 2);
		return out;
	}
	memcpy(out, text, len);
	memcpy(out + len, "\n", 2);
	return out;
}

/* --- values --- */

/* Quotes keep blanks at the ends. False when one is not closed. */
static bool unquote(char *value)
{
	size_t len = strlen(value);

	if (*value != '"' && *value != '\'')
		return true;
	if (len < 2 || value[len - 1] != *value)
		return false;
	memmove(value, value + 1, len - 2);
	value[len - 2] = '\0';
	return true;
}

/* The section that does have a setting of this name; NULL when none has. */
static const struct section *section_with(const char *name)
{
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++)
		if (setting_find(section, name))
			return section;
	return NULL;
}

static void report_unknown_setting(struct config_load *load, const char *name)
{
	const struct section *section = load->current->section, *other = section_with(name);
	const char *nearest = setting_nearest(section, name), *title = load->current->title;

	if (nearest)
		add_fault(load, load->line, "[%s] %s: unknown setting; did you mean %s?", title,
			  name, nearest);
	else if (other)
		add_fault(load, load->line, "[%s] %s: unknown setting; it belongs in [%s]", title,
			  name, other->name);
	else
		add_fault(load, load->line, "[%s] %s: unknown setting", title, name);
}

static void *place_of(struct config_load *load, const struct instance *instance,
		      const struct setting *row)
{
	return (char *)instance->section->at(load->settings, instance->index) + row->place;
}

static bool store(struct config_load *load, const struct instance *instance,
		  const struct setting *row, const char *value, struct setting_fault *fault)
{
	uint64_t nowhere;
	void *place = row->flags & SETTING_LATER ? (void *)&nowhere : place_of(load, instance, row);

	return row->type->parse(row, value, place, fault);
}

static void report_bad_value(struct config_load *load, const struct setting *row, const char *value,
			     const struct setting_fault *fault)
{
	const char *title = load->current->title;

	if (row->type->is_secret || !*value)
		add_fault(load, load->line, "[%s] %s: %s", title, row->name, fault->text);
	else
		add_fault(load, load->line, "[%s] %s = %s: %s", title, row->name, value,
			  fault->text);
}

static void set_value(struct config_load *load, const struct setting *row, char *value)
{
	struct setting_fault fault = { "out of memory" };
	const char *title = load->current->title;
	unsigned *line = &load->current->lines[row - load->current->section->rows];

	if (*line && !row->type->is_list) {
		add_fault(load, load->line, "[%s] %s is given twice, first in line %u", title,
			  row->name, *line);
		return;
	}
	*line = load->line;
	if (!unquote(value)) {
		add_fault(load, load->line,
			  "[%s] %s: a quote is not closed (a ';' behind a blank begins a comment)",
			  title, row->name);
		return;
	}
	if (!store(load, load->current, row, value, &fault)) {
		report_bad_value(load, row, value, &fault);
		return;
	}
	if (row->flags & SETTING_LATER && strcmp(value, row->fallback) != 0)
		add_warning(load, load->line, "[%s] %s: this version does not act on it", title,
			    row->name);
	load->has_secret |= row->type->is_secret && *value;
}

/* inih's handler. The section it names is not used: read_line() knows it better. */
static int take_value(void *user, const char *section, const char *name, const char *value)
{
	struct config_load *load = user;
	const struct setting *row;

	(void)section;
	if (!load->in_section)
		add_fault(load, load->line, "%s: a setting needs a [section] above it", name);
	if (!load->current)
		return 1;
	row = setting_find(load->current->section, name);
	if (!row)
		report_unknown_setting(load, name);
	else
		set_value(load, row,
			  (char *)value); /* in inih's own line, which nobody reads again */
	secret_wipe((char *)value, strlen(value));
	return 1;
}

/* --- the file as a whole --- */

static void report_missing(struct config_load *load, const struct instance *instance,
			   const struct setting *row)
{
	if (row->type->is_secret)
		add_fault(load, instance->line,
			  "[%s]: %s is missing; write \"%s =\" for an empty one", instance->title,
			  row->name, row->name);
	else
		add_fault(load, instance->line, "[%s]: %s is missing", instance->title, row->name);
}

/* Defaults come last: only then is it known what was not given. */
static void complete(struct config_load *load, const struct instance *instance)
{
	const struct section *section = instance->section;
	struct setting_fault fault;

	for (const struct setting *row = section->rows; row && row->name; row++) {
		if (instance->lines[row - section->rows])
			continue;
		if (row->flags & SETTING_REQUIRED)
			report_missing(load, instance, row);
		else if (row->fallback && !store(load, instance, row, row->fallback, &fault))
			add_fault(load, 0, "[%s] %s: default: %s", section->name, row->name,
				  fault.text);
	}
}

static void check_rights(struct config_load *load)
{
	struct stat status;

	if (load->has_secret && fstat(fileno(load->file), &status) == 0 && status.st_mode & S_IROTH)
		add_warning(
			load, 0,
			"holds passwords and can be read by everybody; chmod o-r would mend it");
}

static void check_whole(struct config_load *load)
{
	const struct setting_room *room;

	for (size_t i = 0; (room = setting_room_at(i)); i++)
		if (room->check)
			room->check(load, load->settings);
	check_rights(load);
}

static bool init_rooms(struct config_load *load)
{
	const struct setting_room *room;

	for (size_t i = 0; (room = setting_room_at(i)); i++)
		if (room->init && !room->init(load->settings))
			return false;
	return true;
}

static bool add_single_sections(struct config_load *load)
{
	const struct section *section;

	for (size_t i = 0; (section = section_at(i)); i++)
		if (section->kind == SECTION_ONE && !add_instance(load, section, NULL, 0))
			return false;
	return true;
}

static void read_file(struct config_load *load)
{
	if (!init_rooms(load) || !add_single_sections(load)) {
		add_fault(load, 0, "out of memory");
		return;
	}
	/* Its result says nothing that take_line() has not told. */
	(void)ini_parse_stream(read_line, load, take_value, load);
	if (!feof(load->file)) { /* getline() gave up for another reason, and the rest was not seen */
		add_fault(load, 0, "cannot be read: %s", strerror(errno));
		return;
	}
	for (size_t i = 0; i < load->instance_count; i++)
		complete(load, &load->instances[i]);
	check_whole(load);
}

static void fini_load(struct config_load *load)
{
	for (size_t i = 0; i < load->instance_count; i++)
		free(load->instances[i].title);
	free(load->instances);
	fclose(load->file);
	secret_wipe(load->buffer, sizeof(load->buffer));
	secret_wipe(load->text, load->text_size);
	free(load->text);
}

struct settings *config_load(const char *path, FILE *faults)
{
	struct config_load load = { .path = path, .faults = faults, .file = fopen(path, "re") };

	if (!load.file) {
		fprintf(faults, "%s: cannot be read: %s\n", path, strerror(errno));
		return NULL;
	}
	/* The stream's buffer is ours, to be wiped: it holds passwords. */
	setvbuf(load.file, load.buffer, _IOFBF, sizeof(load.buffer));
	load.settings = calloc(1, sizeof(*load.settings));
	if (load.settings)
		read_file(&load);
	else
		add_fault(&load, 0, "out of memory");
	fini_load(&load);
	if (load.fault_count == 0)
		return load.settings;
	settings_unref(load.settings);
	return NULL;
}

/* --- reload and manual --- */

static const struct setting *find_restart(const struct section *section, struct settings *now,
					  struct settings *wanted)
{
	for (const struct setting *row = section->rows; row && row->name; row++)
		if (row->flags & SETTING_RESTART &&
		    !row->type->equal((char *)section->at(now, 0) + row->place,
				      (char *)section->at(wanted, 0) + row->place))
			return row;
	return NULL;
}

static const struct peer_settings *find_peer(const struct settings *s, const char *name)
{
	for (size_t i = 0; i < s->peer_count; i++)
		if (!strcmp(s->peers[i].name, name))
			return &s->peers[i];
	return NULL;
}

/* The first that is not the same in the other; NULL: none. */
static const char *other_peer(const struct settings *in, const struct settings *other)
{
	for (size_t i = 0; i < in->peer_count; i++) {
		const struct peer_settings *same = find_peer(other, in->peers[i].name);

		if (!same || strcmp(same->address, in->peers[i].address) != 0)
			return in->peers[i].name;
	}
	return NULL;
}

bool config_needs_restart(struct settings *now, struct settings *wanted, char *what,
			  size_t what_size)
{
	const struct section *section;
	const struct setting *row;
	const char *peer;

	for (size_t i = 0; (section = section_at(i)); i++) {
		row = find_restart(section, now, wanted);
		if (row) {
			snprintf(what, what_size, "[%s] %s", section->name, row->name);
			return true;
		}
	}
	peer = other_peer(wanted, now);
	if (!peer)
		peer = other_peer(now, wanted);
	if (peer)
		snprintf(what, what_size, "[peer %s]", peer);
	return peer != NULL;
}

/* Words of a text as lines of a width that terminals have. */
static void print_words(FILE *out, const char *text)
{
	enum { INDENT = 6, WIDTH = 78 };
	size_t column = 0;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column == 0 || column + 1 + len > WIDTH) {
			fprintf(out, "%s%*s%.*s", column ? "\n" : "", INDENT, "", (int)len, text);
			column = INDENT + len;
		} else {
			fprintf(out, " %.*s", (int)len, text);
			column += 1 + len;
		}
		text += len;
		text += strspn(text, " ");
	}
	fputc('\n', out);
}

static void print_value_syntax(FILE *out, const struct setting *row)
{
	fprintf(out, "\n  %s = ", row->name);
	if (row->type->syntax)
		fputs(row->type->syntax, out);
	for (size_t i = 0; row->choices && row->choices[i]; i++)
		fprintf(out, "%s%s", i ? " | " : "", row->choices[i]);
	fputc('\n', out);
}

static void print_setting(FILE *out, const struct setting *row)
{
	char text[1024];
	size_t len = 0;

	print_value_syntax(out, row);
	len += (size_t)snprintf(text, sizeof(text), "%s", row->help);
	if (row->min)
		len += (size_t)snprintf(text + len, sizeof(text) - len, " From %s to %s.", row->min,
					row->max);
	if (row->fallback && *row->fallback)
		len += (size_t)snprintf(text + len, sizeof(text) - len, " Default: %s.",
					row->fallback);
	snprintf(text + len, sizeof(text) - len, "%s%s%s",
		 row->flags & SETTING_REQUIRED ? " Must be given." : "",
		 row->flags & SETTING_RESTART ? " Needs a restart." : "",
		 row->flags & SETTING_LATER ? " This version does not act on it." : "");
	print_words(out, text);
}

void config_print_help(FILE *out)
{
	const struct section *section;

	fputs("The settings file has [section] headers and name = value lines. Lines that begin "
	      "with ; or # are\n"
	      "comments. A DURATION is a whole number and ms, s, min, h or d. SIGHUP reads the "
	      "file again.\n",
	      out);
	for (size_t i = 0; (section = section_at(i)); i++) {
		if (section->kind == SECTION_LATER)
			continue;
		fprintf(out, "\n[%s%s]\n    %s\n", section->name,
			section->kind == SECTION_MANY ? " NAME" : "", section->help);
		for (const struct setting *row = section->rows; row->name; row++)
			print_setting(out, row);
	}
}
