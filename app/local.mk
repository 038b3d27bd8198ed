noinst_LIBRARIES += libapp.a
libapp_a_SOURCES = \
	app/app.h \
	app/arena.c \
	app/arena.h \
	app/builtin.c \
	app/builtin.h \
	app/call.c \
	app/call.h \
	app/db.c \
	app/db.h \
	app/fastcgi.c \
	app/fastcgi.h \
	app/form.c \
	app/form.h \
	app/hello.c \
	app/html.c \
	app/json.c \
	app/json.h \
	app/key.c \
	app/key.h \
	app/module.c \
	app/module.h \
	app/multipart.c \
	app/multipart.h \
	app/password.c \
	app/people/account.c \
	app/people/api.c \
	app/people/list.c \
	app/people/page.c \
	app/people/people.c \
	app/people/people.h \
	app/people/person.c \
	app/people/store.c \
	app/request.c \
	app/request.h \
	app/room.c \
	app/room.h \
	app/session.c \
	app/session.h \
	app/settings.c \
	app/settings.h \
	app/thread.c \
	app/thread.h
# The applications in it are part of the program, and do not all call themselves tandem_app.
libapp_a_CPPFLAGS = $(AM_CPPFLAGS) -DAPP_BUILTIN
EXTRA_DIST += app/exports
