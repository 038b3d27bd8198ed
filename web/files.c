#include "web/files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "web/condition.h"
#include "web/mime.h"

/* Below this a file goes out with its head in one call; above it by sendfile(). */
enum { SMALL_FILE = 16 * 1024, NAME_MAX_BYTES = 4096 };

struct variant {
	int file;
	struct stat stat;
	const char *coding; /* NULL: as it is */
};

/* ---- Opening ---- */

/* The kernel refuses every way out of the root, be it ".." or a link, also one made a moment ago. */
static int open_below(int root, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root, *name ? name : ".", &how, sizeof(how));
}

static int open_root(const struct exchange *x)
{
	struct web_worker *worker = x->worker;

	return roots_get(&worker->roots, x->config->web, x->site, worker->now_ms);
}

static uint16_t status_of_errno(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
	case ENAMETOOLONG:
	case ELOOP:
		return 404;
	case EACCES:
	case EPERM:
	case EXDEV: /* a way out */
		return 403;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return 503;
	default:
		return 500;
	}
}

static void refuse(struct exchange *x, uint16_t status)
{
	response_begin(x, status);
	response_page(x, status);
}

static void fail(struct exchange *x, int error)
{
	uint16_t status = status_of_errno(error);

	if (status >= 500)
		log_warning(&x->subject, "%s: %s", x->path, strerror(error));
	refuse(x, status);
}

/* ---- Which form of it ---- */

/* "gzip;q=0" is a no. */
static bool accepts(const struct http_head *head, const char *coding)
{
	const struct http_text *field = http_head_field(head, "Accept-Encoding");
	struct http_text rest, element;

	if (!field)
		return false;
	rest = *field;
	while (rest.len) {
		const char *comma = memchr(rest.at, ',', rest.len);
		size_t len = comma ? (size_t)(comma - rest.at) : rest.len;
		const char *semicolon = memchr(rest.at, ';', len);

		element = (struct http_text){ rest.at, semicolon ? (size_t)(semicolon - rest.at) : len };
		if (http_list_has(element, coding))
			return !semicolon || !memmem(semicolon, len - element.len, "q=0", 3) ||
			       memmem(semicolon, len - element.len, "q=0.", 4);
		rest = (struct http_text){ rest.at + len + (comma != NULL), rest.len - len - (comma != NULL) };
	}
	return false;
}

/* A sibling that is older than its original is left over from before. */
static bool take_sibling(int root, const char *name, const char *ending, const char *coding, struct variant *v)
{
	char sibling[NAME_MAX_BYTES + 8];
	struct stat stat;
	int file;

	snprintf(sibling, sizeof(sibling), "%s%s", name, ending);
	file = open_below(root, sibling);
	if (file < 0)
		return false;
	if (fstat(file, &stat) || !S_ISREG(stat.st_mode) || stat.st_mtime < v->stat.st_mtime) {
		close(file);
		return false;
	}
	close(v->file);
	*v = (struct variant){ file, stat, coding };
	return true;
}

static void choose_coding(struct exchange *x, int root, const char *name, struct variant *v)
{
	if (accepts(&x->head, "br") && take_sibling(root, name, ".br", "br", v))
		return;
	if (accepts(&x->head, "gzip"))
		take_sibling(root, name, ".gz", "gzip", v);
}

/* ---- Answering ---- */

static void add_fields(struct exchange *x, const struct mime *mime, const struct variant *v, const char *etag)
{
	char modified[HTTP_DATE_BYTES];

	http_date_put(v->stat.st_mtime, modified);
	response_field(x, "Last-Modified", "%s", modified);
	response_field(x, "ETag", "%s", etag);
	if (mime->compresses)
		response_field(x, "Vary", "Accept-Encoding");
	if (x->status == 304)
		return;
	response_field(x, "Content-Type", "%s", mime->type);
	response_field(x, "Accept-Ranges", "bytes");
	if (v->coding)
		response_field(x, "Content-Encoding", "%s", v->coding);
}

static void send_small(struct exchange *x, int file, uint64_t at, size_t len)
{
	char bytes[SMALL_FILE];
	ssize_t n = pread(file, bytes, len, (off_t)at);

	close(file);
	if (n != (ssize_t)len) {
		refuse(x, 500);
		return;
	}
	response_send(x, len, bytes, len);
	response_end(x);
}

static void send_part(struct exchange *x, int file, const struct condition *c)
{
	if (x->head.method == HTTP_GET && c->count <= SMALL_FILE) {
		send_small(x, file, c->first, (size_t)c->count);
		return;
	}
	response_send(x, c->count, NULL, 0);
	response_file(x, file, c->first, c->count);
}

static void send_nothing(struct exchange *x, int file)
{
	close(file);
	response_send(x, 0, NULL, 0);
	response_end(x);
}

