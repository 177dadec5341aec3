// libm and the floating point environment: every function over many arguments in float, double and long double.
#include <fenv.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#pragma STDC FENV_ACCESS ON

static uint64_t state = 0x9e3779b97f4a7c15u;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

#define ONE(name) {#name, name, name##f, name##l}
static const struct {
    const char *name;
    double (*real)(double);
    float (*narrow)(float);
    long double (*wide)(long double);
} ones[] = {ONE(sqrt),  ONE(cbrt),  ONE(exp),   ONE(exp2),  ONE(expm1), ONE(log),   ONE(log2),  ONE(log10), ONE(log1p),    ONE(sin),
            ONE(cos),   ONE(tan),   ONE(asin),  ONE(acos),  ONE(atan),  ONE(sinh),  ONE(cosh),  ONE(tanh),  ONE(asinh),    ONE(acosh),
            ONE(atanh), ONE(erf),   ONE(erfc),  ONE(tgamma), ONE(lgamma), ONE(ceil), ONE(floor), ONE(trunc), ONE(round),   ONE(rint),
            ONE(fabs),  ONE(logb),  ONE(nearbyint)};

#define TWO(name) {#name, name, name##f, name##l}
static const struct {
    const char *name;
    double (*real)(double, double);
    float (*narrow)(float, float);
    long double (*wide)(long double, long double);
} twos[] = {TWO(pow), TWO(fmod), TWO(remainder), TWO(atan2), TWO(hypot), TWO(fmax), TWO(fmin), TWO(fdim), TWO(nextafter), TWO(copysign)};

static double argument(int i) {
    static const double edges[] = {0, -0.0, 1, -1, 0.5, 2, 1e300, 1e-300, 5e-324, -1.5, 3.141592653589793, 710, 0x1p52, 0x1p63, INFINITY, -INFINITY, NAN};
    enum { EDGES = sizeof edges / sizeof *edges };
    if (i < EDGES) return edges[i];
    double small = (double)(int64_t)next() / 0x1p60;
    return i % 3 ? small : ldexp(small, (int)(next() % 120) - 60);
}

// The sign and the payload of a NaN are nobody's promise.
static uint64_t bits(long double value) {
    uint64_t low = 0;
    uint16_t high = 0;
    if (isnan(value)) return 0x7ff8;
    memcpy(&low, &value, 8);
    memcpy(&high, (char *)&value + 8, 2);
    return low * 31 + high;
}

static void functions(void) {
    for (size_t f = 0; f < sizeof ones / sizeof *ones; f++) {
        uint64_t real = 0, narrow = 0, wide = 0;
        for (int i = 0; i < 300; i++) {
            double x = argument(i);
            real = real * 31 + bits(ones[f].real(x));
            narrow = narrow * 31 + bits(ones[f].narrow((float)x));
            wide = wide * 31 + bits(ones[f].wide(x));
        }
        printf("%-9s %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %a %a\n", ones[f].name, real, narrow, wide, ones[f].real(0.7), ones[f].real(1.3));
    }
    for (size_t f = 0; f < sizeof twos / sizeof *twos; f++) {
        uint64_t real = 0, narrow = 0, wide = 0;
        for (int i = 0; i < 400; i++) {
            double x = argument(i % 20), y = argument(i / 20);
            real = real * 31 + bits(twos[f].real(x, y));
            narrow = narrow * 31 + bits(twos[f].narrow((float)x, (float)y));
            wide = wide * 31 + bits(twos[f].wide(x, y));
        }
        printf("%-9s %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %a\n", twos[f].name, real, narrow, wide, twos[f].real(1.7, 2.3));
    }
}

static void environment(void) {
    static const struct {
        const char *name;
        int mode;
    } modes[] = {{"nearest", FE_TONEAREST}, {"down", FE_DOWNWARD}, {"up", FE_UPWARD}, {"zero", FE_TOWARDZERO}};
    for (int i = 0; i < 4; i++) {
        fesetround(modes[i].mode);
        volatile double one = 1, three = 3, big = 1e308, small = 1e-308, zero = 0;
        volatile float narrow = 1.0f / (float)three;
        volatile long double wide = 1.0L / (long double)three;
        feclearexcept(FE_ALL_EXCEPT);
        printf("%s: %a %a %La rint %g %g %ld", modes[i].name, one / three, narrow, wide, rint(2.5), rint(-2.5), lrint(one / three * 10));
        feclearexcept(FE_ALL_EXCEPT);
        volatile double r = big * big;
        printf(" overflow %x", fetestexcept(FE_ALL_EXCEPT));
        feclearexcept(FE_ALL_EXCEPT);
        r = small * small;
        printf(" underflow %x", fetestexcept(FE_ALL_EXCEPT));
        feclearexcept(FE_ALL_EXCEPT);
        r = one / zero;
        printf(" divide %x", fetestexcept(FE_ALL_EXCEPT));
        feclearexcept(FE_ALL_EXCEPT);
        r = zero / zero;
        printf(" invalid %x", fetestexcept(FE_ALL_EXCEPT));
        feclearexcept(FE_ALL_EXCEPT);
        r = one / three;
        printf(" inexact %x\n", fetestexcept(FE_ALL_EXCEPT));
    }
    fesetround(FE_TONEAREST);
}

static void conversions(void) {
    uint64_t sum = 0;
    for (int i = 0; i < 3000; i++) {
        int64_t whole = (int64_t)next() >> (i % 62);
        double real = (double)whole;
        float narrow = (float)whole;
        long double wide = (long double)(uint64_t)whole;
        sum = sum * 31 + bits(real) + bits(narrow) + bits(wide) + (uint64_t)(int64_t)(real / 4) + (uint64_t)(wide / 2) + (uint32_t)(int32_t)(real / 0x1p34);
        sum = sum * 31 + bits((float)real) + bits((double)narrow) + bits((double)wide) + bits(fma(real, 3.0, narrow)) + ilogb(real + 0.5);
    }
    printf("conversions %016" PRIx64 "\n", sum);
    double x = 0, y = 1;
    for (int i = 1; i < 200000; i++) {
        x = x + 1.0 / i - y * 0.5;
        y = y * 0.999999 + sqrt(i) * 1e-7;
    }
    printf("loop %a %a\n", x, y);
}

int main(void) {
    functions();
    environment();
    conversions();
}
