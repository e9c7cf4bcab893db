/* Documents that are made from what is known: the mount's README, context.json, and those of a run. */
#ifndef CELLFS_PAGE_H
#define CELLFS_PAGE_H

#include "node.h"

void page_readme(const struct node *n, struct buf *b);
void page_context(const struct node *n, struct buf *b);
void page_draft(const struct node *n, struct buf *b);
/* Of a run. */
void page_record(const struct node *n, struct buf *b);     /* execution.json */
void page_report(const struct node *n, struct buf *b);     /* report.md */
void page_error_txt(const struct node *n, struct buf *b);
void page_error_json(const struct node *n, struct buf *b);

#endif
