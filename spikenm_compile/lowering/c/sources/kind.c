/* How values lie in memory. */
typedef enum {
    SPIKE_BITS,     /* [H][W][C/8] bytes, channel c is bit c % 8 */
    UNSIGNED_BYTES, /* [H][W][C] uint8_t */
    SIGNED_BYTES,   /* [H][W][C] int8_t */
    FLOATS,         /* [H][W][C] float */
    PLANES          /* [C][H][W] float */
} kind;

