// What an ACL file becomes: rules per user, made by acl_load.c, asked by acl.c.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "broker/acl.h"

enum { ACL_DENY = 0 }; // of enum acl_access

enum acl_shape {
    SHAPE_ANY,     // what is not one of the following
    SHAPE_EXACT,   // no wildcard
    SHAPE_SUBTREE, // none but /# at the end
};

struct acl_rule {
    char *filter;
    uint8_t shape;
    uint16_t literal;      // bytes at its start that every topic that it matches begins with
    uint8_t access;        // enum acl_access, or ACL_DENY
    bool has_user, has_id; // pattern: %u, %c
};

struct acl_rules {
    struct acl_rule *items; // those that deny first
    size_t count, capacity, deny_count;
};

struct acl_user {
    char *name;
    struct acl_rules rules;
};

struct acl {
    struct acl_user *users; // by name
    size_t user_count, user_capacity;
    struct acl_rules anonymous, patterns;
};
