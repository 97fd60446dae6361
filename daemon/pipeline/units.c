// Units by udunits2, with the spellings that sensors use and a memory of what was asked before.
#include "pipeline/units.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <udunits2.h>

#include "base/mem.h"

enum { REMEMBERED = 8 };

struct remembered {
    char text[UNIT_TEXT_MAX];
    uint8_t length; // 0: free
    enum unit_result result;
    cv_converter *converter; // where result is UNIT_CONVERTED
    bool shifted;            // between temperatures of different origins
};

struct unit_converter {
    ut_unit *unit;
    bool temperature;
    struct remembered memory[REMEMBERED];
    unsigned oldest; // the one that the next new text takes the place of
};

// ---- spellings ----

struct spelling {
    const char *text, *meaning;
};

// Symbols that udunits2 lacks, or takes apart as no sensor means them: nmi for a nano-mile, ct for
// a hundredth of a tonne, mt for a thousandth of one, fm for a femtometre.
static const struct spelling symbols[] = {
    {"nmi", "nautical_mile"}, {"NM", "nautical_mile"}, {"NMI", "nautical_mile"},
    {"kn", "knot"},           {"fm", "fathom"},        {"ct", "carat"},
    {"mt", "tonne"},          {"lbs", "lb"},           {"kgs", "kg"},
    {"mps", "m/s"},           {"kmh", "km/hour"},      {"fpm", "feet/min"},
    {"lpm", "l/min"},         {"LPM", "l/min"},        {"gpm", "gallon/min"},
    {"GPM", "gallon/min"},    {"cfm", "feet3/min"},    {"CFM", "feet3/min"},
    {"cfs", "feet3/s"},       {"Wh", "W.hour"},        {"Ah", "A.hour"},
    {"Cal", "kcal"},          {"deg", "degree"},       {"dps", "degree/s"},
    {"RPM", "rpm"},           {"kpa", "kPa"},          {"hpa", "hPa"},
    {"mBar", "mbar"},         {"mins", "min"},         {"hrs", "hour"},
};

// Whole texts that are something else to udunits2: C for coulomb, F for farad, mph for milliphot. A
// column has the meaning given here; a payload where udunits2's own does not convert, so that a
// column of coulombs gets coulombs.
static const struct spelling usual[] = {
    {"C", "degC"},
    {"F", "degF"},
    {"deg C", "degC"},
    {"deg F", "degF"},
    {"degrees C", "degC"},
    {"degrees F", "degF"},
    {"\xC2\xB0"
     " C",
     "degC"},
    {"\xC2\xB0"
     " F",
     "degF"},
    {"mph", "mile/hour"},
    {"kph", "km/hour"},
    {"gal", "gallon"},
    {"gals", "gallon"},
    {"gal/h", "gallon/h"},
    {"gal/min", "gallon/min"},
    {"mb", "mbar"},
    {"kg/cm2", "kgf/cm2"},
    {"fl oz", "floz"},
    {"%RH", "%"},
    {"%rh", "%"},
    {"% RH", "%"},
    {"RH", "%"},
};

// And what a payload means only where the column tells.
static const struct spelling by_column[] = {
    {"g", "gravity"}, {"mg", "0.001 gravity"},     {"G", "gauss"},
    {"Gs", "gauss"},  {"oz", "avoirdupois_ounce"}, {"PS", "metric_horsepower"},
    {"cps", "Hz"},
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

// NULL where it is not in the list.
static const char *find_meaning(const struct spelling *list, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(text, list[i].text) == 0)
            return list[i].meaning;
    return NULL;
}

// ---- the database ----

// udunits2's database: some milliseconds and a good megabyte, so it is there only while somebody
// needs it.
static struct {
    ut_system *system;
    unsigned users;
} units;

// udunits2 looks for a symbol as a whole before it looks for prefixes.
static void teach_symbols(void)
{
    for (size_t i = 0; i < COUNT_OF(symbols); i++) {
        ut_unit *unit = ut_parse(units.system, symbols[i].meaning, UT_ASCII);
        ut_map_symbol_to_unit(symbols[i].text, UT_ASCII, unit);
        ut_free(unit);
    }
}

static bool units_acquire(void)
{
    if (!units.system) {
        ut_set_error_message_handler(ut_ignore);
        units.system = ut_read_xml(NULL);
        if (!units.system)
            return false;
        teach_symbols();
    }
    units.users++;
    return true;
}

static void units_release(void)
{
    if (--units.users > 0)
        return;
    ut_free_system(units.system);
    units.system = NULL;
}

static bool is_temperature(ut_unit *unit)
{
    ut_unit *kelvin = ut_get_unit_by_name(units.system, "kelvin");
    bool is = kelvin && ut_are_convertible(unit, kelvin);
    ut_free(kelvin);
    return is;
}

