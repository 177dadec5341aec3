# The shortest whole way through the compiler: assembly, object, program, its output.
set -e
echo 'extern int puts(const char *); int main(int c, char **v) { puts(c * 3 % 7 ? "works" : v[0]); return 9; }' >small.c
gcc -O2 -S -o - small.c
gcc -O2 -o small small.c
sha256sum small
./small || echo "status $?"
