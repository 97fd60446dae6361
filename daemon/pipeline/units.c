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

// udunits2's database: some milliseconds and a good megabyte, so it is there only while somebody
// needs it.
static struct {
    ut_system *system;
    unsigned users;
} units;

static bool units_acquire(void)
{
    if (!units.system) {
        ut_set_error_message_handler(ut_ignore);
        units.system = ut_read_xml(NULL);
    }
    if (!units.system)
        return false;
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
    parsed = ut_parse(units.system, unit, UT_UTF8);
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

// What sensors write and udunits2 does not know, or takes for something else: C for coulomb, F for
// farad, mph for milliphot. Asked only where the text as it stands does not convert, so that a
// column of coulombs gets coulombs.
static const char *usual_meaning(const char *text)
{
    static const char *const spellings[][2] = {
        {"C", "degC"},        {"F", "degF"},        {"deg C", "degC"},     {"deg F", "degF"},
        {"mph", "mile/hour"}, {"kph", "km/hour"},   {"kmh", "km/hour"},    {"mps", "m/s"},
        {"fpm", "feet/min"},  {"kn", "knot"},       {"RPM", "rpm"},        {"deg", "degree"},
        {"Wh", "W.h"},        {"kWh", "kW.h"},      {"MWh", "MW.h"},       {"Ah", "A.h"},
        {"mAh", "mA.h"},      {"gal", "gallon"},    {"gpm", "gallon/min"}, {"lpm", "l/min"},
        {"LPM", "l/min"},     {"cfm", "feet3/min"}, {"mb", "mbar"},        {"mBar", "mbar"},
        {"lbs", "lb"},        {"kgs", "kg"},        {"mins", "min"},       {"hrs", "hour"},
        {"%RH", "%"},         {"%rh", "%"},         {"% RH", "%"},         {"RH", "%"},
    };
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        if (strcmp(text, spellings[i][0]) == 0)
            return spellings[i][1];
    }
    return NULL;
}

static struct remembered *learn(struct unit_converter *converter, const char *from, size_t length)
{
    struct remembered *entry = &converter->memory[converter->oldest];
    char text[UNIT_TEXT_MAX + 1] = "";
    const char *meaning;

    converter->oldest = (converter->oldest + 1) % REMEMBERED;
    forget(entry);
    memcpy(text, from, length);
    memcpy(entry->text, from, length);
    entry->length = (uint8_t)length;
    entry->result = relate(text, converter->unit, &entry->converter);
    meaning = entry->result > UNIT_CONVERTED ? usual_meaning(text) : NULL;
    if (meaning) {
        enum unit_result second = relate(meaning, converter->unit, &entry->converter);
        if (second <= UNIT_CONVERTED)
            entry->result = second;
    }
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
