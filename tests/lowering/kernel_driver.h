/* Layers under test: the kernels of each, and the buffers that they are given. */
#include <stddef.h>
#include <stdint.h>

enum kind { ZERO, PACKED, STATE, INPUT, OUTPUT };

struct buffer {
    enum kind kind;
    size_t bytes;
};

struct layer {
    const char *name;
    void (*prepare)(uint8_t **buffers);
    void (*run)(uint8_t **buffers);
    const struct buffer *buffers;
    int num_buffers;
};

extern const struct layer layers[];
extern const int num_layers, num_samples;
