// Runs generated CUDA source on the host. Each CUDA thread is a fiber. Lanes of a warp meet at collectives (tensor core
// instructions, shuffles, ballots), threads of a block at barriers; between these, the order of the warps may be random.
// Asynchronous copies land at once, or as late as the waits allow.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__

struct alignas(8) uint2 { uint32_t x, y; } __attribute__((may_alias));
struct alignas(16) uint4 { uint32_t x, y, z, w; } __attribute__((may_alias));
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

#define CUDART_INF_F INFINITY

namespace emulator {

constexpr int WARP = 32;
constexpr size_t STACK = 64 << 10;

struct Dim { unsigned x = 1, y = 1, z = 1; };
struct Copy { char* to; const char* from; int bytes; };
struct Fiber {
  jmp_buf at;
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(STACK);
  bool started = false, done = false;
  Dim thread;
  int number = 0;
  uint32_t in[16], out[4];                 // what a collective takes and gives
  std::vector<Copy> open;                  // copies of no group yet
  std::vector<std::vector<Copy>> groups;   // committed copies that have not landed
};
struct Warp { int arrived = 0; long meeting = 0; const char* operation = nullptr; };

static Fiber* current;
static std::vector<Fiber> fibers;
static std::vector<Warp> warps;
static Dim block_index, block_size, grid_size;
static int arrived_at_barrier;
static long barrier;
static bool copies_land_late;
static char* shared_begin;
static size_t shared_bytes;
static jmp_buf scheduler, launcher;
static std::string error;

[[noreturn]] static void fail(const std::string& message) { error = message; _longjmp(launcher, 1); }

static void yield() { if (!_setjmp(current->at)) _longjmp(scheduler, 1); }

// All lanes of the warp meet; the last one computes for all.
template <class Compute>
static void meet(const char* operation, Compute compute) {
  Warp& warp = warps[current->number / WARP];
  const long meeting = warp.meeting;
  if (warp.arrived == 0) warp.operation = operation;
  else if (strcmp(warp.operation, operation)) fail(std::string("a warp meets at ") + warp.operation + " and at " + operation);
  if (++warp.arrived < WARP) { while (warp.meeting == meeting) yield(); return; }
  compute(&fibers[current->number / WARP * WARP]);
  warp.arrived = 0;
  ++warp.meeting;
}

static void synchronize() {
  const long before = barrier;
  if (++arrived_at_barrier < (int)block_size.x) { while (barrier == before) yield(); return; }
  arrived_at_barrier = 0;
  ++barrier;
}

static uint32_t to_shared(const void* pointer) { return (uint32_t)((const char*)pointer - shared_begin); }

static void land(const Copy& copy) { memcpy(copy.to, copy.from, copy.bytes); }

static void copy_async(uint32_t to, const void* from, int bytes) {
  if (to + bytes > shared_bytes) fail("a copy goes beyond shared memory");
  if (to % bytes || (uintptr_t)from % bytes) fail("a copy of " + std::to_string(bytes) + " bytes is not aligned");
  const Copy copy{shared_begin + to, (const char*)from, bytes};
  if (copies_land_late) current->open.push_back(copy); else land(copy);
}

static void commit() { current->groups.push_back(current->open); current->open.clear(); }

static void wait(int most) {
  auto& groups = current->groups;
  for (; (int)groups.size() > most; groups.erase(groups.begin()))
    for (const Copy& copy : groups.front()) land(copy);
}

static void give(const uint32_t* values, int count, int at) { for (int i = 0; i < count; ++i) current->in[at + i] = values[i]; }

template <class A, class B, int K>
static void accumulate(Fiber* lanes, const A (&a)[16][K], const B (&b)[K][8], int sums_at) {
  for (int lane = 0; lane < WARP; ++lane)
    for (int r = 0; r < 4; ++r) {
      const int row = lane / 4 + r / 2 * 8, column = lane % 4 * 2 + r % 2;
      int32_t sum = (int32_t)lanes[lane].in[sums_at + r];
      for (int k = 0; k < K; ++k) sum += (int32_t)a[row][k] * (int32_t)b[k][column];
      lanes[lane].out[r] = (uint32_t)sum;
    }
}

// mma.sp m16n8k64, 8-bit operands, ordered metadata
template <class A, class B>
static void multiply_sparse(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t metadata) {
  give(a, 4, 0), give(b, 4, 4), give(c, 4, 8), give(&metadata, 1, 12);
  meet("mma.sp.m16n8k64", [](Fiber* lanes) {
    static A left[16][64];
    static B right[64][8];
    memset(left, 0, sizeof left);
    for (int lane = 0; lane < WARP; ++lane)
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
          const int row = lane / 4 + i % 2 * 8, kept = i / 2 * 16 + lane % 4 * 4 + j;
          const uint32_t word = lanes[row % 8 * 4 + row / 8 + kept / 16 * 2].in[12] >> (kept % 16 / 2 * 4);
          const int first = word & 3, second = word >> 2 & 3;
          if (first >= second) fail("metadata are not in ascending order");
          left[row][kept / 2 * 4 + (kept % 2 ? second : first)] = (A)(lanes[lane].in[i] >> 8 * j);
          right[i * 16 + lane % 4 * 4 + j][lane / 4] = (B)(lanes[lane].in[4 + i] >> 8 * j);
        }
    accumulate<A, B, 64>(lanes, left, right, 8);
  });
  memcpy(d, current->out, 16);
}

