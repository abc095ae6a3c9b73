/* chart.h: curves that gather more points than they keep, and self-contained HTML pages with tables
 * and charts. */
#ifndef EBB_CHART_H
#define EBB_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The highest value in each step of x. When all points are used, steps become twice as long. */
enum { CURVE_POINTS = 512 };

struct curve {
    uint64_t step; /* of x, for each point; 0: the curve is empty */
    size_t count;  /* points in use */
    uint64_t top[CURVE_POINTS];
    uint64_t now, end; /* the last value, and the last x */
};

/* x must not fall. */
void curve_add(struct curve *curve, uint64_t x, uint64_t value);

uint64_t curve_most(const struct curve *curve);

struct series {
    const char *name;
    const double *x, *y;
    size_t count;
};

/* A page: its head and title; its end. Text is escaped. */
void page_begin(FILE *page, const char *title);
void page_end(FILE *page);
void page_text(FILE *page, const char *text); /* a paragraph */
void page_heading(FILE *page, const char *text);
void page_escaped(FILE *page, const char *text); /* nothing around it */

/* A row of cells, of text; the first one of a row of names. */
void page_table_begin(FILE *page);
void page_row(FILE *page, bool is_head, const char *const *cells, size_t count);
void page_table_end(FILE *page);

/* A chart of lines over one x axis, both from 0; with a legend where there are several. */
void page_chart(FILE *page, const char *x_name, const char *y_name, const struct series *series,
                size_t count);

/* Opens the file of a page; NULL after a complaint. page_close complains, too. */
FILE *page_open(const char *command, const char *path);
bool page_close(const char *command, const char *path, FILE *page);

/* 1234567 as "1.18 MiB"; 4321 as "4,321"; 1500000 as "1.50 s". Return buffer. */
const char *say_bytes(char *buffer, size_t capacity, uint64_t bytes);
const char *say_count(char *buffer, size_t capacity, uint64_t count);
const char *say_time(char *buffer, size_t capacity, uint64_t us);

/* The end of a noun behind a count. */
static inline const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

#endif
