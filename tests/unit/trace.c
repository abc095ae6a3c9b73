/* Operations as the bytes that they become: every length of every kind's number comes back, one
 * that is cut is told, and the check sum knows every bit.
 */
#include "support.h"

#include "record/format.h"

/* 0, and what lies about each power of two. */
static uint64_t number_of(unsigned i)
{
    return i == 0 ? 0 : ((uint64_t)1 << (i - 1) / 3) + (i - 1) % 3 - 1;
}
enum { NUMBERS = 1 + 3 * 64 };

static void numbers_of_every_length_come_back(void **state)
{
    (void)state;
    for (enum trace_kind kind = TRACE_MALLOC; kind <= TRACE_TIME; kind++) {
        for (unsigned i = 0; i < NUMBERS; i++) {
            unsigned char bytes[TRACE_OPERATION_MOST];
            memset(bytes, 0xff, sizeof bytes);
            unsigned char *end = trace_put(bytes, kind, number_of(i));
            require(end - bytes <= 11);
            for (const unsigned char *cut = bytes + 1; cut <= end; cut++) {
                const unsigned char *at = bytes;
                enum trace_kind kind_read;
                uint64_t number;
                bool is_whole = trace_get(&at, cut, &kind_read, &number);
                require(is_whole == (cut == end));
                require(at <= cut);
                if (is_whole)
                    require(at == end && kind_read == kind && number == number_of(i));
            }
        }
    }
}

/* It writes four bytes, whatever it needs, and what comes next lies over them. */
static void short_operations_are_short(void **state)
{
    (void)state;
    unsigned char bytes[8];
    require(trace_put_short(bytes, TRACE_CALLOC, 0xf) == bytes + 1);
    require(trace_put_short(bytes, TRACE_CALLOC, 0x10) == bytes + 2);
    require(trace_put_short(bytes, TRACE_CALLOC, 0xfff) == bytes + 2);
    require(trace_put_short(bytes, TRACE_CALLOC, 0x1000) == bytes + 3);
    require(trace_put_short(bytes, TRACE_CALLOC, 0xfffff) == bytes + 3);
    require(trace_put_short(bytes, TRACE_CALLOC, 0x100000) == bytes + 4);
    memset(bytes, 0, sizeof bytes);
    require(trace_put_short(bytes, TRACE_FREE, TRACE_SHORT_NUMBERS - 1) == bytes + 4);
    require(bytes[4] == 0);
}

static void the_sum_knows_every_bit(void **state)
{
    (void)state;
    unsigned char bytes[100] = {1, 2, 3};
    for (size_t length = 0; length <= sizeof bytes; length++) {
        uint32_t sum = trace_sum(7, bytes, length);
        require(sum != trace_sum(8, bytes, length));
        require(length == sizeof bytes || sum != trace_sum(7, bytes, length + 1));
        for (size_t bit = 0; bit < 8 * length; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            require(trace_sum(7, bytes, length) != sum);
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_every_length_come_back),
        cmocka_unit_test(short_operations_are_short),
        cmocka_unit_test(the_sum_knows_every_bit),
    };
    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
