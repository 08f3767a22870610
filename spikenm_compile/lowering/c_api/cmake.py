"""CMakeLists.txt: the library as a target that other projects link, and the examples."""

from __future__ import annotations

from collections.abc import Sequence

from spikenm_compile.lowering.c_api.interface import Interface
from spikenm_compile.lowering.c_api.text import fill

CMAKE = "CMakeLists.txt"

TEMPLATE = """\
# add_subdirectory() this directory and link @n@_model; or build the examples here.
cmake_minimum_required(VERSION 3.13)
project(@n@_model C)

@LIBRARY@
if(CMAKE_SOURCE_DIR STREQUAL CMAKE_CURRENT_SOURCE_DIR)
  enable_testing()
  foreach(example example_run example_stream)
    add_executable(${example} ${example}.c)
    set_target_properties(${example} PROPERTIES C_STANDARD 99)
    target_link_libraries(${example} PRIVATE @n@_model)
  endforeach()
  add_test(NAME vectors COMMAND example_run)
endif()
"""

ARCHIVE = """\
add_library(@n@_model STATIC IMPORTED GLOBAL)
set_target_properties(@n@_model PROPERTIES
  IMPORTED_LOCATION ${CMAKE_CURRENT_SOURCE_DIR}/libmodel.a
  INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_CURRENT_SOURCE_DIR})
"""

SOURCES = """\
add_library(@n@_model STATIC @SOURCES@)
set_target_properties(@n@_model PROPERTIES C_STANDARD 99 POSITION_INDEPENDENT_CODE ON)
target_compile_options(@n@_model PRIVATE @FLAGS@)
target_include_directories(@n@_model INTERFACE ${CMAKE_CURRENT_SOURCE_DIR})
"""


def cmake_text(interface: Interface, sources: Sequence[str] = (), flags: Sequence[str] = ()) -> str:
    """CMakeLists.txt.

    Args:
        interface: of the network.
        sources: what the library is made from; by default libmodel.a is there already.
        flags: for the compiler of the sources.
    """
    words = {"n": interface.name, "SOURCES": " ".join(sources), "FLAGS": " ".join(flags)}
    return fill(TEMPLATE, words | {"LIBRARY": fill(SOURCES if sources else ARCHIVE, words)})
