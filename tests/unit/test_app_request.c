/* What an application is given and gives: escaped HTML, URLs, queries, forms, cookies, sessions and their tokens. */
#include <CUnit/CUnit.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/form.h"
#include "app/module.h"
#include "app/request.h"
#include "app/session.h"
#include "app/settings.h"
#include "app/thread.h"
#include "proxy/settings.h"

void suite_app_request(void);

enum { VARIABLES = 8 };

static struct event_base *base;
static struct poller poller;
static struct inbox inbox;
static struct settings *settings;
static struct app_thread thread;
static struct app_variable variables[VARIABLES];
static struct app_request r;
static char folder[] = "/tmp/tandem-unit-XXXXXX";

static void handle(struct app_request *request)
{
	(void)request;
}

static void news(struct app_call *call, void *owner)
{
	(void)call;
	(void)owner;
}

static int open_room(void)
{
	base = event_base_new();
	settings = calloc(1, sizeof(*settings));
	if (!base || !settings || !mkdtemp(folder) || !poller_init(&poller, base) || !inbox_init(&inbox, &poller, NULL))
		return 1;
	settings->state_dir = strdup(folder);
	if (!settings->state_dir || !app_settings_init(settings))
		return 1;
	app_settings_of(settings)->session_ms = 60000;
	thread.settings = settings;
	return 0;
}

static int close_room(void)
{
	char key[sizeof(folder) + 32];

	snprintf(key, sizeof(key), "%s/app-session.key", folder);
	unlink(key);
	rmdir(folder);
	settings_unref(settings);
	inbox_fini(&inbox);
	event_base_free(base);
	return 0;
}

/* A request with this body. say() tells its variables. */
static void begin(const char *body)
{
	static const struct app app = { .abi = APP_ABI, .name = "played", .handle = handle };
	struct app_module *module;
	char why[100];

	module = app_module_builtin(&app, why, sizeof(why));
	CU_ASSERT_PTR_NOT_NULL_FATAL(module);
	r = (struct app_request){ .thread = &thread, .status = 200, .variables = variables };
	r.call = app_call_new(NULL, module, "", &inbox, news, &base);
	CU_ASSERT_PTR_NOT_NULL_FATAL(r.call);
	CU_ASSERT(app_call_feed(r.call, body, strlen(body)));
	app_call_feed_over(r.call, true);
}

static void say(const char *name, const char *value)
{
	CU_ASSERT_FATAL(r.variable_count < VARIABLES);
	variables[r.variable_count++] = (struct app_variable){ name, value };
}

static void end(void)
{
	buf_fini(&r.head);
	buf_fini(&r.pending);
	app_form_close(&r);
	arena_fini(&r.arena);
	app_call_leave(r.call);
}

static bool is_answer(const char *text)
{
	size_t len = strlen(text);
	bool same = buf_len(&r.pending) == len && (!len || !memcmp(buf_head(&r.pending), text, len));

	if (!same)
		printf("\n  %.*s\n  instead of %s\n", (int)buf_len(&r.pending), (const char *)buf_head(&r.pending), text);
	return same;
}

static bool is_text(const char *text, const char *wanted)
{
	return text && wanted ? !strcmp(text, wanted) : text == wanted;
}

/* ---- Text for other places ---- */

static void test_html(void)
{
	static const struct {
		const char *text, *html;
	} rows[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "<script>alert(\"1\" + '2')</script>", "&lt;script&gt;alert(&quot;1&quot; + &#39;2&#39;)&lt;/script&gt;" },
		{ "a && b", "a &amp;&amp; b" },
		{ "&amp;", "&amp;amp;" },
		{ "Gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x98\x80", "Gr\xc3\xbc\xc3\x9f" "e \xf0\x9f\x98\x80" },
		{ "a\xff" "b", "a\xef\xbf\xbd" "b" },				 /* no UTF-8 */
		{ "\xc0\xbcscript>", "\xef\xbf\xbd\xef\xbf\xbdscript&gt;" }, /* < in two bytes */
		{ "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },			 /* cut */
		{ "\xe2\"", "\xef\xbf\xbd&quot;" },				 /* takes no quote with it */
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },  /* half of a surrogate pair */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin("");
		CU_ASSERT(app_html(&r, "%s", rows[i].text));
		CU_ASSERT(is_answer(rows[i].html));
		end();
	}
}

