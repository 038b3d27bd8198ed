#include "app/people/people.h"

#include <string.h>

enum { NAME_MAX_CHARS = 80, EMAIL_MAX = 120, PHONE_MAX = 30, CITY_MAX = 60, NOTE_MAX = 1000 };

bool text_is_fine(const char *text, size_t most, bool lines)
{
	size_t count = 0;

	for (size_t len; *text; text += len, count++) {
		unsigned char c = (unsigned char)*text;

		len = app_utf8(text);
		if (!len || c == 0x7f || (c < ' ' && !(lines && strchr("\r\n\t", c))))
			return false;
	}
	return count <= most;
}

const char *text_trim(struct app_request *r, const char *text)
{
	static const char blanks[] = " \t\r\n";
	size_t len;
	const char *copy;

	text += strspn(text, blanks);
	for (len = strlen(text); len && strchr(blanks, text[len - 1]);)
		len--;
	copy = app_copy(r, text, len);
	return copy ? copy : "";
}

struct person person_of_form(struct app_request *r)
{
	return (struct person){
		.name = app_field(r, "name"),
		.email = app_field(r, "email"),
		.phone = app_field(r, "phone"),
		.city = app_field(r, "city"),
		.note = app_field(r, "note"),
	};
}

static const char *name_problem(const char *name)
{
	if (!*name)
		return "Please give a name.";
	return text_is_fine(name, NAME_MAX_CHARS, false) ? NULL : "A name has at most 80 characters, and none that cannot be shown.";
}

/* What a mail server will say to it is not for us to know: one @ between two texts, the second with a dot, no blanks. */
static const char *email_problem(const char *email)
{
	const char *at = strchr(email, '@');
	const char *dot = at ? strrchr(at, '.') : NULL;

	if (!*email)
		return "Please give an e-mail address.";
	if (!text_is_fine(email, EMAIL_MAX, false) || strpbrk(email, " \t<>(),;:\\\"[]") || !at || at == email || strchr(at + 1, '@') || !dot ||
	    dot == at + 1 || !dot[1])
		return "That is no e-mail address; one looks like jo@example.com.";
	return NULL;
}

static const char *phone_problem(const char *phone)
{
	if (phone[strspn(phone, "0123456789+-/(). ")] || strlen(phone) > PHONE_MAX)
		return "A phone number has digits, blanks and the signs + - / ( ) . only, at most 30 of them.";
	return *phone && !strpbrk(phone, "0123456789") ? "A phone number has digits." : NULL;
}

bool person_check(struct app_request *r, struct person *p, struct problems *out)
{
	p->name = text_trim(r, p->name);
	p->email = text_trim(r, p->email);
	p->phone = text_trim(r, p->phone);
	p->city = text_trim(r, p->city);
	p->note = text_trim(r, p->note);
	*out = (struct problems){
		.name = name_problem(p->name),
		.email = email_problem(p->email),
		.phone = phone_problem(p->phone),
		.city = text_is_fine(p->city, CITY_MAX, false) ? NULL : "A city has at most 60 characters, and none that cannot be shown.",
		.note = text_is_fine(p->note, NOTE_MAX, true) ? NULL : "A note has at most 1000 characters, and none that cannot be shown.",
	};
	return !out->name && !out->email && !out->phone && !out->city && !out->note;
}
