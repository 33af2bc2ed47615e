#include "sandhog.h"
#include <ctype.h>

/* Shouts: the input in capitals, with as many marks as the param says. */
sandhog_answer shout(const sandhog_task *task) {
    const sandhog_artifact *input = sandhog_input(task);
    if (!input) return sandhog_invalid_input("expected one input");
    long marks = sandhog_param_number(task->params, "marks", 1);
    if (marks < 0 || marks > 1000) return sandhog_invalid_input("`marks` must be from 0 to 1000");
    sandhog_log(SANDHOG_LOG_INFO, sandhog_format("%zu bytes", input->content.length));
    size_t length = input->content.length;
    while (length > 0 && isspace((unsigned char)input->content.at[length - 1])) length--;
    char *text = malloc(length + (size_t)marks + 1);
    for (size_t at = 0; at < length; at++) text[at] = (char)toupper((unsigned char)input->content.at[at]);
    memset(text + length, '!', (size_t)marks);
    text[length + (size_t)marks] = '\n';
    return sandhog_artifact_answer("shouted.txt", "text/plain", (sandhog_bytes){ text, length + (size_t)marks + 1 });
}

SANDHOG_WORKER(shout)
