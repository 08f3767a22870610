/* A plugin of QEMU that counts how often each block of a program's instructions runs; at the program's end it writes a
 * line `address instructions runs` for each block. The declarations are those of QEMU's interface for plugins, of which
 * API is the version; the functions used here are the same in all of them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
typedef void (*translated_fn)(uint64_t id, struct qemu_plugin_tb *block);
typedef void (*executed_fn)(unsigned int cpu, void *data);
typedef void (*at_exit_fn)(uint64_t id, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translated_fn callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, executed_fn callback, int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, at_exit_fn callback, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);

EXPORT int qemu_plugin_version = API;

struct block {
    struct block *next;
    uint64_t address, instructions, runs;
};
static struct block *blocks;
static const char *path;

static void executed(unsigned int cpu, void *data)
{
    (void)cpu;
    ((struct block *)data)->runs++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *translation)
{
    (void)id;
    struct block *block = malloc(sizeof *block);
    if (block == NULL) abort();
    *block = (struct block){blocks, qemu_plugin_tb_vaddr(translation), qemu_plugin_tb_n_insns(translation), 0};
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(translation, executed, 0, block);
}

static void at_exit(uint64_t id, void *data)
{
    (void)id, (void)data;
    FILE *file = fopen(path, "w");
    if (file == NULL) abort();
    for (struct block *b = blocks; b != NULL; b = b->next)
        fprintf(file, "%" PRIx64 " %" PRIu64 " %" PRIu64 "\n", b->address, b->instructions, b->runs);
    if (fclose(file)) abort();
}

/* The argument `out=PATH` says where the lines go. */
EXPORT int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments)
{
    (void)info;
    const size_t prefix = sizeof "out=" - 1;
    if (count != 1) return 1;
    path = strdup(arguments[0] + prefix);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
