/* Any bytes as a statement of the SQL console, and, cut at newlines, as the words of a command line. */
#include <stdlib.h>
#include <string.h>

#include "admin/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORDS = 16 };

static void parse_words(char *text)
{
	char *words[WORDS], why[512];
	struct request request;
	size_t count = 0;

	while (count < WORDS && text)
		words[count++] = strsep(&text, "\n");
	if (command_parse_words(words, count, &request, why, sizeof(why)) && !request.command)
		abort();
	request_fini(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request request;
	char why[512] = "";
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (!command_parse_sql(text, size, &request, why, sizeof(why)) && !why[0])
		abort();
	request_fini(&request);
	like_matches(text, "db1");
	like_matches("%a_\\%", text);
	parse_words(text);
	free(text);
	return 0;
}
