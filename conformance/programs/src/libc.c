// The C library: formatting, parsing, sorting, searching, time, wide characters, regular expressions, memory and strings.
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <regex.h>
#include <search.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static double as_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void formatting(void) {
    const double values[] = {0, -0.0, 1, -1, 0.1, 1e23, 123456789.123456789, DBL_MAX, DBL_MIN, DBL_EPSILON, 4.9e-324, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        printf("%f|%e|%g|%a|%.0f|%.17g|%+012.3e|%#g|%-15.4f|\n", values[i], values[i], values[i], values[i], values[i], values[i],
               values[i], values[i], values[i]);
    printf("%d %i %u %o %x %X %#x %#o %c %s %p %% %5d|%-5d|%05d|%+d|% d|%.3d|%*d|%.*f\n", -1, 42, 42u, 8u, 255u, 255u, 255u, 8u, 'c', "s",
           (void *)0x1234, 42, 42, 42, 42, 42, 7, 6, 42, 2, 3.14159);
    printf("%hhd %hd %ld %lld %jd %zu %td\n", (signed char)-1, (short)-2, -3L, -4LL, (intmax_t)-5, (size_t)6, (ptrdiff_t)7);
    printf("%Lf %Le %Lg %La %.30Lg\n", 1.1L, 1e4000L, 3.5L, 0.1L, 2.0L / 3);
    for (int i = 0; i < 2000; i++) {
        double value = as_double(next());
        char text[64];
        snprintf(text, sizeof text, "%.17g", value);
        double back = strtod(text, 0);
        if (isfinite(value) && back != value) printf("strtod(%s) gives %a, not %a\n", text, back, value);
        if (i % 40 == 0) printf("%s %.3e %.40g\n", text, value, value);
    }
}

static void parsing(void) {
    const char *numbers[] = {"0", "-12", "0x1f", "077", "99999999999999999999", "1e5", "0x1.8p3", "inf", "nan", "1e-400", "1e400", ".5e1x", "  +7"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char *end;
        errno = 0;
        long whole = strtol(numbers[i], &end, 0);
        printf("%s: strtol %ld at %d errno %d", numbers[i], whole, (int)(end - numbers[i]), errno);
        errno = 0;
        double real = strtod(numbers[i], &end);
        printf(", strtod %a at %d errno %d, strtold %La\n", real, (int)(end - numbers[i]), errno, strtold(numbers[i], 0));
    }
    int a, b;
    char word[16];
    float f;
    int got = sscanf("12 0x1F hello 2.5", "%d %x %15s %f", &a, &b, word, &f);
    printf("sscanf %d: %d %d %s %a\n", got, a, b, word, f);
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void sorting(void) {
    enum { COUNT = 50000 };
    static uint32_t numbers[COUNT];
    uint64_t sum = 0;
    for (int i = 0; i < COUNT; i++) numbers[i] = next() >> 32;
    qsort(numbers, COUNT, sizeof *numbers, by_value);
    for (int i = 0; i < COUNT; i++) sum = sum * 31 + numbers[i];
    uint32_t *found = bsearch(&numbers[777], numbers, COUNT, sizeof *numbers, by_value);
    printf("sorted %016" PRIx64 " found %d\n", sum, (int)(found - numbers));
    void *tree = 0;
    for (int i = 0; i < 500; i++) tsearch(&numbers[i * 7 % 500], &tree, by_value);
    printf("in tree: %d\n", tfind(&numbers[499], &tree, by_value) != 0);
}

static void memory(void) {
    static unsigned char a[5000], b[5000];
    uint64_t sum = 0;
    for (int round = 0; round < 4000; round++) {
        size_t from = next() % 2000, to = next() % 2000, size = next() % (round % 8 ? 200 : 2500);
        for (int i = 0; i < 8; i++) a[next() % sizeof a] = next();
        switch (round % 6) {
        case 0: memcpy(b + to, a + from, size); break;
        case 1: memmove(a + to, a + from, size); break;
        case 2: memset(b + to, round, size); break;
        case 3: sum += memcmp(a + from, b + to, size) > 0; break;
        case 4: sum += (unsigned char *)memchr(a + from, round & 255, size + 1) - (unsigned char *)0 ? 1 : 0; break;
        case 5: memset(a + to, 'x', size), a[to + size] = 0, sum += strlen((char *)a + to); break;
        }
        for (size_t i = 0; i < sizeof b; i += 61) sum = sum * 31 + b[i] + a[i];
    }
    printf("memory %016" PRIx64 "\n", sum);
    char text[] = "one,two;three,,four", *rest = text, *piece;
    while ((piece = strsep(&rest, ",;"))) printf("[%s]", piece);
    printf(" %s %s %d %zu %zu %s\n", strstr("haystack needle", "need"), strrchr("a/b/c", '/'), strcasecmp("ABC", "abd"), strspn("aabbc", "ab"),
           strcspn("hello, world", ", "), strpbrk("key=value", "=:"));
    for (int i = 0; i < 300; i++) {
        char one[300], other[300];
        memset(one, 'a' + i % 26, sizeof one), memset(other, 'a' + i % 26, sizeof other);
        one[299] = other[299] = 0, other[i % 299]++;
        sum += (strcmp(one, other) < 0) + 2 * (strncmp(one, other, i) < 0) + strnlen(one + i % 64, i);
    }
    printf("strings %016" PRIx64 "\n", sum);
}

static void times(void) {
    const time_t moments[] = {0, 86399, 951782400, 1700000000, 4102444800, -1};
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        struct tm parts;
        char text[100];
        gmtime_r(&moments[i], &parts);
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %a %b %j %U %G-W%V", &parts);
        printf("%s %lld\n", text, (long long)timegm(&parts));
    }
}

