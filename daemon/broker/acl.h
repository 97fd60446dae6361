// Who may publish and receive what: an ACL file in mosquitto's syntax.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct acl;

enum acl_access { ACL_READ = 1, ACL_WRITE = 2 };

// Reads the file. NULL with *error ("FILE:LINE: what is wrong, what to do"), which the caller
// frees.
struct acl *acl_load(const char *path, char **error);
void acl_free(struct acl *acl);
// username NULL: anonymous. acl NULL: everything is allowed. Once per message: cheap.
bool acl_allows(const struct acl *acl, const char *username, const char *client_id,
                enum acl_access access, const char *topic, size_t length);
// Whether some message could come by the filter (without $share/NAME/) at all.
bool acl_may_subscribe(const struct acl *acl, const char *username, const char *client_id,
                       const char *filter);
