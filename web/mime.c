#include "web/mime.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

static const struct mime types[] = {
	{ "html", "text/html; charset=utf-8", true },
	{ "css", "text/css; charset=utf-8", true },
	{ "js", "text/javascript; charset=utf-8", true },
	{ "mjs", "text/javascript; charset=utf-8", true },
	{ "json", "application/json", true },
	{ "png", "image/png", false },
	{ "jpg", "image/jpeg", false },
	{ "jpeg", "image/jpeg", false },
	{ "gif", "image/gif", false },
	{ "svg", "image/svg+xml", true },
	{ "webp", "image/webp", false },
	{ "avif", "image/avif", false },
	{ "ico", "image/x-icon", true },
	{ "bmp", "image/bmp", true },
	{ "woff2", "font/woff2", false },
	{ "woff", "font/woff", false },
	{ "ttf", "font/ttf", true },
	{ "otf", "font/otf", true },
	{ "txt", "text/plain; charset=utf-8", true },
	{ "md", "text/markdown; charset=utf-8", true },
	{ "csv", "text/csv; charset=utf-8", true },
	{ "xml", "application/xml", true },
	{ "rss", "application/rss+xml", true },
	{ "atom", "application/atom+xml", true },
	{ "htm", "text/html; charset=utf-8", true },
	{ "xhtml", "application/xhtml+xml", true },
	{ "map", "application/json", true },
	{ "webmanifest", "application/manifest+json", true },
	{ "wasm", "application/wasm", true },
	{ "pdf", "application/pdf", false },
	{ "zip", "application/zip", false },
	{ "gz", "application/gzip", false },
	{ "br", "application/octet-stream", false },
	{ "tar", "application/x-tar", true },
	{ "7z", "application/x-7z-compressed", false },
	{ "mp3", "audio/mpeg", false },
	{ "ogg", "audio/ogg", false },
	{ "wav", "audio/wav", false },
	{ "m4a", "audio/mp4", false },
	{ "mp4", "video/mp4", false },
	{ "webm", "video/webm", false },
	{ "mov", "video/quicktime", false },
	{ "m3u8", "application/vnd.apple.mpegurl", true },
	{ "ts", "video/mp2t", false },
	{ "doc", "application/msword", false },
	{ "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", false },
	{ "xls", "application/vnd.ms-excel", false },
	{ "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", false },
	{ "odt", "application/vnd.oasis.opendocument.text", false },
	{ "epub", "application/epub+zip", false },
};

static const struct mime unknown = { "", "application/octet-stream", false };

const struct mime *mime_of(const char *name)
{
	const char *slash = strrchr(name, '/');
	const char *dot = strrchr(slash ? slash : name, '.');

	for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
		if (!strcasecmp(types[i].ending, dot + 1))
			return &types[i];
	return &unknown;
}
