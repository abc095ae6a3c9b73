#include "text.h"

#include <stdlib.h>
#include <string.h>

#include "os.h"

struct output {
    char *buffer;
    size_t capacity; /* without the closing zero */
    size_t length;
};

static void put(struct output *output, char character)
{
    if (output->length < output->capacity)
        output->buffer[output->length++] = character;
}

static void put_padded(struct output *output, const char *text, size_t length, int width, bool left)
{
    size_t padding = width > 0 && (size_t)width > length ? (size_t)width - length : 0;
    for (size_t i = 0; !left && i < padding; i++)
        put(output, ' ');
    for (size_t i = 0; i < length; i++)
        put(output, text[i]);
    for (size_t i = 0; left && i < padding; i++)
        put(output, ' ');
}

/* Writes value into the end of digits, which has room for 24 characters, and returns where. */
static char *number(char *end, uint64_t value, unsigned base, bool negative)
{
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (negative)
        *--end = '-';
    return end;
}

size_t text_format_list(char *buffer, size_t capacity, const char *format, va_list arguments)
{
    struct output output = {buffer, capacity - 1, 0};
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(&output, *format);
            continue;
        }
        bool left = *++format == '-';
        if (left)
            format++;
        int width = 0;
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (*format - '0');
        char digits[24];
        char *end = digits + sizeof digits, *start = end;
        const char *text = NULL;
        switch (*format) {
        case 'z':
            format++; /* only %zu */
            start = number(end, va_arg(arguments, size_t), 10, false);
            break;
        case 'u':
            start = number(end, va_arg(arguments, unsigned), 10, false);
            break;
        case 'd': {
            long value = va_arg(arguments, int);
            start = number(end, (uint64_t)(value < 0 ? -value : value), 10, value < 0);
            break;
        }
        case 'p':
            start = number(end, (uintptr_t)va_arg(arguments, void *), 16, false);
            *--start = 'x';
            *--start = '0';
            break;
        case 'c':
            *--start = (char)va_arg(arguments, int);
            break;
        case 's':
            text = va_arg(arguments, const char *);
            break;
        default:
            *--start = *format;
        }
        if (text != NULL)
            put_padded(&output, text, strlen(text), width, left);
        else
            put_padded(&output, start, (size_t)(end - start), width, left);
    }
    buffer[output.length] = '\0';
    return output.length;
}

size_t text_format(char *buffer, size_t capacity, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t length = text_format_list(buffer, capacity, format, arguments);
    va_end(arguments);
    return length;
}

const char *text_tame(char *buffer, size_t capacity, const char *text)
{
    size_t length = 0;
    for (; text[length] != '\0' && length < capacity - 1; length++)
        buffer[length] = text[length] >= ' ' && text[length] <= '~' ? text[length] : '?';
    if (text[length] != '\0')
        memcpy(buffer + length - 3, "...", 3);
    buffer[length] = '\0';
    return buffer;
}

/* One line with a prefix, ended by a newline even when it was cut. */
static void write_line(const char *prefix, const char *format, va_list arguments)
{
    char line[TEXT_LINE];
    size_t length = text_format(line, sizeof line - 1, "%s", prefix);
    length += text_format_list(line + length, sizeof line - 1 - length, format, arguments);
    line[length++] = '\n';
    os_write(2, line, length);
}

void text_line(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line("", format, arguments);
    va_end(arguments);
}

void text_warn(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    write_line("ebbmalloc: ", format, arguments);
    va_end(arguments);
}

_Noreturn cold void text_abort(const char *call, const void *address, const char *what)
{
    text_warn("%s(%p): %s", call, address, what);
    abort();
}
