/* Values of config/: what is refused changes nothing, what is taken is in its range and comes back. */
#include "config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config c, again;
	char *text = malloc(size ? size : 1);

	memcpy(text, data, size);
	for (int k = 0; k < C_COUNT; k++) {
		config_init(&c, NULL);
		int64_t before = c.v[k].v;
		int err = setting_set(&c, k, text, size, NULL);
		if (c.v[k].v < 0 || (err && (c.v[k].v != before || c.v[k].text)))
			abort();
		const char *shown = setting_text(&c, k, NULL);
		config_init(&again, &c);
		if (again.v[k].v != c.v[k].v || setting_set(&again, k, shown, strlen(shown), NULL) ||
		    again.v[k].v != c.v[k].v)
			abort();
		config_clear(&again);
		config_clear(&c);
	}
	auto_free char *s = strndup(text, size);
	setting_find(s);
	env_name_ok(s);
	free(text);
	return 0;
}
