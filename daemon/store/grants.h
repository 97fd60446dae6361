// Whether the role may do what the daemon does with its own tables.
#pragma once

// A query without parameters, of a row for each GRANT that the role lacks: its statement. Tables
// that are not there are left out.
const char *grants_missing_sql(void);
