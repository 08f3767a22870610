/* Runs layers whose buffers each lie between two pages without access: once at the end of the readable memory, once at
 * its beginning. Standard input holds, for each layer, what its PACKED and STATE buffers hold at first, then for each
 * sample what the INPUT buffers hold and what the OUTPUT buffers must hold afterwards.
 *
 *     program            what differs, or accesses what it must not, a line each; then the number of layers
 *     program short      the same with outputs that end 8 bytes too late: all must be reported
 */
#define _GNU_SOURCE
#include "kernel_driver.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_BUFFERS = 64 };

static sigjmp_buf before;
static size_t page, too_far;
static int in_kernel;

/* A fault of the driver itself ends it. */
static void on_fault(int number) {
    if (!in_kernel) _exit(128 + number);
    siglongjmp(before, number);
}

struct memory {
    uint8_t *mapped, *start;
    size_t bytes;
};

static struct memory guarded(const struct buffer *buffer, int at_end) {
    size_t rounded = (buffer->bytes + 7) / 8 * 8, inside = (rounded + page - 1) / page * page;
    size_t all = inside + 2 * page, behind = buffer->kind == OUTPUT ? too_far : 0;
    uint8_t *mapped = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || (inside && mprotect(mapped + page, inside, PROT_READ | PROT_WRITE) != 0)) abort();
    return (struct memory){mapped, mapped + page + (at_end ? inside - rounded + behind : 0), all};
}

static uint8_t *take(size_t bytes) {
    uint8_t *data = malloc(bytes + 1);
    if (data == NULL || fread(data, 1, bytes, stdin) != bytes) abort();
    return data;
}

static void fill(const struct layer *layer, uint8_t **buffers, uint8_t **data, enum kind kind) {
    for (int i = 0; i < layer->num_buffers; i++)
        if (layer->buffers[i].kind == kind) memcpy(buffers[i], data[i], layer->buffers[i].bytes);
}

/* NULL, or what is wrong. */
static const char *run(const struct layer *layer, uint8_t **buffers, uint8_t **given, uint8_t *samples[][MOST_BUFFERS]) {
    int fault = sigsetjmp(before, 1);
    if (fault != 0) {
        in_kernel = 0;
        return fault == SIGILL ? "is not for this CPU" : "leaves its buffers";
    }
    fill(layer, buffers, given, PACKED);
    in_kernel = 1;
    layer->prepare(buffers);
    in_kernel = 0;
    for (int sample = 0; sample < num_samples; sample++) {
        fill(layer, buffers, given, STATE);
        fill(layer, buffers, samples[sample], INPUT);
        in_kernel = 1;
        layer->run(buffers);
        in_kernel = 0;
        for (int i = 0; i < layer->num_buffers; i++)
            if (layer->buffers[i].kind == OUTPUT &&
                memcmp(buffers[i], samples[sample][i], layer->buffers[i].bytes) != 0)
                return "differs";
    }
    return NULL;
}

static void check(const struct layer *layer) {
    uint8_t *given[MOST_BUFFERS] = {0}, *samples[8][MOST_BUFFERS] = {{0}}, *buffers[MOST_BUFFERS];
    struct memory memories[MOST_BUFFERS];
    if (layer->num_buffers > MOST_BUFFERS || num_samples > 8) abort();
    for (int i = 0; i < layer->num_buffers; i++) {
        enum kind kind = layer->buffers[i].kind;
        if (kind == PACKED || kind == STATE) given[i] = take(layer->buffers[i].bytes);
    }
    for (int sample = 0; sample < num_samples; sample++)
        for (int i = 0; i < layer->num_buffers; i++) {
            enum kind kind = layer->buffers[i].kind;
            if (kind == INPUT || kind == OUTPUT) samples[sample][i] = take(layer->buffers[i].bytes);
        }
    for (int at_end = 0; at_end < 2; at_end++) {
        for (int i = 0; i < layer->num_buffers; i++) {
            memories[i] = guarded(&layer->buffers[i], at_end);
            buffers[i] = memories[i].start;
        }
        const char *wrong = run(layer, buffers, given, samples);
        if (wrong != NULL) printf("%s %s, buffers at the %s\n", layer->name, wrong, at_end ? "end" : "beginning");
        for (int i = 0; i < layer->num_buffers; i++) munmap(memories[i].mapped, memories[i].bytes);
    }
    for (int i = 0; i < layer->num_buffers; i++) {
        free(given[i]);
        for (int sample = 0; sample < num_samples; sample++) free(samples[sample][i]);
    }
}

int main(int count, char **words) {
    struct sigaction action = {.sa_handler = on_fault};
    (void)words;
    page = (size_t)sysconf(_SC_PAGESIZE);
    too_far = count > 1 ? 8 : 0;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    for (int i = 0; i < num_layers; i++) check(&layers[i]);
    printf("%d layers\n", num_layers);
    return 0;
}
