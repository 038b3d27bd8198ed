/*
 * Every unit suite, once. SUITE(name) stands for `void suite_name(void)` in test_name.c, which adds its CUnit suite.
 */
#define SUITES(SUITE) \
	SUITE(address) \
	SUITE(admin) \
	SUITE(app_call) \
	SUITE(app_request) \
	SUITE(balance) \
	SUITE(base) \
	SUITE(base_io) \
	SUITE(cluster) \
	SUITE(config) \
	SUITE(diagnose) \
	SUITE(failover) \
	SUITE(fastcgi) \
	SUITE(gtid) \
	SUITE(http) \
	SUITE(http_answer) \
	SUITE(lease) \
	SUITE(memory) \
	SUITE(pins) \
	SUITE(placement) \
	SUITE(promotion) \
	SUITE(record) \
	SUITE(snapshot) \
	SUITE(sql) \
	SUITE(state) \
	SUITE(statement) \
	SUITE(tls_tickets) \
	SUITE(tracking) \
	SUITE(web_limits) \
	SUITE(wire) \
	SUITE(wire_auth) \
	SUITE(wire_walker)
