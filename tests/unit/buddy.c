/* The buddy against a naive model. The model knows which pages are free and nothing else: from them
 * follow the blocks that a buddy must have, for coalescing leaves no choice. So the whole state of
 * a buddy is told by a set of pages, and every reachable state of a small one can be visited.
 */
#include "support.h"

#include "buddy.h"

/* ---- The model: what a buddy with these free pages has to be ----------------------------------
 */

/* A byte per page: 1 is free. */
struct model {
    unsigned char free[BUDDY_PAGES];
};

static bool all_free(const struct model *model, size_t first, size_t end)
{
    for (size_t page = first; page < end; page++)
        if (!model->free[page])
            return false;
    return true;
}

/* The order of the largest aligned block of free pages that page lies in; -1 if it is not free. */
static int model_order(const struct model *model, size_t page)
{
    int order = -1;
    while (order + 1 < BUDDY_ORDERS) {
        size_t size = (size_t)1 << (order + 1), first = page / size * size;
        if (!all_free(model, first, first + size))
            break;
        order++;
    }
    return order;
}

/* The first page that buddy_alloc has to return: of the blocks that hold the run at its alignment
 * the smallest, of those the lowest. */
static size_t model_choice(const struct model *model, size_t limit, size_t pages, size_t alignment)
{
    size_t best = BUDDY_NONE, best_size = SIZE_MAX;
    for (size_t page = 0; page < limit;) {
        int order = model_order(model, page);
        size_t size = order < 0 ? 1 : (size_t)1 << order;
        if (order >= 0 && size >= pages && size >= alignment && size < best_size) {
            best = page;
            best_size = size;
        }
        page += size;
    }
    return best;
}

/* Each order's bitmap in words of its own, the lowest order first. */
static size_t bitmap_start(unsigned order)
{
    size_t start = 0;
    for (unsigned lower = 0; lower < order; lower++)
        start += ((BUDDY_PAGES >> lower) + 63) / 64;
    return start;
}

/* Builds the buddy that the model's pages ask for. */
static void build(const struct model *model, size_t limit, struct buddy *buddy)
{
    memset(buddy, 0, sizeof *buddy);
    for (size_t page = 0; page < limit;) {
        int order = model_order(model, page);
        if (order < 0) {
            page++;
            continue;
        }
        size_t index = page >> order;
        buddy->free[bitmap_start((unsigned)order) + index / 64] |= (uint64_t)1 << (index % 64);
        buddy->counts[order]++;
        buddy->orders |= 1u << order;
        buddy->free_pages += 1u << order;
        page += (size_t)1 << order;
    }
}

static bool same(const struct buddy *a, const struct buddy *b)
{
    return a->orders == b->orders && a->free_pages == b->free_pages &&
           memcmp(a->counts, b->counts, sizeof a->counts) == 0 &&
           memcmp(a->free, b->free, sizeof a->free) == 0;
}

static void set_pages(struct model *model, size_t first, size_t pages, unsigned char free)
{
    memset(model->free + first, free, pages);
}

/* ---- Every state of a small buddy -------------------------------------------------------------
 */

enum { SMALL_PAGES_MOST = 16 };

/* The buddies of all sets of the first SMALL_PAGES_MOST pages, built by the model. */
static struct buddy (*built)[1 << SMALL_PAGES_MOST];
static unsigned char reached[1 << SMALL_PAGES_MOST];
static uint32_t pending[1 << SMALL_PAGES_MOST];
static size_t pending_count, reached_count, transitions;

static void to_model(uint32_t set, struct model *model)
{
    memset(model, 0, sizeof *model);
    for (size_t page = 0; page < SMALL_PAGES_MOST; page++)
        model->free[page] = set >> page & 1;
}

static int build_all(void **state)
{
    (void)state;
    built = malloc(sizeof *built);
    for (uint32_t set = 0; set < 1u << SMALL_PAGES_MOST; set++) {
        struct model model;
        to_model(set, &model);
        build(&model, SMALL_PAGES_MOST, &(*built)[set]);
    }
    return 0;
}

static int forget_all(void **state)
{
    (void)state;
    free(built);
    return 0;
}

