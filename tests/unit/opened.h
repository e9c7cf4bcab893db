/* The frame of tests that need an open domain: each gets a fresh one, and two minutes. */
#ifndef CELLFS_TEST_OPENED_H
#define CELLFS_TEST_OPENED_H

#include "domain.h"

static struct domain d;

static inline int setup(void **state)
{
	must(domain_make(&d, 0));
	domain_open(&d);
	alarm(120);
	return 0;
}

static inline int teardown(void **state)
{
	domain_close(&d);
	domain_unmake(&d);
	alarm(0);
	return 0;
}

static inline struct run *ran(const char *name, const char *text)
{
	struct run *r = domain_run(&d, name, text);

	assert_non_null(r);
	return r;
}

#endif
