// A driver whose GPU is the host: the functions of libcuda.so.1 that the runtime calls, on emulated kernels. Streams work
// at once; a stream that is being captured records instead. Misuse is an error, as it is of the real driver.
#pragma once
#include <functional>
#include <map>
#include <set>

struct Kernel { const char* name; void (*call)(void**); int parameters; };
extern const Kernel kernels[];
extern const int num_kernels;

namespace driver {

enum { INVALID_VALUE = 1, NOT_INITIALIZED = 3, NO_CONTEXT = 201, NOT_FOUND = 500, LAUNCH_FAILED = 719 };
using Work = std::function<int()>;
using Graph = std::vector<Work>;

static bool started = false;
static int capability_major = 9, capability_minor = 0, version = 13000, devices = 1;
static std::string last_error;
static std::vector<int> contexts;
static std::map<char*, size_t> memory;
static Graph* capturing = nullptr;
static std::set<Graph*> graphs;

static int later(Work work) {
  if (contexts.empty()) return NO_CONTEXT;
  if (!capturing) return work();
  capturing->push_back(work);
  return 0;
}

static bool inside(const void* pointer, size_t bytes) {
  auto next = memory.upper_bound((char*)pointer);
  if (next == memory.begin()) return false;
  --next;
  return (char*)pointer + bytes <= next->first + next->second;
}

static int run(const Kernel& kernel, int x, int y, int block, std::vector<uint64_t> values) {
  std::vector<void*> arguments;
  for (uint64_t& value : values) arguments.push_back(&value);
  selected = kernel.call;
  const char* message = launch(x, y, block, 1, 1, arguments.data());
  if (message) last_error = message;
  return message ? LAUNCH_FAILED : 0;
}

}  // namespace driver

#define ENTRY extern "C" __attribute__((visibility("default"))) int
using namespace driver;

ENTRY fake_gpu(int major, int minor, int cuda, int count) {
  capability_major = major, capability_minor = minor, version = cuda, devices = count;
  return 0;
}
ENTRY fake_memory() { return memory.size(); }

ENTRY cuInit(unsigned) { started = true; return devices < 0 ? 100 : 0; }
ENTRY cuDriverGetVersion(int* number) { *number = version; return 0; }
ENTRY cuGetErrorString(int status, const char** text) {
  *text = status == 100 ? "no CUDA-capable device is detected" : status == NOT_FOUND ? "named symbol not found"
        : status == NO_CONTEXT ? "invalid device context" : status == LAUNCH_FAILED ? last_error.c_str() : "invalid argument";
  return 0;
}
ENTRY cuDeviceGetCount(int* count) { *count = devices; return started ? 0 : NOT_INITIALIZED; }
ENTRY cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
ENTRY cuDeviceGetName(char* name, int size, int) { snprintf(name, size, "Emulated GPU"); return 0; }
ENTRY cuDeviceGetAttribute(int* value, int number, int) {
  *value = number == 75 ? capability_major : number == 76 ? capability_minor : 1;
  return 0;
}
ENTRY cuDevicePrimaryCtxRetain(void** context, int) { *context = &contexts; return 0; }
ENTRY cuCtxPushCurrent_v2(void* context) { contexts.push_back(1); return context == &contexts ? 0 : INVALID_VALUE; }
ENTRY cuCtxPopCurrent_v2(void** context) {
  if (contexts.empty()) return NO_CONTEXT;
  contexts.pop_back();
  *context = &contexts;
  return 0;
}
ENTRY cuModuleLoadData(void** module, const void*) { *module = (void*)kernels; return contexts.empty() ? NO_CONTEXT : 0; }
ENTRY cuModuleUnload(void*) { return contexts.empty() ? NO_CONTEXT : 0; }
ENTRY cuModuleGetFunction(void** function, void*, const char* name) {
  for (int i = 0; i < num_kernels; ++i)
    if (!strcmp(kernels[i].name, name)) { *function = (void*)&kernels[i]; return 0; }
  return NOT_FOUND;
}
ENTRY cuFuncSetAttribute(void*, int attribute, int bytes) { return attribute == 8 && bytes <= 99 * 1024 ? 0 : INVALID_VALUE; }

