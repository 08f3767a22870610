/* Drives a network's C library for tests: bytes from standard input; outputs to standard output, spikes of the last layer
 * to standard error. Every buffer that the library is given ends where unreadable memory begins. Compiled with
 * -DNAME=<network> -DBIG=<NETWORK>.
 *
 *   run B T                    B inputs over T steps; spikes of the last MAX_STEPS at most, which are kept
 *   step B T                   the same, one step at a time
 *   packed B T                 the same, inputs are packed spikes
 *   pair B T                   the same, samples two by two on two states that take turns on one arena
 *   events START STEP CHUNK    events until the end of the input, CHUNK at a time; a step for each window
 *   many T                     one input T times; fails if memory grows
 *   errors                     what is refused, as text
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "model.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define F(name) JOIN(NAME, name)
#define C(name) JOIN(BIG, name)

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* `size` bytes that end at a page without access, filled with `fill`; `less` bytes of them are behind it already. */
static void *guarded(size_t size, int fill, size_t less)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), inside = (size + page - 1) / page * page;
    uint8_t *memory = mmap(NULL, inside + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    memset(memory, fill, inside + page);
    if (mprotect(memory, page, PROT_NONE) || mprotect(memory + page + inside, page, PROT_NONE)) fail("mprotect");
    return memory + page + inside - size + less;
}

static void check(int32_t code)
{
    if (code < 0) fail(F(_error)(code));
}

static void read_all(void *memory, size_t size)
{
    if (fread(memory, 1, size, stdin) != size) fail("input is too short");
}

static FILE *output_file, *spikes_file;
static void *arena, *state;
static float *input, *output;
static uint8_t *spikes;
static size_t num_neurons;
static int32_t per_step, per_step_output, last;

static void write_spikes(int32_t step)
{
    if (last < 0) return;
    check(F(_spikes)(arena, last, step, spikes));
    fwrite(spikes, 1, num_neurons, spikes_file);
}

static void write_output(int32_t steps) { fwrite(output, 4 * C(_OUTPUT_SIZE), (size_t)steps, output_file); }

/* The counts of the last call are the sums of its spikes. */
static void check_counts(int32_t steps)
{
    uint32_t *counts = guarded(4 * num_neurons, 0, 0);
    if (last >= 0) check(F(_counts)(arena, last, counts));
    for (size_t i = 0; i < num_neurons; i++) {
        uint32_t sum = 0;
        for (int32_t t = 0; t < steps; t++) {
            check(F(_spikes)(arena, last, t, spikes));
            sum += spikes[i];
        }
        if (sum != counts[i]) fail("counts");
        if (num_neurons > 100) i += num_neurons / 50; /* some are enough */
    }
}

static void run(int samples, int32_t steps)
{
    for (int b = 0; b < samples; b++) {
        read_all(input, 4u * C(_INPUT_SIZE) * (size_t)(per_step ? steps : 1));
        check(F(_run)(arena, state, input, steps, output));
        write_output(per_step_output ? steps : 1);
        const int32_t kept = (steps - 1) % C(_MAX_STEPS) + 1;
        for (int32_t t = 0; t < kept; t++) write_spikes(t);
        check_counts(kept);
    }
}

static void step(int samples, int32_t steps)
{
    for (int b = 0; b < samples; b++) {
        check(F(_reset)(arena, state));
        for (int32_t t = 0; t < steps; t++) {
            if (per_step || t == 0) read_all(input, 4u * C(_INPUT_SIZE));
            check(F(_step)(arena, state, input, output));
            if (per_step_output || t == steps - 1) write_output(1);
            write_spikes(0);
        }
    }
}

static void packed(int samples, int32_t steps)
{
    const size_t size = C(_INPUT_HEIGHT) * C(_INPUT_WIDTH) * C(_SPIKE_BYTES);
    uint8_t *bits = guarded(size, 0, 0);
    for (int b = 0; b < samples; b++) {
        check(F(_reset)(arena, state));
        for (int32_t t = 0; t < steps; t++) {
            if (per_step || t == 0) read_all(bits, size);
            check(F(_step_spikes)(arena, state, bits, output));
            if (per_step_output || t == steps - 1) write_output(1);
            write_spikes(0);
        }
    }
}

static void window(int32_t code)
{
    check(code);
    if (code != 1) return;
    write_output(1);
    write_spikes(0);
}

static void events(uint64_t start, uint32_t step_us, size_t chunk)
{
    F(_event) *buffer = guarded(chunk * sizeof *buffer, 0, 0);
    size_t n, used, done;
    check(F(_events_begin)(arena, state, start, step_us));
    while ((n = fread(buffer, sizeof *buffer, chunk, stdin)) > 0)
        for (done = 0; done < n; done += used)
            window(F(_events_push)(arena, state, buffer + done, n - done, &used, output));
    window(F(_events_flush)(arena, state, output));
}

