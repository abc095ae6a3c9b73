#include <string.h>

#include "map_write.h"

/* A cell of this picture is one of our pages, 32 KiB; a chunk is 32 by 32 of them. */
#define SVG_ROW 32
#define SVG_COLUMNS 32

static const char *const svg_colours[] = {
    "#fff",    "#f2babb", "#e7a6a0", "#dc928b", "#d27f79", "#c86c66", "#bd5854", "#b34542",
    "#a8312f", "#9e1e1d", "#930a0a", "#969696", "#4285d6", "#8c5faf", "#c8cd96", "#ffe8e4"};

/* One state for eight cells: the live ones' mean, or else what there is most to see of. */
static unsigned state_of_word(uint32_t word)
{
    static const uint8_t order[] = {CELL_CACHED, CELL_FREE, CELL_METADATA, CELL_LAZY,
                                    CELL_UNTOUCHED};
    unsigned live = 0, seen = 0;
    for (int cell = 0; cell < CELLS_PER_WORD; cell++) {
        unsigned state = word >> cell * 4 & 15;
        live += state >= CELL_LIVE && state < CELL_FREE ? state : 0;
        seen |= 1u << state;
    }
    if (live != 0)
        return max_size(live / CELLS_PER_WORD, 1);
    for (size_t i = 0; i < sizeof order; i++)
        if (seen >> order[i] & 1)
            return order[i];
    return CELL_EMPTY;
}

struct svg_place {
    size_t rows; /* that were laid out, in blocks of 32 */
};

static void write_svg_state(const struct picture *picture, unsigned state, FILE *file)
{
    size_t row = 0;
    fprintf(file, "<path fill=\"%s\" d=\"", svg_colours[state]);
    for (size_t i = 0; i < picture->count; i++) {
        const struct area *area = &picture->areas[i];
        size_t words = (area->cells + CELLS_PER_WORD - 1) / CELLS_PER_WORD;
        for (size_t word = 0, run; word < words; word += run) {
            run = 1;
            if (state_of_word(picture->words[area->first + word]) != state)
                continue;
            while (word % SVG_ROW + run < SVG_ROW && word + run < words &&
                   state_of_word(picture->words[area->first + word + run]) == state)
                run++;
            size_t line = row + word / SVG_ROW;
            size_t x = line / SVG_ROW % SVG_COLUMNS * (SVG_ROW + 1) + word % SVG_ROW;
            size_t y = line / SVG_ROW / SVG_COLUMNS * (SVG_ROW + 1) + line % SVG_ROW;
            fprintf(file, "M%zu %zuh%zuv1h-%zuz", x, y, run, run);
        }
        row += (words + SVG_ROW - 1) / SVG_ROW;
    }
    fputs("\"/>\n", file);
}

static void write_svg_frame(size_t rows, size_t columns, FILE *file)
{
    fputs("<path fill=\"#fff\" d=\"", file);
    for (size_t block = 0; block * SVG_ROW < rows; block++)
        fprintf(file, "M%zu %zuh%dv%zuh-%dz", block % columns * (SVG_ROW + 1),
                block / columns * (SVG_ROW + 1), SVG_ROW, min_size(rows - block * SVG_ROW, SVG_ROW),
                SVG_ROW);
    fputs("\"/>\n", file);
}

static void write_escaped(const char *text, FILE *file)
{
    for (; *text != '\0'; text++)
        if (strchr("<>&\"", *text) != NULL)
            fprintf(file, "&#%d;", *text);
        else
            putc(*text, file);
}

static void write_svg_bar(const struct heap *heap, size_t width, FILE *file)
{
    const struct stats *stats = &heap->stats;
    const struct {
        const char *name, *colour;
        size_t bytes;
    } parts[] = {{"live", svg_colours[8], stats->small_live + stats->large_live + stats->huge_live},
                 {"in caches", svg_colours[CELL_CACHED], stats->cached},
                 {"free, resident", svg_colours[CELL_FREE],
                  stats->small_free + stats->pages_dirty + stats->huge_kept},
                 {"left to the kernel", svg_colours[CELL_LAZY], stats->pages_lazy},
                 {"metadata", svg_colours[CELL_METADATA], heap->kernel_metadata},
                 {"given back", svg_colours[CELL_EMPTY], stats->holes + stats->pages_clean}};
    double sum = 1, x = 0;
    size_t count = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < count; i++)
        sum += (double)parts[i].bytes;
    for (size_t i = 0; i < count; i++) {
        double share = (double)parts[i].bytes / sum * (double)width;
        fprintf(file, "<rect x=\"%.2f\" y=\"40\" width=\"%.2f\" height=\"14\" fill=\"%s\"/>\n", x,
                share, parts[i].colour);
        x += share;
    }
    fprintf(file,
            "<rect x=\"0\" y=\"40\" width=\"%zu\" height=\"14\" fill=\"none\" "
            "stroke=\"#888\"/>\n",
            width);
    for (size_t i = 0; i < count; i++)
        fprintf(file,
                "<rect x=\"%zu\" y=\"%zu\" width=\"10\" height=\"10\" fill=\"%s\" stroke=\"#888\"/>"
                "<text x=\"%zu\" y=\"%zu\">%s %.1f MiB</text>\n",
                i % 3 * width / 3, 62 + i / 3 * 16, parts[i].colour, i % 3 * width / 3 + 15,
                71 + i / 3 * 16, parts[i].name, (double)parts[i].bytes / (double)MiB);
}

void map_write_svg(const struct picture *picture, const struct heap *heap,
                   const struct target *target, FILE *file)
{
    size_t rows = 0;
    for (size_t i = 0; i < picture->count; i++) {
        size_t words = (picture->areas[i].cells + CELLS_PER_WORD - 1) / CELLS_PER_WORD;
        rows += (words + SVG_ROW - 1) / SVG_ROW;
    }
    size_t blocks = (rows + SVG_ROW - 1) / SVG_ROW, columns = min_size(max_size(blocks, 1), 32);
    size_t high = (blocks + SVG_COLUMNS - 1) / SVG_COLUMNS * (SVG_ROW + 1);
    size_t wide = columns * (SVG_ROW + 1), width = 720;
    double scale = min_size(width * 8 / wide, 64) / 8.0;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%zu\" height=\"%.0f\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#f4f4f2\"/>\n<g "
            "transform=\"translate(10 0)\">\n<text x=\"0\" y=\"26\" font-size=\"15\">",
            width + 20, (double)high * scale + 120);
    write_escaped(target->name, file);
    fprintf(file, ", process %d: %.1f MiB resident. A dot is 32 KiB, a block 32 MiB.</text>\n",
            (int)target->pid, (double)heap->stats.resident / (double)MiB);
    write_svg_bar(heap, width, file);
    fprintf(file, "<g transform=\"translate(0 106) scale(%.3f)\" shape-rendering=\"crispEdges\">\n",
            scale);
    write_svg_frame(rows, SVG_COLUMNS, file);
    for (unsigned state = CELL_LIVE; state <= CELL_UNTOUCHED; state++)
        write_svg_state(picture, state, file);
    fputs("</g>\n</g>\n</svg>\n", file);
}
