/* A text for `packages`, behind what list/python says is installed (up to the first NUL): what is taken is a plan whose lines
 * have five fields, and whose names are no options. */
#include "land.h"
#include "packages.h"

static char **name_languages(void)
{
	static char *names[] = { "python", "py", NULL };
	char **was = land.langs.v[0].packages;

	land.langs.v[0].packages = names;
	land.langs.installer = (struct lang){ .name = "packages", .interpreter = "/bin/sh", .installs = true };
	return was;
}

static void look_at_plan(const struct buf *plan)
{
	for (const char *line = plan->s, *end; line < plan->s + plan->n; line = end + 1) {
		int tabs = 0;
		end = strchr(line, '\n');
		must(end);
		for (const char *p = line; p < end; p++)
			tabs += *p == '\t';
		const char *spec = memrchr(line, '\t', end - line);
		must(tabs == 4 && spec[1] != '-' && spec[1] != '\n');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = memchr(data, 0, size);
	size_t list = nul ? (size_t)(nul - data) : 0, text = nul ? list + 1 : 0;
	auto_buf struct buf shown = { 0 }, plan = { 0 };

	land_clear();
	char **was = name_languages();
	struct context *c = land_context();
	must(context_load(c) == 0);
	auto_free char *dir = context_path(c, "packages"), *sub = context_path(c, "packages/list");
	mkdirat(land.contexts_dir, dir, 0700);
	mkdirat(land.contexts_dir, sub, 0700);
	land_put("packages/list/python", (const char *)data, list);
	packages_print(c, &shown);
	must(!memchr(shown.s ? shown.s : "", 0x1b, shown.n));
	c->scheduling = true; /* what is queued waits */
	if (packages_check(c, (const char *)data + text, size - text) >= 0) {
		buf_add(&plan, (const char *)data + text, size - text);
		packages_plan(c, &plan);
		look_at_plan(&plan);
	}
	land_look(c);
	land.langs.v[0].packages = was;
	land.langs.installer = (struct lang){ 0 };
	return 0;
}
