/* An application with one SELECT, for the benchmark: loaded by [app select] module = .../select_app.so. */
#include "app/db.h"

static void handle(struct app_request *r)
{
	struct app_db *db = app_db(r);
	struct app_rows *rows = db ? app_sql(db, "SELECT v FROM bench.t WHERE id = ?", app_int(7)) : NULL;

	if (!app_rows_next(rows)) {
		app_fail(r, 503, "There is no answer from the database.");
		return;
	}
	app_html(r, "<p>%s\n", app_rows_text(rows, 0));
}

APP_MODULE(select) = { .abi = APP_ABI, .name = "select", .handle = handle };
