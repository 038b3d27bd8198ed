/*
 * How fast statements are judged: MB/s of classifier with digest over what applications really send, one core. Prints one line
 * per kind of application and one for all together, then one with the memory of shapes in front (sql/recall.h). An argument is the number of seconds per line (default 1).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sql/recall.h"
#include "sql/sql.h"

struct group {
	const char *name;
	const char *const *statements;
	size_t lens[16];
};

static const char *const sysbench[] = {
	"SELECT c FROM sbtest1 WHERE id=50256",
	"SELECT c FROM sbtest1 WHERE id BETWEEN 49842 AND 49941",
	"SELECT SUM(k) FROM sbtest1 WHERE id BETWEEN 50089 AND 50188",
	"SELECT c FROM sbtest1 WHERE id BETWEEN 50011 AND 50110 ORDER BY c",
	"SELECT DISTINCT c FROM sbtest1 WHERE id BETWEEN 49917 AND 50016 ORDER BY c",
	"UPDATE sbtest1 SET k=k+1 WHERE id=50113",
	/* NOLINTNEXTLINE(bugprone-suspicious-missing-comma): a statement in two pieces */
	"UPDATE sbtest1 SET c='83868641912-28773972837-60736120486-75162659906-27563526494-20381887404-41576422241-93426793964-"
	"56405065102-33518432330' WHERE id=49999",
	"DELETE FROM sbtest1 WHERE id=50401",
	"INSERT INTO sbtest1 (id, k, c, pad) VALUES (50401, 49960, '08566691963-88624912351-16662227201-46648573979-64646226163-"
	"77505759394-75470094713-41097360717-15161106334-50535565977', '63188288836-92351140030-06390587585-66802097351-"
	"49282961843')",
	"BEGIN",
	"COMMIT",
	NULL,
};

static const char *const wordpress[] = {
	"SELECT option_name, option_value FROM wp_options WHERE autoload IN ( 'yes', 'on', 'auto-on', 'auto' )",
	"SELECT option_value FROM wp_options WHERE option_name = '_transient_doing_cron' LIMIT 1",
	"SELECT SQL_CALC_FOUND_ROWS  wp_posts.ID\n\t\t\t\t\t FROM wp_posts \n\t\t\t\t\t WHERE 1=1  AND ((wp_posts.post_type = 'post' AND "
	"(wp_posts.post_status = 'publish' OR wp_posts.post_status = 'private')))\n\t\t\t\t\t \n\t\t\t\t\t ORDER BY "
	"wp_posts.post_date DESC\n\t\t\t\t\t LIMIT 0, 10",
	"SELECT FOUND_ROWS()",
	"SELECT wp_posts.* FROM wp_posts WHERE ID IN (311,298,275,260,251,247,231,220,219,204)",
	"SELECT  t.term_id, tt.term_taxonomy_id, tr.object_id FROM wp_terms AS t  INNER JOIN wp_term_taxonomy AS tt ON t.term_id = "
	"tt.term_id INNER JOIN wp_term_relationships AS tr ON tr.term_taxonomy_id = tt.term_taxonomy_id WHERE tt.taxonomy IN "
	"('category', 'post_tag', 'post_format') AND tr.object_id IN (204, 219, 220, 231) ORDER BY t.name ASC",
	"SELECT post_id, meta_key, meta_value FROM wp_postmeta WHERE post_id IN (204,219,220,231,247,251,260) ORDER BY meta_id ASC",
	"SELECT * FROM wp_users WHERE user_login = 'editor' LIMIT 1",
	"UPDATE `wp_options` SET `option_value` = 'a:4:{i:1700567021;a:1:{s:34:\\\"wp_privacy_delete_old_export_files\\\";a:1:{s:32:"
	"\\\"40cd750bba9870f18aada2478b24840a\\\";a:3:{s:8:\\\"schedule\\\";s:6:\\\"hourly\\\";s:4:\\\"args\\\";a:0:{}s:8:\\\"interval\\\";"
	"i:3600;}}}}' WHERE `option_name` = 'cron'",
	"INSERT INTO `wp_comments` (`comment_post_ID`, `comment_author`, `comment_author_email`, `comment_author_url`, "
	"`comment_author_IP`, `comment_date`, `comment_date_gmt`, `comment_content`, `comment_approved`, `comment_agent`) VALUES "
	"(219, 'Jo Reader', 'jo@example.org', '', '192.0.2.17', '2026-03-01 10:11:12', '2026-03-01 09:11:12', 'Thank you for this "
	"article: it said in five lines what the manual did not say in fifty. Is there a second part?', '0', 'Mozilla/5.0 (X11; "
	"Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0')",
	NULL,
};

