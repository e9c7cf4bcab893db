/* Any bytes as made.log; then what the mount does with the names in it. The next daemon finds what the last one had. */
#include "land.h"

#include "artifact.h"
#include "gate.h"

enum { NAMES_MAX = 64, BYTES_MAX = 1024 };

/* Neither may be below the other: no file system moves so. */
static bool can_move(const char *a, const char *b)
{
	size_t n = MIN(strlen(a), strlen(b));

	return strncmp(a, b, n) || (a[n] && a[n] != '/') || (b[n] && b[n] != '/');
}

static void act(struct context *c, int what, const char *a, const char *b)
{
	switch (what % 8) {
	case 0:
		artifact_uploaded(c, a);
		break;
	case 1:
		artifact_removed(c, a);
		artifact_rmdir(c, b);
		break;
	case 2:
	case 3:
		if (can_move(a, b))
			artifact_moved(c, a, b, what % 2);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf b = { 0 };
	const char *names[NAMES_MAX];
	bool there[NAMES_MAX];
	size_t n = 0;

	if (size > BYTES_MAX)
		return 0;
	buf_add(&b, data, size);
	buf_char(&b, 0);
	for (size_t at = 0; at < size && n < NAMES_MAX; at += strlen(b.s + at) + 1)
		if (b.s[at] && gate_is_plain(b.s + at + 1)) /* the mount has no others */
			names[n++] = b.s + at + 1;
	land_clear();
	land_put("made.log", data, size);
	struct context *c = land_context();
	must(context_load(c) == 0);
	for (size_t i = 1; i < n; i++)
		act(c, names[i][0], names[i - 1], names[i]);
	for (size_t i = 0; i < n; i++)
		there[i] = artifact_shown(c, names[i], false);
	context_free(c);
	c = land_context();
	must(context_load(c) == 0);
	for (size_t i = 0; i < n; i++) {
		auto_free char *dir = xstrdup(names[i]);
		if (artifact_shown(c, names[i], false) != there[i])
			abort();
		for (char *slash; there[i] && (slash = strrchr(dir, '/')); ) {
			*slash = 0;
			if (!artifact_shown(c, dir, true))
				abort();
		}
	}
	context_free(c);
	return 0;
}
