/* Write sandhog plugins in C: one function, and one line that makes it a worker or a gate.
 *
 *     #include "sandhog.h"
 *
 *     sandhog_answer work(const sandhog_task *task) {
 *         const sandhog_artifact *input = sandhog_input(task);
 *         if (!input) return sandhog_invalid_input("expected one input");
 *         return sandhog_artifact_answer("copy.txt", "text/plain", input->content);
 *     }
 *
 *     SANDHOG_WORKER(work)
 *
 * Include it in one file. Build: clang --target=wasm32-wasi -mexec-model=reactor; then `sandhog pack` makes a plugin of the module.
 *
 * Every structure is laid out as the component model's canonical ABI has it on wasm32, so nothing is converted. Nothing is freed either:
 * each call runs in an instance of its own, whose memory goes with it. Text is UTF-8, with its length, and without a zero behind it.
 */
#ifndef SANDHOG_H
#define SANDHOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(void *) == 4, "sandhog plugins are for wasm32");

/* Bytes: a text, or content. */
typedef struct { const char *at; size_t length; } sandhog_bytes;

/* A named piece of content: what a task is given, and what it makes. */
typedef struct { sandhog_bytes name, media_type, content; } sandhog_artifact;

/* How much a finding matters, in rising order. */
typedef enum : uint8_t { SANDHOG_INFO, SANDHOG_LOW, SANDHOG_MEDIUM, SANDHOG_HIGH, SANDHOG_CRITICAL } sandhog_severity;

/* A place in a text; counted from 1, columns in Unicode scalar values. */
typedef struct { uint32_t start_line, start_column, end_line, end_column; } sandhog_span;

/* Optional values: `is` says whether there is one. */
typedef struct { bool is; sandhog_bytes value; } sandhog_optional_bytes;
typedef struct { bool is; sandhog_span value; } sandhog_optional_span;
typedef struct { sandhog_bytes path; sandhog_optional_span span; } sandhog_location;
typedef struct { bool is; sandhog_location value; } sandhog_optional_location;

/* One replacement of bytes, and a mend that a program can make: all its edits, or none. */
typedef struct { uint64_t start, end; sandhog_bytes replacement; } sandhog_edit;
typedef struct { sandhog_bytes description; const sandhog_edit *edits; size_t edits_length; bool safe; } sandhog_fix;
typedef struct { bool is; sandhog_fix value; } sandhog_optional_fix;

/* One thing that a gate has to say about what it judged. */
typedef struct {
    sandhog_bytes rule;
    sandhog_severity severity;
    sandhog_bytes message;
    sandhog_optional_location location;
    sandhog_optional_bytes suggestion, help_url;
    sandhog_optional_fix fix;
} sandhog_finding;

/* What a worker is asked to do; `params` is a JSON object. */
typedef struct {
    sandhog_bytes id, run, step;
    uint32_t attempt, revision;
    sandhog_bytes params;
    const sandhog_artifact *inputs; size_t inputs_length;
    const sandhog_bytes *criteria; size_t criteria_length;
    const sandhog_finding *feedback; size_t feedback_length;
    const sandhog_artifact *previous; size_t previous_length;
} sandhog_task;

/* One file of a subject; its content is in /subject/<path>. */
typedef struct { sandhog_bytes path; uint64_t size; sandhog_bytes media_type; } sandhog_file;

/* What an attempt used. */
typedef struct { uint64_t fuel, peak_memory_bytes, wall_time_ns; } sandhog_usage;
typedef struct { bool is; sandhog_usage value; } sandhog_optional_usage;
typedef struct { bool is; sandhog_task value; } sandhog_optional_task;

/* What a gate is asked to judge. */
typedef struct {
    const sandhog_file *files; size_t files_length;
    sandhog_optional_task task;
    sandhog_optional_usage usage;
    sandhog_bytes params;
    sandhog_optional_bytes unit;
} sandhog_subject;

/* A figure that goes with a verdict. */
typedef struct { sandhog_bytes name; double value; sandhog_bytes unit; } sandhog_metric;

typedef struct {
    bool fails;
    const sandhog_finding *findings; size_t findings_length;
    const sandhog_metric *metrics; size_t metrics_length;
    sandhog_bytes summary;
} sandhog_verdict_;

/* Why a call gave no answer. */
typedef enum : uint8_t { SANDHOG_INVALID_INPUT_, SANDHOG_TRANSIENT_, SANDHOG_PERMANENT_, SANDHOG_CANCELLED_ } sandhog_failure_kind_;
typedef struct { sandhog_failure_kind_ kind; sandhog_bytes why; } sandhog_failure_;

/* What a worker answers: artifacts, or a failure. */
typedef struct {
    bool failed;
    union { struct { const sandhog_artifact *at; size_t length; } artifacts; sandhog_failure_ failure; };
} sandhog_answer;

/* What a gate answers: a verdict, or a failure. */
typedef struct {
    bool failed;
    union { sandhog_verdict_ verdict; sandhog_failure_ failure; };
} sandhog_judgement;

