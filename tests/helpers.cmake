# gp_add_test(NAME part_what LABEL unit SOURCES a.c LINK gp_weights [ARGS …] [TIMEOUT is never set])
# Tests find ../shared by GEOPIXEL_SHARED and exit with 77 to skip, saying so.
set(GEOPIXEL_SHARED ${CMAKE_SOURCE_DIR}/../shared CACHE PATH "Goldens and samples; tests that need them skip where absent")

function(gp_add_test)
  cmake_parse_arguments(T "" "NAME;LABEL" "SOURCES;LINK;ARGS" ${ARGN})
  add_executable(${T_NAME} ${T_SOURCES})
  target_link_libraries(${T_NAME} PRIVATE ${T_LINK})
  set_target_properties(${T_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_test(NAME ${T_NAME} COMMAND ${T_NAME} ${T_ARGS} WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  gp_test_properties(${T_NAME} ${T_LABEL})
endfunction()

# The properties that every test has, for those made by add_test alone.
function(gp_test_properties name label)
  set_tests_properties(${name} PROPERTIES LABELS ${label} SKIP_RETURN_CODE 77
    ENVIRONMENT "GEOPIXEL_SHARED=${GEOPIXEL_SHARED};GEOPIXEL_SOURCE=${CMAKE_SOURCE_DIR};GEOPIXEL_BIN=${CMAKE_BINARY_DIR}/bin")
endfunction()

# Debian's own python3: the one that python3-numpy belongs to.
find_program(GEOPIXEL_PYTHON3 NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
