/*
 * The socket seam over socket pairs, in clear and with TLS on both sides, each test once for either.
 */
#include "base/io.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CUnit/CUnit.h>

#include "base/clock.h"
#include "base/tls.h"

void suite_base_io(void);

/* The test of this name: the check of this name, both ways. */
#define IN_CLEAR_AND_WITH_TLS(name)                                                                \
	static void test_##name(void)                                                              \
	{                                                                                          \
		check_##name(false);                                                               \
		check_##name(true);                                                                \
	}

enum { GIVE_UP_MS = 10000 };

/* One end of a connection, and all that happened to it. */
struct side {
	struct io io;
	struct buf got;
	int bytes_calls, drained, ready, ended;
	enum io_end why;
	void (*on_bytes)(
		struct side *side); /* what the owner does when bytes came; NULL: only keep them */
	struct side *partner;
};

static struct event_base *base;
static struct io_loop loop;
static SSL_CTX *server_ctx, *client_ctx;
static char state_dir[] = "/tmp/tandem-unit-XXXXXX";

static void keep_bytes(void *owner, uint8_t *bytes, size_t len)
{
	struct side *side = owner;

	side->bytes_calls++;
	CU_ASSERT_TRUE_FATAL(buf_append(&side->got, bytes, len));
	memset(bytes, 0xee, len); /* they may be changed, and nobody may rely on them afterwards */
	if (side->on_bytes)
		side->on_bytes(side);
}

static void count_drained(void *owner)
{
	((struct side *)owner)->drained++;
}

static void count_ready(void *owner)
{
	((struct side *)owner)->ready++;
}

static void count_ended(void *owner, enum io_end why)
{
	struct side *side = owner;

	side->ended++;
	side->why = why;
}

static const struct io_handler handler = { keep_bytes, count_drained, count_ready, count_ended };

/* --- waiting for conditions --- */

typedef bool (*condition)(const struct side *side);

static bool is_ready(const struct side *side)
{
	return side->ready > 0;
}

static bool is_ended(const struct side *side)
{
	return side->ended > 0;
}

static bool is_drained(const struct side *side)
{
	return io_unsent(&side->io) == 0;
}

static size_t wanted_bytes;

static bool has_wanted(const struct side *side)
{
	return buf_len(&side->got) >= wanted_bytes;
}

/* Turns the loop until it is so; fails the test when it does not become so. */
static void run_until(condition is_so, const struct side *side)
{
	uint64_t end = clock_ms() + GIVE_UP_MS;

	while (!is_so(side) && clock_ms() < end)
		poller_turn(&loop.poller);
	CU_ASSERT_TRUE_FATAL(is_so(side));
}

static void run_until_bytes(const struct side *side, size_t len)
{
	wanted_bytes = len;
	run_until(has_wanted, side);
}

/* Everything that is due happens; nothing is waited for. */
static void run_what_is_due(void)
{
	for (int i = 0; i < 20; i++)
		poller_turn(&loop.poller);
}

/* The loop's epoll: the descriptor made next to the first one of the base. Found by what it is called in /proc. */
static int epoll_of_base(void)
{
	int fd = base ? -1 : loop.poller.fd;
	char path[64], target[64];

	for (int i = 0; fd < 0 && i < 256; i++) {
		ssize_t len;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", i);
		len = readlink(path, target, sizeof(target) - 1);
		if (len <= 0)
			continue;
		target[len] = '\0';
		if (strcmp(target, "anon_inode:[eventpoll]") == 0)
			fd = i;
	}
	return fd;
}

/* Events that were due in `turns` turns of the loop: one that fires for ever shows here. */
static int count_wakeups(int turns)
{
	int wakeups = 0;

	for (int i = 0; i < turns; i++) {
		struct epoll_event due[8];
		int count = epoll_wait(epoll_of_base(), due, 8, 0);

		wakeups += count > 0 ? count : 0;
		poller_turn(&loop.poller);
	}
	return wakeups;
}

/* --- set-up --- */

