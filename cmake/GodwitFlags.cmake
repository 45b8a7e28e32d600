# SPDX-License-Identifier: Apache-2.0
# One interface target carries the language, the warnings and the sanitizers to everything we build.
option(GW_WERROR "Warnings are errors (CI)" OFF)
option(GW_FUZZ "Build fuzz targets with libFuzzer (clang only)" OFF)
option(GW_COVERAGE "Instrument for gcov" OFF)
set(GW_SANITIZE "" CACHE STRING "e.g. address,undefined or thread")

# The language and the warnings alone, for what runs where no sanitizer can (the lab's static agents).
add_library(gw_plain_flags INTERFACE)
target_compile_features(gw_plain_flags INTERFACE c_std_17)
target_compile_definitions(gw_plain_flags INTERFACE _GNU_SOURCE)
target_compile_options(gw_plain_flags INTERFACE
	-Wall -Wextra -Wshadow -Wconversion -Wundef -Wvla -Wcast-qual -Wpointer-arith -Wformat=2
	-Wstrict-prototypes -Wmissing-prototypes -Wswitch-enum -Wimplicit-fallthrough
	-fno-common -fstack-protector-strong -fvisibility=hidden
	# Debug information and __FILE__ do not depend on where the tree lies.
	-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=
	# Kernel structures that end in an array are embedded before the array's storage.
	$<$<C_COMPILER_ID:Clang>:-Wno-gnu-variable-sized-type-not-at-end>
	$<$<BOOL:${GW_WERROR}>:-Werror>)

add_library(gw_flags INTERFACE)
target_link_libraries(gw_flags INTERFACE gw_plain_flags)
if(GW_SANITIZE)
	target_compile_options(gw_flags INTERFACE -fsanitize=${GW_SANITIZE}
		-fno-sanitize-recover=all -fno-omit-frame-pointer)
	target_link_options(gw_flags INTERFACE -fsanitize=${GW_SANITIZE})
else()
	target_compile_options(gw_flags INTERFACE $<$<NOT:$<CONFIG:Debug>>:-D_FORTIFY_SOURCE=2>)
endif()
if(GW_FUZZ)
	# Coverage feedback everywhere, the driver (main) only in the targets of gw_fuzz().
	target_compile_options(gw_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(GW_COVERAGE)
	target_compile_options(gw_flags INTERFACE --coverage)
	target_link_options(gw_flags INTERFACE --coverage)
endif()
