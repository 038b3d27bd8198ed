/* The two queues between a carrier and an application's thread: whoever waits for room hears of it. One thread plays both. */
#include <CUnit/CUnit.h>
#include <event2/event.h>
#include <string.h>

#include "app/call.h"
#include "app/module.h"

void suite_app_call(void);

static struct event_base *base;
static struct poller poller;
static struct inbox inbox;
static struct app_call *call;
static struct app_output last;
static unsigned told; /* how often there was news */

static void handle(struct app_request *r)
{
	(void)r;
}

static void drop_output(void)
{
	buf_fini(&last.head);
	buf_fini(&last.body);
}

static void news(struct app_call *c, void *owner)
{
	(void)owner;
	drop_output();
	told++;
	app_call_take(c, &last);
}

/* Lets the loop deliver what was posted. Returns how often there was news. */
static unsigned turn(void)
{
	told = 0;
	event_base_loop(base, EVLOOP_NONBLOCK);
	return told;
}

static void begin(void)
{
	static const struct app app = { .abi = APP_ABI, .name = "played", .handle = handle };
	struct app_module *module;
	char why[100];

	base = event_base_new();
	CU_ASSERT_FATAL(base && poller_init(&poller, base) && inbox_init(&inbox, &poller, NULL));
	module = app_module_builtin(&app, why, sizeof(why));
	CU_ASSERT_PTR_NOT_NULL_FATAL(module);
	call = app_call_new(NULL, module, "", &inbox, news, &base);
	CU_ASSERT_PTR_NOT_NULL_FATAL(call);
	memset(&last, 0, sizeof(last));
}

static void end(void)
{
	drop_output();
	app_call_leave(call);
	inbox_fini(&inbox);
	event_base_free(base);
}

static bool feed(size_t len)
{
	static const char bytes[APP_IN_HIGH];

	return app_call_feed(call, bytes, len);
}

/* The app reads `len` bytes in one go or several. */
static void read_bytes(size_t len)
{
	char bytes[4096];

	while (len) {
		ssize_t n = app_call_read(call, bytes, len < sizeof(bytes) ? len : sizeof(bytes));

		CU_ASSERT_FATAL(n > 0);
		len -= (size_t)n;
	}
}

static void test_room_is_told_when_half_is_free(void)
{
	begin();
	CU_ASSERT(feed(1000));
	CU_ASSERT(!feed(APP_IN_HIGH - 1000));
	read_bytes(1000);
	CU_ASSERT_EQUAL(turn(), 0);
	read_bytes(APP_IN_HIGH / 2);
	CU_ASSERT_EQUAL(turn(), 1);
	CU_ASSERT(last.room);
	/* Who does not wait is not told. */
	read_bytes(1000);
	CU_ASSERT_EQUAL(turn(), 0);
	end();
}

/* What came with the piece that filled the queue is fed too. It must not look as if nobody waited. */
static void test_more_after_it_was_full(void)
{
	begin();
	CU_ASSERT(!feed(APP_IN_HIGH));
	read_bytes(8192);
	CU_ASSERT(!feed(100));
	read_bytes(APP_IN_HIGH / 2);
	CU_ASSERT_EQUAL(turn(), 1);
	CU_ASSERT(last.room);
	CU_ASSERT(feed(100));
	end();
}

/* Other news finds that there is room. */
static void test_room_with_other_news(void)
{
	struct buf body = { 0 };

	begin();
	CU_ASSERT(!feed(APP_IN_HIGH));
	read_bytes(8192);
	CU_ASSERT(buf_append(&body, "x", 1));
	CU_ASSERT(app_call_write(call, &(struct app_piece){ .body = &body }));
	buf_fini(&body);
	CU_ASSERT_EQUAL(turn(), 1);
	CU_ASSERT(last.room && buf_len(&last.body) == 1);
	end();
}

static void test_the_end_of_what_comes(void)
{
	char byte;

	begin();
	CU_ASSERT(feed(1));
	app_call_feed_over(call, true);
	CU_ASSERT_EQUAL(app_call_read(call, &byte, 1), 1);
	CU_ASSERT_EQUAL(app_call_read(call, &byte, 1), 0);
	end();
	begin();
	CU_ASSERT(feed(1));
	app_call_feed_over(call, false);
	CU_ASSERT_EQUAL(app_call_read(call, &byte, 1), 1);
	CU_ASSERT_EQUAL(app_call_read(call, &byte, 1), -1);
	end();
}

void suite_app_call(void)
{
	CU_pSuite suite = CU_add_suite("app call", NULL, NULL);

	CU_add_test(suite, "room is told when half is free", test_room_is_told_when_half_is_free);
	CU_add_test(suite, "more after it was full", test_more_after_it_was_full);
	CU_add_test(suite, "room with other news", test_room_with_other_news);
	CU_add_test(suite, "the end of what comes", test_the_end_of_what_comes);
}