static void make_pair(int fds[2])
{
	CU_ASSERT_EQUAL_FATAL(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* A connected TCP pair: resets exist only there. */
static void make_tcp_pair(int fds[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CU_ASSERT_EQUAL_FATAL(bind(listener, (struct sockaddr *)&address, len), 0);
	CU_ASSERT_EQUAL_FATAL(listen(listener, 1), 0);
	CU_ASSERT_EQUAL_FATAL(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_EQUAL_FATAL(connect(fds[0], (struct sockaddr *)&address, len), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	CU_ASSERT_TRUE_FATAL(fds[1] >= 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	close(listener);
}

static void reset_connection(int fd)
{
	struct linger now = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void start_side(struct side *side, int fd)
{
	*side = (struct side){ 0 };
	CU_ASSERT_TRUE_FATAL(io_init(&side->io, &loop, fd, &handler, side));
}

static void end_side(struct side *side)
{
	io_close(&side->io);
	buf_fini(&side->got);
}

static void start_two(struct side *a, struct side *b, bool tls)
{
	int fds[2];

	make_pair(fds);
	start_side(a, fds[0]);
	start_side(b, fds[1]);
	a->partner = b;
	b->partner = a;
	if (!tls)
		return;
	CU_ASSERT_TRUE_FATAL(io_start_tls(&a->io, client_ctx, false, NULL, false, NULL, 0));
	CU_ASSERT_TRUE_FATAL(io_start_tls(&b->io, server_ctx, true, NULL, false, NULL, 0));
	CU_ASSERT_EQUAL(a->ready + b->ready, 0); /* nothing from inside the call */
	run_until(is_ready, a);
	run_until(is_ready, b);
}

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 31 + (i >> 8));
}

static uint8_t *make_pattern(size_t len)
{
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = pattern(i);
	return bytes;
}

static bool is_pattern(const struct buf *buf, size_t len)
{
	if (buf_len(buf) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		if (buf_head(buf)[i] != pattern(i))
			return false;
	return true;
}

static int set_up(void)
{
	char why[256];

	strcpy(state_dir, "/tmp/tandem-unit-XXXXXX");
	if (!io_loop_init(&loop, base) || !mkdtemp(state_dir))
		return 1;
	server_ctx = tls_server_context(NULL, NULL, state_dir, why, sizeof(why));
	client_ctx = tls_client_context(TLS_REQUIRED, NULL, NULL, NULL, why, sizeof(why));
	return server_ctx && client_ctx ? 0 : 1;
}

static int set_up_with_libevent(void)
{
	base = event_base_new();
	return base ? set_up() : 1;
}

static int clean_up(void)
{
	char path[64];

	SSL_CTX_free(server_ctx);
	SSL_CTX_free(client_ctx);
	io_loop_fini(&loop);
	if (base)
		event_base_free(base);
	base = NULL;
	snprintf(path, sizeof(path), "%s/tandem-cert.pem", state_dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/tandem-key.pem", state_dir);
	unlink(path);
	return rmdir(state_dir);
}

/* --- tests, each for both kinds --- */

static void check_both_ways(bool tls)
{
	struct side a, b;

	start_two(&a, &b, tls);
	CU_ASSERT_TRUE(io_send(&a.io, "hello", 5));
	CU_ASSERT_EQUAL(b.bytes_calls, 0);
	run_until_bytes(&b, 5);
	CU_ASSERT_EQUAL(memcmp(buf_head(&b.got), "hello", 5), 0);
	CU_ASSERT_TRUE(io_send(&b.io, "world!", 6));
	run_until_bytes(&a, 6);
	CU_ASSERT_EQUAL(memcmp(buf_head(&a.got), "world!", 6), 0);
	CU_ASSERT_EQUAL(a.drained + b.drained, 0); /* the socket took everything at once */
	CU_ASSERT_PTR_NULL(a.io.out.data);
	end_side(&a);
	end_side(&b);
}

IN_CLEAR_AND_WITH_TLS(both_ways)

static void check_pieces(bool tls)
{
	static const size_t lens[] = { 4,    0,	   1,	 5000, 3,    16384, 20000, 2, 9,
				       4096, 4097, 4000, 4000, 4000, 4000,  4000,  1 };
	enum { COUNT = sizeof(lens) / sizeof(lens[0]) };
	struct iovec pieces[COUNT];
	struct side a, b;
	size_t total = 0;
	uint8_t *bytes;

	for (size_t i = 0; i < COUNT; i++)
		total += lens[i];
	bytes = make_pattern(total);
	total = 0;
	for (size_t i = 0; i < COUNT; i++) {
		pieces[i] = (struct iovec){ bytes + total, lens[i] };
		total += lens[i];
	}
	start_two(&a, &b, tls);
	CU_ASSERT_TRUE(io_sendv(&a.io, pieces, COUNT));
	run_until_bytes(&b, total);
	CU_ASSERT_TRUE(is_pattern(&b.got, total));
	CU_ASSERT_TRUE(io_sendv(&a.io, pieces, 0));
	CU_ASSERT_TRUE(io_send(&a.io, "", 0));
	free(bytes);
	end_side(&a);
	end_side(&b);
}

static void test_pieces_in_order(void)
{
	check_pieces(false);
	check_pieces(true);
}

static void test_more_pieces_than_one_call_takes(void)
{
	enum { COUNT = 3000 };
	static struct iovec pieces[COUNT];
	uint8_t *bytes = make_pattern(COUNT);
	struct side a, b;

	for (size_t i = 0; i < COUNT; i++)
		pieces[i] = (struct iovec){ bytes + i, 1 };
	start_two(&a, &b, false);
	CU_ASSERT_TRUE(io_sendv(&a.io, pieces, COUNT));
	run_until_bytes(&b, COUNT);
	CU_ASSERT_TRUE(is_pattern(&b.got, COUNT));
	free(bytes);
	end_side(&a);
	end_side(&b);
}

/* The reader does not read: bytes wait here, then all arrive in order, and `drained` is told once. */
static void check_back_pressure(bool tls)
{
	enum { CHUNK = 100000, CHUNKS = 40, TOTAL = CHUNK * CHUNKS };
	uint8_t *bytes = make_pattern(TOTAL);
	struct side a, b;

	start_two(&a, &b, tls);
	io_pause(&b.io);
	for (size_t i = 0; i < CHUNKS; i++) {
		CU_ASSERT_TRUE(io_send(&a.io, bytes + i * CHUNK, CHUNK));
		run_what_is_due();
	}
	CU_ASSERT_TRUE(io_unsent(&a.io) > TOTAL / 2);
	CU_ASSERT_EQUAL(a.drained, 0);
	CU_ASSERT_EQUAL(buf_len(&b.got), 0);
	io_resume(&b.io);
	run_until_bytes(&b, TOTAL);
	CU_ASSERT_TRUE(is_pattern(&b.got, TOTAL));
	run_until(is_drained, &a);
	CU_ASSERT_EQUAL(a.drained, 1);
	CU_ASSERT_PTR_NULL(a.io.out.data);
	free(bytes);
	end_side(&a);
	end_side(&b);
}

IN_CLEAR_AND_WITH_TLS(back_pressure)

static void pause_self(struct side *side)
{
	io_pause(&side->io);
}

/* An owner that pauses at each delivery gets all bytes all the same, from the loop and not from inside io_resume(). */
static void check_pause_each_time(bool tls)
{
	enum { TOTAL = 300000 };
	uint8_t *bytes = make_pattern(TOTAL);
	struct side a, b;
	uint64_t end = clock_ms() + GIVE_UP_MS;

	start_two(&a, &b, tls);
	b.on_bytes = pause_self;
	CU_ASSERT_TRUE(io_send(&a.io, bytes, TOTAL));
	while (buf_len(&b.got) < TOTAL && clock_ms() < end) {
		int calls = b.bytes_calls;

		run_what_is_due();
		CU_ASSERT_TRUE(b.bytes_calls <= calls + 1);
		calls = b.bytes_calls;
		io_resume(&b.io);
		io_resume(&b.io);
		CU_ASSERT_EQUAL(b.bytes_calls, calls);
	}
	CU_ASSERT_TRUE(is_pattern(&b.got, TOTAL));
	free(bytes);
	end_side(&a);
	end_side(&b);
}

IN_CLEAR_AND_WITH_TLS(pause_each_time)

/* The reader's socket has room again before the loop has turned: what is sent now still goes behind what waits. */
static void test_order_behind_unsent_bytes(void)
{
	enum { TOTAL = 2000000, TAKEN = 100000 };
	uint8_t *bytes = make_pattern(TOTAL), *taken = malloc(TAKEN);
	struct side a, b;

	start_two(&a, &b, false);
	CU_ASSERT_TRUE(io_send(&a.io, bytes, TOTAL - 1000));
	CU_ASSERT_TRUE(io_unsent(&a.io) > 0);
	CU_ASSERT_EQUAL(recv(b.io.fd, taken, TAKEN, 0), TAKEN);
	CU_ASSERT_TRUE(buf_append(&b.got, taken, TAKEN));
	CU_ASSERT_TRUE(io_send(&a.io, bytes + TOTAL - 1000, 1000));
	run_until_bytes(&b, TOTAL);
	CU_ASSERT_TRUE(is_pattern(&b.got, TOTAL));
	free(bytes);
	free(taken);
	end_side(&a);
	end_side(&b);
}

/* More records than one delivery takes are received at once, and the owner pauses: what is held comes after io_resume() though
 * the socket has nothing more. */
static void test_tls_held_records(void)
{
	enum { RECORDS = 64, LEN = 1000, TOTAL = RECORDS * LEN };
	uint8_t *bytes = make_pattern(TOTAL);
	struct side a, b;

	start_two(&a, &b, true);
	run_what_is_due();
	b.on_bytes = pause_self;
	for (size_t i = 0; i < RECORDS; i++)
		CU_ASSERT_TRUE(io_send(&a.io, bytes + i * LEN, LEN));
	run_until_bytes(&b, 1);
	CU_ASSERT_TRUE(buf_len(&b.got) < TOTAL);
	run_what_is_due();
	CU_ASSERT_EQUAL(b.bytes_calls, 1);
	io_resume(&b.io);
	CU_ASSERT_EQUAL(b.bytes_calls, 1);
	io_pause(&b.io); /* the delivery that is due must see this */
	run_what_is_due();
	CU_ASSERT_EQUAL(b.bytes_calls, 1);
	io_resume(&b.io);
	run_until_bytes(&b, TOTAL);
	CU_ASSERT_TRUE(is_pattern(&b.got, TOTAL));
	io_resume(&b.io);
	CU_ASSERT_TRUE(io_send(&a.io, "more", 4));
	run_until_bytes(&b, TOTAL + 4);
	free(bytes);
	end_side(&a);
	end_side(&b);
}

static void check_orderly_end(bool tls)
{
	struct side a, b;

	start_two(&a, &b, tls);
	CU_ASSERT_TRUE(io_send(&a.io, "bye", 3));
	io_close(&a.io);
	io_close(&a.io);
	run_until(is_ended, &b);
	CU_ASSERT_EQUAL(b.why, IO_END_PEER);
	CU_ASSERT_EQUAL(buf_len(&b.got), 3);
	CU_ASSERT_FALSE(io_send(&b.io, "x", 1));
	run_what_is_due();
	CU_ASSERT_EQUAL(b.ended, 1);
	CU_ASSERT_STRING_EQUAL(io_error_text(&b.io, b.why), "closed by the other side");
	end_side(&a);
	end_side(&b);
}

IN_CLEAR_AND_WITH_TLS(orderly_end)

/* The last bytes and the end arrive together while the owner pauses at once: the end waits for it. */
static void check_end_behind_pause(bool tls)
{
	struct side a, b;

	start_two(&a, &b, tls);
	b.on_bytes = pause_self;
	CU_ASSERT_TRUE(io_send(&a.io, "bye", 3));
	io_close(&a.io);
	run_until_bytes(&b, 3);
	run_what_is_due();
	CU_ASSERT_EQUAL(b.ended, 0);
	io_resume(&b.io);
	CU_ASSERT_EQUAL(b.ended, 0);
	run_until(is_ended, &b);
	CU_ASSERT_EQUAL(b.why, IO_END_PEER);
	end_side(&a);
	end_side(&b);
}

IN_CLEAR_AND_WITH_TLS(end_behind_pause)

static void close_self(struct side *side)
{
	io_close(&side->io);
}

/* The owner closes and forgets its io from inside bytes(): nothing of it may be touched afterwards. */
static void check_close_inside(bool tls)
{
	struct side a, *b = malloc(sizeof(*b));
	uint8_t *bytes = make_pattern(200000);

	start_two(&a, b, tls);
	b->on_bytes = close_self;
	CU_ASSERT_TRUE(io_send(&a.io, bytes, 200000));
	run_until_bytes(b, 1);
	CU_ASSERT_EQUAL(b->bytes_calls, 1);
	CU_ASSERT_EQUAL(b->io.fd, -1);
	memset(&b->io, 0x55, sizeof(b->io));
	buf_fini(&b->got);
	free(b);
	run_until(is_ended, &a);
	free(bytes);
	end_side(&a);
}

static void free_all(struct side *side)
{
	io_close(&side->io);
	buf_fini(&side->got);
	wanted_bytes = 0;
	free(side);
}

static void check_free_inside(bool tls)
{
	struct side a, *b = malloc(sizeof(*b));
	uint8_t *bytes = make_pattern(200000);

	start_two(&a, b, tls);
	b->on_bytes = free_all;
	CU_ASSERT_TRUE(io_send(&a.io, bytes, 200000));
	run_until(is_ended, &a);
	free(bytes);
	end_side(&a);
}

static void test_close_inside_bytes(void)
{
	check_close_inside(false);
	check_close_inside(true);
	check_free_inside(false);
	check_free_inside(true);
}

static void close_partner(struct side *side)
{
	io_close(&side->partner->io);
}

static void check_partner_closed(bool tls)
{
	struct side a, b;

	start_two(&a, &b, tls);
	b.on_bytes = close_partner;
	CU_ASSERT_TRUE(io_send(&a.io, "x", 1));
	run_until(is_ended, &b);
	CU_ASSERT_EQUAL(b.why, IO_END_PEER);
	end_side(&a);
	end_side(&b);
}

static void test_partner_closed_inside_bytes(void)
{
	check_partner_closed(false);
	check_partner_closed(true);
}

static void echo(struct side *side)
{
	struct buf got = side->got;

	side->got = (struct buf){ 0 };
	CU_ASSERT_TRUE(io_send(&side->io, buf_head(&got), buf_len(&got)));
	buf_fini(&got);
}

/* Sending from inside bytes() while more is being drained. */
static void check_echo(bool tls)
{
	enum { TOTAL = 1000000 };
	uint8_t *bytes = make_pattern(TOTAL);
	struct side a, b;

	start_two(&a, &b, tls);
	b.on_bytes = echo;
	CU_ASSERT_TRUE(io_send(&a.io, bytes, TOTAL));
	run_until_bytes(&a, TOTAL);
	CU_ASSERT_TRUE(is_pattern(&a.got, TOTAL));
	free(bytes);
	end_side(&a);
	end_side(&b);
}

IN_CLEAR_AND_WITH_TLS(echo)

/* --- broken connections --- */

static void test_reset(void)
{
	struct side a;
	int fds[2];

	make_tcp_pair(fds);
	start_side(&a, fds[0]);
	reset_connection(fds[1]);
	run_until(is_ended, &a);
	CU_ASSERT_EQUAL(a.why, IO_END_RESET);
	CU_ASSERT_STRING_EQUAL(io_error_text(&a.io, a.why), "Connection reset by peer");
	end_side(&a);
}

/* `ended` follows a failed send from the loop, once, and no SIGPIPE comes. */
static void test_send_to_nobody(void)
{
	struct side a;
	int fds[2];

	make_pair(fds);
	start_side(&a, fds[0]);
	close(fds[1]);
	CU_ASSERT_FALSE(io_send(&a.io, "x", 1));
	CU_ASSERT_EQUAL(a.ended, 0);
	CU_ASSERT_FALSE(io_send(&a.io, "x", 1));
	run_until(is_ended, &a);
	run_what_is_due();
	CU_ASSERT_EQUAL(a.ended, 1);
	end_side(&a);
}

static void test_closed_before_the_end_is_told(void)
{
	struct side a;
	int fds[2];

	make_pair(fds);
	start_side(&a, fds[0]);
	close(fds[1]);
	CU_ASSERT_FALSE(io_send(&a.io, "x", 1));
	end_side(&a);
	run_what_is_due();
	CU_ASSERT_EQUAL(a.ended, 0);
}

/* A server that closes says why first: that is heard even when our send fails before we read. */
static void test_last_words_behind_a_failed_send(void)
{
	struct side a;
	int fds[2];

	make_pair(fds);
	start_side(&a, fds[0]);
	CU_ASSERT_EQUAL(write(fds[1], "timeout", 7), 7);
	close(fds[1]);
	CU_ASSERT_FALSE(io_send(&a.io, "query", 5));
	run_until(is_ended, &a);
	CU_ASSERT_EQUAL(buf_len(&a.got), 7);
	CU_ASSERT_EQUAL(a.ended, 1);
	end_side(&a);
}

/* A dead socket of a paused owner must not turn the loop for ever. */
static void test_reset_while_paused_does_not_spin(void)
{
	struct side a;
	int fds[2];

	make_tcp_pair(fds);
	start_side(&a, fds[0]);
	io_pause(&a.io);
	reset_connection(fds[1]);
	run_what_is_due();
	CU_ASSERT_EQUAL(count_wakeups(50), 0);
	CU_ASSERT_EQUAL(a.ended, 0);
	CU_ASSERT_FALSE(watch_wants(&a.io.watch, WATCH_READ));
	io_resume(&a.io);
	run_until(is_ended, &a);
	CU_ASSERT_EQUAL(a.why, IO_END_RESET);
	end_side(&a);
}

static void test_reset_with_unsent_bytes(void)
{
	uint8_t *bytes = make_pattern(20000000);
	struct side a;
	int fds[2];

	make_tcp_pair(fds);
	start_side(&a, fds[0]);
	io_pause(&a.io);
	CU_ASSERT_TRUE(io_send(&a.io, bytes, 20000000));
	CU_ASSERT_TRUE(io_unsent(&a.io) > 0);
	reset_connection(fds[1]);
	run_until(is_ended, &a);
	CU_ASSERT_EQUAL(a.why, IO_END_RESET);
	CU_ASSERT_EQUAL(io_unsent(&a.io), 0);
	CU_ASSERT_EQUAL(a.drained, 0);
	free(bytes);
	end_side(&a);
}

/* --- connecting --- */

static void connect_to(struct side *side, const struct sockaddr_in *address)
{
	*side = (struct side){ 0 };
	CU_ASSERT_TRUE_FATAL(io_connect(&side->io, &loop, (const struct sockaddr *)address,
					sizeof(*address), &handler, side));
	CU_ASSERT_EQUAL(side->ready + side->ended, 0);
}

static int listen_somewhere(struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_in){ .sin_family = AF_INET,
					 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)address, len), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 5), 0);
	CU_ASSERT_EQUAL_FATAL(getsockname(fd, (struct sockaddr *)address, &len), 0);
	return fd;
}

static void test_connect(void)
{
	struct sockaddr_in address;
	int listener = listen_somewhere(&address), fd, on = 0;
	socklen_t len = sizeof(on);
	struct side a, b;

	connect_to(&a, &address);
	CU_ASSERT_TRUE(io_send(&a.io, "early", 5)); /* waits for the connection */
	run_until(is_ready, &a);
	getsockopt(a.io.fd, IPPROTO_TCP, TCP_NODELAY, &on, &len);
	CU_ASSERT_TRUE(on);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	start_side(&b, fd);
	run_until_bytes(&b, 5);
	CU_ASSERT_TRUE(io_send(&b.io, "late", 4));
	run_until_bytes(&a, 4);
	CU_ASSERT_EQUAL(a.ready, 1);
	close(listener);
	end_side(&a);
	end_side(&b);
}

static void test_connect_refused(void)
{
	struct sockaddr_in address;
	struct side a;

	close(listen_somewhere(&address));
	connect_to(&a, &address);
	run_until(is_ended, &a);
	CU_ASSERT_EQUAL(a.why, IO_END_REFUSED);
	CU_ASSERT_EQUAL(a.ready, 0);
	CU_ASSERT_STRING_EQUAL(io_error_text(&a.io, a.why), "Connection refused");
	end_side(&a);
}

static void test_connect_given_up(void)
{
	struct sockaddr_in address;
	int listener = listen_somewhere(&address);
	struct side a;

	connect_to(&a, &address);
	end_side(&a);
	run_what_is_due();
	CU_ASSERT_EQUAL(a.ready + a.ended, 0);
	close(listener);
}

/* --- TLS alone --- */

/* Passes what each side says on a byte at a time. */
static void relay_byte(int from, int to)
{
	uint8_t byte;

	if (recv(from, &byte, 1, 0) == 1)
		CU_ASSERT_EQUAL(send(to, &byte, 1, 0), 1);
}

static void test_tls_byte_by_byte(void)
{
	int left[2], right[2];
	struct side a, b;
	uint64_t end = clock_ms() + GIVE_UP_MS;

	make_pair(left);
	make_pair(right);
	start_side(&a, left[0]);
	start_side(&b, right[0]);
	CU_ASSERT_TRUE(io_start_tls(&a.io, client_ctx, false, "db1.example", false, NULL, 0));
	CU_ASSERT_TRUE(io_start_tls(&b.io, server_ctx, true, NULL, false, NULL, 0));
	CU_ASSERT_TRUE(io_send(&a.io, "waits for the handshake", 23));
	while (buf_len(&b.got) < 23 && clock_ms() < end) {
		relay_byte(left[1], right[1]);
		relay_byte(right[1], left[1]);
		poller_turn(&loop.poller);
	}
	CU_ASSERT_EQUAL(buf_len(&b.got), 23);
	CU_ASSERT_EQUAL(a.ready, 1);
	CU_ASSERT_EQUAL(b.ready, 1);
	end_side(&a);
	end_side(&b);
	close(left[1]);
	close(right[1]);
}

/* The client's first bytes came together with what made the server turn to TLS. */
static void test_tls_early_bytes(void)
{
	uint8_t hello[4096];
	struct side a, b;
	int fds[2];
	ssize_t len;

	make_pair(fds);
	start_side(&a, fds[0]);
	CU_ASSERT_TRUE(io_start_tls(&a.io, client_ctx, false, NULL, false, NULL, 0));
	run_what_is_due();
	len = recv(fds[1], hello, sizeof(hello), 0);
	CU_ASSERT_TRUE_FATAL(len > 100);
	start_side(&b, fds[1]);
	CU_ASSERT_TRUE(io_start_tls(&b.io, server_ctx, true, NULL, false, hello, (size_t)len));
	run_until(is_ready, &a);
	run_until(is_ready, &b);
	end_side(&a);
	end_side(&b);
}

static void test_tls_garbage(void)
{
	struct side b;
	int fds[2];

	make_pair(fds);
	start_side(&b, fds[0]);
	CU_ASSERT_TRUE(io_start_tls(&b.io, server_ctx, true, NULL, false, NULL, 0));
	CU_ASSERT_EQUAL(write(fds[1], "GET / HTTP/1.1\r\n\r\n", 18), 18);
	run_until(is_ended, &b);
	CU_ASSERT_EQUAL(b.why, IO_END_TLS);
	CU_ASSERT_PTR_NOT_NULL(strstr(io_error_text(&b.io, b.why), "TLS handshake failed: "));
	end_side(&b);
	close(fds[1]);
}

/* Bytes that were changed on the way are not delivered. */
static void test_tls_forged_record(void)
{
	uint8_t record[256];
	struct side a, b;
	int fds[2];
	ssize_t len;

	start_two(&a, &b, true);
	run_what_is_due(); /* the session ticket */
	make_pair(fds);
	dup2(fds[0], a.io.fd); /* what a sends now comes out at fds[1] */
	CU_ASSERT_TRUE(io_send(&a.io, "secret", 6));
	len = recv(fds[1], record, sizeof(record), 0);
	CU_ASSERT_TRUE_FATAL(len > 10);
	record[len - 1] ^= 1;
	close(fds[0]);
	close(fds[1]);
	/* b reads the forged record from a pair that replaces its socket, added anew to the loop. */
	make_pair(fds);
	io_detach(&b.io);
	dup2(fds[0], b.io.fd);
	CU_ASSERT_TRUE(io_attach(&b.io, &loop, &handler, &b));
	CU_ASSERT_EQUAL(write(fds[1], record, (size_t)len), len);
	run_until(is_ended, &b);
	CU_ASSERT_EQUAL(b.why, IO_END_TLS);
	CU_ASSERT_EQUAL(buf_len(&b.got), 0);
	close(fds[0]);
	close(fds[1]);
	end_side(&a);
	end_side(&b);
}

/* A self-made certificate is nobody's CA: a client that verifies refuses it and says so. */
static void test_tls_verification_fails(void)
{
	char why[256];
	SSL_CTX *strict = tls_client_context(TLS_VERIFY_CA, NULL, NULL, NULL, why, sizeof(why));
	struct side a, b;
	int fds[2];

	make_pair(fds);
	start_side(&a, fds[0]);
	start_side(&b, fds[1]);
	CU_ASSERT_TRUE(io_start_tls(&a.io, strict, false, NULL, false, NULL, 0));
	CU_ASSERT_TRUE(io_start_tls(&b.io, server_ctx, true, NULL, false, NULL, 0));
	run_until(is_ended, &a);
	run_until(is_ended, &b);
	CU_ASSERT_EQUAL(a.why, IO_END_TLS);
	CU_ASSERT_STRING_EQUAL(io_error_text(&a.io, a.why),
			       "TLS handshake failed: self-signed certificate");
	CU_ASSERT_EQUAL(b.why, IO_END_TLS); /* it was told by an alert */
	end_side(&a);
	end_side(&b);
	SSL_CTX_free(strict);
}

static void check_host(const char *host, bool is_good)
{
	char ca[64], why[256];
	SSL_CTX *strict;
	struct side a, b;
	int fds[2];

	snprintf(ca, sizeof(ca), "%s/tandem-cert.pem", state_dir);
	strict = tls_client_context(TLS_VERIFY_FULL, ca, NULL, NULL, why, sizeof(why));
	CU_ASSERT_PTR_NOT_NULL_FATAL(strict);
	make_pair(fds);
	start_side(&a, fds[0]);
	start_side(&b, fds[1]);
	CU_ASSERT_TRUE(io_start_tls(&a.io, strict, false, host, true, NULL, 0));
	CU_ASSERT_TRUE(io_start_tls(&b.io, server_ctx, true, NULL, false, NULL, 0));
	run_until(is_good ? is_ready : is_ended, &a);
	CU_ASSERT_EQUAL(a.ready, is_good);
	end_side(&a);
	end_side(&b);
	SSL_CTX_free(strict);
}

static void test_tls_host_names(void)
{
	check_host("localhost", true);
	check_host("127.0.0.1", true);
	check_host("::1", true);
	check_host("db1.example", false);
	check_host("10.0.0.1", false);
}

/* --- moving --- */

static void check_move(bool tls)
{
	struct io_loop other;
	struct side a, b;

	CU_ASSERT_TRUE_FATAL(io_loop_init(&other, NULL));
	start_two(&a, &b, tls);
	CU_ASSERT_TRUE(io_send(&a.io, "one", 3));
	run_until_bytes(&b, 3);
	run_what_is_due();
	io_detach(&b.io);
	CU_ASSERT_TRUE(io_send(&a.io, "two", 3));
	run_what_is_due();
	CU_ASSERT_EQUAL(buf_len(&b.got), 3);
	CU_ASSERT_TRUE_FATAL(io_attach(&b.io, &other, &handler, &b));
	run_what_is_due();
	CU_ASSERT_EQUAL(buf_len(&b.got), 3); /* the old loop has nothing to do with it any more */
	while (buf_len(&b.got) < 6)
		poller_turn(&other.poller);
	CU_ASSERT_TRUE(io_send(&b.io, "three", 5));
	run_until_bytes(&a, 5);
	io_close(&a.io);
	while (!b.ended)
		poller_turn(&other.poller);
	end_side(&b);
	end_side(&a);
	io_loop_fini(&other);
}

static void test_move_between_loops(void)
{
	check_move(false);
	check_move(true);
}

void suite_base_io(void)
{
	static CU_TestInfo tests[] = {
		{ "both ways", test_both_ways },
		{ "pieces in order", test_pieces_in_order },
		{ "more pieces than one call takes", test_more_pieces_than_one_call_takes },
		{ "back-pressure", test_back_pressure },
		{ "pause each time", test_pause_each_time },
		{ "order behind unsent bytes", test_order_behind_unsent_bytes },
		{ "tls held records", test_tls_held_records },
		{ "orderly end", test_orderly_end },
		{ "end behind pause", test_end_behind_pause },
		{ "close inside bytes", test_close_inside_bytes },
		{ "partner closed inside bytes", test_partner_closed_inside_bytes },
		{ "echo", test_echo },
		{ "reset", test_reset },
		{ "send to nobody", test_send_to_nobody },
		{ "closed before the end is told", test_closed_before_the_end_is_told },
		{ "last words behind a failed send", test_last_words_behind_a_failed_send },
		{ "reset while paused does not spin", test_reset_while_paused_does_not_spin },
		{ "reset with unsent bytes", test_reset_with_unsent_bytes },
		{ "connect", test_connect },
		{ "connect refused", test_connect_refused },
		{ "connect given up", test_connect_given_up },
		{ "tls byte by byte", test_tls_byte_by_byte },
		{ "tls early bytes", test_tls_early_bytes },
		{ "tls garbage", test_tls_garbage },
		{ "tls forged record", test_tls_forged_record },
		{ "tls verification fails", test_tls_verification_fails },
		{ "tls host names", test_tls_host_names },
		{ "move between loops", test_move_between_loops },
		CU_TEST_INFO_NULL,
	};
	static CU_SuiteInfo suites[] = {
		{ "base io", set_up, clean_up, NULL, NULL, tests },
		{ "base io with libevent", set_up_with_libevent, clean_up, NULL, NULL, tests },
		CU_SUITE_INFO_NULL,
	};

	CU_register_suites(suites);
}
