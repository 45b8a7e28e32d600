# SPDX-License-Identifier: Apache-2.0
# Helpers. Files are listed, never globbed; a dependency that is not listed here and allowed by
# tools/tidy.py does not exist.

# gw_module(<name> SOURCES <files...> [PUBLIC_DEPS <targets...>] [PRIVATE_DEPS <targets...>])
#   One submodule = one static library.
function(gw_module name)
	cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC_DEPS;PRIVATE_DEPS" ${ARGN})
	add_library(${name} STATIC ${ARG_SOURCES})
	target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
	target_link_libraries(${name} PUBLIC ${ARG_PUBLIC_DEPS} PRIVATE ${ARG_PRIVATE_DEPS} gw_flags)
endfunction()

# gw_program(<name> SOURCES <files...> DEPS <targets...> [DIR sbin|bin|libexec])
#   An installed program. What is in bin goes into the package for clients, the others into the host's.
function(gw_program name)
	cmake_parse_arguments(ARG "" "DIR" "SOURCES;DEPS" ${ARGN})
	add_executable(${name} ${ARG_SOURCES})
	target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
	target_link_libraries(${name} PRIVATE ${ARG_DEPS} gw_flags)
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
	if(NOT ARG_DIR)
		set(ARG_DIR bin)
	endif()
	if(ARG_DIR STREQUAL "libexec")
		install(TARGETS ${name} DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/godwit COMPONENT host)
	elseif(ARG_DIR STREQUAL "sbin")
		install(TARGETS ${name} DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT host)
	else()
		install(TARGETS ${name} DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT cli)
	endif()
endfunction()

# gw_test(<name> LABEL <unit|sim|sec|node|lab> SOURCES <files...> DEPS <targets...> [TIMEOUT <s>] [ONE_THREAD])
#   A cmocka program. Exit status 77 means "this machine lacks what the test needs". ONE_THREAD: it has no
#   other, and takes minutes under ThreadSanitizer, which could not find anything.
function(gw_test name)
	cmake_parse_arguments(ARG "ONE_THREAD" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
	add_executable(${name} ${ARG_SOURCES})
	target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
	target_link_libraries(${name} PRIVATE ${ARG_DEPS} gw_flags PkgConfig::cmocka)
	if(GW_SANITIZE) # long searches are shorter: tests/lib/turns.h
		target_compile_definitions(${name} PRIVATE GW_SANITIZE)
	endif()
	if(ARG_ONE_THREAD AND GW_SANITIZE STREQUAL "thread")
		return()
	endif()
	add_test(NAME ${name} COMMAND ${name})
	gw_test_properties(${name} "${ARG_LABEL}" "${ARG_TIMEOUT}")
endfunction()

# gw_bench(<name> SOURCES <files...> DEPS <targets...>)
#   A program that prints figures; built with everything, run by nobody but people and deploy/.
function(gw_bench name)
	cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
	add_executable(${name} ${ARG_SOURCES})
	target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
	target_link_libraries(${name} PRIVATE ${ARG_DEPS} gw_flags)
endfunction()

# gw_script_test(<name> LABEL <label> COMMAND <command...> [TIMEOUT <s>] [LOCK <resource...>])
#   A test that is a script. LOCK names what it must have for itself (e.g. lab).
function(gw_script_test name)
	cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "COMMAND;LOCK" ${ARGN})
	add_test(NAME ${name} COMMAND ${ARG_COMMAND})
	gw_test_properties(${name} "${ARG_LABEL}" "${ARG_TIMEOUT}")
	set_tests_properties(${name} PROPERTIES
		ENVIRONMENT "GW_BUILD=${PROJECT_BINARY_DIR};GW_SOURCE=${PROJECT_SOURCE_DIR}")
	if(ARG_LOCK)
		set_tests_properties(${name} PROPERTIES RESOURCE_LOCK "${ARG_LOCK}")
	endif()
endfunction()

function(gw_test_properties name label timeout)
	if(NOT timeout)
		set(timeout 60)
	endif()
	if(NOT label STREQUAL "lab") # they run beside a lab, compilers and sanitizers
		math(EXPR timeout "${timeout} * 3")
	endif()
	if(GW_SANITIZE) # up to ten times slower; the limit is for what hangs
		math(EXPR timeout "${timeout} * 5")
	endif()
	set_tests_properties(${name} PROPERTIES LABELS "${label}" SKIP_RETURN_CODE 77 TIMEOUT ${timeout})
endfunction()

# gw_fuzz(<name> SOURCES <files...> DEPS <targets...>)
#   With GW_FUZZ: a libFuzzer program <name> that tools/fuzz.sh runs, corpus in tests/fuzz/corpus/<name>/.
#   Without: the same target replays its corpus once as a unit test, so it cannot rot.
function(gw_fuzz name)
	cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
	set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
	if(GW_FUZZ)
		add_executable(${name} ${ARG_SOURCES})
		target_link_options(${name} PRIVATE -fsanitize=fuzzer)
		set_property(GLOBAL APPEND PROPERTY GW_FUZZ_TARGETS ${name})
	else()
		add_executable(${name} ${ARG_SOURCES} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay_main.c)
		add_test(NAME ${name} COMMAND ${name} ${corpus})
		gw_test_properties(${name} unit 60)
	endif()
	target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
	target_link_libraries(${name} PRIVATE ${ARG_DEPS} gw_flags)
endfunction()

# gw_fuzz_list()
#   Write build/<preset>/fuzz-targets: one line "<name> <path of the program>" per gw_fuzz(); the target
#   fuzzers builds them, and nothing else.
function(gw_fuzz_list)
	get_property(targets GLOBAL PROPERTY GW_FUZZ_TARGETS)
	set(lines "")
	foreach(target ${targets})
		string(APPEND lines "${target} $<TARGET_FILE:${target}>\n")
	endforeach()
	file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/fuzz-targets CONTENT "${lines}")
	add_custom_target(fuzzers DEPENDS ${targets})
endfunction()

# gw_pages(<program> <component>)
#   The manual pages and completion scripts that <program> makes from its own table of commands, for
#   the package that has the program.
function(gw_pages name component)
	set(dir ${PROJECT_BINARY_DIR}/pages/${name})
	set(stamp ${dir}/made)
	file(MAKE_DIRECTORY ${dir}/man ${dir}/bash ${dir}/zsh)
	add_custom_command(OUTPUT ${stamp}
		# Pages of commands that are gone must not be installed.
		COMMAND ${CMAKE_COMMAND} -E rm -rf ${dir}
		COMMAND ${CMAKE_COMMAND} -E make_directory ${dir}/man ${dir}/bash ${dir}/zsh
		COMMAND ${name} __generate man ${dir}/man
		COMMAND ${name} __generate bash ${dir}/bash
		COMMAND ${name} __generate zsh ${dir}/zsh
		COMMAND ${CMAKE_COMMAND} -E touch ${stamp}
		DEPENDS ${name} COMMENT "Manual pages and completion of ${name}" VERBATIM)
	add_custom_target(${name}_pages ALL DEPENDS ${stamp})
	foreach(section 1 8)
		install(DIRECTORY ${dir}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section}
			COMPONENT ${component} FILES_MATCHING PATTERN "*.${section}")
	endforeach()
	install(DIRECTORY ${dir}/bash/
		DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT ${component})
	# Where Debian's zsh looks for packages' functions; elsewhere it looks in site-functions.
	if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
		install(DIRECTORY ${dir}/zsh/ DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions
			COMPONENT ${component})
	else()
		install(DIRECTORY ${dir}/zsh/ DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions
			COMPONENT ${component})
	endif()
endfunction()
