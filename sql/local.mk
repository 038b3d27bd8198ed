noinst_LIBRARIES += libsql.a
libsql_a_SOURCES = \
	sql/body.c \
	sql/change.c \
	sql/classify.c \
	sql/digest.c \
	sql/digest.h \
	sql/found.c \
	sql/inspect.c \
	sql/lexer.c \
	sql/lexer.h \
	sql/recall.c \
	sql/recall.h \
	sql/run.c \
	sql/scan.c \
	sql/scan.h \
	sql/schemas.c \
	sql/set.c \
	sql/sql.h \
	sql/statement.c \
	sql/variables.c \
	sql/variables.inc \
	sql/word_ids.h \
	sql/words.c \
	sql/words.h \
	sql/words.inc
EXTRA_DIST += \
	sql/grants-mariadb.sql \
	sql/grants-mysql.sql \
	sql/tandem.cnf \
	sql/tandem-mysql.cnf \
	sql/people-demo.sql \
	sql/people.sql \
	sql/make_words.py \
	tests/sql/check_callable.py \
	tests/sql/check_with_server.py \
	tests/sql/statements.txt
