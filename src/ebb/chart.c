#include "chart.h"

#include <errno.h>
#include <string.h>

#include "ebb.h"

/* ---- Curves ---------------------------------------------------------------------------------- */

static void halve(struct curve *curve)
{
    for (size_t i = 0; i < CURVE_POINTS / 2; i++) {
        uint64_t first = curve->top[2 * i], second = curve->top[2 * i + 1];
        curve->top[i] = first > second ? first : second;
    }
    curve->count = (curve->count + 1) / 2;
    curve->step *= 2;
}

void curve_add(struct curve *curve, uint64_t x, uint64_t value)
{
    if (curve->step == 0)
        curve->step = 1;
    /* What lies between has the value from before. */
    while (x / curve->step >= CURVE_POINTS) {
        for (; curve->count < CURVE_POINTS; curve->count++)
            curve->top[curve->count] = curve->now;
        halve(curve);
    }
    size_t point = (size_t)(x / curve->step);
    for (; curve->count <= point; curve->count++)
        curve->top[curve->count] = curve->now;
    if (value > curve->top[point])
        curve->top[point] = value;
    curve->now = value;
    curve->end = x;
}

uint64_t curve_most(const struct curve *curve)
{
    uint64_t most = 0;
    for (size_t i = 0; i < curve->count; i++)
        if (curve->top[i] > most)
            most = curve->top[i];
    return most;
}

/* ---- Words ----------------------------------------------------------------------------------- */

const char *say_bytes(char *buffer, size_t capacity, uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    int digits = unit == 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    snprintf(buffer, capacity, "%.*f %s", digits, value, units[unit]);
    return buffer;
}

const char *say_count(char *buffer, size_t capacity, uint64_t count)
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    size_t used = 0;
    for (int i = 0; i < length && used + 2 < capacity; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            buffer[used++] = ',';
        buffer[used++] = digits[i];
    }
    buffer[used] = '\0';
    return buffer;
}

const char *say_time(char *buffer, size_t capacity, uint64_t us)
{
    if (us < 1000)
        snprintf(buffer, capacity, "%llu us", (unsigned long long)us);
    else if (us < 1000000)
        snprintf(buffer, capacity, "%.3g ms", (double)us / 1e3);
    else
        snprintf(buffer, capacity, "%.*f s", us < 100000000 ? 2 : 0, (double)us / 1e6);
    return buffer;
}

/* ---- Pages ----------------------------------------------------------------------------------- */

FILE *page_open(const char *command, const char *path)
{
    FILE *page = fopen(path, "we");
    if (page == NULL)
        complain("%s: %s: %s", command, path, strerror(errno));
    return page;
}

bool page_close(const char *command, const char *path, FILE *page)
{
    bool failed = ferror(page) != 0;
    failed = fclose(page) != 0 || failed;
    if (failed)
        complain("%s: writing %s: %s", command, path, strerror(errno));
    return !failed;
}

void page_escaped(FILE *page, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '&')
            fputs("&amp;", page);
        else if (*text == '<')
            fputs("&lt;", page);
        else if (*text == '>')
            fputs("&gt;", page);
        else
            fputc(*text, page);
    }
}

void page_begin(FILE *page, const char *title)
{
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
          page);
    page_escaped(page, title);
    fputs("</title>\n<style>\n"
          "body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;\n"
          "       padding: 0 1rem; color: #222; background: #fff; }\n"
          "h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }\n"
          "table { border-collapse: collapse; font-variant-numeric: tabular-nums; }\n"
          "th, td { padding: .15rem .55rem; text-align: right; white-space: nowrap;\n"
          "         border-bottom: 1px solid #ddd; }\n"
          "th:first-child, td:first-child { text-align: left; }\n"
          "svg { max-width: 100%; height: auto; }\n"
          "svg text { font: 12px system-ui, sans-serif; fill: #333; }\n"
          "</style>\n<h1>",
          page);
    page_escaped(page, title);
    fputs("</h1>\n", page);
}

void page_end(FILE *page)
{
    fputs("</html>\n", page);
}

static void element(FILE *page, const char *name, const char *text)
{
    fprintf(page, "<%s>", name);
    page_escaped(page, text);
    fprintf(page, "</%s>\n", name);
}

