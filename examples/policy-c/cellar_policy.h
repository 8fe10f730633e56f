/* cellar:policy@1.0.0 for C, in one header: include it in the one file of a policy and write the four functions below.
 * No C library is needed, and none is there. What each field means says wit/README.md.
 *
 * A policy keeps nothing between two calls: what is passed in is forgotten when the call ends. What a function returns
 * has to outlive it, so it lies in a static variable or in what was passed in.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 2^40, the most an amount can be, and 9999-12-30T22:00:00Z, the last moment. */
#define CELLAR_AMOUNT_MAX ((uint64_t)1 << 40)
#define CELLAR_TIME_MAX_US 253402207200000000u

struct cellar_bytes {
    const void *at;
    size_t length;
};

enum cellar_operation { CELLAR_CONSUME, CELLAR_RESERVE, CELLAR_SETTLE, CELLAR_PEEK };

struct cellar_attribute {
    struct cellar_bytes name, value;
};

struct cellar_request {
    enum cellar_operation operation;
    uint64_t now_us, cost, held, held_at_us;
    const struct cellar_attribute *attributes;
    size_t attributes_length;
};

struct cellar_outcome {
    bool admitted;
    struct cellar_bytes state; /* no bytes leave it as it was */
    uint64_t limit, remaining, retry_after_us, reset_after_us;
    uint32_t note;
};

/* Strings end with a zero here. */
struct cellar_problem {
    const char *pointer, *message;
};

/* What a policy writes. */

/* Metadata, a JSON object. */
static const char *describe(void);

/* Settings as JSON into parameters; or false, and the first thing that is wrong with them. */
static bool configure(struct cellar_bytes settings, struct cellar_bytes *parameters, struct cellar_problem *problem);

/* One decision. A state of no bytes is a user whom the policy has not seen. */
static struct cellar_outcome decide(
    struct cellar_bytes parameters, struct cellar_bytes state, const struct cellar_request *request);

/* A state of `schema` in this version's form; or false, and why not. */
static bool migrate(uint32_t schema, struct cellar_bytes state, struct cellar_bytes *migrated, const char **why);

/* Whether it can change nothing: a peek, or nothing to take. */
static inline bool cellar_only_asks(const struct cellar_request *request) {
    return request->operation == CELLAR_PEEK || (request->cost == 0 && request->operation != CELLAR_SETTLE);
}

/* What a compiler may call for on its own. */

void *memcpy(void *restrict to, const void *restrict from, size_t length) {
    for (size_t n = 0; n < length; n++) ((unsigned char *)to)[n] = ((const unsigned char *)from)[n];
    return to;
}

void *memset(void *at, int byte, size_t length) {
    for (size_t n = 0; n < length; n++) ((unsigned char *)at)[n] = (unsigned char)byte;
    return at;
}

/* The component's edge: the canonical ABI, by hand. A pointer and a length are four bytes each, fields lie at their
 * natural places, and what a function returns lies where its pointer says.
 */

extern unsigned char __heap_base;
static unsigned char *cellar_top = &__heap_base;

#define CELLAR_EXPORT(name) __attribute__((export_name("cellar:policy/policy@1.0.0#" name)))

/* The host asks for room before each call; it is all free again when the call ends. */
__attribute__((export_name("cabi_realloc"))) void *cellar_realloc(void *old, size_t had, size_t align, size_t size) {
    uintptr_t at = ((uintptr_t)cellar_top + align - 1) & ~(uintptr_t)(align - 1);
    size_t end = __builtin_wasm_memory_size(0) * 65536;
    if (at > end || size > end - at) {
        size_t pages = (at + size - end + 65535) / 65536;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) __builtin_trap();
    }
    cellar_top = (unsigned char *)(at + size);
    if (had > 0) memcpy((void *)at, old, had < size ? had : size);
    return (void *)at;
}

static size_t cellar_length(const char *text) {
    size_t length = 0;
    while (text[length] != 0) length++;
    return length;
}

static struct cellar_bytes cellar_text(const char *text) {
    return (struct cellar_bytes){ text, cellar_length(text) };
}

CELLAR_EXPORT("describe") struct cellar_bytes *cellar_describe(void) {
    static struct cellar_bytes answer;
    answer = cellar_text(describe());
    cellar_top = &__heap_base;
    return &answer;
}

struct cellar_result {
    bool failed;
    struct cellar_bytes value;
};

CELLAR_EXPORT("configure") struct cellar_result *cellar_configure(const void *settings, size_t length) {
    static struct cellar_result answer;
    static struct {
        struct cellar_bytes pointer, message;
    } said;
    struct cellar_problem problem = { "", "" };
    answer.failed = !configure((struct cellar_bytes){ settings, length }, &answer.value, &problem);
    if (answer.failed) {
        said.pointer = cellar_text(problem.pointer);
        said.message = cellar_text(problem.message);
        answer.value = (struct cellar_bytes){ &said, 1 };
    }
    cellar_top = &__heap_base;
    return &answer;
}

struct cellar_answer {
    uint8_t admitted;
    struct {
        uint8_t is_some;
        struct cellar_bytes value;
    } state;
    uint64_t limit, remaining, retry_after_us, reset_after_us;
    uint32_t note;
};

/* An option's mark is as far from its value as the value's alignment asks. */
_Static_assert(offsetof(struct cellar_answer, state) == 4 && offsetof(struct cellar_answer, limit) == 16, "layout");
_Static_assert(offsetof(struct cellar_answer, note) == 48 && sizeof(struct cellar_attribute) == 16, "layout");

CELLAR_EXPORT("decide") struct cellar_answer *cellar_decide(
    const void *parameters, size_t parameters_length, const void *state, size_t state_length, uint32_t operation,
    uint64_t now_us, uint64_t cost, uint64_t held, uint64_t held_at_us, const struct cellar_attribute *attributes,
    size_t attributes_length) {
    static struct cellar_answer answer;
    struct cellar_request request = {
        (enum cellar_operation)operation, now_us, cost, held, held_at_us, attributes, attributes_length,
    };
    struct cellar_outcome outcome = decide(
        (struct cellar_bytes){ parameters, parameters_length }, (struct cellar_bytes){ state, state_length }, &request);
    answer.admitted = outcome.admitted;
    answer.state.is_some = outcome.state.length > 0;
    answer.state.value = outcome.state;
    answer.limit = outcome.limit;
    answer.remaining = outcome.remaining;
    answer.retry_after_us = outcome.retry_after_us;
    answer.reset_after_us = outcome.reset_after_us;
    answer.note = outcome.note;
    cellar_top = &__heap_base;
    return &answer;
}

CELLAR_EXPORT("migrate") struct cellar_result *cellar_migrate(
    uint32_t schema, const void *parameters, size_t parameters_length, const void *state, size_t state_length) {
    static struct cellar_result answer;
    const char *why = "";
    (void)parameters;
    (void)parameters_length;
    answer.failed = !migrate(schema, (struct cellar_bytes){ state, state_length }, &answer.value, &why);
    if (answer.failed) answer.value = cellar_text(why);
    cellar_top = &__heap_base;
    return &answer;
}
