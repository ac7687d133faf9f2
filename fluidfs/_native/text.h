/* A string that grows in memory that the caller owns and never past its end. */
#ifndef FLUIDFS_TEXT_H
#define FLUIDFS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef struct {
    char *start;
    size_t size; /* of the memory, terminating NUL included; > 0 */
    size_t length;
    bool overflowed; /* something did not fit; the text is then to be thrown away */
} ff_text;

static inline ff_text ff_text_in(char *memory, size_t size) {
    memory[0] = 0;
    return (ff_text){.start = memory, .size = size};
}

static inline void ff_text_add_bytes(ff_text *self, const char *bytes, size_t length) {
    if (self->overflowed || length >= self->size - self->length) {
        self->overflowed = true;
        return;
    }
    memcpy(self->start + self->length, bytes, length);
    self->length += length;
    self->start[self->length] = 0;
}

static inline void ff_text_add(ff_text *self, const char *string) { ff_text_add_bytes(self, string, strlen(string)); }

#endif
