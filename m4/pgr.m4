# PGR_C_FLAG(FLAG, VARIABLE): append FLAG to VARIABLE where the compiler knows it.
AC_DEFUN([PGR_C_FLAG],
[AS_VAR_PUSHDEF([cachevar], [pgr_cv_cflag_$1])
AC_CACHE_CHECK([whether $CC accepts $1], [cachevar],
  [save_CFLAGS=$CFLAGS
   CFLAGS="$CFLAGS -Werror $1"
   AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])], [AS_VAR_SET([cachevar], [yes])], [AS_VAR_SET([cachevar], [no])])
   CFLAGS=$save_CFLAGS])
AS_VAR_IF([cachevar], [yes], [$2="$$2 $1"])
AS_VAR_POPDEF([cachevar])])

# PGR_LIBRARY(PREFIX, PKG-CONFIG SPEC, DEBIAN PACKAGE): a library that must be there; the error names the package.
AC_DEFUN([PGR_LIBRARY],
[PKG_CHECK_MODULES([$1], [$2], [],
  [AC_MSG_ERROR([$2 is missing; on Debian: apt install $3
($$1_PKG_ERRORS)])])])
