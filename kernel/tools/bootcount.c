// QEMU (TCG) plugin: counts guest instructions from a start address to the first
// execution of a stop address, then writes "address instructions repeats" per
// translated block and ends QEMU. measure-boot builds and loads it.
//
// The few declarations below stand in for qemu-plugin.h, which distributions
// do not install; they are the plugin interface, version 1.

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { INLINE_ADD_U64 = 0, CB_NO_REGS = 0 };
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *ptr,
                                              uint64_t value);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
                                          void (*callback)(unsigned int, void *), int flags,
                                          void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
                                           void (*callback)(plugin_id, struct qemu_plugin_tb *));

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

struct block {
    uint64_t address;
    uint64_t executed;
    uint64_t instructions;
    bool repeat;
    struct block *next;
};

static struct block *blocks;
static uint64_t start_address, stop_address;
static const char *output_path;

// A REP string instruction that begins a block is QEMU's way to run one more
// iteration of it; real CPUs and bulk emulators count the instruction once.
static bool is_repeat(const struct qemu_plugin_insn *insn)
{
    const uint8_t *bytes = qemu_plugin_insn_data(insn);
    size_t size = qemu_plugin_insn_size(insn);
    if (size < 2 || (bytes[0] != 0xf3 && bytes[0] != 0xf2))
        return false;
    uint8_t opcode = bytes[size - 1];
    return (opcode >= 0xa4 && opcode <= 0xa7) || (opcode >= 0xaa && opcode <= 0xaf);
}

static void at_start(unsigned int vcpu, void *data)
{
    (void)vcpu, (void)data;
    for (struct block *b = blocks; b; b = b->next)
        b->executed = 0;
}

static void at_stop(unsigned int vcpu, void *data)
{
    (void)vcpu, (void)data;
    FILE *out = fopen(output_path, "w");
    if (!out) {
        perror(output_path);
        _exit(1);
    }
    for (struct block *b = blocks; b; b = b->next) {
        if (!b->executed)
            continue;
        uint64_t total = b->executed * b->instructions;
        fprintf(out, "%016" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address,
                b->repeat ? 0 : total, b->repeat ? total : 0);
    }
    fclose(out);
    _exit(0);
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *tb)
{
    (void)id;
    struct block *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->address = qemu_plugin_tb_vaddr(tb);
    b->instructions = qemu_plugin_tb_n_insns(tb);
    b->repeat = is_repeat(qemu_plugin_tb_get_insn(tb, 0));
    b->next = blocks;
    blocks = b;
    if (b->address == start_address)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, at_start, CB_NO_REGS, NULL);
    if (b->address == stop_address)
        qemu_plugin_register_vcpu_tb_exec_cb(tb, at_stop, CB_NO_REGS, NULL);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->executed, 1);
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info,
                                                              int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "start=", 6))
            start_address = strtoull(argv[i] + 6, NULL, 16);
        else if (!strncmp(argv[i], "stop=", 5))
            stop_address = strtoull(argv[i] + 5, NULL, 16);
        else if (!strncmp(argv[i], "out=", 4))
            output_path = argv[i] + 4;
    }
    if (!start_address || !stop_address || !output_path) {
        fprintf(stderr, "bootcount: need start=, stop= and out=\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    return 0;
}
