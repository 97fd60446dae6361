// Brings sensorlog's own schema up to date, or says what is in the way.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/catalog_internal.h"

enum { SERVER_VERSION_MIN = 140000 }; // date_bin

static void migrate_from(struct catalog *catalog, size_t next);

static void refuse(struct catalog *catalog, char *why)
{
    catalog_migrated(catalog, why);
    free(why);
}

static void refuse_error(struct catalog *catalog, const char *what, const struct pg_result *result)
{
    refuse(catalog, mem_printf("%s: %s (SQLSTATE %s)", what, result->message, result->sqlstate));
}

static void applied(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    const struct migration *migration = &migrations[catalog->migration];
    if (result->ok) {
        log_info("postgres: applied migration %s", migration->name);
        migrate_from(catalog, catalog->migration + 1);
    } else if (catalog_error_of(result->sqlstate) == ERROR_RACE) {
        catalog_wait(catalog, "another sensorlogd migrates at the same time");
    } else if (!catalog_passing(catalog, result)) {
        char *what = mem_printf("migration %s cannot be applied", migration->name);
        refuse_error(catalog, what, result);
        free(what);
    }
}

// Applies migrations[next] and those after it.
static void migrate_from(struct catalog *catalog, size_t next)
{
    if (next >= migration_count) {
        catalog_migrated(catalog, NULL);
        return;
    }
    if (!catalog->options.migrate) {
        refuse(catalog, mem_printf("schema sensorlog lacks migration %s and migrate = false: "
                                   "run sensorlogd migrate",
                                   migrations[next].name));
        return;
    }
    catalog->migration = next;
    char *sql = catalog_sql_migration(&migrations[next]);
    pg_script(catalog->pg, sql, applied, catalog);
    free(sql);
}

static void versions(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    if (!result->ok) {
        if (!catalog_passing(catalog, result))
            refuse_error(catalog, "sensorlog.schema_version cannot be read", result);
        return;
    }
    const struct migration *newest = &migrations[migration_count - 1];
    int known = 0;
    for (int row = 0; row < result->rows; row++) {
        int64_t version = pg_integer(result, row, 0);
        if (version > newest->version) {
            refuse(catalog,
                   mem_printf("schema sensorlog is newer (version %s) than this sensorlogd, which "
                              "knows it up to version %d: upgrade sensorlogd",
                              pg_value(result, row, 0), newest->version));
            return;
        }
        if (version != known + 1)
            break;
        known++;
        if (strcmp(pg_value(result, row, 1), migrations[known].checksum) != 0)
            log_warn("postgres: migration %s was applied in another wording than this sensorlogd's",
                     migrations[known].name);
    }
    migrate_from(catalog, (size_t)known + 1);
}

static void seen(void *arg, const struct pg_result *result)
{
    struct catalog *catalog = arg;
    const char *encoding = result->ok ? pg_value(result, 0, 0) : "";
    if (!result->ok) {
        if (!catalog_passing(catalog, result))
            refuse_error(catalog, "the database cannot be looked at", result);
    } else if (strcmp(encoding, "UTF8") != 0) {
        refuse(catalog, mem_printf("the database's encoding is %s, and topics are UTF-8: create a "
                                   "database with ENCODING 'UTF8' TEMPLATE template0",
                                   encoding));
    } else if (strcmp(pg_value(result, 0, 1), "t") == 0) {
        pg_query(catalog->pg,
                 "SELECT version, checksum FROM sensorlog.schema_version"
                 " WHERE version > 0 ORDER BY version",
                 NULL, versions, catalog);
    } else {
        migrate_from(catalog, 0);
    }
}

void catalog_migrate(struct catalog *catalog)
{
    int version = pg_server_version(catalog->pg);
    if (version < SERVER_VERSION_MIN)
        refuse(catalog, mem_printf("PostgreSQL %d is too old: 14 is needed", version / 10000));
    else
        pg_query(
            catalog->pg,
            "SELECT getdatabaseencoding(), to_regclass('sensorlog.schema_version') IS NOT NULL",
            NULL, seen, catalog);
}