struct unit_converter *unit_converter_new(const char *unit, const char **why)
{
    struct unit_converter *converter;
    ut_unit *parsed;

    if (!units_acquire()) {
        *why = "the database of udunits2 cannot be read";
        return NULL;
    }
    const char *meaning = find_meaning(usual, COUNT_OF(usual), unit);
    parsed = ut_parse(units.system, meaning ? meaning : unit, UT_UTF8);
    if (!parsed) {
        units_release();
        *why = "udunits2 does not know this unit";
        return NULL;
    }
    converter = mem_zalloc(sizeof *converter);
    converter->unit = parsed;
    converter->temperature = is_temperature(parsed);
    return converter;
}

static void forget(struct remembered *entry)
{
    if (entry->converter)
        cv_free(entry->converter);
    *entry = (struct remembered){.length = 0};
}

void unit_converter_free(struct unit_converter *converter)
{
    if (!converter)
        return;
    for (unsigned i = 0; i < REMEMBERED; i++)
        forget(&converter->memory[i]);
    ut_free(converter->unit);
    free(converter);
    units_release();
}

// udunits2 converts reciprocals (s to Hz) and leaves angles out of account (rpm to Hz, off by 2
// pi). We do not: the ratio of the two units must be a bare number. Logarithmic units have no
// ratio, and neither problem.
static bool is_bare_ratio(const ut_unit *from, const ut_unit *to)
{
    char text[128];
    ut_unit *ratio = ut_divide(from, to);
    int length;

    if (!ratio)
        return true;
    length = ut_format(ratio, text, sizeof text, UT_ASCII | UT_DEFINITION);
    ut_free(ratio);
    if (length < 0 || (size_t)length >= sizeof text)
        return false;
    return strspn(text, "0123456789.e+- ") == (size_t)length;
}

static enum unit_result relate(const char *text, ut_unit *to, cv_converter **converter)
{
    ut_unit *from = ut_parse(units.system, text, UT_UTF8);
    enum unit_result result = UNIT_OTHER_KIND;

    if (!from)
        return UNIT_UNKNOWN;
    if (ut_compare(from, to) == 0) {
        result = UNIT_SAME;
    } else if (ut_are_convertible(from, to) && is_bare_ratio(from, to)) {
        *converter = ut_get_converter(from, to);
        result = *converter ? UNIT_CONVERTED : UNIT_OTHER_KIND;
    }
    ut_free(from);
    return result;
}

// As udunits2 has it, else as sensors do.
static enum unit_result relate_text(const char *text, ut_unit *to, cv_converter **converter)
{
    const char *const meanings[] = {
        find_meaning(usual, COUNT_OF(usual), text),
        find_meaning(by_column, COUNT_OF(by_column), text),
    };
    enum unit_result result = relate(text, to, converter);
    for (size_t i = 0; i < COUNT_OF(meanings) && result > UNIT_CONVERTED; i++)
        if (meanings[i])
            result = relate(meanings[i], to, converter);
    return result;
}

static struct remembered *learn(struct unit_converter *converter, const char *from, size_t length)
{
    struct remembered *entry = &converter->memory[converter->oldest];
    char text[UNIT_TEXT_MAX + 1] = "";

    converter->oldest = (converter->oldest + 1) % REMEMBERED;
    forget(entry);
    memcpy(text, from, length);
    memcpy(entry->text, from, length);
    entry->length = (uint8_t)length;
    entry->result = relate_text(text, converter->unit, &entry->converter);
    if (converter->temperature && entry->result == UNIT_CONVERTED)
        entry->shifted = cv_convert_double(entry->converter, 0) != 0;
    return entry;
}

// Zero points add and subtract hundreds of degrees, which blurs what is below 1e-12 of one: 68 degF
// would be 20.000000000000036 degC. No thermometer sees the digits that go here.
static double round_temperature(double value)
{
    const double steps = 1e10;
    return fabs(value) < 1e5 ? round(value * steps) / steps : value;
}

static struct remembered *recall(struct unit_converter *converter, const char *from, size_t length)
{
    for (unsigned i = 0; i < REMEMBERED; i++) {
        struct remembered *entry = &converter->memory[i];
        if (entry->length == length && memcmp(entry->text, from, length) == 0)
            return entry;
    }
    return NULL;
}

enum unit_result unit_convert(struct unit_converter *converter, const char *from, size_t length,
                              double *value)
{
    struct remembered *entry;
    if (length == 0 || length > UNIT_TEXT_MAX)
        return UNIT_UNKNOWN;
    entry = recall(converter, from, length);
    if (!entry)
        entry = learn(converter, from, length);
    if (entry->result != UNIT_CONVERTED)
        return entry->result;
    *value = cv_convert_double(entry->converter, *value);
    if (entry->shifted)
        *value = round_temperature(*value);
    return isfinite(*value) ? UNIT_CONVERTED : UNIT_NO_RESULT;
}
