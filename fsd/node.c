#include "node.h"

#include "tree.h"

int node_get(struct world *w, uint64_t ino, struct node *n)
{
	enum node_kind kind = ino & 0xff;
	uint64_t id = node_id(ino);

	*n = (struct node){ .world = w, .ino = ino, .kind = kind, .slot = ino >> 8 & 0xffff };
	if (kind <= N_NONE || kind >= N_KINDS)
		return -ESTALE;
	n->row = &tree[kind];
	if (n->row->of == O_WORLD)
		return id ? -ESTALE : 0;
	struct object *o = id ? object_get(w, id) : NULL;
	if (!o || o->type != n->row->of)
		return -ESTALE;
	n->ctx = o->ctx;
	switch (o->type) {
	case O_BODY:
		n->body = o->ptr;
		break;
	case O_CELL:
		n->cell = o->ptr;
		break;
	case O_RUN:
		n->run = o->number ? context_run(o->ctx, o->number) : o->ptr;
		if (!n->run)
			return -ESTALE;
		break;
	default:
		break;
	}
	return context_load(n->ctx);
}
