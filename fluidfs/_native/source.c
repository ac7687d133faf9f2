#include "source.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void ff_make_printable(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p != 0; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = ' ';
}

void ff_result_set(ff_result *result, ff_status status, int error, const char *format, ...) {
    va_list arguments;
    result->status = status;
    result->error = error;
    va_start(arguments, format);
    errno = error; /* for %m */
    vsnprintf(result->detail, sizeof result->detail, format, arguments);
    va_end(arguments);
    ff_make_printable(result->detail);
}
