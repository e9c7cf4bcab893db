/* The option lines of a cell: bytes stay in their lines, what comes out is JSON. */
#include "config.h"
#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const prefixes[] = { "#|", "//|", "--|", "%%|" };
	const char *prefix = prefixes[size ? data[0] % 4 : 0];
	struct cell_options o;

	if (!size)
		return 0;
	data++, size--;
	/* Exactly the bytes, so that one too many is seen. */
	char *code = malloc(size ? size : 1);
	memcpy(code, data, size);
	options_parse(&o, code, size, prefix);
	for (size_t i = 0; i < size; i++)
		if (code[i] != (char)data[i] && (code[i] != ' ' || data[i] == '\n'))
			abort();
	auto_json struct json *j = json_parse(o.json, strlen(o.json), NULL);
	if (!json_isobj(j) || o.timeout_us < -1)
		abort();
	options_clear(&o);
	free(code);
	return 0;
}