static void pair(int samples, int32_t steps)
{
    void *states[2] = {state, guarded(C(_STATE_BYTES), 1, 0)};
    const size_t size = (size_t)(per_step ? steps : 1) * C(_INPUT_SIZE);
    float *inputs = guarded(2 * 4 * size, 0, 0);
    char *kept[4];
    size_t sizes[4];
    for (int b = 0; b < samples; b += 2) {
        FILE *files[4];
        for (int i = 0; i < 4; i++) files[i] = open_memstream(&kept[i], &sizes[i]);
        read_all(inputs, 2 * 4 * size);
        for (int i = 0; i < 2; i++) check(F(_reset)(arena, states[i]));
        for (int32_t t = 0; t < steps; t++)
            for (int i = 0; i < 2; i++) {
                output_file = files[i];
                spikes_file = files[2 + i];
                const float *frame = inputs + (size_t)i * size + (size_t)(per_step ? t : 0) * C(_INPUT_SIZE);
                check(F(_step)(arena, states[i], frame, output));
                if (per_step_output || t == steps - 1) write_output(1);
                write_spikes(0);
            }
        for (int i = 0; i < 4; i++) {
            fclose(files[i]);
            fwrite(kept[i], 1, sizes[i], i < 2 ? stdout : stderr);
            free(kept[i]);
        }
    }
}

static long resident(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void many(int32_t steps)
{
    read_all(input, 4u * C(_INPUT_SIZE));
    check(F(_step)(arena, state, input, output));
    const long before = resident();
    for (int32_t t = 1; t < steps; t++) check(F(_step)(arena, state, input, output));
    int32_t taken;
    check(F(_steps_taken)(state, &taken));
    if (taken != steps) fail("steps were miscounted");
    if (resident() > before + 256) fail("memory grew");
}

static void expect(const char *what, int32_t code, int32_t expected)
{
    if (code != expected) fail(what);
    printf("%d %s\n", (int)code, F(_error)(code));
}

static void errors(void)
{
    uint8_t *blank = guarded(C(_ARENA_BYTES), 0, 0);
    F(_event) outside = {5, C(_INPUT_WIDTH), 0, 0}, late = {5, 0, 0, 0};
    size_t used;
    int32_t taken;
    expect("no arena", F(_init)(NULL, state), C(_ERROR_NULL));
    expect("unaligned arena", F(_init)((uint8_t *)arena + 4, state), C(_ERROR_ALIGNMENT));
    expect("unaligned state", F(_step)(arena, (uint8_t *)state + 8, input, output), C(_ERROR_ALIGNMENT));
    expect("blank arena", F(_step)(blank, state, input, output), C(_ERROR_ARENA));
    expect("blank state", F(_step)(arena, blank, input, output), C(_ERROR_STATE));
    expect("no output", F(_step)(arena, state, input, NULL), C(_ERROR_NULL));
    expect("no steps", F(_run)(arena, state, input, 0, output), C(_ERROR_STEPS));
    expect("begin", F(_events_begin)(arena, state, 10, 100), C(_OK));
    expect("outside", F(_events_push)(arena, state, &outside, 1, &used, output), C(_ERROR_EVENT));
    expect("late", F(_events_push)(arena, state, &late, 1, &used, output), C(_ERROR_LATE));
    expect("too early", F(_events_until)(arena, state, 109, output), 0);
    expect("in time", F(_events_until)(arena, state, 110, output), 1);
    expect("no layer", F(_spikes)(arena, 99, 0, spikes), C(_ERROR_LAYER));
    expect("no step", F(_spikes)(arena, 0, C(_MAX_STEPS), spikes), C(_ERROR_LAYER));
    expect("steps", F(_steps_taken)(state, &taken), C(_OK));
    if (taken != 1) fail("steps taken");
    if (F(_arena_size)() != C(_ARENA_BYTES) || F(_state_size)() != C(_STATE_BYTES)) fail("sizes");
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    const long long a = argc > 2 ? atoll(argv[2]) : 0; /* may be a time in microseconds */
    const long b = argc > 3 ? atol(argv[3]) : 0, c = argc > 4 ? atol(argv[4]) : 0;
    const F(_description) *d = F(_describe)();
    const size_t steps = b > 1 ? (size_t)b : 1;
    output_file = stdout;
    spikes_file = stderr;
    per_step = d->input_per_step;
    per_step_output = d->output_per_step;
    last = d->num_neurons - 1;
    if (last >= 0) num_neurons = (size_t)(d->neurons[last].channels * d->neurons[last].height * d->neurons[last].width);
    /* HARNESS_SHORT=n promises n bytes more of the arena than there are: that must crash, or the guard guards nothing. */
    const char *less = getenv("HARNESS_SHORT");
    arena = guarded(C(_ARENA_BYTES), 0xa5, less ? (size_t)atol(less) : 0);
    state = guarded(C(_STATE_BYTES), 0x5a, 0);
    input = guarded(4u * C(_INPUT_SIZE) * (strcmp(mode, "run") ? 1 : steps), 0, 0);
    output = guarded(4u * C(_OUTPUT_SIZE) * (per_step_output && !strcmp(mode, "run") ? steps : 1), 0, 0);
    spikes = guarded(num_neurons, 0, 0);
    const int32_t code = F(_init)(arena, state);
    if (code != 0) {
        fprintf(stderr, "%d %s\n", (int)code, F(_error)(code));
        return 3;
    }
    if (!strcmp(mode, "run")) run((int)a, (int32_t)b);
    else if (!strcmp(mode, "step")) step((int)a, (int32_t)b);
    else if (!strcmp(mode, "packed")) packed((int)a, (int32_t)b);
    else if (!strcmp(mode, "events")) events((uint64_t)a, (uint32_t)b, (size_t)c);
    else if (!strcmp(mode, "pair")) pair((int)a, (int32_t)b);
    else if (!strcmp(mode, "many")) many((int32_t)a);
    else if (!strcmp(mode, "errors")) errors();
    else fail("which mode?");
    return 0;
}
