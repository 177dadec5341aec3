# Templates and the standard library of C++ are the longest compilations here.
set -e
cat >second.cc <<'C'
template <int N> struct Fib { static const long value = Fib<N - 1>::value + Fib<N - 2>::value; };
template <> struct Fib<1> { static const long value = 1; };
template <> struct Fib<0> { static const long value = 0; };
extern "C" int printf(const char *, ...);
template <class T, int N> struct Matrix {
    T cell[N][N];
    Matrix operator*(const Matrix &other) const {
        Matrix out{};
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++)
                for (int k = 0; k < N; k++) out.cell[i][j] += cell[i][k] * other.cell[k][j];
        return out;
    }
};
struct Thrown { int value; };
static int thrower(int depth) { if (!depth) throw Thrown{42}; return thrower(depth - 1) + 1; }
int main() {
    Matrix<double, 6> m{};
    for (int i = 0; i < 36; i++) m.cell[i / 6][i % 6] = i * 0.37;
    m = m * m * m;
    try { thrower(30); } catch (const Thrown &t) { printf("%d ", t.value); }
    printf("%ld %.10g\n", Fib<60>::value, m.cell[3][4]);
}
C
g++ -O2 -S -o - second.cc | sha256sum
g++ -O2 -o second second.cc
./second
