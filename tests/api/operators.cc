/*
 * C++: operator new and delete in all their forms. What they owe: a unique aligned block, or the
 * new-handler called until it gives up, and then std::bad_alloc, or a null pointer for nothrow.
 */
#include "support.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <malloc.h>
#include <signal.h>
#include <sys/wait.h>

#ifndef __cpp_sized_deallocation /* clang before 19 does not declare them unasked */
void operator delete(void *block, std::size_t size) noexcept;
void operator delete[](void *block, std::size_t size) noexcept;
void operator delete(void *block, std::size_t size, std::align_val_t alignment) noexcept;
void operator delete[](void *block, std::size_t size, std::align_val_t alignment) noexcept;
#endif

namespace
{

constexpr std::size_t too_much = static_cast<std::size_t>(PTRDIFF_MAX) + 1;

std::size_t alignment_of(std::align_val_t alignment)
{
    return static_cast<std::size_t>(alignment);
}

/* The eight forms of new, behind one signature; those without an alignment ignore it. */
struct NewForm {
    const char *name;
    void *(*call)(std::size_t size, std::align_val_t alignment);
    bool throws, aligned;
};

const NewForm new_forms[] = {
    {"new", [](std::size_t n, std::align_val_t) { return ::operator new(n); }, true, false},
    {"new[]", [](std::size_t n, std::align_val_t) { return ::operator new[](n); }, true, false},
    {"new nothrow", [](std::size_t n, std::align_val_t) { return ::operator new(n, std::nothrow); },
     false, false},
    {"new[] nothrow",
     [](std::size_t n, std::align_val_t) { return ::operator new[](n, std::nothrow); }, false,
     false},
    {"new aligned", [](std::size_t n, std::align_val_t a) { return ::operator new(n, a); }, true,
     true},
    {"new[] aligned", [](std::size_t n, std::align_val_t a) { return ::operator new[](n, a); },
     true, true},
    {"new aligned nothrow",
     [](std::size_t n, std::align_val_t a) { return ::operator new(n, a, std::nothrow); }, false,
     true},
    {"new[] aligned nothrow",
     [](std::size_t n, std::align_val_t a) { return ::operator new[](n, a, std::nothrow); }, false,
     true},
};

/* The twelve forms of delete; those without a size or an alignment ignore it. */
struct DeleteForm {
    const char *name;
    void (*call)(void *block, std::size_t size, std::align_val_t alignment);
    bool aligned;
};

using Size = std::size_t;
using Alignment = std::align_val_t;
using std::nothrow;

const DeleteForm delete_forms[] = {
    {"delete", [](void *p, Size, Alignment) { ::operator delete(p); }, false},
    {"delete[]", [](void *p, Size, Alignment) { ::operator delete[](p); }, false},
    {"delete nothrow", [](void *p, Size, Alignment) { ::operator delete(p, nothrow); }, false},
    {"delete[] nothrow", [](void *p, Size, Alignment) { ::operator delete[](p, nothrow); }, false},
    {"delete sized", [](void *p, Size n, Alignment) { ::operator delete(p, n); }, false},
    {"delete[] sized", [](void *p, Size n, Alignment) { ::operator delete[](p, n); }, false},
    {"delete aligned", [](void *p, Size, Alignment a) { ::operator delete(p, a); }, true},
    {"delete[] aligned", [](void *p, Size, Alignment a) { ::operator delete[](p, a); }, true},
    {"delete aligned nothrow", [](void *p, Size, Alignment a) { ::operator delete(p, a, nothrow); },
     true},
    {"delete[] aligned nothrow",
     [](void *p, Size, Alignment a) { ::operator delete[](p, a, nothrow); }, true},
    {"delete sized aligned", [](void *p, Size n, Alignment a) { ::operator delete(p, n, a); },
     true},
    {"delete[] sized aligned", [](void *p, Size n, Alignment a) { ::operator delete[](p, n, a); },
     true},
};

void check_block(const NewForm &form, void *block, std::size_t size, std::align_val_t alignment)
{
    assert_non_null(block);
    assert_true(is_aligned(block, form.aligned ? std::max<std::size_t>(alignment_of(alignment), 16)
                                               : std::size_t{BLOCK_ALIGNMENT}));
    assert_true(malloc_usable_size(block) >= size);
    const std::size_t looked_at = std::min<std::size_t>(size, 5000);
    fill(block, looked_at, size);
    assert_int_equal(first_bad_byte(block, looked_at, size), looked_at);
}

void every_new_goes_with_every_delete(void **)
{
    for (std::size_t i = 0; i < border_size_count; i++) {
        for (std::size_t a = 1; a <= 64 * KIB; a *= 4) {
            const auto alignment = static_cast<std::align_val_t>(a);
            for (const NewForm &allocate : new_forms) {
                for (const DeleteForm &release : delete_forms) {
                    if (allocate.aligned != release.aligned)
                        continue;
                    void *block = allocate.call(border_sizes[i], alignment);
                    check_block(allocate, block, border_sizes[i], alignment);
                    release.call(block, border_sizes[i], alignment);
                }
            }
        }
    }
}

void every_small_size_is_aligned_and_can_be_deleted_by_size(void **)
{
    std::vector<void *> blocks(70001);
    for (std::size_t size = 0; size < blocks.size(); size++) {
        blocks[size] = ::operator new(size);
        assert_true(is_aligned(blocks[size], BLOCK_ALIGNMENT));
    }
    for (std::size_t size = 0; size < blocks.size(); size++)
        ::operator delete(blocks[size], size);
}

void every_alignment_is_honoured_and_can_be_deleted_by_size(void **)
{
    for (std::size_t a = 1; a <= 64 * MIB; a *= 2) {
        const auto alignment = static_cast<std::align_val_t>(a);
        const std::size_t sizes[] = {0, 1, a - 1, a, a + 1, 3 * a + 7, 100, 5000};
        for (std::size_t size : sizes) {
            void *first = ::operator new(size, alignment);
            void *second = ::operator new(size, alignment);
            assert_true(is_aligned(first, a));
            assert_true(is_aligned(second, a));
            assert_ptr_not_equal(first, second);
            ::operator delete(first, size, alignment);
            ::operator delete(second, size, alignment);
        }
    }
}

void zero_bytes_give_unique_blocks(void **)
{
    for (const NewForm &form : new_forms) {
        const auto alignment = static_cast<std::align_val_t>(64);
        void *first = form.call(0, alignment);
        void *second = form.call(0, alignment);
        assert_non_null(first);
        assert_non_null(second);
        assert_ptr_not_equal(first, second);
        const DeleteForm &release = delete_forms[form.aligned ? 6 : 0];
        release.call(first, 0, alignment);
        release.call(second, 0, alignment);
    }
}

void delete_of_null_does_nothing_and_delete_keeps_errno(void **)
{
    const auto alignment = static_cast<std::align_val_t>(64);
    for (const DeleteForm &form : delete_forms) {
        for (std::size_t i = 0; i < border_size_count; i++) {
            void *block = form.aligned ? ::operator new(border_sizes[i], alignment)
                                       : ::operator new(border_sizes[i]);
            errno = EDOM;
            form.call(nullptr, border_sizes[i], alignment);
            form.call(block, border_sizes[i], alignment);
            assert_int_equal(errno, EDOM);
        }
    }
}

/* Were the memory not taken back by one of the forms, this would run out of it. */
void churn_with_every_delete(void *)
{
    const auto alignment = static_cast<std::align_val_t>(128);
    const std::size_t before = resident_bytes();
    limit_address_space(1024 * MIB);
    for (const DeleteForm &form : delete_forms) {
        for (std::size_t size : {std::size_t{40}, std::size_t{5000}, 300 * KIB, 32 * MIB}) {
            const std::size_t rounds = std::min<std::size_t>(2048 * MIB / size, 300000);
            for (std::size_t i = 0; i < rounds; i++) {
                auto *block =
                    static_cast<char *>(form.aligned ? ::operator new(size, alignment, std::nothrow)
                                                     : ::operator new(size, std::nothrow));
                child_check(block != nullptr);
                block[0] = 1;
                form.call(block, size, alignment);
            }
        }
    }
    child_check(resident_bytes() < before + 64 * MIB);
}

void every_delete_takes_the_memory_back(void **)
{
    child_end end;
    run_child(&end, churn_with_every_delete, nullptr);
    assert_child_passed(&end);
}

/* How an allocation that cannot succeed ended. */
enum class Ending { null, bad_alloc, other_exception, block };

Ending ending_of(const NewForm &form, std::size_t size)
{
    try {
        void *block = form.call(opaque(size), static_cast<std::align_val_t>(64));
        return block == nullptr ? Ending::null : Ending::block;
    } catch (const std::bad_alloc &) {
        return Ending::bad_alloc;
    } catch (...) {
        return Ending::other_exception;
    }
}

const std::size_t impossible_sizes[] = {
    too_much - 1, too_much, too_much + 1, SIZE_MAX - 4096, SIZE_MAX - 64, SIZE_MAX - 15, SIZE_MAX,
};

void without_memory_new_throws_bad_alloc_and_nothrow_gives_null(void **)
{
    std::set_new_handler(nullptr);
    for (const NewForm &form : new_forms) {
        const Ending expected = form.throws ? Ending::bad_alloc : Ending::null;
        for (std::size_t size : impossible_sizes) {
            /* libstdc++ 12's own aligned new rounds these up to 0 bytes, and succeeds. */
            if (form.aligned && size > SIZE_MAX - 64 && !on_ebbmalloc())
                continue;
            assert_true(ending_of(form, size) == expected);
        }
    }
}

int handler_calls;

void give_up_after_three_calls()
{
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

void the_new_handler_is_called_until_there_is_none(void **)
{
    for (const NewForm &form : new_forms) {
        handler_calls = 0;
        std::set_new_handler(give_up_after_three_calls);
        const Ending expected = form.throws ? Ending::bad_alloc : Ending::null;
        assert_true(ending_of(form, too_much) == expected);
        assert_int_equal(handler_calls, 3);
    }
}

struct OutOfBudget : std::bad_alloc {
    const char *what() const noexcept override { return "out of budget"; }
};

void throw_out_of_budget()
{
    handler_calls++;
    throw OutOfBudget();
}

/* The handler's own exception comes out of the throwing forms and turns to null in the others. */
void an_exception_of_the_new_handler_passes_through(void **)
{
    std::set_new_handler(throw_out_of_budget);
    for (const NewForm &form : new_forms) {
        handler_calls = 0;
        bool caught = false;
        void *block = nullptr;
        try {
            block = form.call(opaque(too_much), static_cast<std::align_val_t>(64));
        } catch (const OutOfBudget &) {
            caught = true;
        }
        assert_null(block);
        assert_int_equal(caught, form.throws);
        assert_int_equal(handler_calls, 1);
    }
    std::set_new_handler(nullptr);
}

void the_new_handler_is_not_called_while_there_is_memory(void **)
{
    handler_calls = 0;
    std::set_new_handler(throw_out_of_budget);
    for (const NewForm &form : new_forms) {
        for (std::size_t i = 0; i < border_size_count; i++) {
            void *block = form.call(border_sizes[i], static_cast<std::align_val_t>(64));
            assert_non_null(block);
            delete_forms[form.aligned ? 6 : 0].call(block, border_sizes[i],
                                                    static_cast<std::align_val_t>(64));
        }
    }
    std::set_new_handler(nullptr);
    assert_int_equal(handler_calls, 0);
}

/* What the handler below gives up, as a program with a reserve for bad days does. */
void *reserve;

void release_reserve()
{
    handler_calls++;
    child_check(reserve != nullptr);
    free(reserve);
    reserve = nullptr;
}

/* Takes all but less than one block, in whole blocks of this size. */
void take_all_of(std::size_t size)
{
    while (void *block = malloc(size))
        *static_cast<volatile char *>(block) = 1;
}

void run_out_with_a_reserve(void *argument)
{
    const NewForm &form = *static_cast<const NewForm *>(argument);
    const std::size_t size = 16 * MIB;
    limit_address_space(256 * MIB);
    reserve = malloc(2 * size);
    child_check(reserve != nullptr);
    take_all_of(size);
    handler_calls = 0;
    std::set_new_handler(release_reserve);
    void *block = form.call(size, static_cast<std::align_val_t>(64));
    child_check(block != nullptr);
    child_check(handler_calls == 1);
    memset(block, 1, size);
}

void a_new_handler_that_frees_memory_lets_new_succeed(void **)
{
    for (const NewForm &form : new_forms) {
        child_end end;
        run_child(&end, run_out_with_a_reserve, const_cast<NewForm *>(&form));
        assert_child_passed(&end);
    }
}

/* bad_alloc itself must be made, thrown and caught when there is no memory, of small blocks too. */
void throw_when_all_is_full(void *)
{
    limit_address_space(64 * MIB);
    for (std::size_t size : {16 * MIB, MIB, 30 * KIB, KIB, std::size_t{100}})
        take_all_of(size);
    for (int round = 0; round < 1000; round++) {
        bool caught = false;
        try {
            *static_cast<volatile char *>(::operator new(opaque(16 * MIB))) = 1;
        } catch (const std::bad_alloc &exception) {
            caught = exception.what() != nullptr;
        }
        child_check(caught);
        child_check(::operator new(opaque(16 * MIB), std::nothrow) == nullptr);
    }
}

void bad_alloc_is_thrown_when_all_memory_is_taken(void **)
{
    child_end end;
    run_child(&end, throw_when_all_is_full, nullptr);
    assert_child_passed(&end);
}

/* The first lookup of what runs the handlers may come from two threads at once. */
void threads_that_run_out_together_each_get_bad_alloc(void **)
{
    std::vector<std::thread> threads;
    std::vector<int> caught(8);
    for (std::size_t i = 0; i < caught.size(); i++)
        threads.emplace_back([&caught, i] {
            for (int round = 0; round < 1000; round++)
                caught[i] += ending_of(new_forms[round % 8], too_much) ==
                             (new_forms[round % 8].throws ? Ending::bad_alloc : Ending::null);
        });
    for (std::thread &thread : threads)
        thread.join();
    for (int count : caught)
        assert_int_equal(count, 1000);
}

struct Wide {
    alignas(256) char bytes[300];
    Wide() { fill(bytes, sizeof bytes, 1); }
    ~Wide() { assert_int_equal(first_bad_byte(bytes, sizeof bytes, 1), sizeof bytes); }
};

int objects_alive;

struct ThrowsLate {
    ThrowsLate()
    {
        if (objects_alive == 7)
            throw std::runtime_error("no more");
        objects_alive++;
    }
    ~ThrowsLate() { objects_alive--; }
    char bytes[100];
};

void expressions_of_the_language_use_the_right_forms(void **)
{
    for (int i = 0; i < 100; i++) {
        std::unique_ptr<Wide> one(new Wide);
        std::unique_ptr<Wide[]> many(new Wide[3]);
        assert_true(is_aligned(one.get(), 256));
        assert_true(is_aligned(many.get(), 256));
        bool threw = false;
        try {
            std::unique_ptr<ThrowsLate[]> objects(new ThrowsLate[10]);
        } catch (const std::runtime_error &) {
            threw = true;
        }
        assert_true(threw);
        assert_int_equal(objects_alive, 0);
    }
}

void an_array_that_is_too_long_throws(void **)
{
    bool caught = false;
    try {
        const std::unique_ptr<long[]> block(new long[opaque(SIZE_MAX / 4)]);
        assert_null(block.get());
    } catch (const std::bad_alloc &) { /* bad_array_new_length is one */
        caught = true;
    }
    assert_true(caught);
}

void containers_work(void **)
{
    std::map<std::string, std::vector<std::string>> index;
    for (int i = 0; i < 20000; i++)
        index["key " + std::to_string(i % 777)].push_back(std::string(i % 300, 'x'));
    std::size_t strings = 0, characters = 0;
    for (const auto &[key, values] : index) {
        strings += values.size();
        for (const std::string &value : values)
            characters += value.size();
    }
    assert_int_equal(strings, 20000);
    std::size_t expected = 0;
    for (int i = 0; i < 20000; i++)
        expected += static_cast<std::size_t>(i % 300);
    assert_int_equal(characters, expected);
}

/* ---- Mistakes. ---- */

struct Mistake {
    const DeleteForm *form;
    std::size_t size;
};

void delete_foreign_pointer(void *argument)
{
    const auto *mistake = static_cast<const Mistake *>(argument);
    static char not_allocated[4096 * 16];
    mistake->form->call(opaque_pointer(not_allocated + 4096), mistake->size,
                        static_cast<std::align_val_t>(64));
    malloc_trim(0);
}

void every_delete_refuses_a_foreign_pointer(void **)
{
    skip_on_other_malloc();
    for (const DeleteForm &form : delete_forms) {
        for (std::size_t size : {std::size_t{64}, 200 * KIB, 32 * MIB}) {
            child_end end;
            Mistake mistake = {&form, size};
            run_child(&end, delete_foreign_pointer, &mistake);
            assert_true(WIFSIGNALED(end.status));
            assert_int_equal(WTERMSIG(end.status), SIGABRT);
            assert_int_equal(strncmp(end.words, "ebbmalloc: ", strlen("ebbmalloc: ")), 0);
            assert_ptr_equal(strchr(end.words, '\n'), end.words + strlen(end.words) - 1);
        }
    }
}

} // namespace

int main()
{
    require_library();
    const CMUnitTest tests[] = {
        cmocka_unit_test(every_new_goes_with_every_delete),
        cmocka_unit_test(every_small_size_is_aligned_and_can_be_deleted_by_size),
        cmocka_unit_test(every_alignment_is_honoured_and_can_be_deleted_by_size),
        cmocka_unit_test(zero_bytes_give_unique_blocks),
        cmocka_unit_test(delete_of_null_does_nothing_and_delete_keeps_errno),
        cmocka_unit_test(every_delete_takes_the_memory_back),
        cmocka_unit_test(without_memory_new_throws_bad_alloc_and_nothrow_gives_null),
        cmocka_unit_test(the_new_handler_is_called_until_there_is_none),
        cmocka_unit_test(an_exception_of_the_new_handler_passes_through),
        cmocka_unit_test(the_new_handler_is_not_called_while_there_is_memory),
        cmocka_unit_test(a_new_handler_that_frees_memory_lets_new_succeed),
        cmocka_unit_test(bad_alloc_is_thrown_when_all_memory_is_taken),
        cmocka_unit_test(threads_that_run_out_together_each_get_bad_alloc),
        cmocka_unit_test(expressions_of_the_language_use_the_right_forms),
        cmocka_unit_test(an_array_that_is_too_long_throws),
        cmocka_unit_test(containers_work),
        cmocka_unit_test(every_delete_refuses_a_foreign_pointer),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