static void test_templates(void)
{
	const char *volatile nothing = NULL; /* the compiler need not know */

	begin("");
	CU_ASSERT(app_html(&r, "<b title=\"%s\">%d of %5.1f%% %-3u|%lld %zu %c %x</b>%s", "\"", -1, 2.25, 7u, 1LL << 40, (size_t)9, '<', 255u,
			   nothing));
	CU_ASSERT(is_answer("<b title=\"&quot;\">-1 of   2.2% 7  |1099511627776 9 &lt; ff</b>"));
	end();
	begin("");
	CU_ASSERT(app_html(&r, "%.*s %.2s|%.3s", 2, "<<<", "abc", "\xc3\xbc" "bc"));
	CU_ASSERT(is_answer("&lt;&lt; ab|\xc3\xbc" "b"));
	end();
	/* A precision that cuts a character leaves no part of it. */
	begin("");
	CU_ASSERT(app_html(&r, "%.1s", "\xc3\xbc"));
	CU_ASSERT(is_answer("\xef\xbf\xbd"));
	end();
}

static void test_urls(void)
{
	begin("");
	CU_ASSERT(is_text(app_url(&r, "a b/\xc3\xbc?&=%~"), "a%20b%2F%C3%BC%3F%26%3D%25~"));
	CU_ASSERT(is_text(app_url_decode(&r, "a%20b+c%2f", 10, true), "a b c/"));
	CU_ASSERT(is_text(app_url_decode(&r, "a+b", 3, false), "a+b"));
	CU_ASSERT_PTR_NULL(app_url_decode(&r, "%2", 2, true));
	CU_ASSERT_PTR_NULL(app_url_decode(&r, "%zz", 3, true));
	CU_ASSERT_PTR_NULL(app_url_decode(&r, "a%00b", 5, true));
	end();
}

/* ---- What browsers send ---- */

static void test_queries(void)
{
	const char *name, *value;

	begin("");
	say("QUERY_STRING", "a=1&&b=x+y%21&a=2&empty=&alone");
	CU_ASSERT(is_text(app_query(&r, "a"), "1"));
	CU_ASSERT(is_text(app_query(&r, "b"), "x y!"));
	CU_ASSERT(is_text(app_query(&r, "empty"), ""));
	CU_ASSERT(is_text(app_query(&r, "alone"), ""));
	CU_ASSERT_PTR_NULL(app_query(&r, "c"));
	CU_ASSERT(app_query_at(&r, 2, &name, &value) && is_text(name, "a") && is_text(value, "2"));
	CU_ASSERT(!app_query_at(&r, 5, &name, &value));
	end();
	begin("");
	say("QUERY_STRING", "a=1&b=%zz");
	CU_ASSERT_PTR_NULL(app_query(&r, "a")); /* malformed: none */
	end();
}

