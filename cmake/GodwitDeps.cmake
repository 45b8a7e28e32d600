# SPDX-License-Identifier: Apache-2.0
# Every outside library, once. Which file may include it is decided by the doors in tools/tidy.py.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

pkg_check_modules(cmocka REQUIRED IMPORTED_TARGET cmocka)
pkg_check_modules(qb REQUIRED IMPORTED_TARGET libqb)
pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(microhttpd REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(curl REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(openssl REQUIRED IMPORTED_TARGET openssl)
pkg_check_modules(sqlite REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(seccomp REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(capng REQUIRED IMPORTED_TARGET libcap-ng)
pkg_check_modules(libnl REQUIRED IMPORTED_TARGET libnl-3.0)
pkg_check_modules(lz4 REQUIRED IMPORTED_TARGET liblz4)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