// Memory holds garbage at first, as a GPU's does.
ENTRY cuMemAlloc_v2(uint64_t* pointer, size_t bytes) {
  if (contexts.empty()) return NO_CONTEXT;
  char* begin = (char*)aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset(begin, 0xA5, bytes);
  memory[begin] = bytes;
  *pointer = (uint64_t)begin;
  return 0;
}
ENTRY cuMemFree_v2(uint64_t pointer) {
  if (contexts.empty() || !memory.erase((char*)pointer)) return INVALID_VALUE;
  free((void*)pointer);
  return 0;
}
ENTRY cuMemsetD32Async(uint64_t pointer, unsigned word, size_t count, void*) {
  return later([=] {
    if (!inside((void*)pointer, count * 4)) return (int)INVALID_VALUE;
    for (size_t i = 0; i < count; ++i) ((uint32_t*)pointer)[i] = word;
    return 0;
  });
}
ENTRY cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void*) {
  if (capturing || !inside((void*)to, bytes)) return INVALID_VALUE;
  memcpy((void*)to, from, bytes);
  return contexts.empty() ? NO_CONTEXT : 0;
}
ENTRY cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void*) {
  if (capturing || !inside((void*)from, bytes)) return INVALID_VALUE;
  memcpy(to, (void*)from, bytes);
  return contexts.empty() ? NO_CONTEXT : 0;
}
ENTRY cuStreamCreate(void** stream, unsigned) { *stream = new int; return contexts.empty() ? NO_CONTEXT : 0; }
ENTRY cuStreamDestroy_v2(void* stream) { delete (int*)stream; return 0; }
ENTRY cuStreamSynchronize(void*) { return capturing ? INVALID_VALUE : 0; }
ENTRY cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
ENTRY cuEventCreate(void** event, unsigned) { *event = new int; return contexts.empty() ? NO_CONTEXT : 0; }
ENTRY cuEventDestroy_v2(void* event) { delete (int*)event; return 0; }
ENTRY cuEventRecord(void*, void*) { return capturing ? INVALID_VALUE : 0; }
ENTRY cuEventSynchronize(void*) { return 0; }
ENTRY cuEventElapsedTime(float* milliseconds, void*, void*) { *milliseconds = 1; return 0; }
ENTRY cuLaunchKernel(void* function, unsigned x, unsigned y, unsigned z, unsigned block, unsigned, unsigned, unsigned,
                     void*, void** parameters, void**) {
  const Kernel& kernel = *(const Kernel*)function;
  std::vector<uint64_t> values;
  for (int i = 0; i < kernel.parameters; ++i) values.push_back(*(uint64_t*)parameters[i]);
  if (z != 1) return INVALID_VALUE;
  return later([=] { return run(kernel, x, y, block, values); });
}
ENTRY cuStreamBeginCapture_v2(void*, int) { capturing = new Graph; return 0; }
ENTRY cuStreamEndCapture(void*, void** graph) { *graph = capturing; capturing = nullptr; return 0; }
ENTRY cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long) {
  *executable = new Graph(*(Graph*)graph);
  graphs.insert((Graph*)*executable);
  return 0;
}
ENTRY cuGraphDestroy(void* graph) { delete (Graph*)graph; return 0; }
ENTRY cuGraphExecDestroy(void* executable) { graphs.erase((Graph*)executable); delete (Graph*)executable; return 0; }
ENTRY cuGraphLaunch(void* executable, void*) {
  if (!graphs.count((Graph*)executable)) return INVALID_VALUE;
  for (const Work& work : *(Graph*)executable)
    if (int status = later(work)) return status;
  return 0;
}