// mma m16n8k32, 8-bit operands
template <class A, class B>
static void multiply_dense(uint32_t* d, const uint32_t* a, const uint32_t* b, const uint32_t* c) {
  give(a, 4, 0), give(b, 2, 4), give(c, 4, 8);
  meet("mma.m16n8k32", [](Fiber* lanes) {
    static A left[16][32];
    static B right[32][8];
    for (int lane = 0; lane < WARP; ++lane)
      for (int j = 0; j < 4; ++j) {
        for (int i = 0; i < 4; ++i) left[lane / 4 + i % 2 * 8][i / 2 * 16 + lane % 4 * 4 + j] = (A)(lanes[lane].in[i] >> 8 * j);
        for (int i = 0; i < 2; ++i) right[i * 16 + lane % 4 * 4 + j][lane / 4] = (B)(lanes[lane].in[4 + i] >> 8 * j);
      }
    accumulate<A, B, 32>(lanes, left, right, 8);
  });
  memcpy(d, current->out, 16);
}

template <class V>
static V shuffle(V value, int by, bool is_xor) {
  uint32_t given[2] = {0, (uint32_t)by};
  memcpy(given, &value, 4);
  give(given, 2, 0);
  meet(is_xor ? "shfl.bfly" : "shfl.idx", [is_xor](Fiber* lanes) {
    for (int lane = 0; lane < WARP; ++lane) {
      const int by = lanes[lane].in[1];
      lanes[lane].out[0] = lanes[(is_xor ? lane ^ by : by) % WARP].in[0];
    }
  });
  memcpy(&value, current->out, 4);
  return value;
}

static uint32_t ballot(int condition) {
  const uint32_t bit = condition != 0;
  give(&bit, 1, 0);
  meet("vote.ballot", [](Fiber* lanes) {
    uint32_t word = 0;
    for (int lane = 0; lane < WARP; ++lane) word |= lanes[lane].in[0] << lane;
    for (int lane = 0; lane < WARP; ++lane) lanes[lane].out[0] = word;
  });
  return current->out[0];
}

static void (*kernel)(void**);
static void** arguments;

static void enter() { kernel(arguments); current->done = true; _longjmp(scheduler, 1); }

// Run a fiber until it yields.
static void resume(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.at, 1);
  fiber.started = true;
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  makecontext(&fiber.context, enter, 0);
  setcontext(&fiber.context);
}

static long progress() {
  long sum = barrier * block_size.x + arrived_at_barrier;
  for (const Warp& warp : warps) sum += warp.meeting * WARP + warp.arrived;
  for (const Fiber& fiber : fibers) sum += fiber.done;
  return sum;
}

static void run_block(std::mt19937* random) {
  const int count = block_size.x / WARP;
  warps.assign(count, Warp());
  arrived_at_barrier = 0, barrier = 0;
  memset(shared_begin, 0xA5, shared_bytes);
  for (size_t i = 0; i < fibers.size(); ++i) {
    Fiber& fiber = fibers[i];
    fiber.started = fiber.done = false;
    fiber.thread = {(unsigned)i, 0, 0};
    fiber.number = i;
    fiber.open.clear(), fiber.groups.clear();
  }
  std::vector<int> order(count);
  for (int i = 0; i < count; ++i) order[i] = i;
  for (long before = -1; progress() != before;) {
    before = progress();
    if (random) std::shuffle(order.begin(), order.end(), *random);
    for (int warp : order)
      for (int turn = random ? (*random)() % 8 : 0; turn >= 0; --turn)  // lets a warp run ahead of the others
        for (int lane = 0; lane < WARP; ++lane)
          if (Fiber& fiber = fibers[warp * WARP + lane]; !fiber.done) resume(fiber);
  }
  for (const Fiber& fiber : fibers) if (!fiber.done) fail("threads wait for others that never come");
}

}  // namespace emulator

#define threadIdx (emulator::current->thread)
#define blockIdx (emulator::block_index)
#define __syncthreads emulator::synchronize
#define __cvta_generic_to_shared emulator::to_shared
#define __shfl_sync(mask, value, lane, width) emulator::shuffle(value, lane, false)
#define __shfl_xor_sync(mask, value, lane, width) emulator::shuffle(value, lane, true)
#define __ballot_sync(mask, condition) emulator::ballot(condition)

// The launch: `call_kernel` and `SHARED` come with the kernel.
static void call_kernel(void** arguments);
extern "C" const char* launch(int x, int y, int block, int late, int seed, void** arguments);

#define DEFINE_LAUNCH(SHARED)                                                                                       \
  extern "C" const char* launch(int x, int y, int block, int late, int seed, void** arguments) {                    \
    using namespace emulator;                                                                                       \
    error.clear();                                                                                                  \
    shared_begin = (char*)(SHARED), shared_bytes = sizeof(SHARED);                                                  \
    grid_size = {(unsigned)x, (unsigned)y, 1}, block_size = {(unsigned)block, 1, 1};                                \
    copies_land_late = late != 0;                                                                                   \
    kernel = call_kernel, emulator::arguments = arguments;                                                          \
    if (fibers.size() != (size_t)block) { fibers.clear(); fibers.resize(block); }                                   \
    static std::mt19937 random;                                                                                     \
    random.seed(seed);                                                                                              \
    if (_setjmp(launcher)) return error.c_str();                                                                    \
    for (block_index.y = 0; block_index.y < (unsigned)y; ++block_index.y)                                           \
      for (block_index.x = 0; block_index.x < (unsigned)x; ++block_index.x) run_block(seed ? &random : nullptr);     \
    return nullptr;                                                                                                 \
  }
