/* The dialect of AWX's wsbroadcast. */
#include "config.h"
#include "client/dialect_wsbroadcast.h"

const struct dialect dialect_wsbroadcast = {.form = MSG_FORM_AWX};