void page_text(FILE *page, const char *text)
{
    element(page, "p", text);
}

void page_heading(FILE *page, const char *text)
{
    element(page, "h2", text);
}

void page_table_begin(FILE *page)
{
    fputs("<table>\n", page);
}

void page_row(FILE *page, bool is_head, const char *const *cells, size_t count)
{
    fputs("<tr>", page);
    for (size_t i = 0; i < count; i++)
        element(page, is_head ? "th" : "td", cells[i]);
    fputs("</tr>\n", page);
}

void page_table_end(FILE *page)
{
    fputs("</table>\n", page);
}

/* ---- Charts ---------------------------------------------------------------------------------- */

enum { WIDTH = 900, HEIGHT = 320, LEFT = 70, RIGHT = 20, TOP = 16, BOTTOM = 44, MARKS = 5 };

/* Told apart with the common kinds of colour blindness. */
static const char *const colours[] = {"#d1495b", "#444444", "#2e6f95", "#66a182",
                                      "#edae49", "#8d6a9f", "#00798c", "#9a6b4f"};

/* The next of 1, 2, 5, 10 … that is not under the value. */
static double round_mark(double value)
{
    double mark = 1e-6;
    static const double steps[] = {2, 2.5, 2};
    for (size_t i = 0; mark < value && i < 100; i++)
        mark *= steps[i % 3];
    return mark;
}

static double place_x(double value, double most)
{
    return LEFT + value / most * (WIDTH - LEFT - RIGHT);
}

static double place_y(double value, double most)
{
    return HEIGHT - BOTTOM - value / most * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *page, double x_most, double y_most, const char *x_name,
                      const char *y_name)
{
    double y_step = round_mark(y_most / MARKS), x_step = round_mark(x_most / MARKS);
    for (double y = 0; y <= y_most * 1.001; y += y_step)
        fprintf(page,
                "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                LEFT, WIDTH - RIGHT, place_y(y, y_most), place_y(y, y_most), LEFT - 6,
                place_y(y, y_most) + 4, y);
    for (double x = 0; x <= x_most * 1.001; x += x_step)
        fprintf(page, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                place_x(x, x_most), HEIGHT - BOTTOM + 18, x);
    fprintf(page, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (WIDTH + LEFT) / 2,
            HEIGHT - 8);
    page_escaped(page, x_name);
    fprintf(page,
            "</text>\n<text x=\"14\" y=\"%d\" text-anchor=\"middle\" "
            "transform=\"rotate(-90 14 %d)\">",
            HEIGHT / 2, HEIGHT / 2);
    page_escaped(page, y_name);
    fputs("</text>\n", page);
}

static void draw_legend(FILE *page, const struct series *series, size_t count)
{
    fputs("<p>", page);
    for (size_t i = 0; i < count; i++) {
        fprintf(page, "<span style=\"color:%s\">&#9632;</span> ", colours[i % 8]);
        page_escaped(page, series[i].name);
        fputs(" &nbsp; ", page);
    }
    fputs("</p>\n", page);
}

void page_chart(FILE *page, const char *x_name, const char *y_name, const struct series *series,
                size_t count)
{
    double x_most = 1e-6, y_most = 1e-6;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < series[i].count; j++) {
            x_most = series[i].x[j] > x_most ? series[i].x[j] : x_most;
            y_most = series[i].y[j] > y_most ? series[i].y[j] : y_most;
        }
    }
    fprintf(page, "<svg viewBox=\"0 0 %d %d\" width=\"%d\" role=\"img\">\n", WIDTH, HEIGHT, WIDTH);
    draw_axes(page, x_most, y_most, x_name, y_name);
    for (size_t i = 0; i < count; i++) {
        fprintf(page, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" points=\"",
                colours[i % 8]);
        for (size_t j = 0; j < series[i].count; j++)
            fprintf(page, "%.1f,%.1f ", place_x(series[i].x[j], x_most),
                    place_y(series[i].y[j], y_most));
        fputs("\"/>\n", page);
    }
    fputs("</svg>\n", page);
    if (count > 1)
        draw_legend(page, series, count);
}