/* A step led to this buddy: it must be the one that its pages ask for. */
static void arrive(const struct buddy *buddy, uint32_t set)
{
    require(same(buddy, &(*built)[set]));
    transitions++;
    if (!reached[set]) {
        reached[set] = 1;
        reached_count++;
        pending[pending_count++] = set;
    }
}

static uint32_t run_of(size_t first, size_t pages)
{
    return (uint32_t)(((uint64_t)1 << pages) - 1) << first;
}

static void try_allocs(uint32_t set, const struct model *model, size_t limit)
{
    for (size_t pages = 1; pages <= limit + 1; pages++) {
        for (size_t alignment = 1; alignment <= 2 * limit; alignment *= 2) {
            struct buddy buddy = (*built)[set];
            size_t first = buddy_alloc(&buddy, pages, alignment);
            require(first == model_choice(model, limit, pages, alignment));
            if (first == BUDDY_NONE) {
                arrive(&buddy, set);
                continue;
            }
            require(first % alignment == 0);
            require((set & run_of(first, pages)) == run_of(first, pages));
            arrive(&buddy, set & ~run_of(first, pages));
        }
    }
}

/* All runs: those that are free can be taken, those that are taken can be freed, in any pieces. */
static void try_runs(uint32_t set, size_t limit)
{
    for (size_t first = 0; first < limit; first++) {
        for (size_t pages = 1; first + pages <= limit; pages++) {
            uint32_t run = run_of(first, pages);
            struct buddy buddy = (*built)[set];
            bool taken = buddy_take(&buddy, first, pages);
            require(taken == ((set & run) == run));
            arrive(&buddy, taken ? set & ~run : set);
            if ((set & run) != 0)
                continue;
            buddy = (*built)[set];
            buddy_free(&buddy, first, pages);
            arrive(&buddy, set | run);
        }
    }
}

static void visit_all_states(size_t limit)
{
    memset(reached, 0, sizeof reached);
    reached_count = transitions = pending_count = 0;
    struct buddy buddy;
    buddy_init(&buddy, limit);
    arrive(&buddy, run_of(0, limit));
    while (pending_count != 0) {
        uint32_t set = pending[--pending_count];
        struct model model;
        to_model(set, &model);
        try_allocs(set, &model, limit);
        try_runs(set, limit);
        for (size_t page = 0; page < limit; page++)
            require(buddy_is_free(&(*built)[set], page) == (bool)(set >> page & 1));
    }
    print_message("%zu pages: %zu states, %zu steps\n", limit, reached_count, transitions);
}

static void every_state_up_to_10_pages_is_right(void **state)
{
    (void)state;
    for (size_t limit = 1; limit <= 10; limit++) {
        visit_all_states(limit);
        assert_int_equal(reached_count, (size_t)1 << limit);
    }
}

static void every_state_of_16_pages_is_right(void **state)
{
    (void)state;
    visit_all_states(16);
    assert_int_equal(reached_count, (size_t)1 << 16);
}

/* ---- The full size ----------------------------------------------------------------------------
 */

/* Runs that the test holds, or has carved out with buddy_take. */
struct held {
    size_t first, pages;
};

static struct held held[BUDDY_PAGES];
static size_t held_count;

/* Mostly short runs, now and then a long one. */
static size_t random_pages(struct random *random)
{
    return 1 + random_below(random, (size_t)1 << random_below(random, BUDDY_ORDERS));
}

static void step_alloc(struct random *random, struct buddy *buddy, struct model *model)
{
    size_t pages = random_pages(random);
    size_t alignment = (size_t)1 << (random_below(random, 4) ? 0 : random_below(random, 11));
    size_t expected = model_choice(model, BUDDY_PAGES, pages, alignment);
    size_t first = buddy_alloc(buddy, pages, alignment);
    require(first == expected);
    if (first == BUDDY_NONE)
        return;
    set_pages(model, first, pages, 0);
    held[held_count++] = (struct held){first, pages};
}

