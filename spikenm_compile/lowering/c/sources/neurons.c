/* A layer of neurons; `step` advances those of one pixel by one time step. */
typedef struct neurons {
    void (*step)(const struct neurons *layer, size_t pixel, const void *const *currents, size_t first, uint8_t *state,
                 void *out);
    size_t channels;
    const size_t *states;           /* where each state starts in the state, in bytes; [pixel][channel] float */
    const float *const *constants;  /* constants with one value for each channel */
} neurons;

