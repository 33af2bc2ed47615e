#include "sandhog.h"

/* Rejects files with a mark that somebody meant to come back to. */
sandhog_judgement check(const sandhog_subject *subject) {
    sandhog_bytes word = sandhog_param_text(subject->params, "word", "TODO");
    size_t room = 16, count = 0;
    sandhog_finding *findings = malloc(room * sizeof *findings);
    for (size_t index = 0; index < subject->files_length; index++) {
        sandhog_bytes path = subject->files[index].path, content = sandhog_read(path);
        if (!content.at) return sandhog_no_answer("a file cannot be read");
        uint32_t line = 1, column = 1;
        for (size_t at = 0; at < content.length; at++, column++) {
            if (content.at[at] == '\n') {
                line++;
                column = 0;
            } else if (word.length > 0 && content.length - at >= word.length && memcmp(content.at + at, word.at, word.length) == 0) {
                if (count == room) findings = realloc(findings, (room *= 2) * sizeof *findings);
                sandhog_bytes message = sandhog_format("`%.*s` is left", (int)word.length, word.at);
                findings[count++] = sandhog_finding_at("left-over", SANDHOG_MEDIUM, message, path, line, column);
            }
        }
    }
    return sandhog_verdict(findings, count, sandhog_format("%zu findings", count));
}

SANDHOG_GATE(check)