_Static_assert(sizeof(sandhog_artifact) == 24 && sizeof(sandhog_task) == 72, "the layout of the contract");
_Static_assert(sizeof(sandhog_finding) == 100 && sizeof(sandhog_file) == 24, "the layout of the contract");
_Static_assert(sizeof(sandhog_subject) == 144 && sizeof(sandhog_metric) == 24, "the layout of the contract");

/* --- Text ------------------------------------------------------------------------------------------------------------------- */

/* A text of C, as it is. */
static inline sandhog_bytes sandhog_text(const char *text) { return (sandhog_bytes){ text, strlen(text) }; }

/* Whether two are the same. */
static inline bool sandhog_is(sandhog_bytes bytes, const char *text) {
    return bytes.length == strlen(text) && memcmp(bytes.at, text, bytes.length) == 0;
}

/* A copy as a text of C, with a zero behind it. */
static inline char *sandhog_c_text(sandhog_bytes bytes) {
    char *copy = malloc(bytes.length + 1);
    if (!copy) abort();
    memcpy(copy, bytes.at, bytes.length);
    copy[bytes.length] = 0;
    return copy;
}

/* A text made as printf makes it. */
__attribute__((format(printf, 1, 2))) static inline sandhog_bytes sandhog_format(const char *format, ...) {
    __builtin_va_list arguments, again;
    __builtin_va_start(arguments, format);
    __builtin_va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : malloc((size_t)length + 1);
    if (!text) abort();
    vsnprintf(text, (size_t)length + 1, format, again);
    __builtin_va_end(again);
    __builtin_va_end(arguments);
    return (sandhog_bytes){ text, (size_t)length };
}

/* --- Params ----------------------------------------------------------------------------------------------------------------- */

