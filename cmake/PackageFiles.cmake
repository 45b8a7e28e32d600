# SPDX-License-Identifier: Apache-2.0
# Run by cpack between installing and packing, in its variables.
foreach(component ${CPACK_COMPONENTS_ALL})
	set(top ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/${component})
	string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
	file(WRITE ${top}/usr/share/doc/godwit-${component}/changelog
		"godwit (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium\n\n  * What changed and why is in the log of the repository.\n\n"
		" -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
	file(GLOB_RECURSE texts ${top}/usr/share/man/*.[18])
	execute_process(COMMAND gzip -9nf ${texts} ${top}/usr/share/doc/godwit-${component}/changelog
		COMMAND_ERROR_IS_FATAL ANY)
endforeach()