static void answer(struct exchange *x, const struct mime *mime, struct variant *v)
{
	char etag[64];
	const struct representation what = { etag, v->stat.st_mtime, (uint64_t)v->stat.st_size };
	struct condition c;

	snprintf(etag, sizeof(etag), "\"%llx.%lx-%llx%s\"", (unsigned long long)v->stat.st_mtime, v->stat.st_mtim.tv_nsec,
		 (unsigned long long)v->stat.st_size, v->coding ? v->coding : "");
	c = condition_judge(&x->head, &what);
	response_begin(x, c.status);
	if (c.status == 416) {
		close(v->file);
		response_field(x, "Content-Range", "bytes */%llu", (unsigned long long)what.size);
		response_page(x, 416);
		return;
	}
	if (c.status == 412) {
		close(v->file);
		response_page(x, 412);
		return;
	}
	add_fields(x, mime, v, etag);
	if (c.status == 206)
		response_field(x, "Content-Range", "bytes %llu-%llu/%llu", (unsigned long long)c.first,
			     (unsigned long long)(c.first + c.count - 1), (unsigned long long)what.size);
	if (c.status == 304)
		send_nothing(x, v->file);
	else
		send_part(x, v->file, &c);
}

/* A directory is named with a slash at its end, so that relative links within its page are right. */
static void redirect_to_directory(struct exchange *x)
{
	char location[9216];

	snprintf(location, sizeof(location), "%.*s/%s%.*s", (int)x->head.path.len, x->head.path.at, x->head.query.at ? "?" : "",
		 (int)x->head.query.len, x->head.query.at ? x->head.query.at : "");
	/* "//host" would be another site. */
	response_redirect(x, 301, location + strspn(location, "/") - 1);
}

static void serve(struct exchange *x, int root, const char *name)
{
	struct variant v = { .file = open_below(root, name) };
	const struct mime *mime = mime_of(name);

	if (v.file < 0) {
		fail(x, errno);
		return;
	}
	if (fstat(v.file, &v.stat)) {
		close(v.file);
		fail(x, errno);
	} else if (S_ISDIR(v.stat.st_mode)) {
		close(v.file);
		redirect_to_directory(x);
	} else if (!S_ISREG(v.stat.st_mode)) {
		close(v.file);
		refuse(x, 403);
	} else {
		if (mime->compresses)
			choose_coding(x, root, name, &v);
		answer(x, mime, &v);
	}
}

/* Files that are there for other programs: .git, .htaccess and their like. */
static bool is_hidden(const char *path)
{
	for (const char *dot = strstr(path, "/."); dot; dot = strstr(dot + 2, "/."))
		if (strncmp(dot, "/.well-known/", 13))
			return true;
	return false;
}

/* The file that a path names, relative to the root. False when it would be too long. */
static bool file_name(const struct exchange *x, char out[NAME_MAX_BYTES])
{
	size_t len = strlen(x->path);
	const char *index = x->path[len - 1] == '/' ? x->site->index : "";

	return snprintf(out, NAME_MAX_BYTES, "%s%s", x->path + 1, index) < NAME_MAX_BYTES;
}

static void begin(struct exchange *x)
{
	char name[NAME_MAX_BYTES];
	int root;

	if (x->head.method != HTTP_GET && x->head.method != HTTP_HEAD) {
		response_begin(x, 405);
		response_field(x, "Allow", "GET, HEAD");
		response_page(x, 405);
		return;
	}
	if (is_hidden(x->path) || !file_name(x, name)) {
		refuse(x, 404);
		return;
	}
	root = open_root(x);
	if (root < 0) {
		log_warning(&x->subject, "[site %s] root %s: %s", x->site->host, x->site->root, strerror(errno));
		refuse(x, 503);
		return;
	}
	serve(x, root, name);
}

/* Whether `name`, relative to the root of the exchange's site, is a regular file. */
static bool is_file(const struct exchange *x, const char *name)
{
	struct stat stat = { 0 };
	int root = open_root(x);
	int file = root >= 0 ? open_below(root, name) : -1;

	if (file >= 0 && fstat(file, &stat))
		stat.st_mode = 0;
	if (file >= 0)
		close(file);
	return S_ISREG(stat.st_mode);
}

bool files_has(const struct exchange *x)
{
	char name[NAME_MAX_BYTES];

	return (x->head.method == HTTP_GET || x->head.method == HTTP_HEAD) && x->site->root && x->path[strlen(x->path) - 1] != '/' &&
	       !strcasestr(x->path, ".php") && !is_hidden(x->path) && file_name(x, name) && is_file(x, name);
}

bool files_has_script(const struct exchange *x, const char *path)
{
	return x->site->root && !is_hidden(path) && is_file(x, path + 1);
}

const struct responder files_responder = { .name = "files", .begin = begin };
