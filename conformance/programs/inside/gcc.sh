# Compiles inside: assembly, object, linked program and its output; with the compiler's own checks on for one of them.
set -e
cat >first.c <<'C'
#include <stdio.h>
#include <math.h>
struct point { double x, y; };
static struct point turn(struct point p, double a) {
    return (struct point){p.x * cos(a) - p.y * sin(a), p.x * sin(a) + p.y * cos(a)};
}
static unsigned long fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
int main(int argc, char **argv) {
    struct point p = {1, 0};
    double sums[16] = {0};
    for (int i = 0; i < 1000; i++) { p = turn(p, 0.01); sums[i % 16] += p.x * i; }
    for (int i = 0; i < 16; i++) printf("%.12f ", sums[i]);
    switch (argc * 7 % 5) { case 0: puts("zero"); break; case 1: puts("one"); break; case 2: puts("two"); break; default: puts("more"); }
    printf("%.15f %.15f %lu\n", p.x, p.y, fib(20));
    return argc == 1 ? 3 : 0;
}
C
for level in 0 1 2 3 s; do
    gcc -O$level -S -o "first-$level.s" first.c
    gcc -O$level -c -o "first-$level.o" first.c
    sha256sum "first-$level.s" "first-$level.o"
done
cat first-2.s
gcc -O2 -g -o first first.c -lm
sha256sum first
./first || echo "status $?"
gcc -O2 -Wall -Wextra -fsyntax-only -x c - <<'C' || true
int f(int x) { int y; if (x) return y; }
C
objdump -d --no-show-raw-insn first-2.o | head -80
size first-2.o
nm first-3.o