/* Behind one JSON value that begins at `at`; NULL where none does. The host has made sure that params are valid JSON. */
static inline const char *sandhog_json_skip_(const char *at, const char *end) {
    int depth = 0;
    for (bool in_text = false; at < end; at++) {
        if (in_text) {
            if (*at == '\\') at++;
            else if (*at == '"' && (in_text = false, depth == 0)) return at + 1;
        } else if (*at == '"') {
            in_text = true;
        } else if (*at == '{' || *at == '[') {
            depth++;
        } else if (*at == '}' || *at == ']') {
            if (depth == 0) return at;
            if (--depth == 0) return at + 1;
        } else if (depth == 0 && (*at == ',' || *at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) {
            return at;
        }
    }
    return depth == 0 ? at : NULL;
}

/* The JSON of one param, as it stands there; without length where there is none of this name. */
static inline sandhog_bytes sandhog_param(sandhog_bytes params, const char *name) {
    const char *at = params.at, *end = params.at + params.length;
    size_t length = strlen(name);
    if (at < end) at++; /* { */
    while (at < end) {
        while (at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r' || *at == ',')) at++;
        const char *key = at, *key_end = sandhog_json_skip_(at, end);
        if (!key_end || key_end == key) break;
        for (at = key_end; at < end && *at != ':'; at++) {}
        for (at = at < end ? at + 1 : at; at < end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r'); at++) {}
        const char *value = at;
        at = sandhog_json_skip_(at, end);
        if (!at) break;
        if ((size_t)(key_end - key) == length + 2 && memcmp(key + 1, name, length) == 0) {
            return (sandhog_bytes){ value, (size_t)(at - value) };
        }
    }
    return (sandhog_bytes){ NULL, 0 };
}

/* A param that is a whole number; the other value where it is not there or is none. */
static inline long sandhog_param_number(sandhog_bytes params, const char *name, long otherwise) {
    sandhog_bytes json = sandhog_param(params, name);
    if (json.length == 0) return otherwise;
    char *text = sandhog_c_text(json), *behind;
    long number = strtol(text, &behind, 10);
    return *behind || behind == text ? otherwise : number;
}

/* A param that is a text without escapes; the other one where it is not there or is none. */
static inline sandhog_bytes sandhog_param_text(sandhog_bytes params, const char *name, const char *otherwise) {
    sandhog_bytes json = sandhog_param(params, name);
    if (json.length < 2 || json.at[0] != '"' || memchr(json.at, '\\', json.length)) return sandhog_text(otherwise);
    return (sandhog_bytes){ json.at + 1, json.length - 2 };
}

/* --- Workers ---------------------------------------------------------------------------------------------------------------- */

/* The one input of a task that has exactly one; NULL where it has not. */
static inline const sandhog_artifact *sandhog_input(const sandhog_task *task) { return task->inputs_length == 1 ? task->inputs : NULL; }

/* Artifacts, which must outlive the call: not on the stack. */
static inline sandhog_answer sandhog_artifacts(const sandhog_artifact *artifacts, size_t length) {
    return (sandhog_answer){ .failed = false, .artifacts = { artifacts, length } };
}

/* One artifact. */
static inline sandhog_answer sandhog_artifact_answer(const char *name, const char *media_type, sandhog_bytes content) {
    sandhog_artifact *one = malloc(sizeof *one);
    if (!one) abort();
    *one = (sandhog_artifact){ sandhog_text(name), sandhog_text(media_type), content };
    return sandhog_artifacts(one, 1);
}

/* The params or inputs are wrong; it may work the next time; it will not. */
static inline sandhog_answer sandhog_fail_(sandhog_failure_kind_ kind, const char *why) {
    return (sandhog_answer){ .failed = true, .failure = { kind, sandhog_text(why) } };
}
static inline sandhog_answer sandhog_invalid_input(const char *why) { return sandhog_fail_(SANDHOG_INVALID_INPUT_, why); }
static inline sandhog_answer sandhog_transient(const char *why) { return sandhog_fail_(SANDHOG_TRANSIENT_, why); }
static inline sandhog_answer sandhog_permanent(const char *why) { return sandhog_fail_(SANDHOG_PERMANENT_, why); }

/* --- Gates ------------------------------------------------------------------------------------------------------------------ */

/* The content of one file of the subject. Without `at` where it cannot be read. */
static inline sandhog_bytes sandhog_read(sandhog_bytes path) {
    sandhog_bytes name = sandhog_format("/subject/%.*s", (int)path.length, path.at);
    FILE *file = fopen(name.at, "rb");
    if (!file) return (sandhog_bytes){ NULL, 0 };
    size_t length = 0, room = 1 << 16, count;
    char *content = malloc(room);
    while (content && (count = fread(content + length, 1, room - length, file)) > 0) {
        length += count;
        if (length == room) content = realloc(content, room *= 2);
    }
    bool failed = ferror(file);
    fclose(file);
    return content && !failed ? (sandhog_bytes){ content, length } : (sandhog_bytes){ NULL, 0 };
}

/* A finding at a place of a file; line 0: of the whole file. */
static inline sandhog_finding sandhog_finding_at(
    const char *rule, sandhog_severity severity, sandhog_bytes message, sandhog_bytes path, uint32_t line, uint32_t column) {
    sandhog_finding finding = { .rule = sandhog_text(rule), .severity = severity, .message = message };
    finding.location = (sandhog_optional_location){ true, { .path = path, .span = { line > 0, { line, column, line, column } } } };
    return finding;
}

/* A verdict: it fails where a finding is of medium severity or more. The findings must outlive the call: not on the stack. */
static inline sandhog_judgement sandhog_verdict(const sandhog_finding *findings, size_t length, sandhog_bytes summary) {
    bool fails = false;
    for (size_t at = 0; at < length; at++) fails |= findings[at].severity >= SANDHOG_MEDIUM;
    return (sandhog_judgement){ .failed = false, .verdict = { fails, findings, length, NULL, 0, summary } };
}

/* The gate could not answer. */
static inline sandhog_judgement sandhog_no_answer(const char *why) {
    return (sandhog_judgement){ .failed = true, .failure = { SANDHOG_PERMANENT_, sandhog_text(why) } };
}

/* --- The host --------------------------------------------------------------------------------------------------------------- */

typedef enum { SANDHOG_LOG_ERROR, SANDHOG_LOG_WARN, SANDHOG_LOG_INFO, SANDHOG_LOG_DEBUG, SANDHOG_LOG_TRACE } sandhog_level;

__attribute__((import_module("sandhog:plugin/host@0.1.0"), import_name("log"))) void sandhog_log_(int level, const char *at, size_t length);
__attribute__((import_module("sandhog:plugin/host@0.1.0"), import_name("progress"))) void sandhog_progress_(double fraction, const char *at, size_t length);
__attribute__((import_module("sandhog:plugin/host@0.1.0"), import_name("fuel-used"))) uint64_t sandhog_fuel_used(void);
__attribute__((import_module("sandhog:plugin/host@0.1.0"), import_name("cancelled"))) int sandhog_cancelled(void);

/* A line for the log of this attempt. */
static inline void sandhog_log(sandhog_level level, sandhog_bytes text) { sandhog_log_(level, text.at, text.length); }

/* How far the task has come, from 0 to 1. */
static inline void sandhog_progress(double fraction, const char *note) { sandhog_progress_(fraction, note, strlen(note)); }

/* --- What the host calls ---------------------------------------------------------------------------------------------------- */

__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_size, size_t align, size_t new_size) {
    (void)old_size;
    if (new_size == 0) return (void *)align;
    void *made = realloc(old, new_size);
    if (!made) abort();
    return made;
}

/* Makes a function a worker: sandhog_answer function(const sandhog_task *). */
#define SANDHOG_WORKER(function)                                                                                                  \
    __attribute__((export_name("sandhog:plugin/worker@0.1.0#run"))) sandhog_answer *sandhog_worker_run_(const sandhog_task *task) { \
        static sandhog_answer answer;                                                                                             \
        answer = function(task);                                                                                                  \
        return &answer;                                                                                                           \
    }

/* Makes a function a gate: sandhog_judgement function(const sandhog_subject *). */
#define SANDHOG_GATE(function)                                                                                                           \
    __attribute__((export_name("sandhog:plugin/gate@0.1.0#check"))) sandhog_judgement *sandhog_gate_check_(const sandhog_subject *subject) { \
        static sandhog_judgement judgement;                                                                                              \
        judgement = function(subject);                                                                                                   \
        return &judgement;                                                                                                               \
    }

#endif
