/*
 * The smallest application: says hello, by the name that the query gives. Part of the program as app:hello, and an example: built by
 *     cc -shared -fPIC -I. -o hello.so app/hello.c
 * it is what [app NAME] module = /path/hello.so loads.
 */
#include "app/app.h"
#include "app/form.h"

static void handle(struct app_request *r)
{
	const char *name = app_query(r, "name");

	if (!app_method_is(r, "GET")) {
		app_header(r, "Allow", "GET, HEAD");
		app_fail(r, 405, "Hello only answers GET.");
		return;
	}
	app_html(r, "<!DOCTYPE html>\n<meta charset=utf-8>\n<title>Hello</title>\n<p>Hello, %s!\n", name && *name ? name : "world");
}

APP_MODULE(hello) = { .abi = APP_ABI, .name = "hello", .handle = handle };
