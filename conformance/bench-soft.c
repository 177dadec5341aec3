/* Long integer programs for bench-soft: `integer NAME ROUNDS` prints a checksum that any correct CPU gives. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static uint64_t next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Registers only: nothing but shifts, logic and one multiplication. */
static uint64_t xorshift(uint64_t rounds) {
    uint64_t hash = 14695981039346656037u;
    for (uint64_t i = 0; i < rounds * 1000; i++) {
        hash = (hash ^ (next() & 255)) * 1099511628211u;
        if (state & 64) hash += i;
    }
    return hash;
}

/* Sieve of Eratosthenes: byte stores with a stride. */
static uint64_t sieve(uint64_t rounds) {
    static uint8_t composite[1 << 16];
    uint64_t primes = 0;
    while (rounds--) {
        memset(composite, 0, sizeof composite);
        for (uint32_t i = 2; i < sizeof composite; i++) {
            if (composite[i]) continue;
            primes++;
            for (uint32_t j = 2 * i; j < sizeof composite; j += i) composite[j] = 1;
        }
    }
    return primes;
}

/* Open-addressing hash table: inserts and lookups at random places of 1 MiB. */
static uint64_t hash_table(uint64_t rounds) {
    enum { SLOTS = 1 << 16 };
    static struct { uint64_t key, value; } table[SLOTS];
    uint64_t found = 0;
    while (rounds--) {
        memset(table, 0, sizeof table);
        for (uint32_t i = 0; i < SLOTS / 2; i++) {
            uint64_t key = next() % (2 * SLOTS) + 1;
            uint32_t slot = key * 0x9e3779b97f4a7c15u >> 48;
            while (table[slot].key && table[slot].key != key) slot = (slot + 1) % SLOTS;
            found += table[slot].key == key;
            table[slot].key = key;
            table[slot].value += i;
        }
    }
    return found;
}

/* Quicksort: branches that no predictor knows, recursion. */
static void quicksort(uint32_t *a, int64_t low, int64_t high) {
    while (low < high) {
        uint32_t pivot = a[(low + high) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (a[i] < pivot) i++;
            while (a[j] > pivot) j--;
            if (i > j) break;
            uint32_t t = a[i];
            a[i++] = a[j];
            a[j--] = t;
        }
        quicksort(a, low, j);
        low = i;
    }
}

static uint64_t sort(uint64_t rounds) {
    static uint32_t a[20000];
    const int64_t count = sizeof a / sizeof *a;
    uint64_t sum = 0;
    while (rounds--) {
        for (int64_t i = 0; i < count; i++) a[i] = next();
        quicksort(a, 0, count - 1);
        for (int64_t i = 0; i < count; i += 100) sum = sum * 31 + a[i];
    }
    return sum;
}

/* CRC-32 by table: one dependent load for each byte. */
static uint64_t crc(uint64_t rounds) {
    static uint32_t table[256];
    static uint8_t data[1 << 16];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof data; i++) data[i] = next();
    uint32_t c = 0xffffffffu;
    while (rounds--)
        for (size_t i = 0; i < sizeof data; i++) c = table[(c ^ data[i]) & 255] ^ c >> 8;
    return c;
}

/* Text of words that repeat, for the two programs below. */
static void write_text(uint8_t *text, size_t size) {
    char words[64][9];
    for (int w = 0; w < 64; w++) {
        int length = 2 + next() % 6;
        for (int i = 0; i < length; i++) words[w][i] = 'a' + next() % 26;
        words[w][length] = ' ';
        words[w][length + 1] = 0;
    }
    size_t at = 0;
    while (at < size) {
        uint64_t r = next();
        for (const char *c = words[(r & 63) & (r >> 6)]; *c && at < size; c++) text[at++] = *c;
    }
}

/* Match finder of an LZ77 compressor: hash chains, byte compares. */
static uint64_t matches(uint64_t rounds) {
    enum { SIZE = 1 << 15, HASH = 1 << 12 };
    static uint8_t text[SIZE];
    static int32_t head[HASH], previous[SIZE];
    uint64_t out = 0;
    while (rounds--) {
        write_text(text, SIZE);
        memset(head, -1, sizeof head);
        for (int32_t at = 0; at + 4 < SIZE;) {
            uint32_t h = (text[at] | text[at + 1] << 8 | text[at + 2] << 16) * 2654435761u >> 20;
            int32_t best = 0, tries = 16;
            for (int32_t from = head[h]; from >= 0 && tries--; from = previous[from]) {
                int32_t length = 0;
                while (length < 64 && at + length < SIZE && text[from + length] == text[at + length]) length++;
                if (length > best) best = length;
            }
            previous[at] = head[h];
            head[h] = at;
            out = out * 33 + best;
            at += best > 3 ? best : 1;
        }
    }
    return out;
}

