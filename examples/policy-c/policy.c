/* So many units a minute, each minute by itself. */
#include "cellar_policy.h"

#define MINUTE_US 60000000u

enum note { NOTHING, ABOVE_LIMIT };

/* Parameters and states are these structs' bytes: two machines agree on them, since both are WebAssembly. */
struct parameters {
    uint64_t limit;
};

struct state {
    uint64_t minute, spent;
};

static const char *describe(void) {
    return "{\"name\":\"minute-budget\",\"version\":\"1.0.0\",\"unit\":\"requests\",\"state_schema\":1,"
           "\"settings_schema\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"limit\"],"
           "\"properties\":{\"limit\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1099511627776,"
           "\"description\":\"Units a minute.\"}}},"
           "\"notes\":[\"the cost is above the limit: no waiting helps\"]}";
}

/* Settings are {"limit": N}, and are read as just that. */
struct text {
    const char *at, *end;
};

static void skip_space(struct text *text) {
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\t' || *text->at == '\r'))
        text->at++;
}

static bool take(struct text *text, const char *token) {
    skip_space(text);
    const char *at = text->at;
    for (; *token != 0; token++, at++)
        if (at == text->end || *at != *token) return false;
    text->at = at;
    return true;
}

/* A whole number without a sign, as far as the largest amount and a digit. */
static bool take_number(struct text *text, uint64_t *number) {
    skip_space(text);
    const char *first = text->at;
    for (*number = 0; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++)
        if (*number <= CELLAR_AMOUNT_MAX) *number = *number * 10 + (uint64_t)(*text->at - '0');
    return text->at > first && (*first != '0' || text->at == first + 1);
}

static bool configure(struct cellar_bytes settings, struct cellar_bytes *parameters, struct cellar_problem *problem) {
    static struct parameters made;
    struct text text = { settings.at, (const char *)settings.at + settings.length };
    if (!take(&text, "{") || !take(&text, "\"limit\"") || !take(&text, ":") || !take_number(&text, &made.limit)
        || !take(&text, "}") || (skip_space(&text), text.at != text.end)) {
        *problem = (struct cellar_problem){ "", "must be {\"limit\": N}, with a whole number N" };
        return false;
    }
    if (made.limit < 1 || made.limit > CELLAR_AMOUNT_MAX) {
        *problem = (struct cellar_problem){ "/limit", "must be 1 to 1099511627776" };
        return false;
    }
    *parameters = (struct cellar_bytes){ &made, sizeof made };
    return true;
}

static struct cellar_outcome stands(uint64_t limit, uint64_t spent, uint64_t until_next_us) {
    return (struct cellar_outcome){
        .admitted = true,
        .limit = limit,
        .remaining = spent < limit ? limit - spent : 0,
        .reset_after_us = until_next_us,
    };
}

static struct cellar_outcome decide(
    struct cellar_bytes parameters, struct cellar_bytes state, const struct cellar_request *request) {
    static struct state next;
    struct parameters under;
    struct state was = { 0, 0 };
    /* Copied: nobody says that what is passed in is aligned. */
    memcpy(&under, parameters.at, sizeof under);
    if (state.length == sizeof was) memcpy(&was, state.at, sizeof was);

    uint64_t minute = request->now_us / MINUTE_US;
    uint64_t until_next_us = MINUTE_US - request->now_us % MINUTE_US;
    uint64_t spent = was.minute == minute ? was.spent : 0;
    struct cellar_outcome outcome = stands(under.limit, spent, until_next_us);
    if (cellar_only_asks(request)) return outcome;

    uint64_t after = spent;
    if (request->operation == CELLAR_SETTLE) {
        /* What was used was used: charged above the limit, too. What was not used comes back within its minute. */
        if (request->cost > request->held) {
            if (__builtin_add_overflow(spent, request->cost - request->held, &after)) after = UINT64_MAX;
        } else if (request->held_at_us / MINUTE_US == minute) {
            uint64_t unused = request->held - request->cost;
            after = spent > unused ? spent - unused : 0;
        }
        if (after == spent) return outcome;
    } else if (request->cost > outcome.remaining) {
        outcome.admitted = false;
        outcome.retry_after_us = request->cost > under.limit ? 0 : until_next_us;
        outcome.note = request->cost > under.limit ? ABOVE_LIMIT : NOTHING;
        return outcome;
    } else {
        after = spent + request->cost;
    }
    next = (struct state){ minute, after };
    outcome = stands(under.limit, after, until_next_us);
    outcome.state = (struct cellar_bytes){ &next, sizeof next };
    return outcome;
}

static bool migrate(uint32_t schema, struct cellar_bytes state, struct cellar_bytes *migrated, const char **why) {
    if (schema != 1 || state.length != sizeof(struct state)) {
        *why = "only schema 1 was ever written";
        return false;
    }
    *migrated = state;
    return true;
}
