// The privileges on sensorlog's own tables: as sql/README.md grants them to a role that owns
// nothing.
#include "store/grants.h"

#define ALL "SELECT, INSERT, UPDATE, DELETE"

// Asked by identifiers, since a name in a schema that may not be used is an error.
const char *grants_missing_sql(void)
{
    return "WITH need (name, privileges) AS (VALUES"
           " ('schema_version', 'SELECT'), ('writer', '" ALL "'), ('writer_progress', '" ALL "'),"
           " ('writer_backend', '" ALL "'), ('exchange', '" ALL "'),"
           " ('reject', 'SELECT, INSERT, DELETE'), ('spool_progress', '" ALL "'))"
           "SELECT pg_catalog.format('GRANT USAGE ON SCHEMA sensorlog TO %I', current_user)"
           "  FROM pg_catalog.pg_namespace s WHERE s.nspname = 'sensorlog'"
           "   AND NOT pg_catalog.has_schema_privilege(s.oid, 'USAGE') "
           "UNION ALL "
           "SELECT pg_catalog.format('GRANT %s ON sensorlog.%I TO %I',"
           "                         pg_catalog.string_agg(p.name, ', ' ORDER BY p.number),"
           "                         t.relname, current_user)"
           "  FROM need JOIN pg_catalog.pg_class t ON t.relname = need.name"
           "  JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace AND s.nspname = 'sensorlog'"
           " CROSS JOIN unnest(pg_catalog.string_to_array(need.privileges, ', '))"
           "      WITH ORDINALITY AS p (name, number)"
           " WHERE NOT pg_catalog.has_table_privilege(t.oid, p.name)"
           " GROUP BY t.relname";
}
