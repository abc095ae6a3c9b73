/* table.h: memory for the tables of those who read traces: zero, by mmap and shared, so that it is
 * counted neither among what malloc holds nor as anonymous memory. Ends the program with a line
 * when there is none.
 */
#ifndef EBB_TABLE_H
#define EBB_TABLE_H

#include <stddef.h>

void *table_map(size_t bytes);
void *table_grow(void *table, size_t old_bytes, size_t bytes);
void table_unmap(void *table, size_t bytes);

#endif