static void test_cookies_are_found(void)
{
	static const struct {
		const char *sent, *name, *value;
	} rows[] = {
		{ "a=1", "a", "1" },	    { "a=1; b=2", "b", "2" }, { "ab=1; b=2", "b", "2" }, { "a=1;b=2;", "b", "2" },
		{ "a=b=c; b=d", "b", "d" }, { "a=", "a", "" },	      { "a=1", "b", NULL },	 { "b", "b", NULL },
		{ "", "a", NULL },	    { NULL, "a", NULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin("");
		if (rows[i].sent)
			say("HTTP_COOKIE", rows[i].sent);
		CU_ASSERT(is_text(app_cookie(&r, rows[i].name), rows[i].value));
		end();
	}
}

static const char *field_of_head(const char *wanted)
{
	const char *name, *value;

	for (size_t at = 0; app_head_next(&r.head, &at, &name, &value);)
		if (!strcmp(name, wanted))
			return value;
	return NULL;
}

static void test_cookies_are_set(void)
{
	begin("");
	CU_ASSERT(app_set_cookie(&r, "a", "1", 60));
	CU_ASSERT(is_text(field_of_head("Set-Cookie"), "a=1; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"));
	CU_ASSERT(!app_set_cookie(&r, "a", "1; Domain=evil", 0));
	CU_ASSERT(!app_set_cookie(&r, "a", "1\r\nX: y", 0));
	CU_ASSERT(!app_set_cookie(&r, "a=b", "1", 0));
	CU_ASSERT(!app_set_cookie(&r, "", "1", 0));
	end();
	begin("");
	say("HTTPS", "on");
	CU_ASSERT(app_set_cookie(&r, "a", "", -1));
	CU_ASSERT(is_text(field_of_head("Set-Cookie"), "a=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"));
	end();
}

static void test_urlencoded_forms(void)
{
	static const char type[] = "application/x-www-form-urlencoded";
	static const struct {
		const char *type, *body;
		enum app_form_result result;
		const char *value; /* of the field a */
	} rows[] = {
		{ type, "a=1&b=2", APP_FORM_FINE, "1" },
		{ "application/x-www-form-urlencoded; charset=UTF-8", "b=2&a=%3C", APP_FORM_FINE, "<" },
		{ type, "", APP_FORM_FINE, "" },
		{ type, "a=%4", APP_FORM_BAD, "" },
		{ type, "a=x%00y", APP_FORM_BAD, "" },
		{ type, "a=1&b=2&c=3&d=4", APP_FORM_BAD, "" },	       /* more fields than allowed */
		{ type, "a=01234567890123456789", APP_FORM_TOO_LARGE, "" }, /* more text */
		{ "text/plain", "a=1", APP_FORM_UNKNOWN, "" },
		{ "application/x-www-form-urlencodedx", "a=1", APP_FORM_UNKNOWN, "" },
		{ "multipart/form-data", "a=1", APP_FORM_BAD, "" }, /* no boundary */
		{ NULL, "", APP_FORM_FINE, "" },
	};
	static const struct app_form_limits limits = { .text_bytes = 20, .fields = 3 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		begin(rows[i].body);
		if (rows[i].type)
			say("CONTENT_TYPE", rows[i].type);
		CU_ASSERT_EQUAL(app_form_read(&r, &limits), rows[i].result);
		CU_ASSERT_EQUAL(app_form_read(&r, NULL), rows[i].result);
		CU_ASSERT(is_text(app_field(&r, "a"), rows[i].value));
		end();
	}
}

#define PART(head, text) "--edge\r\nContent-Disposition: form-data; " head "\r\n\r\n" text "\r\n"
#define TYPE "multipart/form-data; boundary=edge"

static void test_forms_with_files(void)
{
	static const struct app_form_limits limits = { .file_bytes = 10 };
	const struct app_file *file;
	char bytes[16];

	begin(PART("name=a", "1") PART("name=f; filename=\"x.txt\"", "content") PART("name=none; filename=\"\"", "") "--edge--\r\n");
	say("CONTENT_TYPE", TYPE);
	CU_ASSERT_EQUAL_FATAL(app_form_read(&r, &limits), APP_FORM_FINE);
	CU_ASSERT(is_text(app_field(&r, "a"), "1"));
	file = app_file(&r, "f");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT(is_text(file->name, "x.txt") && file->size == 7 && read(file->fd, bytes, sizeof(bytes)) == 7 && !memcmp(bytes, "content", 7));
	CU_ASSERT_PTR_NULL(app_file(&r, "none"));
	end();
	begin(PART("name=f; filename=x", "more than ten bytes") "--edge--\r\n");
	say("CONTENT_TYPE", TYPE);
	CU_ASSERT_EQUAL(app_form_read(&r, &limits), APP_FORM_TOO_LARGE);
	end();
	begin(PART("name=f; filename=x", "1") "--edge--\r\n"); /* the usual limits take no files */
	say("CONTENT_TYPE", TYPE);
	CU_ASSERT(!app_form(&r) && r.status == 413);
	end();
	begin(PART("name=a", "1")); /* cut */
	say("CONTENT_TYPE", TYPE);
	CU_ASSERT(!app_form(&r) && r.status == 400);
	end();
}

/* ---- Sessions ---- */

static char cookie[8192]; /* what the browser keeps: "tandem_session=..." */
static char token[256];

/* The answer goes; the browser takes the cookie in it. False: there was none. */
static bool keep_cookie(void)
{
	const char *set;

	app_session_save(&r);
	set = field_of_head("Set-Cookie");
	if (set)
		snprintf(cookie, sizeof(cookie), "%.*s", (int)strcspn(set, ";"), set);
	return set != NULL;
}

static void visit(const char *body)
{
	begin(body);
	say("HTTP_COOKIE", cookie);
}

static void log_in(void)
{
	begin("");
	app_session_clear(&r);
	CU_ASSERT(app_session_set(&r, "user", "<a & b>"));
	snprintf(token, sizeof(token), "%s", app_csrf_token(&r));
	CU_ASSERT(keep_cookie());
	end();
}

static void test_a_session_comes_back(void)
{
	log_in();
	visit("");
	CU_ASSERT(is_text(app_session_get(&r, "user"), "<a & b>"));
	CU_ASSERT_PTR_NULL(app_session_get(&r, "other"));
	CU_ASSERT(is_text(app_csrf_token(&r), token));
	CU_ASSERT(!keep_cookie()); /* nothing has changed */
	end();
	visit("");
	app_session_clear(&r);
	CU_ASSERT_PTR_NULL(app_session_get(&r, "user"));
	CU_ASSERT(!is_text(app_csrf_token(&r), token));
	end();
	/* Who only looks gets no cookie. */
	begin("");
	CU_ASSERT_PTR_NULL(app_session_get(&r, "user"));
	CU_ASSERT(!keep_cookie());
	end();
}

/* Each byte of it counts: whatever is changed, nobody is logged in. */
static void test_a_changed_cookie_is_none(void)
{
	char whole[sizeof(cookie)];
	unsigned believed = 0;

	log_in();
	memcpy(whole, cookie, sizeof(whole));
	for (size_t i = strlen("tandem_session="); whole[i]; i++) {
		/* The lowest bits of the last letter say nothing, and are 0: A and Z differ from all others that can stand there in the rest. */
		memcpy(cookie, whole, sizeof(cookie));
		cookie[i] = whole[i] == 'A' ? 'Z' : 'A';
		visit("");
		believed += app_session_get(&r, "user") != NULL;
		end();
		memcpy(cookie, whole, sizeof(cookie));
		cookie[i] = '\0';
		visit("");
		believed += app_session_get(&r, "user") != NULL;
		end();
	}
	CU_ASSERT_EQUAL(believed, 0);
	memcpy(cookie, whole, sizeof(cookie));
	visit("");
	CU_ASSERT(is_text(app_session_get(&r, "user"), "<a & b>"));
	end();
}

static void test_a_session_ends(void)
{
	app_settings_of(settings)->session_ms = 0;
	log_in();
	visit("");
	CU_ASSERT_PTR_NULL(app_session_get(&r, "user"));
	end();
	app_settings_of(settings)->session_ms = 60000;
}

static void test_what_does_not_fit_changes_nothing(void)
{
	char large[4000];

	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	log_in();
	visit("");
	CU_ASSERT(app_session_set(&r, "other", "1"));
	CU_ASSERT(!app_session_set(&r, "user", large));
	CU_ASSERT(is_text(app_session_get(&r, "user"), "<a & b>"));
	CU_ASSERT(!app_session_set(&r, "third", large));
	CU_ASSERT_PTR_NULL(app_session_get(&r, "third"));
	CU_ASSERT(is_text(app_session_get(&r, "other"), "1"));
	CU_ASSERT(keep_cookie());
	end();
	visit("");
	CU_ASSERT(is_text(app_session_get(&r, "user"), "<a & b>") && is_text(app_session_get(&r, "other"), "1"));
	end();
}

static void test_tokens(void)
{
	char body[300];

	log_in();
	snprintf(body, sizeof(body), "csrf=%s", token);
	visit(body);
	say("CONTENT_TYPE", "application/x-www-form-urlencoded");
	CU_ASSERT(app_csrf_check(&r));
	end();
	visit("");
	say("HTTP_X_CSRF_TOKEN", token);
	CU_ASSERT(app_csrf_check(&r));
	end();
	visit("");
	CU_ASSERT(!app_csrf_check(&r)); /* none was sent */
	end();
	begin("");
	say("HTTP_X_CSRF_TOKEN", token);
	CU_ASSERT(!app_csrf_check(&r)); /* of another session */
	end();
	token[3] = token[3] == 'A' ? 'B' : 'A';
	visit("");
	say("HTTP_X_CSRF_TOKEN", token);
	CU_ASSERT(!app_csrf_check(&r));
	end();
}

static void test_a_message_is_told_once(void)
{
	log_in();
	visit("");
	app_flash(&r, "saved");
	CU_ASSERT(keep_cookie());
	end();
	visit("");
	CU_ASSERT(is_text(app_flash_take(&r), "saved"));
	CU_ASSERT(keep_cookie());
	end();
	visit("");
	CU_ASSERT_PTR_NULL(app_flash_take(&r));
	end();
}

void suite_app_request(void)
{
	CU_pSuite suite = CU_add_suite("app request", open_room, close_room);

	CU_add_test(suite, "html", test_html);
	CU_add_test(suite, "templates", test_templates);
	CU_add_test(suite, "urls", test_urls);
	CU_add_test(suite, "queries", test_queries);
	CU_add_test(suite, "cookies are found", test_cookies_are_found);
	CU_add_test(suite, "cookies are set", test_cookies_are_set);
	CU_add_test(suite, "urlencoded forms", test_urlencoded_forms);
	CU_add_test(suite, "forms with files", test_forms_with_files);
	CU_add_test(suite, "a session comes back", test_a_session_comes_back);
	CU_add_test(suite, "a changed cookie is none", test_a_changed_cookie_is_none);
	CU_add_test(suite, "a session ends", test_a_session_ends);
	CU_add_test(suite, "what does not fit changes nothing", test_what_does_not_fit_changes_nothing);
	CU_add_test(suite, "tokens", test_tokens);
	CU_add_test(suite, "a message is told once", test_a_message_is_told_once);
}