static const char *const tpcc[] = {
	"SELECT c_discount, c_last, c_credit, w_tax FROM customer, warehouse WHERE w_id = 3 AND c_w_id = w_id AND c_d_id = 7 AND "
	"c_id = 1201",
	"SELECT d_next_o_id, d_tax FROM district WHERE d_id = 7 AND d_w_id = 3 FOR UPDATE",
	"UPDATE district SET d_next_o_id = 3002 WHERE d_id = 7 AND d_w_id = 3",
	"INSERT INTO orders (o_id, o_d_id, o_w_id, o_c_id, o_entry_d, o_ol_cnt, o_all_local) VALUES(3001, 7, 3, 1201, NOW(), 9, 1)",
	"SELECT i_price, i_name, i_data FROM item WHERE i_id = 88231",
	"SELECT s_quantity, s_data, s_dist_07 AS s_dist FROM stock WHERE s_i_id = 88231 AND s_w_id = 3 FOR UPDATE",
	"UPDATE stock SET s_quantity = 61 WHERE s_i_id = 88231 AND s_w_id = 3",
	"INSERT INTO order_line (ol_o_id, ol_d_id, ol_w_id, ol_number, ol_i_id, ol_supply_w_id, ol_quantity, ol_amount, ol_dist_info) "
	"VALUES (3001, 7, 3, 4, 88231, 3, 5, 211.35, 'kXyZ0p3jw9QmLsd83hTgBn2c')",
	"UPDATE customer SET c_balance = -10.00, c_ytd_payment = 10.00 WHERE c_w_id = 3 AND c_d_id = 7 AND c_id = 1201",
	"SELECT COUNT(DISTINCT (s_i_id)) FROM order_line, stock WHERE ol_w_id = 3 AND ol_d_id = 7 AND ol_o_id < 3001 AND ol_o_id >= "
	"2981 AND s_w_id = 3 AND s_i_id = ol_i_id AND s_quantity < 12",
	NULL,
};

static struct group groups[] = {
	{"sysbench", sysbench, {0}},
	{"wordpress", wordpress, {0}},
	{"tpcc", tpcc, {0}},
};

enum { GROUPS = sizeof(groups) / sizeof(groups[0]), MAX_SLICES = 262144 };

static struct sql_recall *recall; /* NULL: each statement is judged */

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Judges every statement of a group once; adds the bytes and the statements. */
static void round_of(const struct group *group, uint64_t *bytes, uint64_t *count, uint64_t *sink)
{
	static const struct sql_context context = {.flavour = SQL_MARIADB, .version = 101119, .multi_statements = true};
	struct sql_meaning meaning;
	size_t i;

	for (i = 0; group->statements[i]; i++) {
		if (recall)
			sql_recall_classify(recall, &context, group->statements[i], group->lens[i], &meaning);
		else
			sql_classify(&context, group->statements[i], group->lens[i], &meaning);
		*sink += meaning.digest + meaning.facts;
		*bytes += group->lens[i];
		++*count;
	}
}

struct slice {
	double ns_per_byte;
	double ns_per_statement;
};

static struct slice run_slice(const struct group *first, size_t n, uint64_t *sink)
{
	uint64_t bytes = 0, count = 0;
	double start = seconds(), used;
	size_t i, rounds;

	for (rounds = 0; rounds < 20; rounds++)
		for (i = 0; i < n; i++)
			round_of(&first[i], &bytes, &count, sink);
	used = seconds() - start;
	return (struct slice){used * 1e9 / (double)bytes, used * 1e9 / (double)count};
}

static int by_speed(const void *left, const void *right)
{
	const struct slice *a = left, *b = right;

	return (a->ns_per_byte > b->ns_per_byte) - (a->ns_per_byte < b->ns_per_byte);
}

/* Many short slices: the best is what the code can do, the median what it did beside whatever else ran here. */
static void measure(const char *name, const struct group *first, size_t n, double wanted)
{
	static struct slice slices[MAX_SLICES];
	double start = seconds();
	uint64_t sink = 0;
	size_t count = 0;

	do
		slices[count++] = run_slice(first, n, &sink);
	while (count < MAX_SLICES && seconds() - start < wanted);
	qsort(slices, count, sizeof(slices[0]), by_speed);
	printf("%-10s best %4.0f MB/s %4.0f ns/statement   median %4.0f MB/s %4.0f ns/statement   (%04x)\n", name,
	       1e3 / slices[0].ns_per_byte, slices[0].ns_per_statement, 1e3 / slices[count / 2].ns_per_byte,
	       slices[count / 2].ns_per_statement, (unsigned)(sink & 0xffff));
}

int main(int argc, char **argv)
{
	double wanted = argc > 1 ? atof(argv[1]) : 1;
	size_t i, n;

	/* The caller knows the length: it is the packet's. */
	for (i = 0; i < GROUPS; i++)
		for (n = 0; groups[i].statements[n]; n++)
			groups[i].lens[n] = strlen(groups[i].statements[n]);
	for (i = 0; i < GROUPS; i++)
		measure(groups[i].name, &groups[i], 1, wanted);
	measure("all", groups, GROUPS, wanted);
	recall = sql_recall_new();
	measure("recalled", groups, GROUPS, wanted);
	sql_recall_free(recall);
	return 0;
}
