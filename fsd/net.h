/* The network of a box whose config/network is `on`: a program that copies between an interface in the box
 * and ordinary sockets of this process's network, run beside the box. pasta, or slirp4netns.
 *
 * Through it a box reaches what the host reaches, but for the loopback addresses of the host, and no socket of
 * the host that has no address (unix, abstract). Nobody outside reaches the box. */
#ifndef CELLFS_NET_H
#define CELLFS_NET_H

#include "loop.h"

struct net {
	enum { NET_NONE, NET_PASTA, NET_SLIRP } kind;
	char *program;     /* absolute path */
	struct list links; /* those whose processes are not reaped yet */
};
struct net_link;

/* Looks for the programs, once at start. What is found is not run: net_check. */
void net_find(struct net *n);
/* Ends all links and waits for their processes. */
void net_free(struct net *n);
/* "pasta", "slirp4netns" or NULL. */
const char *net_name(const struct net *n);
/* Whether a box can have a network now: 0, or -errno with a sentence in WHY that says what to do. */
int net_check(const struct net *n, struct buf *why);

/* Gives the network namespace NET_NS, which belongs to the user namespace USER_NS, an interface eth0. BOX is the
 * path of box, the supervisor: the program ends when this process does. FN is called with NULL when the
 * interface is up, and with a sentence when there is no network (any more); never after net_stop, and never
 * from here. Returns 0 with *OUT, or -errno with a sentence in WHY. Both descriptors stay the caller's. */
int net_start(struct net *n, struct loop *l, const char *box, int user_ns, int net_ns,
	      void (*fn)(void *arg, const char *why), void *arg, struct net_link **out,
	      struct buf *why);
/* Takes the interface down, soon, and gives K back. NULL is fine. */
void net_stop(struct net_link *k);

/* resolv.conf for a box with a network, made from the host's at PATH. */
void net_resolv(const char *path, struct buf *out);

#endif
