/* The dialect of AWX's wsrelay. */
#include "config.h"
#include "client/dialect_wsrelay.h"

const struct dialect dialect_wsrelay = {.form = MSG_FORM_AWX};
