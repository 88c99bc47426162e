# `cmake --install`: headers, libequipot.a and a CMake package, for find_package(equipot) in another project.
# SPDX-License-Identifier: MIT
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/equipot)
install(TARGETS equipot equipot_vesin EXPORT equipotTargets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp)
install(DIRECTORY src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/equipot COMPONENT cpp FILES_MATCHING PATTERN "*.hpp")
install(EXPORT equipotTargets NAMESPACE equipot:: DESTINATION ${package_folder} COMPONENT cpp)

configure_package_config_file(cmake/equipotConfig.cmake.in "${PROJECT_BINARY_DIR}/equipotConfig.cmake"
    INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/equipotConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/equipotConfig.cmake" "${PROJECT_BINARY_DIR}/equipotConfigVersion.cmake"
    DESTINATION ${package_folder} COMPONENT cpp)
