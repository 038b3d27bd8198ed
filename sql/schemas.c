#include "sql/scan.h"

#include <string.h>

/* Tables of information_schema that tell about the data, the same on every server. Sorted. */
static const char *const metadata_tables[] = {
	"administrable_role_authorizations", "applicable_roles", "character_sets", "check_constraints",
	"collation_character_set_applicability", "collations", "column_privileges", "column_statistics", "columns",
	"columns_extensions", "enabled_roles", "geometry_columns", "key_column_usage", "keywords", "parameters", "partitions",
	"referential_constraints", "role_column_grants", "role_routine_grants", "role_table_grants", "routines",
	"schema_privileges", "schemata", "schemata_extensions", "spatial_ref_sys", "sql_functions", "st_geometry_columns",
	"st_spatial_reference_systems", "st_units_of_measure", "statistics", "table_constraints",
	"table_constraints_extensions", "table_privileges", "tables", "tables_extensions", "triggers", "user_privileges",
	"view_routine_usage", "view_table_usage", "views",
};

static bool is_in(const char *const *sorted, size_t count, const char *text, uint32_t len)
{
	return word_search(sorted, (int)count, text, len) >= 0;
}

static void information_schema(struct scan *s)
{
	struct token table = scan_peek(s);
	const char *text = (const char *)s->lexer.text + table.inner.at;

	if (table.kind != TOKEN_WORD && table.kind != TOKEN_QUOTED)
		scan_raise(s, 0, SQL_TO_PRIMARY);
	else if (word_equals(text, table.inner.len, "user_variables"))
		scan_raise(s, SQL_F_READS_UVAR, SQL_TO_PRIMARY);
	else if (word_equals(text, table.inner.len, "profiling"))
		scan_raise(s, SQL_F_PROFILING, SQL_TO_PRIMARY);
	else if (!is_in(metadata_tables, sizeof(metadata_tables) / sizeof(metadata_tables[0]), text, table.inner.len))
		scan_raise(s, 0, SQL_TO_PRIMARY);
}

/* At a dot behind what may be a schema. */
void schema_read(struct scan *s)
{
	const struct token *schema = s->before;
	const struct sql_span name = token_name(schema);
	const unsigned char *text = s->lexer.text + name.at;
	const struct word *word = schema->word;

	if (schema->kind == TOKEN_QUOTED)
		word = word_find(schema->hash, text, name.len);
	if (!(word->flags & WORD_SCHEMA))
		return;
	if (word_equals((const char *)text, name.len, "information_schema"))
		information_schema(s);
	else
		scan_raise(s, 0, SQL_TO_PRIMARY);
}

bool sql_is_server_schema(const char *name, size_t len)
{
	static const char *const schemas[] = {"information_schema", "mysql", "ndbinfo", "performance_schema", "sys"};

	return len < 64 && is_in(schemas, sizeof(schemas) / sizeof(schemas[0]), name, (uint32_t)len);
}
