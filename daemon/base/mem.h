// Memory that is there or the process ends with a message; and an arena for what dies together.
#pragma once

#include <stdarg.h>
#include <stddef.h>

// Like malloc, calloc, realloc, strdup, strndup, asprintf; they never return NULL. The caller
// frees.
void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *memory, size_t count, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *mem_strndup(const char *text, size_t length) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *mem_vprintf(const char *format, va_list args)
    __attribute__((format(printf, 1, 0), returns_nonnull));

// Makes room for one more element in a growing array of *capacity elements; returns the array.
void *mem_grow(void *array, size_t count, size_t *capacity, size_t size)
    __attribute__((returns_nonnull));

// A bump allocator: everything in it is freed by one reset, which keeps its first block for reuse.
struct arena_block;
struct arena {
    struct arena_block *first, *current;
    size_t used; // bytes handed out since the last reset
};

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);
void arena_reset(struct arena *arena);
// Memory aligned for any type, valid until arena_reset or arena_fini.
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull));
// A copy of length bytes, with a NUL behind them.
char *arena_copy(struct arena *arena, const void *bytes, size_t length)
    __attribute__((returns_nonnull));
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3), returns_nonnull));
