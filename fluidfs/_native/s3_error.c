#include "s3_error.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

static const struct {
    const char *name;
    char character;
} ENTITIES[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};

/* The character that an entity at `text` stands for, and its length; or the character itself and 1. */
static char entity(const char *text, size_t length, size_t *taken) {
    for (size_t i = 0; i < sizeof ENTITIES / sizeof *ENTITIES; i++) {
        size_t name_length = strlen(ENTITIES[i].name);
        if (length >= name_length && memcmp(text, ENTITIES[i].name, name_length) == 0) {
            *taken = name_length;
            return ENTITIES[i].character;
        }
    }
    *taken = 1;
    return *text;
}

void ff_s3_error_text(const char *body, size_t length, const char *element, char *out, size_t out_size) {
    char opening[64];
    out[0] = 0;
    int opening_length = snprintf(opening, sizeof opening, "<%s>", element);
    if (opening_length < 0 || (size_t)opening_length >= sizeof opening)
        return;
    const char *start = memmem(body, length, opening, (size_t)opening_length);
    if (start == NULL)
        return;
    start += opening_length;
    const char *end = memchr(start, '<', length - (size_t)(start - body));
    if (end == NULL)
        return;
    ff_text text = ff_text_in(out, out_size);
    while (start < end && !text.overflowed) {
        size_t taken;
        char character = entity(start, (size_t)(end - start), &taken);
        /* A NUL would end the string early. */
        ff_text_add_bytes(&text, character == 0 ? " " : &character, 1);
        start += taken;
    }
}
