"""Writes a C file that holds the bytes of another file, with a NUL past the end: embed.py INPUT OUTPUT NAME."""
import sys

data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "w") as out:
    out.write("#include <stddef.h>\n\nextern const unsigned char %s[];\nextern const size_t %s_size;\n" % (sys.argv[3], sys.argv[3]))
    out.write("const size_t %s_size = %d;\nconst unsigned char %s[] = {\n" % (sys.argv[3], len(data), sys.argv[3]))
    for i in range(0, len(data), 32):
        out.write(" ".join("%d," % b for b in data[i:i + 32]) + "\n")
    out.write("0};\n")