static void step_take(struct random *random, struct buddy *buddy, struct model *model)
{
    size_t first = random_below(random, BUDDY_PAGES);
    size_t pages = 1 + random_below(random, 64);
    bool fits = first + pages <= BUDDY_PAGES;
    bool possible = fits && all_free(model, first, first + pages);
    require(buddy_take(buddy, first, pages) == possible);
    if (!possible)
        return;
    set_pages(model, first, pages, 0);
    held[held_count++] = (struct held){first, pages};
}

/* Frees a held run, or some of its pages at either end. */
static void step_free(struct random *random, struct buddy *buddy, struct model *model)
{
    if (held_count == 0)
        return;
    struct held *run = &held[random_below(random, held_count)];
    size_t pages = random_below(random, 2) ? run->pages : 1 + random_below(random, run->pages);
    size_t first = random_below(random, 2) ? run->first : run->first + run->pages - pages;
    buddy_free(buddy, first, pages);
    set_pages(model, first, pages, 1);
    if (first == run->first)
        run->first += pages;
    run->pages -= pages;
    if (run->pages == 0)
        *run = held[--held_count];
}

/* The mix leans to and fro, so that the buddy is nearly full and nearly empty in turn. */
static void random_walk(struct random *random, size_t steps)
{
    struct buddy buddy, expected;
    struct model model;
    held_count = 0;
    buddy_init(&buddy, BUDDY_PAGES);
    set_pages(&model, 0, BUDDY_PAGES, 1);
    for (size_t step = 0; step < steps; step++) {
        size_t frees = step / 500 % 2 == 0 ? 30 : 60;
        size_t choice = random_below(random, 100);
        if (choice < frees)
            step_free(random, &buddy, &model);
        else if (choice < frees + 10)
            step_take(random, &buddy, &model);
        else
            step_alloc(random, &buddy, &model);
        build(&model, BUDDY_PAGES, &expected);
        require(same(&buddy, &expected));
    }
    while (held_count != 0)
        step_free(random, &buddy, &model);
    buddy_init(&expected, BUDDY_PAGES);
    require(same(&buddy, &expected));
}

static void long_random_runs_at_1024_pages_follow_the_model(void **state)
{
    (void)state;
    struct random random = {2024};
    for (int walk = 0; walk < 5; walk++)
        random_walk(&random, 20000);
}

static void what_cannot_fit_is_refused(void **state)
{
    (void)state;
    struct buddy buddy, before;
    buddy_init(&buddy, BUDDY_PAGES);
    before = buddy;
    assert_int_equal(buddy_alloc(&buddy, BUDDY_PAGES + 1, 1), BUDDY_NONE);
    assert_int_equal(buddy_alloc(&buddy, 1, 2 * BUDDY_PAGES), BUDDY_NONE);
    assert_false(buddy_take(&buddy, 1, BUDDY_PAGES));
    assert_false(buddy_take(&buddy, BUDDY_PAGES - 1, 2));
    assert_true(same(&buddy, &before));
    assert_int_equal(buddy_alloc(&buddy, BUDDY_PAGES, BUDDY_PAGES), 0);
    assert_int_equal(buddy_alloc(&buddy, 1, 1), BUDDY_NONE);
    assert_int_equal(buddy.free_pages, 0);
}

static void order_is_the_smallest_that_holds_a_run_at_its_alignment(void **state)
{
    (void)state;
    for (size_t pages = 1; pages <= BUDDY_PAGES; pages++) {
        for (size_t alignment = 1; alignment <= BUDDY_PAGES; alignment *= 2) {
            size_t size = (size_t)1 << buddy_order(pages, alignment);
            assert_true(size >= pages && size >= alignment);
            assert_true(size == 1 || size / 2 < pages || size / 2 < alignment);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_up_to_10_pages_is_right),
        cmocka_unit_test(every_state_of_16_pages_is_right),
        cmocka_unit_test(long_random_runs_at_1024_pages_follow_the_model),
        cmocka_unit_test(what_cannot_fit_is_refused),
        cmocka_unit_test(order_is_the_smallest_that_holds_a_run_at_its_alignment),
    };
    return cmocka_run_group_tests_name("buddy", tests, build_all, forget_all);
}
