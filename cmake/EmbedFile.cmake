# SPDX-License-Identifier: Apache-2.0
# cmake -DIN=file -DOUT=header -DNAME=array -P EmbedFile.cmake: a file as a C array.
file(READ ${IN} bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUT} "/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by the build. */\n#include <stdint.h>\n\nstatic const uint8_t ${NAME}[] = {\n${bytes}\n};\n")
