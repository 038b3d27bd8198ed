#include "proxy/cluster/voter.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

enum { RETRY_MS = 250, IDLE_MS = 60000, STATEMENT_BYTES = 8192 };

/* Server names as MySQL has them are too long for its lock names, and may differ from Tandem to Tandem; server ids do not. */
#define VOTE_LOCK "'tandem.%s.leader'"
/* Of Tandems that know no peers, and have no vote: whoever has it so sees that there is another one. */
#define SECOND_LOCK "'tandem.%s.second'"
#define WORD_LOCK "'tandem.%s.primary.%u'"

static bool say(struct voter *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool say(struct voter *v, const char *format, ...)
{
	char statement[512];
	va_list args;

	va_start(args, format);
	vsnprintf(statement, sizeof(statement), format, args);
	va_end(args);
	mysql_free_result(line_query(&v->line, statement));
	return v->line.error == 0;
}

/* The one value of a question; -1 for SQL NULL and failures. */
static long long ask(struct voter *v, const char *format, ...) __attribute__((format(printf, 2, 3)));

static long long ask(struct voter *v, const char *format, ...)
{
	char statement[512];
	MYSQL_RES *result;
	MYSQL_ROW row;
	long long value = -1;
	va_list args;

	va_start(args, format);
	vsnprintf(statement, sizeof(statement), format, args);
	va_end(args);
	result = line_query(&v->line, statement);
	row = result ? mysql_fetch_row(result) : NULL;
	if (row && row[0])
		value = (long long)row_number(row, 0);
	mysql_free_result(result);
	return value;
}

static void forget(struct voter *v)
{
	line_close(&v->line);
	v->holds = v->is_second = false;
	v->held_word = 0;
}

static bool connect_voter(struct voter *v, const struct voter_order *o)
{
	if (v->line.mysql)
		return true;
	forget(v);
	v->line.patience_s = (o->lease_ms + 999) / 1000;
	if (!line_open(&v->line, &v->server, &v->account))
		return false;
	/* Whole seconds, rounded up: the server must not give the vote away before this Tandem has stopped relying on it. */
	return say(v, "SET SESSION wait_timeout = %u", (o->lease_ms + 999) / 1000);
}

static bool take_or_leave(struct voter *v, const struct voter_order *o)
{
	if (o->want && !v->holds)
		v->holds = ask(v, "SELECT GET_LOCK(" VOTE_LOCK ", 0)", o->cluster) == 1;
	else if (!o->want && v->holds)
		v->holds = ask(v, "SELECT RELEASE_LOCK(" VOTE_LOCK ")", o->cluster) < 0;
	return v->line.error == 0;
}

static bool show_presence(struct voter *v, const struct voter_order *o)
{
	bool want = o->is_alone && !v->holds;

	if (want && !v->is_second)
		v->is_second = ask(v, "SELECT GET_LOCK(" SECOND_LOCK ", 0)", o->cluster) == 1;
	else if (!want && v->is_second)
		v->is_second = ask(v, "SELECT RELEASE_LOCK(" SECOND_LOCK ")", o->cluster) < 0;
	return v->line.error == 0;
}

static bool tell_word(struct voter *v, const struct voter_order *o)
{
	uint32_t word = v->holds ? o->word : 0;

	if (v->held_word == word)
		return true;
	if (v->held_word && !say(v, "DO RELEASE_LOCK(" WORD_LOCK ")", o->cluster, v->held_word))
		return false;
	v->held_word = 0;
	if (word && ask(v, "SELECT GET_LOCK(" WORD_LOCK ", 0)", o->cluster, word) == 1)
		v->held_word = word;
	return v->line.error == 0;
}

static size_t write_question(const struct voter_order *o, char *out, size_t size)
{
	size_t len = (size_t)snprintf(out, size, "SELECT CONNECTION_ID(), IS_USED_LOCK(" VOTE_LOCK "), IS_USED_LOCK(" SECOND_LOCK ")",
				      o->cluster, o->cluster);

	for (size_t i = 0; i < o->server_count && len < size; i++)
		len += (size_t)snprintf(out + len, size - len, ", IS_USED_LOCK(" WORD_LOCK ")", o->cluster, o->server_ids[i]);
	return len;
}

/* Who has the vote, and what he says. The answer also keeps the connection from its wait_timeout. */
static bool look(struct voter *v, const struct voter_order *o, struct lease_paper *paper, unsigned long long *stranger)
{
	char question[STATEMENT_BYTES];
	MYSQL_RES *result;
	MYSQL_ROW row;

	if (write_question(o, question, sizeof(question)) >= sizeof(question)) {
		line_set_error(&v->line, "too many servers for one question");
		return false;
	}
	result = line_query(&v->line, question);
	row = result ? mysql_fetch_row(result) : NULL;
	if (row) {
		unsigned long long own = row_number(row, 0), holder = row_number(row, 1), second = row_number(row, 2);

		paper->mine = v->holds = holder && holder == own;
		paper->taken = holder && holder != own;
		*stranger = !o->is_alone ? 0 : paper->taken ? holder : second != own ? second : 0;
		for (size_t i = 0; holder && i < o->server_count; i++)
			if (row_number(row, 3 + (unsigned)i) == holder)
				paper->primary_id = o->server_ids[i];
	}
	mysql_free_result(result);
	return row != NULL;
}

static void find_host(struct voter *v, unsigned long long id, char host[64])
{
	char statement[128];
	MYSQL_RES *result;
	MYSQL_ROW row;

	snprintf(statement, sizeof(statement), "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID = %llu", id);
	result = line_query(&v->line, statement);
	row = result ? mysql_fetch_row(result) : NULL;
	snprintf(host, 64, "%s", row ? row_text(row, 0) : "");
	mysql_free_result(result);
}

static void note_stranger(struct voter *v, unsigned long long id)
{
	char host[64] = "";
	bool is_new;

	pthread_mutex_lock(v->lock);
	is_new = id && !v->stranger_ms;
	if (!id)
		v->stranger_ms = 0;
	pthread_mutex_unlock(v->lock);
	if (!is_new)
		return;
	find_host(v, id, host);
	pthread_mutex_lock(v->lock);
	v->stranger_ms = clock_ms();
	memcpy(v->stranger, host, sizeof(host));
	pthread_mutex_unlock(v->lock);
}

/* The time is taken first: the vote is good for a lease from then at the least. */
static bool vote(struct voter *v, const struct voter_order *o, struct lease_paper *paper)
{
	unsigned long long stranger = 0;

	*paper = (struct lease_paper){ .asked_ms = clock_ms() };
	if (connect_voter(v, o) && take_or_leave(v, o) && show_presence(v, o) && tell_word(v, o) && look(v, o, paper, &stranger)) {
		note_stranger(v, stranger);
		return true;
	}
	note_stranger(v, 0);
	forget(v);
	return false;
}

/* By name, not by closing: the server would see that a little later, and whoever asks next would find the vote taken. */
static void leave(struct voter *v, const struct voter_order *o)
{
	if (v->line.mysql && v->held_word && !say(v, "DO RELEASE_LOCK(" WORD_LOCK ")", o->cluster, v->held_word))
		line_close(&v->line);
	if (v->line.mysql && v->holds && !say(v, "DO RELEASE_LOCK(" VOTE_LOCK ")", o->cluster))
		line_close(&v->line);
	forget(v);
}

/* A paper that could not be renewed stays: it is as good as its time. */
static int take_turn(struct voter *v, const struct voter_order *o)
{
	struct lease_paper paper = { 0 };
	bool ok = false;

	if (o->active)
		ok = vote(v, o, &paper);
	else
		leave(v, o);
	pthread_mutex_lock(v->lock);
	if (ok || !o->active)
		v->paper = paper;
	v->served = o->round;
	snprintf(v->trouble, sizeof(v->trouble), "%.199s", ok || !o->active ? "" : v->line.error_text);
	pthread_mutex_unlock(v->lock);
	v->voted(v->owner);
	return !o->active ? IDLE_MS : ok ? (int)o->lease_ms / 5 : RETRY_MS;
}

static bool copy_order(struct voter *v, struct voter_order *out)
{
	bool go;

	pthread_mutex_lock(v->lock);
	*out = *v->order;
	go = !v->stop;
	pthread_mutex_unlock(v->lock);
	return go;
}

static void *run_voter(void *arg)
{
	struct voter *v = arg;
	struct pollfd fd = { .fd = v->wake_fd, .events = POLLIN };
	struct voter_order order;
	uint64_t count;

	mysql_thread_init();
	while (copy_order(v, &order)) {
		if (poll(&fd, 1, take_turn(v, &order)) > 0)
			while (read(v->wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
				;
	}
	leave(v, &order);
	mysql_thread_end();
	return NULL;
}

/* ---- Who they are ---- */

static void fill_server(struct voter *voter, const struct settings *s, size_t index)
{
	const struct server_settings *from = &s->servers[index];

	voter->server = *from;
	voter->account = s->monitor;
	snprintf(voter->name, sizeof(voter->name), "%s", from->name);
}

static void fill_witness(struct voter *voter, const struct settings *s, size_t index)
{
	const struct witness_settings *from = &s->witnesses[index];

	voter->server = (struct server_settings){ .name = from->name, .address = from->address, .tls = from->tls, .tls_ca = from->tls_ca };
	voter->account = s->monitor;
	if (from->user)
		voter->account.user = from->user;
	if (from->password)
		voter->account.password = from->password;
	snprintf(voter->name, sizeof(voter->name), "%s", from->name);
}

void voter_name(struct voter *voter, const struct settings *settings, size_t index)
{
	if (index < settings->server_count)
		fill_server(voter, settings, index);
	else
		fill_witness(voter, settings, index - settings->server_count);
	/* A silent one must not keep an operation waiting for its connection to be made. */
	if (voter->account.connect_timeout_ms > settings->monitor.lease_ms)
		voter->account.connect_timeout_ms = settings->monitor.lease_ms;
}

static bool is_same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool is_same_witness(const struct witness_settings *a, const struct witness_settings *b)
{
	return is_same_text(a->name, b->name) && is_same_text(a->address, b->address) && is_same_text(a->user, b->user) &&
	       is_same_text(a->password, b->password) && a->tls == b->tls && is_same_text(a->tls_ca, b->tls_ca);
}

static bool is_same_server(const struct server_settings *a, const struct server_settings *b)
{
	return is_same_text(a->name, b->name) && is_same_text(a->address, b->address) && a->tls == b->tls &&
	       is_same_text(a->tls_ca, b->tls_ca);
}

bool voters_are_same(const struct settings *a, const struct settings *b)
{
	bool same = a->server_count == b->server_count && a->witness_count == b->witness_count &&
		    !a->peer_count == !b->peer_count && a->monitor.lease_ms == b->monitor.lease_ms &&
		    is_same_text(a->monitor.user, b->monitor.user) && is_same_text(a->monitor.password, b->monitor.password);

	for (size_t i = 0; same && i < a->server_count; i++)
		same = is_same_server(&a->servers[i], &b->servers[i]);
	for (size_t i = 0; same && i < a->witness_count; i++)
		same = is_same_witness(&a->witnesses[i], &b->witnesses[i]);
	return same;
}

/* ---- Its thread ---- */

bool voter_start(struct voter *voter)
{
	int error;

	line_init(&voter->line);
	voter->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = voter->wake_fd < 0 ? errno : pthread_create(&voter->thread, NULL, run_voter, voter);
	if (!error)
		return true;
	if (voter->wake_fd >= 0)
		close(voter->wake_fd);
	line_fini(&voter->line);
	errno = error;
	return false;
}

void voter_wake(struct voter *voter)
{
	uint64_t one = 1;

	while (write(voter->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void voter_tell_to_stop(struct voter *voter)
{
	pthread_mutex_lock(voter->lock);
	voter->stop = true;
	pthread_mutex_unlock(voter->lock);
	voter_wake(voter);
}

void voter_join(struct voter *voter)
{
	pthread_join(voter->thread, NULL);
	line_fini(&voter->line);
	close(voter->wake_fd);
}
