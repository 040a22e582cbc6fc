"""Writes codebooks.h: the points of the IQ1, IQ2 and IQ3 formats, which no formula gives.

    python -m venv VENV && VENV/bin/pip install gguf==0.19.0
    VENV/bin/python src/nn/codebooks/make.py > src/nn/codebooks/codebooks.h

The formats' authors chose the points by search, and files only hold their numbers; so they are data that every reader shares. Here they
are read from the gguf package (MIT) and packed anew: a point of 8 coordinates has 2 bits for each, one of 4 has 3, the first
coordinate lowest.
"""
import gguf.quants as q

HEAD = """/* codebooks.h - the points of the IQ1, IQ2 and IQ3 formats; written by make.py, which says how. Do not edit.
 *
 * Coordinate j of a point: bits 2j and 2j + 1 (3j to 3j + 2 in IQ3) are its place in the levels. */
#ifndef SV_NN_CODEBOOKS_H
#define SV_NN_CODEBOOKS_H

#include <stdint.h>
"""


def main():
    print(HEAD)
    for cls in (q.IQ2_XXS, q.IQ2_XS, q.IQ2_S, q.IQ3_XXS, q.IQ3_S, q.IQ1_S):
        cls.init_grid()
        name = "sv_" + cls.__name__.lower()
        points = cls.grid.reshape(cls.grid_shape).astype(int).tolist()
        levels, width = list(cls.grid_map), 2 if cls.grid_shape[1] == 8 else 3
        packed = [sum(levels.index(c) << width * j for j, c in enumerate(p)) for p in points]
        print(f"static const int8_t {name}_levels[{len(levels)}] = {{{', '.join(map(str, levels))}}};")
        print(f"static const uint16_t {name}_points[{len(packed)}] = {{")
        for i in range(0, len(packed), 16):
            print("    " + " ".join(f"{v}," for v in packed[i:i + 16]))
        print("};\n")
    print("#endif")


main()
