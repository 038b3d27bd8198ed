/*
 * Runs all unit suites. Arguments name the suites to run (default all); -v names each test. Ends with "N passed, N failed",
 * where N counts test functions, and exits 1 when one failed.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "tests/unit/suites.h"

#define DECLARE(name) void suite_##name(void);
SUITES(DECLARE)
#undef DECLARE

static const struct suite {
	const char *name;
	void (*add)(void);
} suites[] = {
#define ROW(name) { #name, suite_##name },
	SUITES(ROW)
#undef ROW
	{ NULL, NULL },
};

static bool is_wanted(const char *name, int count, char **wanted)
{
	bool any = false;

	for (int i = 1; i < count; i++) {
		if (wanted[i][0] == '-')
			continue;
		any = true;
		if (strcmp(wanted[i], name) == 0)
			return true;
	}
	return !any;
}

static int add_suites(int argc, char **argv)
{
	int added = 0;

	for (const struct suite *suite = suites; suite->name; suite++) {
		if (!is_wanted(suite->name, argc, argv))
			continue;
		suite->add();
		added++;
	}
	return added;
}

int main(int argc, char **argv)
{
	bool verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 1;
	if (!add_suites(argc, argv)) {
		fprintf(stderr, "unit: no suite of that name\n");
		return 2;
	}
	CU_basic_set_mode(verbose ? CU_BRM_VERBOSE : CU_BRM_NORMAL);
	/* A suite that cannot be set up must count as a failure, not as nothing run. */
	CU_set_fail_on_inactive(CU_TRUE);
	CU_basic_run_tests();
	failed = CU_get_number_of_tests_failed() + CU_get_number_of_suites_failed();
	printf("\n%u passed, %u failed\n", CU_get_number_of_tests_run() - CU_get_number_of_tests_failed(),
	       failed);
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
