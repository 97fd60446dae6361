// Remembers where the settings were given, for what is wrong with several of them together.
#include "conf/places.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void places_add(struct places *places, const struct section *section, size_t index,
                const struct key *key, bool empty, const char *file, int line)
{
    places->items =
        mem_grow(places->items, places->count, &places->capacity, sizeof *places->items);
    places->items[places->count++] =
        (struct place){section, index, key, empty, mem_strdup(file), line};
}

const struct place *places_find(const struct places *places, const struct section *section,
                                size_t index, const char *key)
{
    for (size_t i = places->count; i > 0; i--) {
        const struct place *place = &places->items[i - 1];
        if (place->section == section && place->index == index && place->key &&
            strcmp(place->key->name, key) == 0)
            return place;
    }
    return NULL;
}

const struct place *places_of(const struct places *places, const struct section *section,
                              size_t index, const char *key)
{
    const struct place *place = key ? places_find(places, section, index, key) : NULL;
    for (size_t i = 0; !place && i < places->count; i++) {
        if (places->items[i].section == section && places->items[i].index == index)
            place = &places->items[i];
    }
    return place;
}

void places_fini(struct places *places)
{
    for (size_t i = 0; i < places->count; i++)
        free(places->items[i].file);
    free(places->items);
    *places = (struct places){0};
}
