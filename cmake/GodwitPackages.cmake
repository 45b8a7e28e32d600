# SPDX-License-Identifier: Apache-2.0
# Debian packages, by CPack: deploy/package makes them (preset "package").
#
#	godwit-host   the services, the worker, their units; what a node needs
#	godwit-cli    the command line, for a node or any other machine
#	godwit-doc    docs/, for people
set(docdir ${CMAKE_INSTALL_DATAROOTDIR}/doc)
foreach(component host cli doc)
	install(FILES ${PROJECT_SOURCE_DIR}/deploy/debian/copyright DESTINATION ${docdir}/godwit-${component}
		COMPONENT ${component})
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/README.md DESTINATION ${docdir}/godwit-doc COMPONENT doc)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs DESTINATION ${docdir}/godwit-doc COMPONENT doc)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME godwit)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "clustered virtualization for Linux")
set(CPACK_PACKAGE_VENDOR "The Godwit project")
set(CPACK_PACKAGE_CONTACT "The Godwit project <root@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)

set(CPACK_COMPONENTS_ALL host cli doc)
set(CPACK_COMPONENTS_GROUPING ONE_PER_GROUP)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
# The directory of a package's control files is on the machine that installs: no group may write it.
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEBIAN_HOST_PACKAGE_NAME godwit-host)
set(CPACK_DEBIAN_HOST_DESCRIPTION "The services of a node: virtual machines and clusters on KVM.
 Runs unmodified kernels in partitions with the Hyper-V guest interface,
 moves them between nodes while they run, and restarts the VMs of a failed
 node elsewhere.")
# What the services run as programs; libraries are found by dpkg-shlibdeps.
set(CPACK_DEBIAN_HOST_PACKAGE_DEPENDS
	"godwit-cli, corosync, fuse3, iproute2, nftables, dnsmasq-base, passwd, procps")
set(CPACK_DEBIAN_HOST_PACKAGE_RECOMMENDS "libqb-tools, fence-agents")
set(CPACK_DEBIAN_HOST_PACKAGE_CONTROL_EXTRA
	"${PROJECT_SOURCE_DIR}/deploy/debian/postinst;${PROJECT_SOURCE_DIR}/deploy/debian/prerm;${PROJECT_SOURCE_DIR}/deploy/debian/postrm")
set(CPACK_DEBIAN_HOST_PACKAGE_CONTROL_STRICT_PERMISSION ON)

set(CPACK_DEBIAN_CLI_PACKAGE_NAME godwit-cli)
set(CPACK_DEBIAN_CLI_DESCRIPTION "The command line of Godwit.
 Talks to the service of this host: VMs, networks, disks, nodes, clusters.")

set(CPACK_DEBIAN_DOC_PACKAGE_NAME godwit-doc)
set(CPACK_DEBIAN_DOC_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_DOC_PACKAGE_SECTION doc)
set(CPACK_DEBIAN_DOC_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DOC_DESCRIPTION "Documentation of Godwit.
 Guides, formats, decisions, figures.")
# Manual pages are compressed, and each package says what it is of, as Debian wants it.
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/PackageFiles.cmake)
include(CPack)