/* SHA-256: rotations and additions, 64 rounds over a schedule in memory. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotated(uint32_t v, int n) { return v >> n | v << (32 - n); }

static void sha256_block(uint32_t *h, const uint8_t *p) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, h, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotated(v[4], 6) ^ rotated(v[4], 11) ^ rotated(v[4], 25);
        uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + K[i] + w[i];
        uint32_t s0 = rotated(v[0], 2) ^ rotated(v[0], 13) ^ rotated(v[0], 22);
        uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        for (int k = 7; k > 0; k--) v[k] = v[k - 1];
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) h[i] += v[i];
}

static uint64_t sha256(uint64_t rounds) {
    static uint8_t data[1 << 14];
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (size_t i = 0; i < sizeof data; i++) data[i] = next();
    while (rounds--)
        for (size_t i = 0; i < sizeof data; i += 64) sha256_block(h, data + i);
    return (uint64_t)h[0] << 32 | h[7];
}

/* Eight queens by recursion, the first one at a random place: calls, returns, short functions. */
__attribute__((noinline)) static uint64_t queens(uint32_t columns, uint32_t left, uint32_t right) {
    if (columns == 0xff) return 1;
    uint64_t found = 0;
    for (uint32_t open = ~(columns | left | right) & 0xff; open; open &= open - 1) {
        uint32_t bit = open & -open;
        found += queens(columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return found;
}

static uint64_t recursion(uint64_t rounds) {
    uint64_t found = 0;
    while (rounds--) {
        uint32_t bit = 1u << next() % 8;
        found = found * 3 + queens(bit, bit << 1, bit >> 1);
    }
    return found;
}

/* Search for strings in text, by Horspool's rule. */
static uint64_t search(uint64_t rounds) {
    enum { SIZE = 1 << 16, LENGTH = 6 };
    static uint8_t text[SIZE];
    uint64_t found = 0;
    write_text(text, SIZE);
    while (rounds--) {
        const uint8_t *wanted = text + next() % (SIZE - LENGTH);
        uint32_t skip[256];
        for (int i = 0; i < 256; i++) skip[i] = LENGTH;
        for (int i = 0; i < LENGTH - 1; i++) skip[wanted[i]] = LENGTH - 1 - i;
        for (uint32_t at = 0; at + LENGTH <= SIZE; at += skip[text[at + LENGTH - 1]]) {
            int i = LENGTH;
            while (i && text[at + i - 1] == wanted[i - 1]) i--;
            found += !i;
        }
    }
    return found;
}

/* A bytecode machine: one indirect jump for each of its instructions. */
static uint64_t bytecode(uint64_t rounds) {
    enum { PUSH, ADD, XOR, SHIFT, DUP, SWAP, STORE, LOAD, LOOP, END };
    static const uint8_t code[] = {LOAD, 0, DUP, SHIFT, 3, XOR, LOAD, 1, ADD, PUSH, 7, SWAP, ADD, STORE, 0,
                                   LOAD, 1, PUSH, 5, ADD, DUP, SHIFT, 1, XOR, STORE, 1, LOOP, END};
    uint64_t stack[16], variables[2] = {1, 2}, left = rounds * 1000, a;
    int top = 0;
    for (const uint8_t *at = code;;) {
        switch (*at++) {
        case PUSH: stack[top++] = *at++; break;
        case ADD: top--; stack[top - 1] += stack[top]; break;
        case XOR: top--; stack[top - 1] ^= stack[top]; break;
        case SHIFT: stack[top - 1] = stack[top - 1] << *at | stack[top - 1] >> (64 - *at); at++; break;
        case DUP: stack[top] = stack[top - 1]; top++; break;
        case SWAP: a = stack[top - 1]; stack[top - 1] = stack[top - 2]; stack[top - 2] = a; break;
        case STORE: variables[*at++] = stack[--top]; break;
        case LOAD: stack[top++] = variables[*at++]; break;
        case LOOP: if (left--) at = code; break;
        case END: return variables[0];
        }
    }
}

/* Product of integer matrices: multiply and add with strided loads. */
static uint64_t matrix(uint64_t rounds) {
    enum { N = 64 };
    static int32_t a[N][N], b[N][N], c[N][N];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) a[i][j] = next(), b[i][j] = next();
    while (rounds--) {
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                uint32_t sum = 0;
                for (int k = 0; k < N; k++) sum += (uint32_t)a[i][k] * (uint32_t)b[k][j];
                c[i][j] = sum;
            }
        memcpy(a, c, sizeof a);
    }
    return (uint32_t)c[3][5];
}

static const struct { const char *name; uint64_t (*run)(uint64_t); } programs[] = {
    {"xorshift", xorshift}, {"sieve", sieve}, {"hash", hash_table}, {"sort", sort}, {"crc", crc}, {"matches", matches},
    {"sha256", sha256}, {"recursion", recursion}, {"search", search}, {"bytecode", bytecode}, {"matrix", matrix}};

int main(int argc, char **argv) {
    for (size_t i = 0; argc == 3 && i < sizeof programs / sizeof *programs; i++) {
        if (strcmp(argv[1], programs[i].name)) continue;
        printf("integer %s %llx\n", argv[1], (unsigned long long)programs[i].run(strtoull(argv[2], 0, 10)));
        return 0;
    }
    return 1;
}
