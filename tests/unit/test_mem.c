// Memory, arenas, lists and back-off.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/backoff.h"
#include "base/list.h"
#include "base/mem.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void texts(void **state)
{
    (void)state;
    char *copy = mem_strdup("abc"), *part = mem_strndup("abc", 2), *whole = mem_strndup("abc", 9);
    char *printed = mem_printf("%s %d", copy, 42);
    assert_string_equal(copy, "abc");
    assert_string_equal(part, "ab");
    assert_string_equal(whole, "abc");
    assert_string_equal(printed, "abc 42");
    free(copy);
    free(part);
    free(whole);
    free(printed);
}

static void no_bytes_are_memory_too(void **state)
{
    (void)state;
    void *none = mem_alloc(0), *zeroed = mem_zalloc(0), *again = mem_realloc(NULL, 0, 8);
    assert_non_null(none);
    assert_non_null(zeroed);
    assert_non_null(again);
    free(none);
    free(zeroed);
    free(again);
}

static void arrays_grow(void **state)
{
    (void)state;
    int *numbers = NULL;
    size_t capacity = 0, grown = 0;
    for (int i = 0; i < 1000; i++) {
        size_t before = capacity;
        numbers = mem_grow(numbers, (size_t)i, &capacity, sizeof *numbers);
        grown += capacity != before;
        numbers[i] = i;
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(numbers[i], i);
    assert_true(capacity >= 1000);
    assert_in_range(grown, 1, 12); // it doubles
    free(numbers);
}

// ---- arenas ----

static void arenas_align_and_keep(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,      1, 7, 8, 15, 16, 17, 100, 16 * 1024, 16 * 1024 + 1,
                                   100000, 3};
    struct arena arena;
    unsigned char *pieces[COUNT(sizes)];
    arena_init(&arena);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        pieces[i] = arena_alloc(&arena, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
        memset(pieces[i], (int)i, sizes[i]);
    }
    size_t sum = 0;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(pieces[i][k], i);
        sum += sizes[i];
    }
    assert_in_range(arena.used, sum, sum + COUNT(sizes) * _Alignof(max_align_t));
    arena_fini(&arena);
    assert_int_equal(arena.used, 0);
}

static void a_reset_arena_starts_at_its_first_block(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    arena_reset(&arena); // nothing yet
    void *first = arena_alloc(&arena, 100);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++)
            arena_alloc(&arena, 1000);
        arena_reset(&arena);
        assert_int_equal(arena.used, 0);
        assert_ptr_equal(arena_alloc(&arena, 100), first);
    }
    arena_fini(&arena);
    arena_fini(&arena);
}

static void arenas_copy_and_print(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena);
    const char *copy = arena_copy(&arena, "a\0bc", 3), *none = arena_copy(&arena, NULL, 0);
    assert_memory_equal(copy, "a\0b", 4);
    assert_string_equal(none, "");
    assert_string_equal(arena_printf(&arena, "%05d", 42), "00042");
    arena_fini(&arena);
}

// ---- lists ----

struct item {
    int number;
    struct list node;
};

static int digits(struct list *head)
{
    int number = 0;
    list_each (node, head)
        number = number * 10 + list_entry(node, struct item, node)->number;
    return number;
}

static void lists(void **state)
{
    (void)state;
    struct item items[] = {{.number = 1}, {.number = 2}, {.number = 3}, {.number = 4}};
    struct list head;
    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_take(&head));
    for (int i = 0; i < 3; i++)
        list_append(&head, &items[i].node);
    list_prepend(&head, &items[3].node);
    assert_int_equal(digits(&head), 4123);
    list_remove(&items[1].node);
    list_remove(&items[1].node); // harmless
    assert_int_equal(digits(&head), 413);
    assert_ptr_equal(list_take(&head), &items[3].node);
    list_each (node, &head) // removing the current one
        list_remove(node);
    assert_true(list_empty(&head));
}

// ---- back-off ----

static void waits_double_with_jitter(void **state)
{
    (void)state;
    static const int64_t ceilings[] = {200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    struct backoff backoff = {.minimum_ms = 200, .maximum_ms = 5000};
    bool differ = false;
    int64_t first = -1;
    for (int round = 0; round < 100; round++) {
        for (size_t i = 0; i < COUNT(ceilings); i++) {
            int64_t wait = backoff_next_ms(&backoff);
            assert_in_range(wait, ceilings[i] / 2, ceilings[i]);
            if (i == 0) {
                differ |= first >= 0 && wait != first;
                first = wait;
            }
        }
        backoff_reset(&backoff);
    }
    assert_true(differ);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(no_bytes_are_memory_too),
        cmocka_unit_test(arrays_grow),
        cmocka_unit_test(arenas_align_and_keep),
        cmocka_unit_test(a_reset_arena_starts_at_its_first_block),
        cmocka_unit_test(arenas_copy_and_print),
        cmocka_unit_test(lists),
        cmocka_unit_test(waits_double_with_jitter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