static void wide(void) {
    setlocale(LC_ALL, "C.UTF-8");
    wchar_t text[64];
    size_t count = mbstowcs(text, "Grüße, Ωμέγα, 日本", 64);
    for (size_t i = 0; i < count; i++) text[i] = towupper(text[i]);
    printf("%zu %ls %d\n", count, text, iswalpha(text[2]) != 0);
}

static void expressions(void) {
    const char *patterns[] = {"^([a-z]+)=([0-9]+)$", "a(b|c)*d", "[[:digit:]]{2,4}", "(.)\\1"};
    const char *texts[] = {"key=123", "abcbcd", "x12345", "hello"};
    for (size_t i = 0; i < 4; i++) {
        regex_t compiled;
        regmatch_t at[3] = {{-1, -1}, {-1, -1}, {-1, -1}};
        int bad = regcomp(&compiled, patterns[i], REG_EXTENDED);
        printf("%s: %d", patterns[i], bad);
        if (!bad) {
            int missed = regexec(&compiled, texts[i], 3, at, 0);
            printf(" %d %d-%d %d-%d", missed, (int)at[0].rm_so, (int)at[0].rm_eo, (int)at[1].rm_so, (int)at[1].rm_eo);
            regfree(&compiled);
        }
        printf("\n");
    }
}

static void integers(void) {
    unsigned __int128 wide = 1;
    uint64_t sum = 0;
    for (int i = 1; i < 3000; i++) {
        int64_t a = next(), b = next() >> (i % 63) | 1;
        wide = wide * (uint64_t)a + b;
        sum = sum * 31 + (uint64_t)(a / (b | 1)) + (uint64_t)(a % (b | 1)) + (uint64_t)(wide / (uint64_t)b) + __builtin_popcountll(a) +
              __builtin_clzll(b) + __builtin_ctzll(b) + __builtin_bswap64(a) + ((uint64_t)a >> (i & 63)) + (uint64_t)(a >> (i & 63)) +
              ((uint64_t)a << (i & 63)) + (uint8_t)a * (int8_t)b + (int16_t)a / (int16_t)(b | 1) + __builtin_parityll(b);
        int result;
        sum += __builtin_add_overflow((int)a, (int)b, &result) + __builtin_mul_overflow((int)a, (int)b, &result);
        if (i % 500 == 0) printf("integers %016" PRIx64 " %016" PRIx64 "\n", sum, (uint64_t)(wide >> 64));
    }
}

int main(void) {
    formatting();
    parsing();
    sorting();
    memory();
    times();
    wide();
    expressions();
    integers();
}
