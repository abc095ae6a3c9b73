/* Operations as words, and as the bytes that they become: those of trace_put_field, for every
 * length of a number, for literals wherever they lie in a group, and up to any end. */
#include "support.h"

#include <stdlib.h>

#include "record/words.h"

enum { OPERATIONS = 300, ROUNDS = 2000 };

struct notes {
    uint32_t words[OPERATIONS * OPERATION_WORDS];
    unsigned char expected[OPERATIONS * TRACE_OPERATION_MOST], packed[sizeof(uint32_t) * 8192];
    uint32_t *at;
    unsigned char *expected_end;
};

static void note(struct notes *notes, enum trace_kind kind, uint64_t number)
{
    notes->at = word_put(notes->at, kind, number);
    notes->expected_end = trace_put_field(notes->expected_end, kind, number);
}

/* With more to it than a number. */
static void note_literal(struct notes *notes, struct random *random)
{
    uint64_t number = random_next(random), more = random_next(random) >> random_below(random, 64);
    unsigned char *end = trace_put_field(literal_bytes(notes->at), TRACE_REALLOC, number);
    notes->at = literal_end(notes->at, trace_put_number(end, more));
    end = trace_put_field(notes->expected_end, TRACE_REALLOC, number);
    notes->expected_end = trace_put_number(end, more);
}

static void require_packed(struct notes *notes)
{
    unsigned char *end = notes->packed;
    for (const uint32_t *next = notes->words; next < notes->at;) {
        unsigned char *before = end;
        next = words_pack(next, notes->at, &end);
        require((size_t)(end - before) <= PACKED_BYTES);
        require(next <= notes->at);
    }
    require(end - notes->packed == notes->expected_end - notes->expected);
    require(memcmp(notes->packed, notes->expected, (size_t)(end - notes->packed)) == 0);
}

static void begin(struct notes *notes)
{
    notes->at = notes->words;
    notes->expected_end = notes->expected;
}

static void numbers_of_every_length_are_packed(void **state)
{
    (void)state;
    struct notes *notes = malloc(sizeof *notes);
    require(notes != NULL);
    for (enum trace_kind kind = TRACE_MALLOC; kind <= TRACE_TIME; kind++) {
        begin(notes);
        for (unsigned bits = 0; bits < 64; bits++)
            for (uint64_t step = 0; step < 3; step++)
                note(notes, kind, ((uint64_t)1 << bits) + step - 1);
        for (uint64_t number = TRACE_FIELD_INLINE - 2; number < 36; number++)
            note(notes, kind, number);
        require_packed(notes);
    }
    free(notes);
}

static void literals_are_packed_wherever_they_lie(void **state)
{
    (void)state;
    struct random random = {1};
    struct notes *notes = malloc(sizeof *notes);
    require(notes != NULL);
    for (size_t round = 0; round < ROUNDS; round++) {
        begin(notes);
        size_t count = random_below(&random, OPERATIONS), one_in = 1 + random_below(&random, 100);
        for (size_t i = 0; i < count; i++) {
            if (random_below(&random, one_in) == 0)
                note_literal(notes, &random);
            else
                note(notes, (enum trace_kind)random_below(&random, 8),
                     random_next(&random) >> random_below(&random, 64));
        }
        require_packed(notes);
    }
    free(notes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_of_every_length_are_packed),
        cmocka_unit_test(literals_are_packed_wherever_they_lie),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
